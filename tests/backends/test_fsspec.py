"""The generic fsspec backend: the suite over file systems of several kinds, and what is its own."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from genro_storage import StorageManager
from genro_storage.backends import _fsspec
from genro_storage.backends._fsspec_chain import protocols
from genro_storage.backends.fsspec import FsspecBackend, FsspecOptions
from genro_storage.exceptions import (
    StorageConfigError,
    StorageDriverError,
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS
from genro_storage.types import WriteOptions
from tests.servers.s3 import S3Endpoint


def backend_of(**keys: Any) -> FsspecBackend:
    return FsspecBackend(FsspecOptions(**keys))


class Plain(MemoryFileSystem):
    """A file system of a protocol that nobody knows: what it can is not known either."""

    protocol = "plain"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012


COMMON = WORDS - {"case_sensitive", "mkdir", "ordered", "real_dirs", "rmdir", "tells_missing"}


class TestMemory(BackendSuite):
    lacks = COMMON

    @pytest.fixture
    def backend(self) -> FsspecBackend:
        return backend_of(url=f"memory://{uuid.uuid4().hex}")


class TestUnknown(TestMemory):
    @pytest.fixture
    def backend(self) -> FsspecBackend:
        return backend_of(filesystem=Plain(), path=uuid.uuid4().hex)


class TestFile(BackendSuite):
    lacks = COMMON - {"mtime"}

    @pytest.fixture
    def backend(self, tmp_path: Path) -> FsspecBackend:
        return backend_of(url=f"file://{tmp_path}")


class TestObject(TestFile):
    """A file system of the user's own, seen through another."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> FsspecBackend:
        (tmp_path / "r").mkdir()
        return backend_of(filesystem=DirFileSystem(str(tmp_path), fs=LocalFileSystem()), path="r")


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mini_bucket(ministack: S3Endpoint) -> str:
    return ministack.make_bucket()


class TestObjects(BackendSuite):
    """An object store through its fsspec class, as later cloud types are."""

    lacks = COMMON - {"implied_dirs", "mtime"} | {"mkdir", "real_dirs", "rmdir"}
    payloads = 20

    @pytest.fixture
    def backend(self, ministack: S3Endpoint, mini_bucket: str) -> FsspecBackend:
        account = {"key": ministack.access_key, "secret": ministack.secret_key}
        options = account | {"endpoint_url": ministack.endpoint, "client_kwargs": {"region_name": ministack.region}}
        return backend_of(url=f"s3://{mini_bucket}/{next(_numbers)}", options=options)


# --- where it is ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://a/b", ["memory"]),
        ("/tmp/x", ["file"]),
        ("zip://in/side::file:///b.zip", ["zip", "file"]),
        ("dir::memory://x", ["dir", "memory"]),
        ("simplecache::zip://*.csv::s3://b/k", ["simplecache", "zip", "s3"]),
    ],
)
def test_protocols(url: str, expected: list[str]) -> None:
    assert protocols(url) == expected


