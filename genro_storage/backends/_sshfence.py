"""Whether a path stays below the root of its mount once an SFTP server has followed the links in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paramiko import sftp as words
from paramiko.message import Message

from ..exceptions import StoragePermissionError
from ._pool import Refused


class Answers:
    """The answers to requests in flight, in whatever order the server sends them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._came: dict[int, tuple[int, Message]] = {}

    def ask(self, kind: int, *args: Any) -> int:
        number: int = self._client._async_request(self, kind, *args)
        return number

    def _async_response(self, kind: int, message: Message, number: int) -> None:  # called by paramiko
        self._came[number] = (kind, message)

    def wait(self, number: int) -> tuple[int, Message]:
        """The answer to one request; its refusal is raised."""
        while number not in self._came:
            self._client._read_response()
        kind, message = self._came.pop(number)
        if kind == words.CMD_STATUS:
            self._client._convert_status(message)
        return kind, message


class Fence:
    """Keeps a connection below `root`, the native path of the mount it works for; None: wherever the server goes.

    The server resolves the path (REALPATH, as OpenSSH does it) and is believed. A link that is made between the
    question and the act is followed: version 3 of the protocol knows no way to forbid that.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._real: dict[bytes, bytes] = {}
        self.root: bytes | None = None

    def check(self, native: bytes) -> None:
        """Raises `StoragePermissionError` for a path below the root that leads out of it; before a change."""
        if self._concerns(native):
            self._judge(self.resolved(native))

    @contextmanager
    def around(self, native: bytes) -> Iterator[None]:
        """As `check`, at once with what is asked within: it costs no time of its own, and is for questions only."""
        if not self._concerns(native):
            yield
            return
        answers = Answers(self._client)
        number = answers.ask(words.CMD_REALPATH, native)
        try:
            yield
        except (FileNotFoundError, PermissionError, Refused):
            self._judge(_name(answers.wait(number)))  # out there not even absence is told
            raise
        self._judge(_name(answers.wait(number)))

    def resolved(self, native: bytes) -> bytes:
        """Where a path leads; one request."""
        return _name(self._client._request(words.CMD_REALPATH, native))

    def _concerns(self, native: bytes) -> bool:
        return self.root is not None and native.startswith(self.root + b"/")

    def _judge(self, real: bytes) -> None:
        root = self.root
        assert root is not None
        if root not in self._real or not _is_within(real, self._real[root]):
            self._real[root] = self._resolved_root(root)  # the root may be a link, and another one than before
        if not _is_within(real, self._real[root]):
            raise StoragePermissionError("a symbolic link here leads out of the mount")

    def _resolved_root(self, root: bytes) -> bytes:
        try:
            return self.resolved(root)
        except (FileNotFoundError, PermissionError, Refused):
            return root


def _name(answer: tuple[int, Message]) -> bytes:
    kind, message = answer
    if kind != words.CMD_NAME or message.get_int() != 1:
        raise Refused("the server does not tell where a path leads")
    name: bytes = message.get_string()
    return name


def _is_within(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")
