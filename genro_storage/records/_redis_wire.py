"""The protocol of Redis (RESP 2 and 3): commands as bytes, and answers out of what arrives, many in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

APART = 16 << 10
"""Bytes from which a value is sent as it is and not copied into the rest of its command."""
_CHUNK = 64 << 10
_GRACE = 0.01
"""Seconds in which an answer is taken that is here already."""

Command = tuple[Any, ...]


class Refusal(Exception):
    """An error that the server answers with; its first word is the code."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class _Incomplete(Exception):
    """There must be so many bytes more, at least."""

    def __init__(self, missing: int) -> None:
        self.missing = missing


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Commands in the protocol of Redis, together but for what is large; redis-py takes twice as long for it."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if type(word) is bytes else str(word).encode()
            if len(data) <= APART:
                small.append(b"$%d\r\n%b\r\n" % (len(data), data))
            else:
                small.append(b"$%d\r\n" % len(data))
                pieces += [b"".join(small), data]
                small = [b"\r\n"]
    return [*pieces, b"".join(small)]


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: Sequence[bytes], count: int, seconds: float
) -> list[Any]:
    """The answers to `packed` commands, a `Refusal` where the server refused.

    Raises:
        TimeoutError: nothing was taken, or nothing came, for so long.
        ConnectionError: the server closed the connection, or said what it was not asked.
    """
    writer.writelines(pieces)
    async with asyncio.timeout(seconds):
        await writer.drain()
    found: list[Any] = []
    data, at, missing = b"", 0, 1
    while len(found) < count:
        data, at = await _more(reader, data[at:], missing, seconds), 0
        try:
            while len(found) < count:
                pushed = data[at : at + 1] == b">"
                answer, at = _parsed(data, at)
                if not pushed:  # a notice that nobody asked for
                    found.append(answer)
        except _Incomplete as needed:
            missing = needed.missing
    if at < len(data):
        raise ConnectionError("the server said more than it was asked")
    return found


async def _more(reader: asyncio.StreamReader, data: bytes, missing: int, seconds: float) -> bytes:
    """`data` and what comes after it, at least so many bytes."""
    pieces = [data]
    while missing > 0:
        piece = await _arrived(reader, max(missing, _CHUNK), seconds)
        if not piece:
            raise ConnectionError("the server closed the connection")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


async def _arrived(reader: asyncio.StreamReader, size: int, seconds: float) -> bytes:
    """What comes next. A program that stood still for so long finds both the end of the time and the answer."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read(size)
    except TimeoutError:
        async with asyncio.timeout(_GRACE):
            return await reader.read(size)


def _parsed(data: bytes, at: int) -> tuple[Any, int]:
    """One answer and where it ends; maps as lists of names and values."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Incomplete(1)
    kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind in b"$=!":
        return _bulk(kind, int(line), data, at)
    if kind == b":":
        return int(line), at
    if kind in b"*~>%":
        items: list[Any] = []
        for _ in range(int(line) * (2 if kind == b"%" else 1)):
            item, at = _parsed(data, at)
            items.append(item)
        return (None if line == b"-1" else items), at
    if kind == b"-":
        return Refusal(line.decode(errors="replace")), at
    if kind in b"+,(":
        return line, at
    if kind in b"_#":
        return (line == b"t" if line else None), at
    raise ConnectionError(f"no answer of Redis begins with {kind!r}")


def _bulk(kind: bytes, size: int, data: bytes, at: int) -> tuple[Any, int]:
    if size < 0:
        return None, at
    end = at + size
    if end + 2 > len(data):
        raise _Incomplete(end + 2 - len(data))
    text = data[at:end]
    if kind == b"!":
        return Refusal(text.decode(errors="replace")), end + 2
    return (text[4:] if kind == b"=" else text), end + 2
