"""An SFTP session over paramiko: requests in flight together, answers told apart, host keys checked."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import paramiko
from msgspec.structs import replace
from paramiko import sftp as words
from paramiko.message import Message
from paramiko.sftp_attr import SFTPAttributes

from ..exceptions import StorageIsADirectoryError, UnsupportedOperation
from ..types import STEADY, Stat
from ._fsspec import SPOOL, Spool
from ._pool import Refused, Session, shrunk
from ._sshfence import Answers, Fence

Piece = bytes | bytearray | memoryview

CHUNK = 32 << 10
"""Bytes of one request: what every server takes."""
NEW = words.SFTP_FLAG_WRITE | words.SFTP_FLAG_CREATE | words.SFTP_FLAG_EXCL
IN_FLIGHT = 64
"""Requests on their way at once: 2 MiB, the window of a channel."""
_UNSUPPORTED = 8
_MOST_SECONDS = 0xFFFFFFFF
_LISTING_AHEAD = 4


class Client(paramiko.SFTPClient):  # type: ignore[misc]  # it has no types
    """Paramiko's client, whose refusals have a class of their own: a plain OSError is a lost connection."""

    def _convert_status(self, msg: Message) -> None:
        code, text = msg.get_int(), msg.get_string().decode("utf-8", "replace")
        if code == words.SFTP_OK:
            return
        if code == words.SFTP_EOF:
            raise EOFError(text)
        if code == words.SFTP_NO_SUCH_FILE:
            raise FileNotFoundError(errno.ENOENT, text)
        if code == words.SFTP_PERMISSION_DENIED:
            raise PermissionError(errno.EACCES, text)
        if code == _UNSUPPORTED:
            raise UnsupportedOperation(f"the server cannot do this: {text}")
        raise Refused(text)


class SshFile:
    """A file that is read, by requests in flight together."""

    def __init__(self, client: Any, handle: bytes, path: str) -> None:
        self._client, self._handle = client, handle
        self._answers = Answers(client)
        _, message = self._answers.wait(self._answers.ask(words.CMD_FSTAT, handle))
        self.stat = described(path, SFTPAttributes._from_msg(message))
        self._after: int | None = None

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        asked: deque[tuple[int, int, int]] = deque()
        at, brief = start, stop - start <= SPOOL
        while at < stop or asked:
            while at < stop and len(asked) < IN_FLIGHT:
                size = min(CHUNK, stop - at)
                asked.append((at, size, self._ask(at, size)))
                at += size
            if brief and at >= stop:  # a server answers the requests about one handle as if one after the other
                self._after, brief = self._answers.ask(words.CMD_FSTAT, self._handle), False
            yield self._answer(*asked.popleft())

    def _ask(self, at: int, size: int) -> int:
        return self._answers.ask(words.CMD_READ, self._handle, words.int64(at), size)

    def _answer(self, at: int, size: int, number: int) -> bytes:
        """A whole chunk, also where the server sends it by halves."""
        data: bytes = b""
        while True:
            try:
                data += self._answers.wait(number)[1].get_string()
            except EOFError:
                raise shrunk() from None
            if len(data) == size:
                return data
            number = self._ask(at + len(data), size - len(data))

    def settled(self) -> Stat:
        if self._after is None:
            return self.stat
        found = described(self.stat.path, SFTPAttributes._from_msg(self._answers.wait(self._after)[1]))
        return replace(self.stat, hashes=STEADY) if found == self.stat else self.stat

    def close(self) -> None:
        close(self._client, self._handle)