def test_roots_of_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount of ``/`` is the root of the machine, not the current directory."""
    monkeypatch.chdir(tmp_path)
    for keys in ({"url": "file:///"}, {"url": "/"}, {"filesystem": LocalFileSystem()}):
        backend = backend_of(**keys)
        assert backend.native_path("a/b") == "/a/b"
        assert backend.native_path("") == "/"
        assert backend.stat("").is_dir
        assert backend.stat(str(tmp_path).lstrip("/")).is_dir
    assert backend_of(url="file:///", path=f"{tmp_path}/").native_path("x") == f"{tmp_path}/x"
    assert backend_of(url="memory://").native_path("x") == "/x"


def test_chained_urls() -> None:
    backend = backend_of(url="dir::memory://chained")
    backend.put("d/f", b"1")
    assert fsspec.filesystem("memory").cat_file("/chained/d/f") == b"1"
    assert backend.features.atomic_write


def test_options_reach_the_file_system(tmp_path: Path) -> None:
    assert backend_of(url="memory://", options={"global_store": False}).fs.global_store is False
    one, two = (backend_of(url="memory://x", options={"global_store": False}) for _ in range(2))
    one.put("f", b"1")
    with pytest.raises(FileNotFoundError):
        two.stat("f")


def test_fs_is_the_file_system_without_caches() -> None:
    backend = backend_of(url="memory://x")
    assert isinstance(backend.fs, MemoryFileSystem)
    assert backend.fs is backend.fs
    assert backend.rooted("a").fs is backend.fs
    assert backend.fs is not fsspec.filesystem("memory"), "the instance cache is off"
    assert not backend.fs.dircache.use_listings_cache


@pytest.mark.parametrize(
    ("keys", "error", "told"),
    [
        ({}, StorageConfigError, "'url' and 'filesystem'"),
        ({"url": "memory://", "filesystem": MemoryFileSystem()}, StorageConfigError, "'url' and 'filesystem'"),
        ({"filesystem": "memory"}, StorageConfigError, "not str"),
        ({"url": "nosuch://x"}, StorageConfigError, "'nosuch'"),
        ({"url": "zip://a::nosuch://x"}, StorageConfigError, "'nosuch'"),
    ],
)
def test_bad_keys_are_told_at_configure(keys: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        backend_of(**keys)


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At configure where the class tells it, else on first use."""

    def absent(*_: Any, **__: Any) -> None:
        raise ImportError("install thing to access Thing")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "get_filesystem_class", absent)
        with pytest.raises(StorageDriverError, match=r"'memory'.*install thing"):
            backend_of(url="memory://x")
    backend = backend_of(url="memory://x")
    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(StorageDriverError, match=r"'memory'.*install thing"):
        backend.stat("f")


def test_a_password_in_the_url_is_not_shown() -> None:
    with StorageManager([{"name": "m", "type": "fsspec", "url": "ftp://user:s3cret@127.0.0.1:1/x"}]) as manager:
        assert "s3cret" not in repr(manager.mounts["m"])
        assert manager.mounts["m"].options["url"] == "***"
        with pytest.raises(StorageError) as caught:
            manager.node("m:f").read_bytes()
    assert "s3cret" not in f"{caught.value}"
    with StorageManager([{"name": "m", "type": "fsspec", "url": "memory://x"}]) as manager:
        assert manager.mounts["m"].options["url"] == "memory://x"


def test_secrets_for_the_library_are_not_shown(tmp_path: Path) -> None:
    given = {
        "auto_mkdir": True,
        "password": "hush",
        "client_kwargs": {"aws_secret_access_key": "hush", "region_name": "r", "proxy": "http://u:hush@h"},
    }
    with StorageManager([{"name": "m", "type": "fsspec", "url": f"file://{tmp_path}", "options": given}]) as manager:
        info = manager.mounts["m"]
        assert "hush" not in repr(info)
        assert info.options["options"] == {
            "auto_mkdir": True,
            "password": "***",
            "client_kwargs": {"aws_secret_access_key": "***", "region_name": "r", "proxy": "***"},
        }
        failure = manager._mounts["m"].guard.failure(ValueError("hush!"), "read", "f")
        assert "hush" not in str(failure)


def test_equal_keys_are_one_storage() -> None:
    one, two = backend_of(url="memory://a"), backend_of(url="memory://a")
    assert one.storage_id == two.storage_id
    assert one.native_path("f") == two.native_path("f")
    assert backend_of(url="memory://a", options={"x": 1}).storage_id != one.storage_id
    fs = MemoryFileSystem()
    assert backend_of(filesystem=fs).storage_id == backend_of(filesystem=fs, path="x").storage_id


@pytest.mark.parametrize("keys", [{"url": "memory://pickled"}, {"filesystem": MemoryFileSystem(), "path": "pickled"}])
def test_pickle(keys: dict[str, Any]) -> None:
    backend = backend_of(**keys)
    backend.put("d/f", b"1")
    assert pickle.loads(pickle.dumps(backend.rooted("d"))).get("f")[0] == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_makes_its_own(tmp_path: Path) -> None:
    """Even if another thread held the lock at the fork."""
    backend = backend_of(filesystem=Plain(), path="forked")
    backend.put("f", b"1")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with backend._connection.lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if backend.get("f")[0] == b"1" else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()


