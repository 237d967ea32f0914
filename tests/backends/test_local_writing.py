"""Writing to local files: nothing half-written is seen, nothing is left, conditions hold between processes."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.backends import _kernel
from genro_storage.backends._localfile import HIDDEN
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StorageQuotaError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.types import WriteOptions
from tests.backends.local_tools import descriptors, failing, mount, names, portable, streamed


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing a file nobody sees."""
    if request.param == "named":
        portable(monkeypatch)
    return str(request.param)


# --- nothing half-written, nothing left ---


def test_hidden_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R19: short, in the same directory, never listed; a dropped writer leaves none."""
    portable(monkeypatch)
    m = mount(tmp_path)
    writer = m.writer("d/" + "n" * 255)
    writer.write(b"1")
    (hidden,) = names(tmp_path / "d")
    assert hidden.startswith(HIDDEN)
    assert len(hidden) < 32
    assert [entry for page in m.scan("d") for entry in page] == []
    assert [entry.path for page in m.walk("") for entry in page] == ["d"]
    del writer
    gc.collect()
    assert names(tmp_path / "d") == []


def test_a_nameless_writer_leaves_nothing_even_when_killed(tmp_path: Path) -> None:
    m = mount(tmp_path)
    m.put("f", b"old")
    child = os.fork()
    if child == 0:
        for path in ("f", "g"):
            m.writer(path).write(b"x" * 100_000)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(tmp_path) == ["f"]
    assert m.get("f")[0] == b"old"


def test_writers_do_not_outlive_a_fork(tmp_path: Path, way: str) -> None:
    """The child's copy refuses, and its end takes nothing from the parent, which goes on."""
    m = mount(tmp_path)
    writer = m.writer("d/f")
    writer.write(b"parent ")
    child = os.fork()
    if child == 0:
        refused = 0
        for verb in (lambda: writer.write(b"child"), lambda: writer.commit()):
            try:
                verb()
            except StorageError as error:
                refused += "forked" in str(error)
        writer.discard()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    writer.write(b"alone")
    writer.commit()
    assert m.get("d/f")[0] == b"parent alone"
    assert names(tmp_path / "d") == ["f"]


def test_names_for_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older Linux lets only root link by the descriptor: there the way through /proc is found, once."""
    asked: list[int] = []

    def refused(*arguments: object) -> int:
        asked.append(1)
        ctypes.set_errno(errno.ENOENT)
        return -1

    monkeypatch.setattr(_kernel, "_linkat", refused)
    monkeypatch.setattr(_kernel, "_names_by_descriptor", True)
    m = mount(tmp_path)
    for path in ("f", "g", "d/h"):
        m.put(path, b"1")
        m.put(path, b"2")
        streamed(m, path)
        assert m.get(path)[0] == b"new"
    with pytest.raises(StorageExistsError):
        m.put("f", b"3", WriteOptions(if_absent=True))
    assert len(asked) == 1
    assert names(tmp_path) == ["d", "f", "g"]


def test_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """R33: never by default; with `fsync` the file before it is seen, then its directory."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        synced.append(kind if kind == "directory" or "f" not in names(tmp_path) else "seen file")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fsync)
    mount(tmp_path).put("e", b"1")
    mount(tmp_path).writer("e2").commit()
    assert synced == []
    m = mount(tmp_path, fsync=True)
    m.put("f", b"1")
    assert synced == ["file", "directory"]
    m.writer("d/x").commit()
    m.copy_from(m, "f", "d/y")
    assert synced[2:] == ["seen file", "directory"] * 2