class SshSession:
    """One SSH connection with one SFTP channel."""

    def __init__(self, ssh: paramiko.SSHClient, client: Client) -> None:
        self._ssh, self.client = ssh, client
        self.fence = Fence(client)

    def alive(self) -> bool:
        transport = self._ssh.get_transport()
        return transport is not None and transport.is_active() and not self.client.sock.closed

    def close(self) -> None:
        self._ssh.close()

    def abandon(self) -> None:
        transport: Any = self._ssh.get_transport()
        if transport is not None:
            transport.active = False  # nothing of it is ever sent over what is the parent's connection
            with suppress(OSError):
                os.close(transport.sock.detach())

    def look(self, native: str, path: str) -> Stat:
        """Facts of a file; of a link those of what it leads to, where that is anything."""
        spot = encoded(native)
        with self.fence.around(above(spot)):
            found = self.client.lstat(spot)
        return self._followed(spot, path, found)

    def listing(self, native: str, prefix: str) -> list[Stat]:
        client: Any = self.client
        handle = None
        try:
            with self.fence.around(encoded(native)):
                _, message = client._request(words.CMD_OPENDIR, encoded(native))
                handle = message.get_binary()
            entries = list(self._names(handle))
        finally:
            if handle is not None:
                close(client, handle)
        base = encoded(native).rstrip(b"/") + b"/"
        return [
            self._followed(base + name, prefix + name.decode("utf-8", "surrogateescape"), facts)
            for name, facts in entries
        ]

    def _followed(self, native: bytes, path: str, facts: SFTPAttributes) -> Stat:
        if not modes.S_ISLNK(facts.st_mode or 0):
            return described(path, facts)
        try:
            with self.fence.around(native):
                there = self.client.stat(native)
            return described(path, there, linked=True)
        except (FileNotFoundError, PermissionError, Refused):
            return described(path, facts, linked=True)

    def _names(self, handle: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        answers = Answers(self.client)
        asked = deque(answers.ask(words.CMD_READDIR, handle) for _ in range(_LISTING_AHEAD))
        ended = False
        while asked:
            try:
                _, message = answers.wait(asked.popleft())
            except EOFError:
                ended = True
                continue
            for _ in range(message.get_int()):
                name = message.get_string()
                message.get_string()  # the line that ls would show
                facts = SFTPAttributes._from_msg(message)
                if name not in (b".", b".."):
                    yield name, facts
            if not ended:
                asked.append(answers.ask(words.CMD_READDIR, handle))

    def open(self, native: str, path: str) -> SshFile:
        """Asks first what it is: a server that opens a FIFO answers nobody any more."""
        client: Any = self.client
        with self.fence.around(encoded(native)):
            there = described(path, client.stat(encoded(native)))
        if there.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if there.is_other:
            raise UnsupportedOperation("neither a file nor a directory")
        _, message = client._request(words.CMD_OPEN, encoded(native), words.SFTP_FLAG_READ, SFTPAttributes())
        return SshFile(client, message.get_binary(), path)

    def send(self, native: str, spool: Spool, mode: int | None, mtime: float | None) -> None:
        client: Any = self.client
        _, message = client._request(words.CMD_OPEN, encoded(native), NEW, created(mode))
        handle = message.get_binary()
        try:
            self._write(handle, 0, spool.pieces())
            if (changes := kept(mode, mtime)) is not None:
                client._request(words.CMD_FSETSTAT, handle, changes)
        except BaseException:
            with suppress(OSError, EOFError, paramiko.SSHException):
                close(client, handle)
            raise
        client._request(words.CMD_CLOSE, handle)  # a server may only say now that it could not write

    def create(self, native: str, mode: int | None) -> None:
        """A new file without bytes."""
        client: Any = self.client
        _, message = client._request(words.CMD_OPEN, encoded(native), NEW, created(mode))
        client._request(words.CMD_CLOSE, message.get_binary())

    def change(self, native: str, mode: int | None, mtime: float | None) -> None:
        """Sets what of both is given."""
        client: Any = self.client
        if (changes := kept(mode, mtime)) is not None:
            client._request(words.CMD_SETSTAT, encoded(native), changes)

    def fill(self, native: str, at: int, pieces: Iterable[Piece]) -> None:
        """Writes into a file that is there, from the offset `at` on."""
        client: Any = self.client
        _, message = client._request(words.CMD_OPEN, encoded(native), words.SFTP_FLAG_WRITE, SFTPAttributes())
        handle = message.get_binary()
        try:
            self._write(handle, at, pieces)
        except BaseException:
            with suppress(OSError, EOFError, paramiko.SSHException):
                close(client, handle)
            raise
        client._request(words.CMD_CLOSE, handle)

    def _write(self, handle: bytes, at: int, pieces: Iterable[Piece]) -> None:
        """Every answer is read: paramiko's own pipelining loses the refusals of the last writes."""
        answers = Answers(self.client)
        asked: deque[int] = deque()
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), CHUNK):
                data = bytes(view[start : start + CHUNK])
                asked.append(answers.ask(words.CMD_WRITE, handle, words.int64(at), data))
                at += len(data)
                if len(asked) >= IN_FLIGHT:
                    answers.wait(asked.popleft())
        for number in asked:
            answers.wait(number)

    def rename(self, native: str, target: str, *, replace: bool) -> None:
        rename = self.client.posix_rename if replace else self.client.rename
        rename(encoded(native), encoded(target))

    def symlink(self, native: str, goal: str) -> None:
        """In the order of OpenSSH, which is not that of the draft; other servers look who asks."""
        self.fence.check(above(encoded(native)))
        self.client.symlink(encoded(goal), encoded(native))

    def remove(self, native: str) -> None:
        self.fence.check(above(encoded(native)))
        self.client.remove(encoded(native))

    def mkdir(self, native: str) -> None:
        self.fence.check(above(encoded(native)))
        self.client.mkdir(encoded(native))

    def rmdir(self, native: str) -> None:
        self.fence.check(above(encoded(native)))
        self.client.rmdir(encoded(native))

    def set_mtime(self, native: str, mtime: float) -> None:
        self.fence.check(encoded(native))
        when = seconds(mtime)
        self.client.utime(encoded(native), (when, when))


