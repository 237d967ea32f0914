"""The local backend: the suite of all backends, and what only a file system has: modes, names, disks, processes."""

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.backends import _kernel, _localfile, local
from genro_storage.backends._localfile import HIDDEN, nanoseconds
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.options import Context
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.testing import BackendSuite
from genro_storage.types import WriteOptions

is_root = os.geteuid() == 0


def storage(folder: Path, **keys: object) -> LocalStorage:
    return LocalStorage(LocalOptions(path=str(folder), **keys))  # type: ignore[arg-type]


def mount(folder: Path, **keys: object) -> Mount:
    return Mount("m", storage(folder, **keys))


def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without nameless files, openat2, renameat2 and copies inside the kernel."""
    monkeypatch.setattr(_localfile, "NAMELESS", 0)
    monkeypatch.setattr(local, "NAMELESS", 0)
    monkeypatch.setattr(_kernel, "open_directory", lambda path: -1)
    monkeypatch.setattr(_kernel, "open_any", lambda path: -1)
    monkeypatch.setattr(_kernel, "_libc", SimpleNamespace())
    monkeypatch.setattr(_kernel, "_reflink", lambda source, target: False)
    monkeypatch.setattr(_kernel, "_copy_range", unsupported)
    monkeypatch.setattr(_kernel, "_send", unsupported)


def unsupported(*arguments: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing a file nobody sees."""
    if request.param == "named":
        portable(monkeypatch)
    return str(request.param)


class TestLocal(BackendSuite):
    lacks = frozenset(
        {"atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk"}
    )

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalStorage:
        return storage(tmp_path)


class TestPortable(TestLocal):
    """The same with nothing that only Linux has."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorage:
        portable(monkeypatch)
        return storage(tmp_path)


# --- the base directory ---


def test_base_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageNotFoundError, match="create: true"):
        storage(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    for keys in ({}, {"create": True}):
        with pytest.raises(StorageNotADirectoryError, match="is not a directory"):
            storage(tmp_path / "file", **keys)
    storage(tmp_path / "a/b", create=True, dir_mode=0o700)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LocalStorage(LocalOptions(path="~/a")).native_path("") == str(tmp_path / "a")
    assert (
        LocalStorage(LocalOptions(path="b"), Context(directory=str(tmp_path / "a"))).native_path("x").endswith("a/b/x")
    )
    monkeypatch.chdir(tmp_path)
    relative = LocalStorage(LocalOptions(path="a"))
    monkeypatch.chdir("/")
    assert relative.native_path("") == str(tmp_path / "a"), "the current directory at configure"


def test_a_base_that_goes_is_not_made_again(tmp_path: Path, way: str) -> None:
    """An unmounted disk must not be filled below its mount point."""
    (tmp_path / "base").mkdir()
    for links in ("inside", "follow"):
        m = mount(tmp_path / "base", symlinks=links)
        (tmp_path / "base").rmdir()
        for verb in (lambda: m.put("f", b""), lambda: m.put("a/f", b""), lambda: list(m.scan("")), lambda: m.get("f")):  # noqa: B023
            with pytest.raises(StorageNotFoundError):
                verb()
        assert not m.exists("")
        assert os.listdir(tmp_path) == []
        (tmp_path / "base").mkdir()


# --- modes and owners ---


def test_modes(tmp_path: Path, way: str) -> None:
    """New: the umask decides; replaced: the old mode stays; asked for: exactly that."""
    m = mount(tmp_path)
    old = os.umask(0o027)
    try:
        m.put("d/new", b"1")
        writer = m.writer("streamed")
        writer.commit()
        assert m.stat("d/new").mode == m.stat("streamed").mode == 0o640
        assert m.stat("d").mode == 0o750
        for kept in (0o600, 0o666, 0o444, 0o755):
            os.chmod(tmp_path / "d/new", kept)
            m.put("d/new", b"2")
            assert m.stat("d/new").mode == kept
            writer = m.writer("d/new")
            writer.commit()
            assert m.stat("d/new").mode == kept
        exact = mount(tmp_path, file_mode=0o664, dir_mode=0o775)
        exact.put("e/new", b"1")
        assert (exact.stat("e/new").mode, exact.stat("e").mode) == (0o664, 0o775)
        exact.backend.edit("e/appended", "a").close()
        exact.mkdir("made")
        assert (exact.stat("e/appended").mode, exact.stat("made").mode) == (0o664, 0o775)
    finally:
        os.umask(old)


@pytest.mark.skipif(not is_root, reason="only root gives files away")
def test_owner_is_kept(tmp_path: Path, way: str) -> None:
    m = mount(tmp_path)
    m.put("f", b"1")
    os.chown(tmp_path / "f", 4321, 8765)
    os.chmod(tmp_path / "f", 0o640)
    for write in (lambda: m.put("f", b"2"), lambda: m.writer("f").commit()):
        write()
        found = os.stat(tmp_path / "f")
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 8765, 0o640)


def test_nobody_reads_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to replace a private file is private while it is written."""
    portable(monkeypatch)
    m = mount(tmp_path)
    m.put("f", b"old")
    os.chmod(tmp_path / "f", 0o600)
    writer = m.writer("f")
    writer.write(b"secret")
    (hidden,) = [name for name in os.listdir(tmp_path) if name != "f"]
    assert stat.S_IMODE(os.stat(tmp_path / hidden).st_mode) == 0o600
    writer.discard()


# --- nothing half-written, nothing left ---


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


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


CALLS = ("close", "copy_file_range", "fchmod", "fchown", "fstat", "fsync", "link", "mkdir", "open", "pread", "pwrite")
CALLS += ("rename", "sendfile", "stat", "utime", "write")
OWN_CALLS = ("name_open_file", "rename_absent")


