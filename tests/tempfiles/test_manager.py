"""What a manager makes, refuses and removes inside one process."""

from __future__ import annotations

import errno
import gc
import os
import stat
import tempfile
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genro_storage.exceptions import (
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StorageQuotaError,
)
from genro_storage.tempfiles import TempFileManager

BAD_NAMES = ["", ".", "..", "a/b", "/etc/passwd", "nul\0", "x" * 256, "é" * 128, "\ud800"]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def names(manager: TempFileManager) -> list[str]:
    """All files below this process's owner directory."""
    return [name for _, _, files in os.walk(Path(manager.nodes_dir).parent) for name in files]


def test_everything_is_private_whatever_the_umask(base: Path) -> None:
    before = os.umask(0)
    try:
        with TempFileManager(base) as manager, manager.scratch("x") as scratch:
            file, directory, nodes = manager.create_file(), manager.create_dir(), manager.nodes_dir
            assert mode(file) == 0o600
            owner = Path(nodes).parent
            assert owner.parent == base
            assert owner.name.startswith("o-")
            assert {mode(p) for p in (base, owner, nodes, directory, Path(scratch).parent)} == {0o700}
            assert mode(base / ".sweep") == 0o600
    finally:
        os.umask(before)


def test_create_file_names_and_data(manager: TempFileManager) -> None:
    path = manager.create_file(".csv", "report-", data=b"a,b\n")
    assert os.path.isabs(path)
    assert os.path.basename(path).startswith("report-")
    assert path.endswith(".csv")
    assert Path(path).read_bytes() == b"a,b\n"
    assert manager.create_file(".csv", "report-") != path
    assert os.path.basename(manager.create_file(name="n")) == "n"
    assert Path(manager.create_file(name="é" * 127 + "x")).exists()
    assert Path(manager.create_file(data=memoryview(bytearray(8)).cast("I"))).stat().st_size == 8


def test_an_existing_name_is_refused_and_kept(manager: TempFileManager) -> None:
    path = manager.create_file(name="a", data=b"old")
    for create in (manager.create_file, manager.create_dir, manager.open):
        with pytest.raises(StorageExistsError):
            create(name="a")
    assert Path(path).read_bytes() == b"old"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_file_name_is_refused(manager: TempFileManager, name: str) -> None:
    for create in (manager.create_file, manager.create_dir, manager.open):
        with pytest.raises(StoragePathError):
            create(name=name)
    with pytest.raises(StoragePathError), manager.scratch(name):
        pass
    assert names(manager) == []


def test_suffix_and_prefix_cannot_leave_the_directory(manager: TempFileManager) -> None:
    for bad in ({"suffix": "/x"}, {"prefix": "../"}, {"suffix": "\0"}, {"name": "a", "suffix": ".b"}):
        with pytest.raises(StoragePathError):
            manager.create_file(**bad)
    with pytest.raises(TypeError):
        manager.create_file(name=7)  # type: ignore[arg-type]


def test_open(manager: TempFileManager) -> None:
    with manager.open() as file:
        file.write(b"abc")
        file.seek(0)
        assert file.read() == b"abc"
    assert Path(file.name).read_bytes() == b"abc"
    with manager.open("w", ".txt", encoding="utf-16", newline="\r\n") as text:
        text.write("é\n")
    assert Path(text.name).read_bytes().decode("utf-16") == "é\r\n"
    assert text.name.endswith(".txt")
    assert mode(text.name) == 0o600


def test_an_open_that_fails_leaves_no_file(manager: TempFileManager) -> None:
    for bad in ({"mode": "r"}, {"mode": "rb"}, {"mode": "wz"}, {"mode": "w", "encoding": "none such"}):
        with pytest.raises((ValueError, LookupError)):
            manager.open(**bad)
    assert names(manager) == []


def test_a_full_disk_is_a_quota_error_and_leaves_nothing(
    manager: TempFileManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageQuotaError, match="No space left"):
        manager.create_file(data=b"abcd")
    assert names(manager) == []


