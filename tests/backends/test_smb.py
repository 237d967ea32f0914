"""The smb backend: the suite of all backends over Samba, names, credentials, encryption, lost connections."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import smbclient
from smbprotocol.exceptions import SMBOSError
from smbprotocol.header import NtStatus

from genro_storage import StorageManager
from genro_storage.backends import _smb as driver
from genro_storage.backends.base import StorageBackend
from genro_storage.backends.smb import SmbBackend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageUnavailableError,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing import OBJECT_STORE, BackendSuite, listing
from genro_storage.testing.conditions import race
from genro_storage.testing.reading import entries
from genro_storage.testing.tree import PREFIXES
from genro_storage.testing.writing import NAMES
from genro_storage.types import WriteOptions
from tests.backends.processes import in_children
from tests.servers.samba import Samba

LACKS = OBJECT_STORE | {
    *("atomic_if_absent", "atomic_if_match", "case_sensitive", "content_type", "delete_many", "edit"),
    *(
        "parts",
        "hashes",
        "if_match",
        "implied_dirs",
        "keeps_mode",
        "metadata",
        "readlink",
        "set_mode",
        "surrogates",
        "symlink",
        "walk",
    ),
}
IMPOSSIBLE = (
    *("data*.txt", "what?.txt", "trail ", "dot.", "...", '"q"', "<t>", "a|b", "a:b", "tab\there", "line\nbreak"),
    *("cr\rhere", "\x01", "*", "**", "?", "CON"),
)
POSSIBLE = tuple(name for name in NAMES if name not in IMPOSSIBLE)


def made(server: Samba, root: str | None = None, *, readonly: bool = False, **keys: Any) -> SmbBackend:
    options: Any = server.options(root or server.make_root(), readonly=readonly) | keys
    return SmbBackend(SmbBackend.Options(**options))


def mounted(backend: SmbBackend, retries: int = 0) -> Mount:
    return Mount("m", backend, retry=RetryPolicy(retries=retries, max_delay=0.01))


class TestSmb(BackendSuite):
    """Without the names that SMB has not, and the pair that differs by case only."""

    lacks = LACKS
    names = POSSIBLE

    @pytest.fixture(autouse=True)
    def _one_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "TREE", tuple(path for path in listing.TREE if path != "Z"))

    @pytest.fixture
    def backend(self, samba: Samba) -> Iterator[SmbBackend]:
        with closing(made(samba)) as backend:
            yield backend

    @pytest.mark.parametrize("pattern", ["report[1].txt", "{a,b}", "a%b", "a_"])
    def test_delete_takes_exactly_one(self, mount: Mount, pattern: str) -> None:
        others = {"report1.txt", "a", "b", "ab", "axb", f"{pattern}x", f"{pattern}.bak"}
        for name in {*others, pattern}:
            mount.put(f"d/{name}", b"1")
        mount.delete(f"d/{pattern}")
        assert {entry.path for entry in entries(mount.scan("d"))} == {f"d/{name}" for name in others}

    def test_copy_between_roots(self, backend: StorageBackend, mount: Mount) -> None:
        """As the suite's, with a name that SMB has, and large enough for more than one request."""
        one, two = Mount("one", backend.rooted("one")), Mount("two", backend.rooted("two"))
        data = os.urandom(40 << 20)
        one.put("f[", data)
        assert two.copy_from(one, "f[", "d/g").size == len(data)
        assert mount.get("two/d/g")[0] == data

    def test_delete_many(self, mount: Mount) -> None:
        for path in (*PREFIXES, "a&b"):
            mount.put(path, b"1")
        gone = ["a", "b/a", "data*.txt", "a&b", "absent"]
        assert mount.delete_many(gone) == []
        left = {entry.path for entry in entries(mount.walk("")) if not entry.is_dir}
        assert left == (set(PREFIXES) - set(gone))


@pytest.fixture
def backend(samba: Samba) -> Iterator[SmbBackend]:
    with closing(made(samba)) as backend:
        yield backend


