"""The way to an SFTP server: the host's key looked up, an account let in, both within their time."""

from __future__ import annotations

import os
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import paramiko

from ..exceptions import StorageTimeoutError, StorageUnavailableError
from ._ssh import Client, SshSession


class AcceptNew(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # it has no types
    """Trusts a host that is seen for the first time, and remembers its key."""

    _turn = threading.Lock()

    def __init__(self, known_hosts: Path) -> None:
        self._file = known_hosts

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        line = f"{hostname} {key.get_name()} {b64encode(key.asbytes()).decode()}\n"
        with self._turn:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self._file, "a", encoding="utf-8", opener=_private) as file:
                file.write(line)


class IgnoreHostKeys(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # it has no types
    """Trusts whoever answers."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def connect(options: Any) -> SshSession:
    """A new connection, as the options of an sftp mount say."""
    ssh = paramiko.SSHClient()
    known_hosts = Path(options.known_hosts or "~/.ssh/known_hosts").expanduser()
    if options.host_keys != "ignore" and known_hosts.exists():
        ssh.load_system_host_keys(str(known_hosts))
    policies = {"strict": paramiko.RejectPolicy(), "ignore": IgnoreHostKeys(), "accept-new": AcceptNew(known_hosts)}
    ssh.set_missing_host_key_policy(policies[options.host_keys])
    given = options.password is not None or options.key_file is not None
    wait, began = float(options.connect_timeout), time.monotonic()
    sock = _reached(options.host, options.port, wait)
    try:
        ssh.connect(
            options.host,
            options.port,
            options.username,
            options.password,
            key_filename=None if options.key_file is None else os.path.expanduser(options.key_file),
            passphrase=options.passphrase,
            allow_agent=not given,
            look_for_keys=not given,
            timeout=wait,
            banner_timeout=wait,
            auth_timeout=wait,
            channel_timeout=wait,
            sock=sock,
        )
        transport = ssh.get_transport()
        client = None if transport is None else Client.from_transport(transport)
        if client is None:
            raise StorageUnavailableError("the server opens no SFTP channel")
        client.get_channel().settimeout(float(options.timeout))
        return SshSession(ssh, client)
    except BaseException as error:
        ssh.close()
        sock.close()
        if _silent(error, time.monotonic() - began >= wait):
            raise StorageTimeoutError(f"{options.host}:{options.port} does not answer in time") from error
        raise


def _silent(error: BaseException, late: bool) -> bool:
    """Whether an error of paramiko's only means that nobody answered, which it says in many ways."""
    if isinstance(error, paramiko.AuthenticationException):
        return "timeout" in str(error)
    return late and isinstance(error, paramiko.SSHException)


def _reached(host: str, port: int, wait: float) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), wait)
    except TimeoutError:
        raise
    except OSError as error:
        raise StorageUnavailableError(f"{host}:{port} cannot be reached: {error}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Nagle's wait makes small writes 25 times slower
    return sock
