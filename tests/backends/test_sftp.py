"""The sftp backend: the suite of all backends over sshd and asyncssh, host keys, credentials, lost connections."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.backends import _pool, _ssh, _sshedit, _sshlogin, sftp
from genro_storage.backends._sshparts import SftpParts
from genro_storage.backends.memory import MemoryBackend
from genro_storage.backends.options import Duration
from genro_storage.backends.sftp import SftpBackend
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.transfer import parallel, staging
from genro_storage.transfer.places import At
from genro_storage.types import WriteOptions
from tests.backends.processes import in_children
from tests.servers.asyncsshd import PasswordSftp
from tests.servers.sshd import Sshd

LACKS = OBJECT_STORE | {
    *("atomic_if_match", "content_type", "delete_many", "hashes", "if_match"),
    *("implied_dirs", "metadata", "walk"),
}


def made(server: Sshd | PasswordSftp, root: str | None = None, **keys: Any) -> SftpBackend:
    given = server.options(root or server.make_root()) | keys
    return SftpBackend(SftpBackend.Options(**{key: value for key, value in given.items() if value is not None}))


class TestSftp(BackendSuite):
    lacks = LACKS

    @pytest.fixture
    def backend(self, sshd: Sshd) -> Iterator[SftpBackend]:
        with closing(made(sshd)) as backend:
            yield backend


class TestPasswordSftp(BackendSuite):
    """The second server, by password; one locked into a folder, as here, tells no relative link."""

    lacks = LACKS
    unkept = frozenset({"readlink"})

    @pytest.fixture
    def backend(self, password_sftp: PasswordSftp) -> Iterator[SftpBackend]:
        with closing(made(password_sftp)) as backend:
            yield backend


@pytest.fixture
def backend(sshd: Sshd) -> Iterator[SftpBackend]:
    with closing(made(sshd)) as backend:
        yield backend


def mounted(backend: SftpBackend, retries: int = 0) -> Mount:
    return Mount("m", backend, retry=RetryPolicy(retries=retries, max_delay=0.01))


# --- who it is, and who we are ---


def test_an_unknown_host_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    """`strict` is the default, and an absent file of known hosts knows none."""
    for known_hosts in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").touch()
        with pytest.raises(StoragePermissionError, match=r"not in 'known_hosts'.*accept-new.*'m:f'"):
            mounted(made(sshd, known_hosts=str(known_hosts))).get("f")


def test_a_changed_host_is_refused(sshd: Sshd, password_sftp: PasswordSftp, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known"
    other = password_sftp.known_hosts.read_text().split()[1:]
    known_hosts.write_text(" ".join([f"[127.0.0.1]:{sshd.port}", *other]) + "\n")
    for policy in ("strict", "accept-new"):
        with pytest.raises(StoragePermissionError, match="is not the one in 'known_hosts'"):
            mounted(made(sshd, known_hosts=str(known_hosts), host_keys=policy)).exists("f")
    with closing(made(sshd, known_hosts=str(known_hosts), host_keys="ignore")) as ignoring:
        assert not mounted(ignoring).exists("f")


def test_a_new_host_is_remembered(sshd: Sshd, tmp_path: Path) -> None:
    known_hosts = tmp_path / "new" / "known"
    for policy in ("accept-new", "strict"):
        with closing(made(sshd, known_hosts=str(known_hosts), host_keys=policy)) as backend:
            backend.put("f", b"1")
    assert known_hosts.read_text() == sshd.known_hosts.read_text()
    assert stat.S_IMODE(known_hosts.stat().st_mode) == 0o600


def test_keys(sshd: Sshd) -> None:
    protected = str(sshd.protected_key_file)
    with closing(made(sshd, key_file=protected, passphrase=sshd.passphrase)) as backend:
        assert backend.scan("") is not None
        backend.put("f", b"1")
    for keys, told in (
        ({"key_file": str(sshd.other_key_file)}, StoragePermissionError),
        ({"key_file": protected}, StorageConfigError),
        ({"key_file": protected, "passphrase": "wrong"}, StorageConfigError),
    ):
        with pytest.raises(told):
            mounted(made(sshd, **keys)).exists("f")


def test_a_wrong_password(password_sftp: PasswordSftp) -> None:
    with pytest.raises(StoragePermissionError, match="does not let 'genro' in") as caught:
        mounted(made(password_sftp, password="wrong-secret")).exists("f")
    assert "wrong-secret" not in str(caught.value)


def test_nobody_there(sshd: Sshd) -> None:
    """R41: on use, not at configure."""
    entry = {"name": "m", "type": "sftp", "retries": 0, **sshd.options("/"), "port": 1}
    with StorageManager([entry]) as storage, pytest.raises(StorageUnavailableError):
        storage.node("m:f").exists  # noqa: B018 - a property that asks


def test_the_mount(sshd: Sshd) -> None:
    root = sshd.make_root()
    keys = sshd.options(root)
    keys["key_filename"] = keys.pop("key_file")
    with StorageManager([{"name": "m", "type": "sftp", **keys}]) as storage:
        storage.node("m:a/b.txt").write_text("hello")
        assert storage.node("m:a/b.txt").move_to("m:c.txt").read_text() == "hello"
    assert sshd.files(root) == {"c.txt": b"hello"}


# --- files ---


def test_nothing_is_left_of_a_failed_write(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, and wherever: the old bytes stay and the hidden file goes."""
    root = sshd.make_root()
    backend = made(sshd, root)
    backend.put("f", b"old")

    def broken(*args: object, **kwargs: object) -> None:
        raise TimeoutError("no answer")

    for method in ("rename", "_write"):
        with monkeypatch.context() as patched:
            patched.setattr(_ssh.SshSession, method, broken)
            with pytest.raises(StorageUnavailableError):
                mounted(backend).put("f", b"new" * 1000)
        assert sshd.files(root) == {"f": b"old"}
    backend.writer("f").write(b"dropped")
    assert sshd.files(root) == {"f": b"old"}
    backend.close()