# --- names ---


@pytest.mark.parametrize("name", [*IMPOSSIBLE, "nul.txt", "d/aux", "COM1", "x./y", "back\\slash"])
def test_names_that_smb_has_not(backend: SmbBackend, name: str) -> None:
    """Refused before the first byte; nothing can be there, and nothing else is taken for it."""
    backend.put("data1.txt", b"1")
    mount = mounted(backend)
    for make in (lambda: mount.put(name, b""), lambda: mount.writer(name), lambda: mount.mkdir(name)):
        with pytest.raises(StoragePathError, match="SMB has no names"):
            make()
    with pytest.raises(StoragePathError):
        mount.rename_from(mount, "data1.txt", name)
    with pytest.raises(StorageNotFoundError):
        mount.delete(name)
    assert not mount.exists(name)
    assert [entry.path for entry in entries(mount.scan(""))] == ["data1.txt"]


@pytest.mark.parametrize("name", ["console", "nullable.txt", "com", "com10", "a.con", ".hidden", "a b.c d"])
def test_names_that_only_look_so(backend: SmbBackend, name: str) -> None:
    backend.put(name, b"1")
    assert backend.get(name)[0] == b"1"


def test_case_is_kept_and_not_told_apart(backend: SmbBackend) -> None:
    backend.put("Name", b"1")
    backend.put("name", b"2")
    assert backend.get("NAME")[0] == b"2"
    assert len(entries(backend.scan(""))) == 1


# --- who may ---


def test_a_wrong_password(samba: Samba) -> None:
    with pytest.raises(StoragePermissionError, match="does not let this user in") as caught:
        mounted(made(samba, password="wrong-secret")).exists("f")
    assert "wrong-secret" not in str(caught.value)