@contextmanager
def failing(number: int) -> Iterator[list[str]]:
    """The call of this number into the system finds the disk full; yields the names of the calls made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **keys: object) -> object:
            made.append(name)
            if len(made) != number:
                return real(*args, **keys)
            if name == "close":
                real(*args, **keys)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, calls in ((os, CALLS), (_kernel, OWN_CALLS)):
            for name in calls:
                patch.setattr(module, name, wrapped(name, getattr(module, name)))
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def streamed(m: Mount, path: str, options: WriteOptions = WriteOptions()) -> None:  # noqa: B008 - frozen
    writer = m.writer(path, options)
    try:
        writer.write(b"new")
        writer.commit()
    finally:
        writer.discard()


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


def test_an_etag_tells_replacements_apart(tmp_path: Path) -> None:
    """Also where the file system uses an inode number again at once, as ext4 does."""
    m = mount(tmp_path)
    m.put("f", b"0")
    seen = {m.stat("f").etag}
    for number in range(100):
        options = WriteOptions(if_match=m.stat("f").etag)
        seen.add(m.put("f", b"%d" % (number % 10), options).etag)
    assert len(seen) == 101


# --- facts ---


@given(st.floats(min_value=-1e9, max_value=4e9))
def test_times_are_kept_exactly(mtime: float) -> None:
    """The nanoseconds written are read back by `os.stat` as the same float."""
    whole, rest = divmod(nanoseconds(mtime), 1_000_000_000)
    assert abs(whole + 1e-9 * rest - mtime) <= 1e-9 * max(1, abs(mtime) * 1e-7)


def test_set_mtime_through_a_link_and_on_a_directory(tmp_path: Path) -> None:
    m = mount(tmp_path)
    m.put("d/f", b"1")
    m.symlink("link", "d/f")
    for path in ("link", "d"):
        m.set_mtime(path, 1_234_567_890.123456)
        assert m.stat(path).mtime == 1_234_567_890.123456
    assert m.stat("d/f").mtime == 1_234_567_890.123456
    assert os.lstat(tmp_path / "link").st_mtime > 1_700_000_000


@pytest.mark.skipif(not is_root, reason="another user is needed")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    """Denied is an error, never an absence (R54)."""
    m = mount(tmp_path)
    m.put("closed/f", b"1")
    m.put("secret", b"1")
    os.chmod(tmp_path / "closed", 0)
    os.chmod(tmp_path / "secret", 0)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(folder, 0o755)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        denied = 0
        for verb in (
            lambda: m.get("secret"),
            lambda: list(m.scan("closed")),
            lambda: m.exists("closed/f"),
            lambda: m.put("closed/g", b"1"),
            lambda: m.put("new", b"1"),
            lambda: list(m.walk("")),
        ):
            try:
                verb()
            except StoragePermissionError:
                denied += 1
        os._exit(denied)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
    os.chmod(tmp_path / "closed", 0o755)


def test_files_of_proc_say_no_size() -> None:
    """Their size is 0 and their content is not."""
    m = Mount("proc", LocalStorage(LocalOptions(path="/proc")))
    assert m.get("self/status")[0].startswith(b"Name:")
    reader = m.reader("self/status")
    assert reader.read(5) == b"Name:"
    assert b"Pid:" in reader.read()
    reader.close()


def test_copying_a_file_of_proc(tmp_path: Path) -> None:
    m, proc = mount(tmp_path), Mount("proc", LocalStorage(LocalOptions(path="/proc")))
    m.copy_from(proc, "self/cmdline", "copy")
    assert m.get("copy")[0] == Path("/proc/self/cmdline").read_bytes()


# --- resources ---


def test_no_descriptor_is_leaked(tmp_path: Path) -> None:
    """R36: not by 200 threads, not by listings and readers that are dropped."""
    m = mount(tmp_path)
    for number in range(2500):
        (tmp_path / f"{number}").touch()
    m.put("d/e/f", b"1")
    before = descriptors()

    def use() -> None:
        m.put(f"d/e/{threading.get_ident()}", b"1")
        assert m.get("d/e/f")[0] == b"1"
        assert next(m.scan(""))
        m.reader("d/e/f").read(1)

    threads = [threading.Thread(target=use) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert descriptors() == before


def test_entries_that_go_during_a_listing(tmp_path: Path) -> None:
    m = mount(tmp_path)
    for number in range(2500):
        (tmp_path / f"{number:04}").touch()
    pages = m.scan("")
    seen = {entry.path for entry in next(pages)}
    for number in range(2500):
        (tmp_path / f"{number:04}").unlink()
    for page in pages:
        seen |= {entry.path for entry in page}
    assert seen <= {f"{number:04}" for number in range(2500)}
    assert len(seen) >= 1000


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    """R18: replaced meanwhile, it gives the old bytes; shortened, fewer: the mount takes that for a conflict."""
    m = storage(tmp_path)
    m.put("f", b"a" * 100_000)
    reader = m.reader("f")
    assert reader.read(10) == b"a" * 10
    m.put("f", b"b" * 100_000)
    assert reader.read() == b"a" * 99_990
    reader.close()
    reader = m.reader("f")
    os.truncate(tmp_path / "f", 5)
    assert reader.read() == b"b" * 5
    assert reader.read() == b""
    reader.close()


def test_time_of_a_write_is_now(tmp_path: Path, way: str) -> None:
    m = mount(tmp_path)
    before = time.time()
    for _ in range(2):
        written = m.put("f", b"1").mtime
        assert written is not None
        assert abs(written - before) < 10
        assert m.stat("f").mtime == written
