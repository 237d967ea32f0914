"""The local backend: the suite of all backends, and what only a file system has: modes, names, disks, processes."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage import StorageManager
from genro_storage.backends import _localmeta
from genro_storage.backends._localfile import nanoseconds
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.options import Context
from genro_storage.exceptions import (
    StorageConfigError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.types import WriteOptions
from tests.backends.local_tools import descriptors, mount, portable, storage

is_root = os.geteuid() == 0


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing a file nobody sees."""
    if request.param == "named":
        portable(monkeypatch)
    return str(request.param)


class TestLocal(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk")
    }

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalStorage:
        return storage(tmp_path)


class TestWithMetadata(BackendSuite):
    lacks = TestLocal.lacks - {"metadata", "set_metadata"}

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalStorage:
        return storage(tmp_path, metadata="xattr")


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


def test_configured(tmp_path: Path) -> None:
    """R50: a colon in an absolute path, octal text, aliases; a bad value names mount, key and remedy."""
    (tmp_path / "a:b").mkdir()
    entry = {"name": "m", "type": "local", "base_path": f"{tmp_path}/a:b", "file_mode": "0640", "dir_mode": 0o2750}
    with StorageManager([entry]) as manager:
        manager.node("m:d/f").write_text("hello")
        found = os.stat(tmp_path / "a:b/d/f"), os.stat(tmp_path / "a:b/d")
        assert [stat.S_IMODE(one.st_mode) for one in found] == [0o640, 0o2750]
        assert manager.node("m:d/f").resolved_path == f"{tmp_path}/a:b/d/f"
        for wrong, told in (
            ({"path": f"{tmp_path}/absent"}, "mount 'x': the base directory .*absent' does not exist; .*create: true"),
            ({"path": f"{tmp_path}/a:b/d/f"}, "mount 'x': the base path .* is not a directory"),
            ({"path": f"{tmp_path}/a:b/d/f/g", "create": True}, "mount 'x': the base path .* is not a directory"),
            ({"path": "a\0b"}, "mount 'x': the base directory .* cannot be used"),
            ({"path": "/proc/none", "create": True}, "mount 'x': the base directory .*"),
            ({}, "mount 'x': missing required field: 'base_path' or 'path'"),
            ({"path": ".", "symlinks": "never"}, "mount 'x': .*symlinks"),
            ({"path": ".", "file_mode": "0999"}, "mount 'x': .*file_mode"),
            ({"path": ".", "fsnyc": True}, "did you mean 'fsync'"),
        ):
            with pytest.raises(StorageError, match=told):
                manager.configure([{"name": "x", "type": "local", **wrong}])
        assert manager.get_mount_names() == ["m"]


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


# --- metadata ---


def test_metadata_goes_with_a_write_and_a_copy(tmp_path: Path) -> None:
    """Whatever the way the bytes take; a new write starts anew; a mount without it neither shows nor takes it along."""
    m = mount(tmp_path, metadata="xattr")
    kept = {"colour": "caf\u00e9", "mode": "x" * 1000}
    m.put("put", b"1", WriteOptions(metadata=kept))
    writer = m.writer("d/writer", WriteOptions(metadata=kept))
    writer.write(b"1")
    writer.commit()
    m.copy_from(m, "put", "copy")
    m.copy_from(m, "put", "bare", WriteOptions(metadata={}))
    m.rename_from(m, "d/writer", "renamed")
    for path in ("put", "copy", "renamed"):
        assert m.stat(path).metadata == m.get(path)[1].metadata == m.reader(path).stat.metadata == kept
    assert not m.stat("bare").metadata
    m.put("put", b"2")
    assert not m.stat("put").metadata
    plain = mount(tmp_path)
    assert plain.stat("copy").metadata is None
    plain.copy_from(plain, "copy", "without")
    assert not m.stat("without").metadata
    m.symlink("link", "copy")
    assert m.stat("link").metadata == kept


def test_metadata_through_nodes(tmp_path: Path) -> None:
    with StorageManager(
        {"l": {"type": "local", "path": str(tmp_path), "metadata": "xattr"}, "m": {"type": "memory", "metadata": True}}
    ) as manager:
        assert manager.node("l:").capabilities.metadata
        node = manager.node("l:f")
        node.write("x", metadata={"a": "1"})
        node.set_metadata({"b": "2"}, replace=False)
        assert node.get_metadata() == {"a": "1", "b": "2"}
        assert node.copy_to("m:g").get_metadata() == {"a": "1", "b": "2"}
        assert manager.node("m:g").copy_to("l:h").get_metadata() == {"a": "1", "b": "2"}
        assert node.copy_to("l:i").get_metadata() == {"a": "1", "b": "2"}
        with node.open("a") as file:
            file.write("y")
        assert (node.read(), node.get_metadata()) == ("xy", {"a": "1", "b": "2"})
        with pytest.raises(StorageQuotaError):
            node.set_metadata({"big": "x" * 70_000})
        assert node.get_metadata() == {"a": "1", "b": "2"}
        node.set_metadata({})
        assert node.get_metadata() == {}
        assert os.listxattr(tmp_path / "f") == []
        manager.node("l:d").mkdir()
        with pytest.raises(StorageIsADirectoryError):
            manager.node("l:d").set_metadata({"a": "b"})


def test_metadata_of_others_is_none(tmp_path: Path) -> None:
    m = mount(tmp_path, metadata="xattr")
    for text in (b"no json", b"[1]"):
        m.put("f", b"1", WriteOptions(metadata={"a": "b"}))
        os.setxattr(tmp_path / "f", "user.genro.metadata", text)
        assert m.stat("f").metadata is None


def test_a_file_system_that_keeps_no_metadata_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = mount(tmp_path, metadata="xattr")
    monkeypatch.setattr(_localmeta, "ATTRIBUTE", "unknown.namespace")  # which none supports
    with pytest.raises(StorageConfigError, match="'metadata: xattr' is not possible here"):
        StorageManager({"l": {"type": "local", "path": str(tmp_path), "metadata": "xattr"}})
    m.put("f", b"1")
    assert not m.stat("f").metadata
    with pytest.raises(UnsupportedOperation, match="keeps no extended attributes"):
        m.put("f", b"2", WriteOptions(metadata={"a": "b"}))
    assert m.get("f")[0] == b"1"