def of(session: Session) -> SshSession:
    """A connection that is known to be one of SSH."""
    assert isinstance(session, SshSession)
    return session


def created(mode: int | None) -> SFTPAttributes:
    """What a new file has while it is written: nobody may read what replaces a private file."""
    attributes = SFTPAttributes()
    if mode is not None:
        attributes.st_mode = mode & 0o777 | 0o200
    return attributes


def kept(mode: int | None, mtime: float | None) -> SFTPAttributes | None:
    """What a file has at the end; None where that is the server's affair."""
    changes = SFTPAttributes()
    changes.st_mode = None if mode is None else mode & 0o7777
    if mtime is not None:
        changes.st_atime = changes.st_mtime = seconds(mtime)
    return None if mode is None and mtime is None else changes


def close(client: Any, handle: bytes) -> None:
    """Closes a handle without waiting for the answer, which says nothing about what was read."""
    with suppress(OSError):  # the connection is lost, and who reads next is told
        client._async_request(type(None), words.CMD_CLOSE, handle)


def encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def above(native: bytes) -> bytes:
    return native.rpartition(b"/")[0]


def seconds(mtime: float) -> int:
    """As SFTP version 3 tells times: whole seconds from 1970 to 2106."""
    return min(max(0, int(mtime)), _MOST_SECONDS)


def described(path: str, facts: SFTPAttributes, linked: bool = False) -> Stat:
    mode = facts.st_mode or modes.S_IFREG
    kind = modes.S_IFMT(mode)
    mtime = None if facts.st_mtime is None else float(facts.st_mtime)
    bits = None if facts.st_mode is None else mode & 0o7777
    if kind == modes.S_IFREG:
        return Stat(path, facts.st_size, False, linked, mtime, mode=bits)
    if kind == modes.S_IFDIR:
        return Stat(path, None, True, linked, mtime, mode=bits)
    return Stat(path, None, False, linked, mtime, mode=bits, is_other=True)