def test_the_domain_goes_with_the_user(samba: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """R50: as the server is told it."""
    told = []
    stat = smbclient.stat
    monkeypatch.setattr(smbclient, "stat", lambda path, **keys: told.append(keys["username"]) or stat(path, **keys))
    with closing(made(samba, domain="WORKGROUP")) as backend:
        backend.has("f")
    assert set(told) == {rf"WORKGROUP\{samba.username}"}


def test_a_read_only_share(samba: Samba) -> None:
    root = samba.make_root()
    (samba.local(root) / "f").write_bytes(b"1")
    with closing(made(samba, root, readonly=True)) as backend:
        mount = mounted(backend)
        assert mount.get("f")[0] == b"1"
        for verb in (lambda: mount.put("g", b""), lambda: mount.delete("f"), lambda: mount.mkdir("d")):
            with pytest.raises(StoragePermissionError):
                verb()
    assert samba.files(root) == {"f": b"1"}


def test_encryption(samba: Samba) -> None:
    with closing(made(samba, encrypt=True)) as backend:
        backend.put("f", b"secret")
        (session,) = backend._pool._idle
        (connection,) = session._cache.values()  # type: ignore[attr-defined]
        assert all(one.encrypt_data for one in connection.session_table.values())


def test_nobody_there(samba: Samba) -> None:
    """R41: on use, not at configure; a share that is not there is no empty directory."""
    entry = {"name": "m", "type": "smb", "retries": 0, **samba.options("/")}
    for change in ({"port": 1}, {"share": "nowhere"}):
        with StorageManager([entry | change]) as storage, pytest.raises(StorageUnavailableError):
            storage.node("m:f").exists  # noqa: B018 - a property that asks


def test_the_mount(samba: Samba) -> None:
    root = samba.make_root()
    with StorageManager([{"name": "m", "type": "smb", **samba.options(root)}]) as storage:
        storage.node("m:a/b.txt").write_text("hello")
        assert storage.node("m:a/b.txt").move_to("m:c.txt").read_text() == "hello"
    assert samba.files(root) == {"c.txt": b"hello"}


# --- files ---


def test_nothing_is_left_of_a_failed_write(samba: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    root = samba.make_root()
    backend = made(samba, root)
    backend.put("f", b"old")

    def broken(*args: object, **kwargs: object) -> None:
        raise TimeoutError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(driver.SmbSession, "rename", broken)
        with pytest.raises(StorageUnavailableError):
            mounted(backend).put("f", b"new" * 1000)
    assert samba.files(root) == {"f": b"old"}
    backend.writer("f").write(b"dropped")
    assert samba.files(root) == {"f": b"old"}
    backend.close()


def test_a_file_that_is_being_read(samba: Samba) -> None:
    """Replaced meanwhile, a reader goes on with the old bytes."""
    root = samba.make_root()
    with closing(made(samba, root)) as backend:
        old = os.urandom(9 << 20)
        backend.put("f", old)
        with closing(backend.reader("f")) as reader:
            backend.put("f", b"new")
            assert reader.read() == old
        assert samba.files(root) == {"f": b"new"}


def test_a_file_that_the_server_does_not_replace(samba: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows does while somebody has it open: the old bytes stay, and a later try may succeed."""
    root = samba.make_root()

    def refused(path: str, target: str, **keys: object) -> None:
        raise SMBOSError(NtStatus.STATUS_ACCESS_DENIED, path, target)

    with closing(made(samba, root)) as backend:
        backend.put("f", b"old")
        monkeypatch.setattr(smbclient, "replace", refused)
        with pytest.raises(StorageConflictError) as caught:
            backend.put("f", b"new")
        assert caught.value.retryable
    assert samba.files(root) == {"f": b"old"}


def test_of_those_who_create_one_file_one_wins(samba: Samba) -> None:
    """Samba alone lets two of them through, now and then."""
    root = samba.make_root()
    with closing(made(samba, root)) as backend:
        mount = mounted(backend)
        for turn in range(5):

            def write(number: int, name: str = f"d/{turn}") -> None:
                mount.put(name, bytes([number]) * 1000, WriteOptions(if_absent=True))

            (winner,) = race(8, write, StorageExistsError)
            assert mount.get(f"d/{turn}")[0] == bytes([winner]) * 1000
        assert sorted(samba.files(root)) == [f"d/{turn}" for turn in range(5)]


def test_a_claim_ends_with_its_holder(samba: Samba) -> None:
    """While it is held nobody else creates; a killed process holds nothing."""
    root = samba.make_root()
    with closing(made(samba, root, timeout=1)) as backend:
        backend.put("other", b"1")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with backend._pool.session() as session, session.claim(backend._at("f"), 1.0):  # type: ignore[attr-defined]
                os.write(writing, b"1")
                signal.pause()
        os.read(reading, 1)
        with pytest.raises(StorageConflictError, match="somebody else is creating"):
            mounted(backend).put("f", b"1", WriteOptions(if_absent=True))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        mounted(backend).put("f", b"1", WriteOptions(if_absent=True))
    assert samba.files(root) == {"f": b"1", "other": b"1"}


# --- connections ---


def test_connections_are_used_again_and_replaced(backend: SmbBackend) -> None:
    for number in range(5):
        backend.put(f"f{number}", b"1")
    (session,) = backend._pool._idle
    backend.get("f1")
    assert backend._pool._idle == [session]
    (connection,) = session._cache.values()  # type: ignore[attr-defined]
    connection.disconnect()
    assert mounted(backend, retries=2).get("f1")[0] == b"1"
    assert backend._pool._idle != [session]


def test_a_fork_connects_anew(backend: SmbBackend) -> None:
    backend.put("f", b"1")
    assert in_children(3, lambda number: backend.put(f"child{number}", backend.get("f")[0])) == [0, 0, 0]
    assert backend.get("child2")[0] == b"1"


def test_it_pickles(backend: SmbBackend) -> None:
    backend.put("a/f", b"1")
    twin = pickle.loads(pickle.dumps(backend.rooted("a")))
    with closing(twin):
        assert twin.get("f")[0] == b"1"
    assert twin.storage_id == backend.storage_id
