"""The ftp backend: the suite of all backends over pyftpdlib, plain and with TLS; credentials, lost connections."""

from __future__ import annotations

import ftplib
import os
import pickle
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends import _pool
from genro_storage.backends import ftp as driver
from genro_storage.backends.ftp import FtpBackend
from genro_storage.exceptions import (
    StorageError,
    StoragePathError,
    StoragePermissionError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.testing.reading import entries
from genro_storage.testing.tree import PREFIXES
from genro_storage.testing.writing import NAMES
from genro_storage.types import WriteOptions
from tests.servers.ftp import Ftp
from tests.servers.tcpproxy import FtpProxy

LACKS = OBJECT_STORE | {
    *("atomic_if_absent", "atomic_if_match", "content_type", "copy_from", "delete_many", "edit", "free_space"),
    *("hashes", "if_absent", "if_match", "implied_dirs", "keeps_mode", "metadata", "readlink", "surrogates"),
    *("parts", "set_mode", "symlink", "walk"),
}
SAYABLE = tuple(name for name in NAMES if "\n" not in name and "\r" not in name)


def made(server: Ftp, root: str | None = None, **keys: Any) -> FtpBackend:
    return FtpBackend(FtpBackend.Options(**(server.options(root or server.make_root()) | keys)))  # type: ignore[operator]


def mounted(backend: FtpBackend, retries: int = 0) -> Mount:
    return Mount("m", backend, retry=RetryPolicy(retries=retries, max_delay=0.01))


@pytest.fixture
def trusted(ftps: Ftp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's certificate among those that this machine trusts."""
    made_context = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made_context(cafile=str(ftps.cert_file)))


class TestFtp(BackendSuite):
    lacks = LACKS
    names = SAYABLE

    @pytest.fixture
    def backend(self, ftp: Ftp) -> Iterator[FtpBackend]:
        with closing(made(ftp)) as backend:
            yield backend

    def test_delete_many(self, mount: Mount) -> None:
        """As the suite's, without the name that FTP cannot say."""
        for path in (*PREFIXES, "data*.txt", "data1.txt", "a&b"):
            mount.put(path, b"1")
        gone = ["a", "b/a", "data*.txt", "a&b", "absent"]
        assert mount.delete_many(gone) == []
        left = {entry.path for entry in entries(mount.walk("")) if not entry.is_dir}
        assert left == ({*PREFIXES, "data1.txt"} - set(gone))


class TestFtps(TestFtp):
    @pytest.fixture
    def backend(self, ftps: Ftp, trusted: None) -> Iterator[FtpBackend]:
        with closing(made(ftps)) as backend:
            yield backend


@pytest.fixture
def backend(ftp: Ftp) -> Iterator[FtpBackend]:
    with closing(made(ftp)) as backend:
        yield backend


# --- TLS and who we are ---


def test_tls_carries_all(ftps: Ftp, trusted: None) -> None:
    """The server takes neither commands nor data in clear."""
    root = ftps.make_root()
    data = os.urandom(9 << 20)
    with closing(made(ftps, root)) as backend:
        backend.put("d/f", data)
        with closing(backend.reader("d/f")) as reader:
            assert reader.read() == data
        assert [entry.path for page in backend.scan("d") for entry in page] == ["d/f"]
    assert ftps.files(root) == {"d/f": data}


def test_ftps_is_ftp_with_tls(ftps: Ftp, trusted: None) -> None:
    keys = {key: value for key, value in ftps.options(ftps.make_root()).items() if key != "tls"}
    with StorageManager([{"name": "m", "type": "ftps", **keys}]) as storage:
        storage.node("m:a/b.txt").write_text("hello")
        assert storage.node("m:a/b.txt").move_to("m:c.txt").read_text() == "hello"
    assert ftps.files(str(keys["path"])) == {"c.txt": b"hello"}


def test_tls_is_verified(ftps: Ftp) -> None:
    with pytest.raises(StoragePermissionError, match=r"certificate of 127\.0\.0\.1:\d+ cannot be trusted.*'m:f'"):
        mounted(made(ftps)).exists("f")


def test_a_server_that_demands_tls(ftps: Ftp) -> None:
    with pytest.raises(StoragePermissionError, match="TLS required"):
        mounted(made(ftps, tls=False)).exists("f")


def test_a_wrong_password(ftp: Ftp) -> None:
    with pytest.raises(StoragePermissionError, match="refuses these credentials") as caught:
        mounted(made(ftp, password="wrong-secret")).exists("f")
    assert "wrong-secret" not in str(caught.value)


def test_who_may_only_read(ftp: Ftp) -> None:
    """The anonymous user is the default."""
    root = ftp.make_root()
    (ftp.local(root) / "f").write_bytes(b"1")
    keys = {key: value for key, value in ftp.options(root).items() if key not in ("username", "password")}
    backend = FtpBackend(FtpBackend.Options(**keys))  # type: ignore[operator]
    with closing(backend):
        mount = mounted(backend)
        assert mount.get("f")[0] == b"1"
        for verb in (lambda: mount.put("g", b""), lambda: mount.delete("f"), lambda: mount.mkdir("d")):
            with pytest.raises(StorageError, match="Not enough privileges"):
                verb()
    assert ftp.files(root) == {"f": b"1"}


@pytest.mark.parametrize("words", ["Permission denied.", "Not enough privileges.", "Operation not permitted.", "No."])
def test_a_listing_that_is_refused_is_not_empty(ftp: Ftp, words: str) -> None:
    """Not even that of the root, which may be still to come."""
    with FtpProxy(ftp.port) as proxy, closing(made(ftp, port=proxy.port)) as backend:
        assert list(mounted(backend).scan("")) == []
        proxy.answer("MLSD", f"550 {words}")
        with pytest.raises(StoragePermissionError, match=words):
            list(mounted(backend).scan(""))


def test_what_may_not_be_seen_is_not_absent(ftp: Ftp) -> None:
    with FtpProxy(ftp.port) as proxy, closing(made(ftp, port=proxy.port)) as backend:
        mount = mounted(backend)
        assert not mount.exists("f")
        proxy.answer("MLST", "550 Permission denied.")
        for ask in (mount.exists, mount.is_file, mount.is_dir, mount.stat, mount.get):
            with pytest.raises(StoragePermissionError, match="Permission denied"):
                ask("f")
        proxy.clear()
        proxy.answer("MLST", "550 f: No such file or directory.")
        assert not mount.exists("f")


def test_nobody_there() -> None:
    entry = {"name": "m", "type": "ftp", "retries": 0, "host": "127.0.0.1", "port": 1}
    with StorageManager([entry]) as storage, pytest.raises(StorageUnavailableError):
        storage.node("m:f").exists  # noqa: B018 - a property that asks


# --- files ---


@pytest.mark.parametrize("name", ["a\nDELE b", "a\rb", "a\0b"])
def test_no_command_in_a_name(backend: FtpBackend, name: str) -> None:
    backend.put("b", b"1")
    for verb in (backend.stat, backend.delete, backend.mkdir, backend.writer):
        with pytest.raises(StoragePathError):
            verb(name)
    assert backend.get("b")[0] == b"1"


def test_nothing_is_left_of_a_failed_write(ftp: Ftp, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ftp.make_root()
    backend = made(ftp, root)
    backend.put("f", b"old")

    def broken(*args: object, **kwargs: object) -> None:
        raise TimeoutError("no answer")

    for method in ("rename", "look"):
        with monkeypatch.context() as patched:
            patched.setattr(driver.FtpSession, method, broken)
            with pytest.raises(StorageUnavailableError):
                mounted(backend).put("f", b"new" * 1000)
        assert ftp.files(root) == {"f": b"old"}
    backend.writer("f").write(b"dropped")
    assert ftp.files(root) == {"f": b"old"}
    backend.close()


def test_conditions_are_not_pretended(backend: FtpBackend) -> None:
    """RNTO replaces what is there, on most servers."""
    for options in (WriteOptions(if_absent=True), WriteOptions(if_match="x")):
        with pytest.raises(UnsupportedOperation):
            backend.writer("f", options)


def test_a_reader_may_stop(backend: FtpBackend) -> None:
    """What is not wanted any more costs neither the connection nor its order."""
    data = os.urandom(12 << 20)
    backend.put("f", data)
    with closing(backend.reader("f")) as reader:
        assert isinstance(reader, _pool.ServerReader)
        assert reader.read(10) == data[:10]
    assert backend.get("f", 5, 300_000)[0] == data[5:300_000]
    assert backend.stat("f").size == len(data)
    assert len(backend._pool._idle) == 1
    session: Any = backend._pool._idle[0]
    assert session.alive()


# --- connections ---


def test_connections_are_used_again_and_replaced(backend: FtpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    connects = []
    connect = ftplib.FTP.connect

    def counted(self: ftplib.FTP, *args: Any) -> str:
        connects.append(1)
        return connect(self, *args)

    monkeypatch.setattr(ftplib.FTP, "connect", counted)
    for number in range(5):
        backend.put(f"f{number}", b"1")
        assert backend.get(f"f{number}")[0] == b"1"
    assert len(connects) == 1
    session: Any = backend._pool._idle[0]
    session.ftp.putcmd("QUIT")
    assert session.ftp.sock.recv(1, 2)  # the server's farewell: it has closed
    assert backend.get("f1")[0] == b"1"
    assert len(connects) == 2


def test_a_fork_connects_anew(backend: FtpBackend) -> None:
    backend.put("f", b"1")
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                backend.put(f"child{number}", backend.get("f")[0])
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert backend.get("child2")[0] == b"1"


def test_it_pickles(backend: FtpBackend) -> None:
    backend.put("a/f", b"1")
    twin = pickle.loads(pickle.dumps(backend.rooted("a")))
    with closing(twin):
        assert twin.get("f")[0] == b"1"
    assert twin.storage_id == backend.storage_id
