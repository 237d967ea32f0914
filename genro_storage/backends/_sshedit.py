"""What an SFTP server does in place: a file opened there, a file copied there, the room that is left."""

from __future__ import annotations

from typing import Any

from paramiko import sftp as words
from paramiko.sftp_attr import SFTPAttributes

from ..exceptions import StorageConflictError, StorageIsADirectoryError, UnsupportedOperation
from ._ssh import CHUNK, IN_FLIGHT, NEW, Client, close, created, described, encoded
from ._sshfence import Answers
from .handles import Tick

_FLAGS = {
    "r+": words.SFTP_FLAG_READ | words.SFTP_FLAG_WRITE,
    "a": words.SFTP_FLAG_WRITE | words.SFTP_FLAG_APPEND | words.SFTP_FLAG_CREATE,
    "a+": words.SFTP_FLAG_READ | words.SFTP_FLAG_WRITE | words.SFTP_FLAG_APPEND | words.SFTP_FLAG_CREATE,
}


COPY = "copy-data"
COPIED = 64 << 20
"""Bytes that the server copies under one timeout."""


class Unknown(UnsupportedOperation):
    """The server does not know how to copy."""


class SshEditor:
    """Reads and writes where they are asked for; a write has arrived when it returns."""

    def __init__(self, client: Client, native: str, mode: str) -> None:
        """Asks first what it is: a server that opens a FIFO answers nobody any more."""
        self._client: Any = client
        self._append = mode != "r+"
        try:
            there = described(native, client.stat(encoded(native)))
        except FileNotFoundError:
            if not self._append:
                raise
        else:
            if there.is_dir:
                raise StorageIsADirectoryError("Is a directory")
            if there.is_other:
                raise UnsupportedOperation("neither a file nor a directory")
        _, message = self._client._request(words.CMD_OPEN, encoded(native), _FLAGS[mode], SFTPAttributes())
        self._handle = message.get_binary()
        self._at = self._size() if self._append else 0

    def _size(self) -> int:
        _, message = self._client._request(words.CMD_FSTAT, self._handle)
        return SFTPAttributes._from_msg(message).st_size or 0

    def readinto(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), CHUNK)
        try:
            _, message = self._client._request(words.CMD_READ, self._handle, words.int64(self._at), wanted)
        except EOFError:
            return 0
        data = message.get_string()
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """All of it; of a file that is appended to the server alone knows where."""
        view, answers = memoryview(data).cast("B"), Answers(self._client)
        asked: list[int] = []
        for start in range(0, len(view), CHUNK):
            piece = bytes(view[start : start + CHUNK])
            place = words.int64(self._at + start)
            asked.append(answers.ask(words.CMD_WRITE, self._handle, place, piece))
            if len(asked) == IN_FLIGHT:
                answers.wait(asked.pop(0))
        for number in asked:
            answers.wait(number)
        self._at = self._size() if self._append else self._at + len(view)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        begin = {0: 0, 1: self._at}
        self._at = offset + (begin[whence] if whence in begin else self._size())
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int) -> int:
        changes = SFTPAttributes()
        changes.st_size = size
        self._client._request(words.CMD_FSETSTAT, self._handle, changes)
        return size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._client._request(words.CMD_CLOSE, self._handle)


def copy(client: Any, native: str, target: str, changes: SFTPAttributes | None, mode: int | None, tick: Tick) -> int:
    """Has the server copy a file to a new one; its bytes. One that cannot → `Unknown`.

    https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-extensions-00, section 7: `copy-data`
    """
    there = described(native, client.stat(encoded(native)))
    if there.is_dir:
        raise StorageIsADirectoryError("Is a directory")
    if there.is_other or there.size is None:
        raise UnsupportedOperation("neither a file nor a directory")
    _, message = client._request(words.CMD_OPEN, encoded(native), words.SFTP_FLAG_READ, SFTPAttributes())
    source = message.get_binary()
    try:
        _, message = client._request(words.CMD_OPEN, encoded(target), NEW, created(mode))
        handle = message.get_binary()
        for start in range(0, there.size, COPIED):
            size = min(COPIED, there.size - start)
            span = words.int64(start), words.int64(size), handle, words.int64(start)
            try:
                client._request(words.CMD_EXTENDED, COPY, source, *span)
            except UnsupportedOperation as error:
                raise Unknown(error.message) from error
            tick(size)
        _, message = client._request(words.CMD_FSTAT, source)
        now = described(native, SFTPAttributes._from_msg(message))
        if (now.size, now.mtime) != (there.size, there.mtime):
            raise StorageConflictError("changed while it was copied", retryable=True)
        if changes is not None:
            client._request(words.CMD_FSETSTAT, handle, changes)
        client._request(words.CMD_CLOSE, handle)
    finally:
        close(client, source)
    return there.size


def free_space(client: Any, native: str) -> int:
    """Bytes that the account may still write; a server that does not tell → `UnsupportedOperation`.

    https://github.com/openssh/openssh-portable/blob/master/PROTOCOL, section 4.4
    """
    _, message = client._request(words.CMD_EXTENDED, "statvfs@openssh.com", encoded(native))
    _, fragment, _, _, available = (message.get_int64() for _ in range(5))
    return int(fragment * available)