# --- reading ---


@pytest.fixture
def archive(tmp_path: Path) -> str:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("d/f.txt", "hello")
        archive.writestr("d/sub/g", "x" * 100)
        archive.writestr("top*", "1")
    return f"zip://::file://{file}"


def test_an_archive_is_read_only(archive: str) -> None:
    mount = Mount("z", backend_of(url=archive))
    assert mount.get("d/f.txt")[0] == b"hello"
    assert mount.get("d/f.txt", -2)[0] == b"lo"
    assert [entry.path for page in mount.walk("") for entry in page] == ["d", "d/f.txt", "d/sub", "d/sub/g", "top*"]
    assert mount.stat("d/sub").is_dir
    assert mount.get("top*")[0] == b"1"
    with pytest.raises(StorageNotFoundError):
        mount.get("absent")
    with pytest.raises(StorageNotADirectoryError):
        list(mount.scan("top*"))
    assert mount.features.readonly
    assert not mount.backend.abilities
    for change in (mount.put, mount.writer):
        with pytest.raises(UnsupportedOperation):
            change("f", b"1") if change == mount.put else change("f")
    for change in (mount.backend.writer, mount.backend.mkdir, mount.backend.delete, mount.backend.rmdir):
        with pytest.raises(UnsupportedOperation):
            change("d")


def test_a_large_file_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held of what is above the limit; one read after another; a short file is an error."""
    monkeypatch.setattr("genro_storage.backends.fsspec.SPOOL", 1000)
    data = os.urandom(5000)
    for backend in (backend_of(url=f"file://{tmp_path}"), backend_of(url=f"memory://{uuid.uuid4().hex}")):
        backend.put("f", data)
        for start, end in ((0, None), (100, None), (-4000, None), (5, 4000)):
            with closing(backend.reader("f", start, end)) as one, closing(backend.reader("f", start, end)) as two:
                expected = data[start:end]
                assert one.read(10) == two.read(10) == expected[:10]
                assert one.read() == two.read() == expected[10:]
                assert one.read() == b""
    reader = backend_of(url=f"file://{tmp_path}").reader("f")
    os.truncate(tmp_path / "f", 4000)
    with closing(reader), pytest.raises(StorageError, match="1000 bytes early"):
        while reader.read(1024):
            pass


def test_a_file_that_changes_between_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backend_of(url=f"file://{tmp_path}")
    backend.put("f", b"12345")
    monkeypatch.setattr(backend.fs, "cat_file", lambda path: b"123")
    with pytest.raises(StorageError, match="changed"):
        backend.get("f")


def test_links(tmp_path: Path) -> None:
    backend = backend_of(url=f"file://{tmp_path}")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"123")
    (tmp_path / "file").symlink_to("d/f")
    (tmp_path / "dir").symlink_to("d")
    (tmp_path / "gone").symlink_to("nowhere")
    (page,) = backend.scan("")
    facts = {entry.path: (entry.is_symlink, entry.is_dir, entry.is_file, entry.size) for entry in page}
    assert facts == {
        "d": (False, True, False, None),
        "dir": (True, True, False, None),
        "file": (True, False, True, 3),
        "gone": (True, False, False, None),
    }
    for name in ("file", "dir"):
        backend.delete(name)
    assert (tmp_path / "d/f").read_bytes() == b"123"


# --- writing ---


@pytest.mark.parametrize("size", [10, 5000])
def test_a_write_goes_to_a_hidden_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Where the file system renames; a failure leaves the old bytes only, and the commit may be repeated."""
    monkeypatch.setattr(_fsspec, "SPOOL", 1000)
    backend = backend_of(url=f"file://{tmp_path}")
    backend.put("d/f", b"old")
    data = os.urandom(size)
    for failing in ("mv", "put_file", "pipe_file"):
        writer = backend.writer("d/f")
        writer.write(data[:500])
        writer.write(data[500:])
        seen: list[list[str]] = []

        def fail(*_: Any, seen: list[list[str]] = seen) -> None:
            seen.append(sorted(os.listdir(tmp_path / "d")))
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(backend.fs, failing, fail)
            if failing == {True: "pipe_file", False: "put_file"}[size > 1000]:
                continue  # not the call that this size takes
            with pytest.raises(OSError, match="No space"):
                writer.commit()
        assert os.listdir(tmp_path / "d") == ["f"]
        assert backend.get("d/f")[0] == b"old"
        if failing == "mv":
            (names,) = seen
            assert names[1:] == ["f"]
            assert names[0].startswith(".genro-")
        assert writer.commit().size == size
        assert backend.get("d/f")[0] == data
        backend.put("d/f", b"old")


