"""Scratch: a real name for external programs, and nothing after it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.exceptions import StorageQuotaError
from genro_storage.tempfiles import TempFileManager


def left(manager: TempFileManager) -> list[str]:
    return [name for name in os.listdir(Path(manager.nodes_dir).parent) if name.startswith("s-")]


@pytest.mark.parametrize("name", ["report final.csv", "-rf", "ü.tar.gz", "é" * 127 + "x", "\udcff.bin", ".hidden"])
def test_the_real_name_is_kept(manager: TempFileManager, name: str) -> None:
    with manager.scratch(name) as path:
        assert os.path.basename(path) == name
        assert not os.path.exists(path)
        Path(path).write_bytes(b"x")
        with manager.scratch(name) as other:
            assert not os.path.exists(other)
    assert left(manager) == []


def test_what_a_program_leaves_beside_it_goes_too(manager: TempFileManager, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    with manager.scratch("a.tex") as path:
        folder = os.path.dirname(path)
        script = f"touch a.tex a.aux; mkdir -p deep/er; touch deep/er/x; ln -s {tmp_path} link; chmod 500 deep"
        subprocess.run(["sh", "-c", script], cwd=folder, check=True)
    assert left(manager) == []
    assert (tmp_path / "kept").read_bytes() == b"kept"


def fail_inside(manager: TempFileManager) -> None:
    with manager.scratch("x") as path:
        Path(path).write_bytes(b"x")
        raise KeyError


def test_gone_after_an_exception(manager: TempFileManager) -> None:
    with pytest.raises(KeyError):
        fail_inside(manager)
    assert left(manager) == []


def test_gone_after_cancellation(manager: TempFileManager) -> None:
    async def work() -> None:
        inside = asyncio.Event()

        async def hold() -> None:
            with manager.scratch("x") as path:
                os.rename(manager.create_file(), path)
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await inside.wait()
        assert len(left(manager)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert left(manager) == []


def test_what_does_not_fit_is_refused_before_anything_is_made(manager: TempFileManager) -> None:
    found = os.statvfs(manager.base_dir)
    with (
        pytest.raises(StorageQuotaError, match="do not fit") as raised,
        manager.scratch("x", size=found.f_blocks * found.f_frsize),
    ):
        pytest.fail("must not start")
    assert raised.value.path == manager.base_dir
    assert left(manager) == []
    with manager.scratch("x", size=1):
        assert len(left(manager)) == 1


def test_the_size_and_min_free_bytes_count_together(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs_result([1, 1, 1000, 500, 500, 0, 0, 0, 0, 255])
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    with TempFileManager(base, min_free_bytes=100) as manager:
        with manager.scratch("x", size=400):
            pass
        with pytest.raises(StorageQuotaError), manager.scratch("x", size=401):
            pass


def test_closing_inside_is_no_error(base: Path, owners: Callable[[], set[str]]) -> None:
    manager = TempFileManager(base)
    with manager.scratch("x") as path:
        Path(path).write_bytes(b"x")
        manager.close()
        assert owners() == set()
    assert owners() == set()


def test_what_cannot_be_removed_is_left_to_close(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owners: Callable[[], set[str]]
) -> None:
    real = os.unlink

    def stuck(name: str, *, dir_fd: int | None = None) -> None:
        if name == "stuck":
            raise PermissionError(1, "Operation not permitted")
        real(name, dir_fd=dir_fd)

    with TempFileManager(base) as manager:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", stuck)
            with manager.scratch("stuck") as path:
                Path(path).write_bytes(b"x")
                Path(path).with_name("other").write_bytes(b"x")
        assert "Failed to remove" in caplog.text
        assert os.listdir(os.path.dirname(path)) == ["stuck"]
    assert owners() == set()