WRITES: dict[str, Callable[[Mount, str], object]] = {
    "put": lambda m, path: m.put(path, b"new"),
    "put with all": lambda m, path: m.put(path, b"new", WriteOptions(size=3, mode=0o640, mtime=1.0)),
    "stream": streamed,
    "copy": lambda m, path: m.copy_from(m, "s", path),
    "if_absent": lambda m, path: m.put(path, b"new", WriteOptions(if_absent=True)),
    "if_match": lambda m, path: streamed(m, path, WriteOptions(if_match=m.stat(path).etag)),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("path", ["f", "g", "d/e"])
@pytest.mark.parametrize("fsync", [False, True])
def test_every_call_may_fail(tmp_path: Path, way: str, write: str, path: str, fsync: bool) -> None:
    """R14: the old bytes or all the new ones, no hidden name, no descriptor, whichever call it is."""
    m = mount(tmp_path, fsync=fsync)
    m.put("s", b"new")
    number, made = 0, ["?"]
    while len(made) >= number:
        number += 1
        for old in ("f", "g", "d/e"):
            if m.exists(old):
                m.delete(old)
        m.put("f", b"old", WriteOptions(mode=0o600))
        before = descriptors()
        with failing(number) as made:
            try:
                WRITES[write](m, path)
            except StorageQuotaError:
                pass
            except (StorageExistsError, StorageNotFoundError):
                assert write in ("if_absent", "if_match")
        assert descriptors() == before, f"call {number}, {made[number - 1 :][:1]}"
        assert set(names(tmp_path)) <= {"s", "f", "d", path.partition("/")[0]}
        if m.exists("d"):
            assert set(names(tmp_path / "d")) <= {"e"}
        assert m.get("f")[0] in ((b"old", b"new") if path == "f" else (b"old",))
        if path != "f" and m.exists(path):
            assert m.get(path)[0] == b"new"
    assert number > 3 or write == "if_match"


def test_a_full_disk(tmp_path: Path, way: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        m, source = mount(disk), mount(tmp_path)
        m.put("f", b"old")
        source.put("big", bytes(2 << 20))
        for write in (
            lambda: m.put("f", bytes(2 << 20)),
            lambda: m.put("g", bytes(2 << 20)),
            lambda: m.writer("f").write(bytes(2 << 20)),
            lambda: m.copy_from(source, "big", "f"),
        ):
            with pytest.raises(StorageQuotaError, match="No space left"):
                write()
            gc.collect()
            assert m.get("f")[0] == b"old"
            assert names(disk) == ["f"]
        m.put("f", bytes(1 << 19))
        with pytest.raises(UnsupportedOperation, match="two file systems"):
            m.rename_from(source, "big", "new/name")
        assert source.exists("big")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_larger_than_allowed(tmp_path: Path) -> None:
    m = mount(tmp_path)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        try:
            m.put("f", bytes(1 << 20))
        except StorageQuotaError:
            os._exit(17)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert names(tmp_path) == []


# --- conditions ---


def test_if_match_between_processes_and_threads(tmp_path: Path, way: str) -> None:
    """Advisory, but it holds among users of this library: no increment of four processes is lost."""
    mount(tmp_path).put("counter", b"000")

    def increment(times: int) -> None:
        m = mount(tmp_path)
        while times:
            data, seen = m.get("counter")
            try:
                m.put("counter", b"%03d" % (int(data) + 1), WriteOptions(if_match=seen.etag))
                times -= 1
            except StorageConflictError:
                continue

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            increment(40)
            os._exit(0)
        children.append(child)
    threads = [threading.Thread(target=increment, args=(20,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert mount(tmp_path).get("counter")[0] == b"160"
    assert names(tmp_path) == ["counter"]


def test_if_absent_between_processes(tmp_path: Path, way: str) -> None:
    reading, writing = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            m = mount(tmp_path)
            os.read(reading, 1)
            try:
                streamed(m, "d/f", WriteOptions(if_absent=True))
            except StorageExistsError:
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.write(writing, b"1234")
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(ends) == [0, 1, 1, 1]
    os.close(reading)
    os.close(writing)


def test_delete_if_match_through_a_link(tmp_path: Path) -> None:
    """The etag is that of the bytes the link shows; the link goes, the bytes stay."""
    m = mount(tmp_path)
    m.put("f", b"1")
    m.symlink("link", "f")
    with pytest.raises(StorageConflictError):
        m.delete("link", if_match="other")
    m.delete("link", if_match=m.stat("link").etag)
    assert names(tmp_path) == ["f"]
    with pytest.raises(UnsupportedOperation, match="does not look"):
        m.rename_from(m, "f", "g", WriteOptions(if_match="other"))


def test_an_etag_tells_replacements_apart(tmp_path: Path) -> None:
    """Also where the file system uses an inode number again at once, as ext4 does."""
    m = mount(tmp_path)
    m.put("f", b"0")
    seen = {m.stat("f").etag}
    for number in range(100):
        options = WriteOptions(if_match=m.stat("f").etag)
        seen.add(m.put("f", b"%d" % (number % 10), options).etag)
    assert len(seen) == 101