def test_an_unknown_file_system_keeps_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write takes away its own beginning, but never a file that was there before."""
    backend = backend_of(filesystem=Plain(), path=uuid.uuid4().hex)
    assert not backend.features.atomic_write
    backend.put("there", b"old")

    def half(path: str, value: bytes) -> None:
        MemoryFileSystem.pipe_file(backend.fs, path, value[:1])
        raise ConnectionError

    monkeypatch.setattr(backend.fs, "pipe_file", half)
    for path in ("there", "new"):
        with pytest.raises(ConnectionError):
            backend.put(path, b"12345")
    assert backend.stat("there").is_file
    with pytest.raises(FileNotFoundError):
        backend.stat("new")


def test_nothing_is_spooled_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fsspec, "SPOOL", 1000)
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    backend = backend_of(url=f"memory://{uuid.uuid4().hex}")
    for end in ("commit", "discard", "drop"):
        writer = backend.writer("f")
        writer.write(bytes(5000))
        assert len(os.listdir(spool)) == 1
        if end != "drop":
            getattr(writer, end)()
        else:
            del writer
        assert os.listdir(spool) == []
    assert backend.get("f")[0] == bytes(5000)


def test_hashes_are_checked(tmp_path: Path) -> None:
    backend = backend_of(url=f"file://{tmp_path}")
    writer = backend.writer("f")
    writer.write(b"1")
    with pytest.raises(StorageError, match="md5"):
        writer.commit({"md5": "0" * 32})
    assert os.listdir(tmp_path) == []
    writer.commit({"md5": "c4ca4238a0b923820dcc509a6f75849b"})
    assert (tmp_path / "f").read_bytes() == b"1"


def test_one_call_at_a_time_where_that_is_safer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance of an unknown file system is not used by two threads at once."""
    backend = backend_of(filesystem=Plain(), path=uuid.uuid4().hex)
    backend.put("f", b"1")
    inside, most = [], []
    info = backend.fs.info

    def slow(path: str) -> Any:
        inside.append(1)
        most.append(len(inside))
        found = info(path)
        inside.pop()
        return found

    monkeypatch.setattr(backend.fs, "info", slow)
    threads = [threading.Thread(target=lambda: [backend.stat("f") for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_errors_are_ours(tmp_path: Path) -> None:
    mount = Mount("m", backend_of(url=f"file://{tmp_path}"), retry=NO_RETRY)
    for act in (mount.get, mount.stat, mount.delete, mount.rmdir, lambda path: list(mount.scan(path))):
        with pytest.raises(StorageNotFoundError, match="m:absent"):
            act("absent")
    with pytest.raises(UnsupportedOperation):
        mount.put("f", b"1", WriteOptions(if_absent=True))
    with pytest.raises(UnsupportedOperation):
        mount.get("f", version="1")


def test_a_subclass_of_few_lines(tmp_path: Path) -> None:
    """What a backend for one protocol writes: how to connect, and what it knows better."""

    class Mine(FsspecBackend):
        class Options(FsspecOptions, frozen=True, kw_only=True):
            host: str

        def kind(self) -> _fsspec.Kind:
            return _fsspec.Kind(renames=True, atomic=True)

        def connect(self) -> Any:
            return LocalFileSystem()

        def base(self) -> str:
            return self.options.host

        def translate(self, error: Exception) -> StorageError | None:
            return StorageError("mine") if isinstance(error, KeyError) else None

    backend = Mine(Mine.Options(host=str(tmp_path), path="root"))
    backend.put("f", b"1")
    assert (tmp_path / "root/f").read_bytes() == b"1"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for fs in (MemoryFileSystem, Plain):
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]