def test_short_writes_are_continued(manager: TempFileManager, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    assert Path(manager.create_file(data=b"0123456789")).read_bytes() == b"0123456789"


def test_min_free_bytes_is_kept_free(base: Path) -> None:
    free = os.statvfs(base.parent)
    with TempFileManager(base, min_free_bytes=2 * free.f_bavail * free.f_frsize) as manager:
        for create in (manager.create_file, manager.create_dir, manager.open):
            with pytest.raises(StorageQuotaError, match="min_free_bytes"):
                create()
        with pytest.raises(StorageQuotaError, match="TEMP_FILE_BASE_DIR"), manager.scratch("x"):
            pass
        assert names(manager) == []


def test_a_file_system_that_counts_nothing_is_not_judged(
    manager: TempFileManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = os.statvfs_result([4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255])
    monkeypatch.setattr(os, "statvfs", lambda path: nothing)
    assert Path(manager.create_file()).exists()


def test_close_removes_all_and_later_calls_say_closed(base: Path, owners: Callable[[], set[str]]) -> None:
    manager = TempFileManager(base)
    outside = base.with_name("outside")
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    os.symlink(outside, manager.create_dir() + "/link")
    Path(manager.nodes_dir, "a").write_bytes(b"")
    assert len(owners()) == 1
    manager.close()
    manager.close()
    assert owners() == set()
    assert (outside / "kept").exists()
    for call in (manager.create_file, manager.create_dir, manager.open, manager.sweep, manager.__enter__):
        with pytest.raises(StorageError, match="closed"):
            call()
    with pytest.raises(StorageError, match="closed"):
        _ = manager.nodes_dir


def test_an_unused_manager_makes_no_owner_directory(base: Path, owners: Callable[[], set[str]]) -> None:
    with TempFileManager(base) as manager:
        manager.sweep()
        assert owners() == set()
    assert base.is_dir()


def test_a_forgotten_manager_is_collected_with_its_files(
    base: Path, owners: Callable[[], set[str]], descriptors: Callable[[], int]
) -> None:
    gc.collect()  # what other tests left
    before = descriptors()
    manager = TempFileManager(base)
    alive = weakref.ref(manager)
    manager.create_file()
    with manager.scratch("x"):
        pass
    del manager
    gc.collect()
    assert alive() is None
    assert owners() == set()
    assert descriptors() == before


def test_descriptors_and_threads_stay_flat(
    base: Path, descriptors: Callable[[], int], manager: TempFileManager
) -> None:
    manager.create_file()
    before = descriptors(), threading.active_count()
    for _ in range(500):
        os.unlink(manager.create_file(data=b"x"))
        with manager.scratch("x", size=1) as path:
            Path(path).write_bytes(b"x")
        manager.open().close()
    for _ in range(50):
        with TempFileManager(base) as other:
            other.create_file()
    assert (descriptors(), threading.active_count()) == before


def test_200_threads_share_one_owner_and_leak_nothing(
    base: Path, owners: Callable[[], set[str]], descriptors: Callable[[], int]
) -> None:
    before = descriptors()
    with TempFileManager(base) as manager:
        barrier = threading.Barrier(200)

        def work(number: int) -> str:
            barrier.wait()
            with manager.scratch("x") as path:
                Path(path).write_bytes(b"x")
            return manager.create_file(data=b"%d" % number)

        with ThreadPoolExecutor(200) as pool:
            paths = list(pool.map(work, range(200)))
        assert [int(Path(path).read_bytes()) for path in paths] == list(range(200))
        assert len(owners()) == 1
        assert len(names(manager)) == 200
    assert descriptors() == before


def test_a_removed_directory_is_one_clear_error(manager: TempFileManager) -> None:
    os.rmdir(os.path.dirname(manager.create_dir(name="d")) + "/d")
    os.rmdir(os.path.dirname(manager.nodes_dir) + "/f")
    with pytest.raises(StorageNotFoundError, match="cannot create"):
        manager.create_file()


def test_default_base_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TEMP_FILE_BASE_DIR", raising=False)
    with TempFileManager() as manager:
        assert manager.base_dir == str(tmp_path / f"genro-storage-{os.geteuid()}")
    monkeypatch.setenv("TEMP_FILE_BASE_DIR", str(tmp_path / "chosen" / "deep"))
    with TempFileManager() as manager:
        assert manager.base_dir == str(tmp_path / "chosen" / "deep")
        assert Path(manager.create_file()).is_relative_to(tmp_path / "chosen" / "deep")


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("", ValueError),
        ("a\0b", ValueError),
        ("/", ValueError),
        ("/tmp/..", ValueError),
        (7, TypeError),
        (b"x", TypeError),
    ],
)
def test_a_base_dir_that_is_none(bad: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        TempFileManager(bad)  # type: ignore[arg-type]


def test_negative_min_free_bytes(base: Path) -> None:
    with pytest.raises(ValueError, match="min_free_bytes"):
        TempFileManager(base, min_free_bytes=-1)
    assert not base.exists()


def test_a_base_dir_that_cannot_be_created_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="base_dir") as raised:
        TempFileManager(tmp_path / "file" / "below")
    assert isinstance(raised.value, StorageError)
