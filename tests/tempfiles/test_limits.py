"""Limits: room is made first from what is over, and what would cross one is refused and leaves nothing."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genro_storage.exceptions import StorageQuotaError
from genro_storage.tempfiles import TempFileManager

KIB = 1024


def born(manager: TempFileManager) -> list[str]:
    return sorted(path.name for path in (Path(manager.nodes_dir).parent / "f").glob("*"))


def test_max_files(base: Path, tmp_path: Path) -> None:
    """What is registered counts, what was unlinked without telling does not; nothing young is deleted for a new one."""
    with TempFileManager(base, max_files=3) as manager:
        (tmp_path / "out").write_text("x")
        manager.register_file(str(tmp_path / "out"))
        kept = manager.create_file()
        for _ in range(5):
            os.unlink(manager.create_file())
        manager.create_dir()
        last = manager.create_file()
        with pytest.raises(StorageQuotaError, match="max_files"):
            manager.create_file()
        assert os.path.exists(kept)
        manager._clocks.offset += 3601
        manager.create_file()
        assert not os.path.exists(kept)
        assert not os.path.exists(last)
        assert not (tmp_path / "out").exists()


def test_registering_is_never_refused(base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is warned about, once, and health is degraded."""
    with TempFileManager(base, max_files=1, max_total_bytes=0) as manager:
        for name in "abc":
            (tmp_path / name).write_text("x")
            assert manager.register_files([str(tmp_path / name)]) == 1
        assert caplog.text.count("max_files") == 1
        assert manager.health_check()["status"] == "degraded"
        assert {"max_files", "max_total_bytes"} <= set(manager.health_check()["warning"].replace(",", "").split())


def test_max_file_bytes(base: Path) -> None:
    """Of created files and of written ones, which are removed; not of scratch."""
    with TempFileManager(base, max_file_bytes=10 * KIB) as manager:
        manager.create_file(data=bytes(10 * KIB))
        with pytest.raises(StorageQuotaError, match="max_file_bytes"):
            manager.create_file(data=bytes(10 * KIB + 1))
        with manager.open(buffering=0) as file:
            file.write(bytes(10 * KIB))
            with pytest.raises(StorageQuotaError, match="max_file_bytes"):
                file.write(b"1")
            assert not os.path.exists(file.name)
        with manager.open() as file:
            file.seek(9 * KIB)
            file.write(b"end")
            file.seek(0)
            file.write(bytes(9 * KIB))
            with pytest.raises(StorageQuotaError):
                file.truncate(11 * KIB)
        with manager.scratch("x", size=11 * KIB):
            pass
        with manager.anonymous() as file, pytest.raises(StorageQuotaError):
            file.write(bytes(20 * KIB))
        assert len(born(manager)) == 1


def test_max_total_bytes_counts_scratch(base: Path) -> None:
    with TempFileManager(base, max_total_bytes=10 * KIB) as manager:
        with manager.scratch("x") as path:
            Path(path).write_bytes(bytes(6 * KIB))
            with pytest.raises(StorageQuotaError, match="max_total_bytes"), manager.scratch("y", size=5 * KIB):
                pass
            manager.create_file(data=bytes(4 * KIB))
            with pytest.raises(StorageQuotaError, match="max_total_bytes"):
                manager.create_file(data=bytes(KIB))
        manager.create_file(data=bytes(6 * KIB))


def test_the_dead_make_room(base: Path, dead: Callable[..., Path]) -> None:
    """Short of space, what killed processes left is swept before anybody is refused."""
    with TempFileManager(base, max_files=0) as manager:
        manager.nodes_dir  # noqa: B018 - the first sweep is over
        owner = dead()
        with pytest.raises(StorageQuotaError):
            manager.create_file()
        assert not owner.exists()


def test_evictable_files_go_least_recently_registered_first(base: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    with TempFileManager(base, max_total_bytes=3 * KIB) as manager:
        for path in paths:
            Path(path).write_bytes(bytes(KIB))
        manager.register_file(paths[0])
        manager.register_file(paths[2], evictable=True)
        manager.register_file(paths[1], evictable=True)
        manager.register_file(paths[2], evictable=True)
        manager.create_file(data=bytes(KIB))
        assert [os.path.exists(path) for path in paths] == [True, False, True]
        with pytest.raises(StorageQuotaError):
            manager.create_file(data=bytes(2 * KIB))


def test_evictable_files_born_here(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently written goes first, and what is not evictable not at all; writing makes it no older."""
    with TempFileManager(base, max_files=3) as manager:
        first, kept, second = (manager.create_file(data=b"x", evictable=name != "k") for name in "akb")
        Path(first).write_bytes(b"written again")
        manager.create_file()
        assert [os.path.exists(path) for path in (first, kept, second)] == [True, True, False]
        manager.create_file()
        assert [os.path.exists(path) for path in (first, kept)] == [False, True]
        with pytest.raises(StorageQuotaError):
            manager.create_file()
        manager.clear_all()
        path = manager.create_file(evictable=True)
        manager._clocks.offset += 3601
        monkeypatch.setattr(manager._clocks, "age", lambda st: 0.0)  # as if just written
        assert manager.cleanup() == 0
        assert os.path.exists(path)


def test_many_threads_do_not_cross_a_limit_together(base: Path) -> None:
    with TempFileManager(base, max_files=50) as manager:
        start = threading.Barrier(8)

        def create(_: int) -> int:
            start.wait(60)
            made = 0
            for _ in range(10):
                try:
                    manager.create_file()
                    made += 1
                except StorageQuotaError:
                    pass
            return made

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(create, range(8))) == 50
        assert len(born(manager)) == 50


def test_a_full_disk_under_an_open_file(manager: TempFileManager, monkeypatch: pytest.MonkeyPatch) -> None:
    file = manager.open(buffering=0)

    def full(error: type[BaseException]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manager, "take_room", full)
    monkeypatch.setattr(file, "_grow", lambda more, whole: full(OSError))
    with pytest.raises(StorageQuotaError, match="No space left"):
        file.write(b"x")
    file.close()
    assert born(manager) == []


@pytest.mark.parametrize(
    ("mode", "kind"), [("wb", io.BufferedWriter), ("w+b", io.BufferedRandom), ("a", io.TextIOWrapper)]
)
def test_open_gives_what_open_gives(manager: TempFileManager, mode: str, kind: type) -> None:
    with manager.open(mode) as file:
        assert type(file) is kind
        with open(os.path.join(os.path.dirname(file.name), "peer"), mode) as peer:
            assert file.mode == peer.mode


@pytest.mark.parametrize("bad", [{"mode": "wbt"}, {"mode": "wb", "encoding": "utf-8"}, {"mode": "w", "buffering": 0}])
def test_open_refuses_what_open_refuses(manager: TempFileManager, bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="file"):
        manager.open(**bad)  # type: ignore[arg-type]
    assert born(manager) == []


def test_a_negative_limit(base: Path) -> None:
    with pytest.raises(ValueError, match="max_files"):
        TempFileManager(base, max_files=-1)