def test_a_refused_write_in_flight_is_told(sshd: Sshd, backend: SftpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many writes on their way the refusal of one is not lost, as it is by paramiko's own pipelining."""
    ask = _ssh.Answers.ask
    asked = []

    def spoiled(self: _ssh.Answers, kind: int, *args: Any) -> int:
        if kind == _ssh.words.CMD_WRITE:
            asked.append(kind)
            if len(asked) == 90:
                return ask(self, kind, b"no such handle", *args[1:])
        return ask(self, kind, *args)

    monkeypatch.setattr(_ssh.Answers, "ask", spoiled)
    with pytest.raises(StorageError):
        mounted(backend).put("f", os.urandom(3 << 20))
    assert sshd.files(backend.native_path("")) == {}


def test_mode_of_what_is_replaced(sshd: Sshd, backend: SftpBackend) -> None:
    backend.put("private", b"1", WriteOptions(mode=0o600))
    backend.put("private", b"2")
    assert backend.stat("private").mode == 0o600


@pytest.mark.parametrize("size", [0, 1, 40_000, (9 << 20) + 5])
def test_large_reads_are_streamed(backend: SftpBackend, size: int) -> None:
    data = os.urandom(size)
    backend.put("f", data)
    with closing(backend.reader("f")) as reader:
        assert isinstance(reader, _pool.ServerReader) == (size > 8 << 20)
        parts = []
        while piece := reader.read(100_001):
            parts.append(piece)
    assert b"".join(parts) == data
    assert backend.get("f", 3, 70_000)[0] == data[3:70_000]


def test_a_fifo_is_never_opened(sshd: Sshd, backend: SftpBackend) -> None:
    os.mkfifo(sshd.local(backend.native_path("")) / "fifo")
    assert backend.stat("fifo").is_other
    with pytest.raises(UnsupportedOperation):
        backend.get("fifo")
    assert not backend.has("x")


def test_links(sshd: Sshd, backend: SftpBackend) -> None:
    backend.put("d/f", b"1")
    backend.symlink("d/link", "d/f")
    assert backend.readlink("d/link") == "f"
    backend.symlink("dangling", "absent")
    assert [(entry.path, entry.is_symlink, entry.is_other) for page in backend.scan("") for entry in page] == [
        *[("d", False, False), ("dangling", True, True)]
    ]
    with pytest.raises(StorageExistsError):
        backend.symlink("d/f", "d")


@pytest.fixture
def outward(sshd: Sshd, backend: SftpBackend) -> Path:
    """A directory beside the mount that holds `f` and `s/g`, and links of the mount that lead there or to it."""
    root = sshd.local(backend.native_path(""))
    outside = root.with_name(f"{root.name}-beside")
    (outside / "s").mkdir(parents=True)
    (outside / "f").write_text("secret")
    (outside / "s/g").write_text("secret")
    there = f"{backend.native_path('')}-beside" if sshd.locked else str(outside)
    os.symlink(there, root / "out")
    os.symlink(f"{there}/f", root / "file")
    os.symlink(f"{there}/new", root / "new")
    os.symlink(f"../{outside.name}/s", root / "up")
    return outside


QUESTIONS = {
    "stat": lambda backend: backend.stat("out/f"),
    "stat of nothing": lambda backend: backend.stat("out/absent"),
    "get": lambda backend: backend.get("out/f"),
    "get of a link": lambda backend: backend.get("file"),
    "get of nothing": lambda backend: backend.get("out/absent"),
    "reader": lambda backend: backend.reader("up/g"),
    "scan": lambda backend: list(backend.scan("out")),
    "scan below": lambda backend: list(backend.scan("out/s")),
    "readlink": lambda backend: backend.readlink("out/f"),
}
CHANGES = {
    "put": lambda backend: backend.put("out/f", b"1"),
    "put of a new file": lambda backend: backend.put("out/n", b"1"),
    "put below new directories": lambda backend: backend.put("out/n/m/o", b"1"),
    "put through a link": lambda backend: backend.put("file", b"1"),
    "put through a dangling link": lambda backend: backend.put("new", b"1"),
    "delete": lambda backend: backend.delete("out/f"),
    "rmdir": lambda backend: backend.rmdir("out/s"),
    "mkdir": lambda backend: backend.mkdir("out/n"),
    "symlink": lambda backend: backend.symlink("out/n", "d"),
    "set_mtime": lambda backend: backend.set_mtime("out/f", 1.0),
    "set_mtime through a link": lambda backend: backend.set_mtime("file", 1.0),
    "set_mode": lambda backend: backend.set_mode("file", 0o777),
    "edit": lambda backend: backend.edit("file", "r+"),
    "append": lambda backend: backend.edit("out/f", "a"),
    "append to a new file": lambda backend: backend.edit("out/n", "a"),
    "append through a dangling link": lambda backend: backend.edit("new", "a"),
    "rename away": lambda backend: backend.rename_from(backend, "out/f", "here"),
    "rename out": lambda backend: backend.rename_from(backend, "own", "out/n"),
    "copy away": lambda backend: backend.copy_from(backend, "out/f", "here"),
    "copy of a link": lambda backend: backend.copy_from(backend, "file", "here"),
    "copy out": lambda backend: backend.copy_from(backend, "own", "out/n"),
}


@pytest.mark.parametrize("verb", [*QUESTIONS, *CHANGES])
def test_no_link_leads_out(backend: SftpBackend, outward: Path, verb: str) -> None:
    backend.put("own", b"1")
    before = held(outward)
    with pytest.raises(StoragePermissionError, match="leads out of the mount"):
        (QUESTIONS | CHANGES)[verb](backend)
    assert held(outward) == before
    assert backend.get("own")[0] == b"1"  # by the same connection
    assert not backend.has("here")
    assert backend._pool._used == 0


def held(directory: Path) -> dict[str, tuple[int, float]]:
    found = sorted(directory.rglob("*"))
    return {str(path): (path.stat().st_mode, path.stat().st_mtime) for path in found if path.is_file()} | {
        str(path): (0, 0.0) for path in found if not path.is_file()
    }


def test_links_that_lead_out_are_listed_and_deleted(backend: SftpBackend, outward: Path) -> None:
    entries = {entry.path: entry for page in backend.scan("") for entry in page}
    assert set(entries) == {"out", "file", "new", "up"}
    for name, entry in entries.items():
        assert entry == backend.stat(name)
        assert (entry.is_symlink, entry.is_dir, entry.is_other) == (True, False, True)
        assert backend.readlink(name).startswith(("/", "../"))
        backend.delete(name)
    assert (outward / "s/g").read_text() == "secret"
    assert list(backend.scan("")) == []


def test_links_inside_are_followed(sshd: Sshd, backend: SftpBackend) -> None:
    root = sshd.local(backend.native_path(""))
    backend.put("d/f", b"1")
    os.symlink("d", root / "link")
    os.symlink("../d/f", root / "d/again")
    assert backend.get("link/f")[0] == backend.get("link/again")[0] == b"1"
    backend.put("link/new/g", b"2")
    backend.put("link/again", b"3")
    assert ((root / "d/new/g").read_text(), (root / "d/f").read_text()) == ("2", "3")
    assert os.path.islink(root / "d/again")
    backend.rename_from(backend, "link/f", "moved")
    assert [entry.path for page in backend.scan("link") for entry in page] == ["link/again", "link/new"]


def test_a_root_that_is_a_link_may_change(sshd: Sshd) -> None:
    base = sshd.make_root()
    local = sshd.local(base)
    for name in ("one", "two"):
        (local / name / "d").mkdir(parents=True)
        (local / name / "d/f").write_text(name)
    os.symlink("one", local / "root")
    with closing(made(sshd, f"{base}/root")) as backend:
        assert backend.get("d/f")[0] == b"one"
        (local / "root").unlink()
        os.symlink("two", local / "root")
        assert backend.get("d/f")[0] == b"two"
        backend.put("d/sub/g", b"1")
    assert (local / "two/d/sub/g").exists()


def test_mounts_of_one_server_have_their_own_fences(sshd: Sshd, backend: SftpBackend) -> None:
    one, two = backend.rooted("one"), backend.rooted("two")
    one.put("d/f", b"1")
    one.put("d/g", b"2")
    two.rename_from(one, "d/f", "e/f")
    two.copy_from(one, "d/g", "e/g")
    with pytest.raises(StorageExistsError):
        two.rename_from(one, "d/g", "e/g", WriteOptions(if_absent=True))
    assert (two.get("e/f")[0], two.get("e/g")[0]) == (b"1", b"2")
    os.symlink("../one/d/g", sshd.local(two.native_path("")) / "link")
    with pytest.raises(StoragePermissionError):
        two.get("link")
    assert backend.get("two/link")[0] == b"2"


def test_follow_goes_wherever_the_server_goes(sshd: Sshd, backend: SftpBackend, outward: Path) -> None:
    with closing(made(sshd, backend.native_path(""), symlinks="follow")) as following:
        assert following.get("file")[0] == following.get("up/g")[0] == b"secret"
        following.put("out/n", b"1")
    assert (outward / "n").read_text() == "1"


# --- large files ---


def test_a_large_file_goes_in_parts_and_goes_on(
    backend: SftpBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a local copy of it; a run that was stopped leaves what the next one needs not send again."""
    monkeypatch.setattr(parallel, "LARGE", 1 << 20)
    monkeypatch.setattr(_pool, "Spool", lambda: pytest.fail("spooled"))
    data = os.urandom((3 << 20) + 5)
    source, target = Mount("s", MemoryBackend(MemoryBackend.Options())), mounted(backend)
    source.put("f", data)
    target.mkdir("d")
    put, sent = SftpParts.put, []

    def stopping(self: SftpParts, offset: int, part: Any) -> str:
        if len(sent) == 2:
            raise StorageUnavailableError("the cable")
        sent.append(offset)
        return put(self, offset, part)

    monkeypatch.setattr(SftpParts, "put", stopping)
    how: dict[str, Any] = {"parts": 1, "part_size": 1 << 20, "retries": 0, "resume": True, "journal": tmp_path / "j.db"}
    with pytest.raises(StorageUnavailableError, match="the cable"):
        transfer.copy(At(source, "f"), At(target, "d/f"), **how)
    assert [found.path for found in backend.unfinished("", older_than=-60)] == ["d/f"]
    assert [entry.path for page in target.scan("d") for entry in page] == []
    monkeypatch.setattr(SftpParts, "put", put)
    report = transfer.copy(At(source, "f"), At(target, "d/f"), **how)
    assert (report.bytes_resumed, target.get("d/f")[0]) == (2 << 20, data)
    assert list(backend.unfinished("", older_than=-60)) == []


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_lost_answer_to_the_last_rename(
    backend: SftpBackend, monkeypatch: pytest.MonkeyPatch, if_absent: bool
) -> None:
    """It was done: what is there now is ours, whatever stood in its place before."""
    mount, rename, left = mounted(backend, retries=1), _ssh.SshSession.rename, [1]
    if not if_absent:
        mount.put("f", b"old")

    def lost(self: _ssh.SshSession, *args: Any, **how: Any) -> None:
        rename(self, *args, **how)
        if left:
            left.pop()
            raise EOFError

    writer = mount.parts("f", WriteOptions(if_absent=if_absent, mode=0o640, mtime=7.0), part_size=10)
    writer.put(0, b"new bytes.")
    monkeypatch.setattr(_ssh.SshSession, "rename", lost)
    assert writer.commit().size == 10
    assert mount.get("f")[0] == b"new bytes."
    stat = mount.stat("f")
    assert (stat.mode, stat.mtime) == (0o640, 7.0)


def test_what_other_writers_left_is_taken_away_by_its_name(backend: SftpBackend) -> None:
    mount = mounted(backend)
    backend.put("d/.genro-w-0123", b"1")
    (found,) = backend.unfinished("", older_than=-60)
    assert (found.path, found.token) == ("d/.genro-w-0123", ".genro-w-0123")
    assert staging.discard(At(mount, found.path), found.token)
    assert not staging.discard(At(mount, found.path), found.token)
    for token in ("f", "../f", ".genro-w-a/../f", "/f"):
        backend.put("d/f", b"kept")
        with pytest.raises(StorageNotFoundError):
            backend.parts("d/f", part_size=1, token=token)
    assert backend.get("d/f")[0] == b"kept"


# --- connections ---


def test_connections_are_used_again_and_replaced(backend: SftpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    connects = []
    connect = _sshlogin.connect
    monkeypatch.setattr(_sshlogin, "connect", lambda options: connects.append(1) or connect(options))
    for number in range(5):
        backend.put(f"f{number}", b"1")
    assert len(connects) == 1
    session: Any = backend._pool._idle[0]
    session._ssh.get_transport().sock.close()
    assert mounted(backend, retries=2).get("f1")[0] == b"1"
    assert len(connects) == 2


def test_no_more_connections_than_allowed(sshd: Sshd) -> None:
    with closing(made(sshd, max_connections=1, timeout=Duration(2))) as backend:
        backend.put("f", bytes(9 << 20))
        reader = backend.reader("f")
        with pytest.raises(StorageUnavailableError, match=r"all 1 connections are in use.*max_connections"):
            backend.stat("f")
        reader.close()
        assert backend.stat("f").size == 9 << 20


def test_a_fork_connects_anew(backend: SftpBackend) -> None:
    """In a process of its own: what other tests' threads hold while we fork, a child would hold for ever."""
    process = multiprocessing.get_context("spawn").Process(target=_fork, args=[backend])
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _fork(backend: SftpBackend) -> None:
    backend.put("f", b"1")
    writer = backend.writer("g")

    def act(number: int) -> None:
        backend.put(f"child{number}", backend.get("f")[0])
        with pytest.raises(StorageError):
            writer.commit()

    assert in_children(3, act) == [0, 0, 0]
    assert backend.get("child2")[0] == b"1"
    writer.commit()
    assert backend.get("g")[0] == b""
    backend.close()


def test_it_pickles(backend: SftpBackend) -> None:
    backend.put("a/f", b"1")
    twin = pickle.loads(pickle.dumps(backend.rooted("a")))
    with closing(twin):
        assert twin.get("f")[0] == b"1"
    assert twin.storage_id == backend.storage_id


# --- in place ---


def test_an_editor_has_a_connection_of_its_own(sshd: Sshd) -> None:
    with closing(made(sshd, max_connections=1, timeout=2)) as backend:
        backend.put("f", b"0123456789")
        editor = backend.edit("f", "r+")
        with pytest.raises(StorageUnavailableError, match="connections are in use"):
            backend.stat("f")
        editor.close()
        editor.close()
        with pytest.raises(ValueError, match="closed"):
            editor.tell()
        assert backend.stat("f").size == 10


def test_nothing_but_a_file_is_edited(sshd: Sshd) -> None:
    root = sshd.make_root()
    os.mkfifo(sshd.local(root) / "fifo")
    with closing(made(sshd, root)) as backend:
        backend.put("d/f", b"1")
        for mode in ("r+", "a"):
            for name, error in (("fifo", UnsupportedOperation), ("d", IsADirectoryError)):
                with pytest.raises(error):
                    backend.edit(name, mode)
        assert backend.get("d/f")[0] == b"1"
        assert len(backend._pool._idle) == 1, "the connection is as good as before"


def test_a_large_edit(backend: SftpBackend) -> None:
    """More than what is on its way at once, and over the end of what was there."""
    data = os.urandom(5 << 20)
    backend.put("f", bytes(1000))
    with closing(backend.edit("f", "r+")) as editor:
        editor.seek(-10, 2)
        assert editor.write(data) == len(data)
        assert editor.tell() == 990 + len(data)
    assert backend.get("f")[0] == bytes(990) + data


def test_two_who_append(sshd: Sshd) -> None:
    with closing(made(sshd)) as backend:
        with closing(backend.edit("log", "a")) as one, closing(backend.edit("log", "a")) as other:
            for number in range(10):
                one.write(b"1%d" % number)
                other.write(b"2%d" % number)
        expected = b"".join(b"1%d2%d" % (number, number) for number in range(10))
        assert backend.get("log")[0] == expected


def test_a_server_that_cannot_copy_is_asked_once(backend: SftpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.put("f", b"1")
    monkeypatch.setattr(_sshedit, "COPY", "no-such-extension@example.org")
    asked: list[object] = []
    copy = _sshedit.copy
    monkeypatch.setattr(sftp, "copy", lambda *args: (asked.append(1), copy(*args))[1])
    for _ in range(2):
        with pytest.raises(UnsupportedOperation):
            backend.copy_from(backend, "f", "g")
    assert asked == [1]
    assert [entry.path for page in backend.scan("") for entry in page] == ["f"], "nothing hidden is left"
    assert mounted(backend).get("f")[0] == b"1"


def test_a_source_that_changes_while_the_server_copies(backend: SftpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sshedit, "COPIED", 1 << 20)
    backend.put("f", bytes(3 << 20))
    backend.put("g", b"old")

    def change(done: int) -> None:
        with closing(backend.edit("f", "a")) as editor:
            editor.write(b"more")

    with pytest.raises(StorageConflictError, match="changed while"):
        backend.copy_from(backend, "f", "g", tick=change)
    assert backend.get("g")[0] == b"old"
    backend.copy_from(backend, "f", "g", WriteOptions(mtime=1e9, mode=0o640))
    stat = backend.stat("g")
    assert (stat.size, stat.mtime, stat.mode) == (backend.stat("f").size, 1e9, 0o640)
