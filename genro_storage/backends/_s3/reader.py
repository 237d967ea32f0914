"""Reading from S3: one GET for a range or the whole, and its body as a stream that never ends early in silence."""

from __future__ import annotations

import re
from typing import Any

from ...exceptions import StorageError, StorageUnavailableError
from ...types import Stat
from ..base import cut
from .client import Answer, Connection, Lease

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def extent(answer: Answer) -> tuple[int, int | None]:
    """Where the body of an answer begins in its object, and the object's size."""
    match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if match:
        return int(match[1]), int(match[2])
    return 0, answer.get("ContentLength")


def trimmed(data: bytes, begin: int, size: int | None, start: int, end: int | None) -> bytes:
    """What was asked of what came: a server may answer a range with the whole."""
    if start < 0:
        start = max(0, (size or 0) + start)
    if begin == start and (end is None or begin + len(data) <= end):
        return data
    return cut(data, max(0, start - begin), None if end is None else max(0, end - begin))


async def fetched(request: Any) -> tuple[Answer, bytes]:
    """An answer with its whole body."""
    answer: Answer = await request
    data: bytes = await answer["Body"].read()
    return answer, data


async def _taken(body: Any, size: int) -> bytes:
    """`size` bytes of a body (all if negative), fewer only at its end."""
    if size < 0:
        data: bytes = await body.read()
        return data
    chunks = []
    while size > 0:
        chunk = await body.read(size)
        if not chunk:
            break
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


class S3Reader:
    """The body of one GET, front to back; holds one connection until its end or `close`."""

    stat: Stat

    def __init__(self, connection: Connection, answer: Answer, lease: Lease, start: int, end: int | None) -> None:
        self._connection, self._body, self._lease = connection, answer["Body"], lease
        begin, size = extent(answer)
        if start < 0:
            start = max(0, (size or 0) + start)
        length = int(answer.get("ContentLength", 0))
        self._skip = max(0, start - begin)
        last = begin + length if end is None else min(begin + length, end)
        self._left = max(0, last - max(start, begin))

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; a body that ends early → `StorageUnavailableError`."""
        if self._skip:
            self._pass_over()
        size = self._left if size < 0 else min(size, self._left)
        if size == 0:
            return b""
        data = self._take(size)
        self._left -= len(data)
        if self._left == 0:
            self.close()
        return data

    def _take(self, size: int) -> bytes:
        if self._body is None:
            raise StorageError("the reader is closed")
        data = self._connection.step(self._lease, _taken(self._body, size))
        if len(data) < size:
            raise StorageUnavailableError(f"the answer ended {self._left - len(data)} bytes early")
        return data

    def _pass_over(self) -> None:
        while self._skip:
            self._skip -= len(self._take(min(self._skip, 1 << 20)))

    def close(self) -> None:
        """Gives the connection back; idempotent."""
        body, self._body = self._body, None
        if body is not None:
            self._connection.drop(self._lease, body.close)

    def __del__(self) -> None:
        if getattr(self, "_body", None) is not None:
            self.close()
