"""The sshd of the tests, driven by paramiko."""

from __future__ import annotations

import math
import os
import socket
import stat
import time
from collections.abc import Iterator

import paramiko
import pytest

from tests.servers.asyncsshd import PasswordSftp
from tests.servers.sshd import Sshd


def connect(server: Sshd | PasswordSftp, *, known: bool = True, **changed: object) -> paramiko.SSHClient:
    """A client that trusts the known hosts only, and offers the given key only."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if known:
        client.load_host_keys(str(server.known_hosts))
    options = server.options("/")
    keys = {"port": options["port"], "username": options["username"], "key_filename": options.get("key_file")}
    keys |= {"password": options.get("password"), "look_for_keys": False, "allow_agent": False, "timeout": 5, **changed}
    try:
        client.connect(str(options["host"]), **keys)  # type: ignore[arg-type]
    except BaseException:
        client.close()
        raise
    return client


@pytest.fixture(scope="module")
def sftp(sshd: Sshd) -> Iterator[paramiko.SFTPClient]:
    with connect(sshd) as client, client.open_sftp() as session:
        session.sock.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield session


def test_files_are_those_of_the_folder(sshd: Sshd, sftp: paramiko.SFTPClient) -> None:
    root, data = sshd.make_root(), os.urandom(1 << 20)
    with sftp.open(f"{root}/ü b", "wb") as file:
        file.set_pipelined(True)
        file.write(data)
    assert sshd.files(root) == {"ü b": data}
    (sshd.local(root) / "witness").write_bytes(b"1")
    assert sorted(sftp.listdir(root)) == ["witness", "ü b"]
    assert sshd.options(root)["path"] == root


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lock the server into its folder")
def test_nothing_but_the_folder_can_be_reached(sshd: Sshd, sftp: paramiko.SFTPClient) -> None:
    assert set(sftp.listdir("/")) == set(os.listdir(sshd.data))
    assert sftp.normalize("/../..") == "/"


def test_what_the_facts_in_the_docstring_say(sshd: Sshd, sftp: paramiko.SFTPClient) -> None:
    root = sshd.make_root()
    for name in ("a", "b"):
        sftp.open(f"{root}/{name}", "wb").close()
    for call in (
        lambda: sftp.open(f"{root}/a", "wx"),
        lambda: sftp.rename(f"{root}/a", f"{root}/b"),
        lambda: sftp.mkdir(root),
        lambda: sftp.rmdir(root),
    ):
        with pytest.raises(OSError, match="Failure") as caught:
            call()
        assert caught.value.errno is None
    sftp.posix_rename(f"{root}/a", f"{root}/b")
    with pytest.raises(FileNotFoundError):
        sftp.stat(f"{root}/a")
    sftp.utime(f"{root}/b", (1, 1.75))
    assert sftp.stat(f"{root}/b").st_mtime == 1
    sftp.symlink("b", f"{root}/link")
    assert stat.S_ISLNK(sftp.lstat(f"{root}/link").st_mode or 0)
    (sshd.local(root) / os.fsdecode(b"\xff")).touch()
    with pytest.raises(UnicodeDecodeError):
        sftp.listdir(root)


def test_nagle_is_the_difference(sshd: Sshd) -> None:
    def seconds(nodelay: int) -> float:
        with connect(sshd) as client, client.open_sftp() as session:
            client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
            with session.open(f"{root}/{nodelay}", "wb") as file:
                began = time.perf_counter()
                for _ in range(8):
                    file.write(bytes(32 << 10))
                return time.perf_counter() - began

    root = sshd.make_root()
    quick = slow = math.inf  # the best of some: who else uses the machine makes both slower
    for _ in range(10):
        quick, slow = min(quick, seconds(1)), min(slow, seconds(0))
        if quick < slow / 2:
            break
    assert quick < slow / 2


def test_keys(sshd: Sshd) -> None:
    connect(sshd, key_filename=str(sshd.protected_key_file), passphrase=sshd.passphrase).close()
    with pytest.raises(paramiko.AuthenticationException):
        connect(sshd, key_filename=str(sshd.other_key_file))
    with pytest.raises(paramiko.PasswordRequiredException):
        connect(sshd, key_filename=str(sshd.protected_key_file))
    with pytest.raises(paramiko.SSHException, match="Invalid key"):
        connect(sshd, key_filename=str(sshd.protected_key_file), passphrase="wrong")
    with pytest.raises(paramiko.SSHException, match="not found in known_hosts"):
        connect(sshd, known=False)


def test_a_dead_port(sshd: Sshd) -> None:
    with pytest.raises(paramiko.ssh_exception.NoValidConnectionsError):
        connect(sshd, port=1)


def test_a_password(password_sftp: PasswordSftp) -> None:
    root = password_sftp.make_root()
    with connect(password_sftp) as client, client.open_sftp() as session:
        for name in ("a", "b"):
            session.open(f"{root}/{name}", "wb").close()
        with pytest.raises(OSError, match="File already exists") as caught:
            session.rename(f"{root}/a", f"{root}/b")
        assert caught.value.errno is None
        session.posix_rename(f"{root}/a", f"{root}/b")
        assert root.removeprefix("/") in session.listdir("/")
        assert session.normalize("/../..") == "/"
    assert password_sftp.files(root) == {"b": b""}
    with pytest.raises(paramiko.AuthenticationException):
        connect(password_sftp, password="wrong")
    with pytest.raises(paramiko.SSHException, match="not found in known_hosts"):
        connect(password_sftp, known=False)
