"""Reading from S3: one GET for a range or the whole, and its body as a stream that never ends early in silence."""

from __future__ import annotations

from typing import Any

from ...exceptions import StorageError
from ...types import Stat
from .. import _span
from .client import Answer, Connection, Lease


def extent(answer: Answer) -> tuple[int, int | None]:
    """Where the body of an answer begins in its object, and the object's size."""
    return _span.extent(answer.get("ContentRange", ""), answer.get("ContentLength"))


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


class S3Reader(_span.SpanReader):
    """The body of one GET; holds one connection until its end or `close`."""

    stat: Stat

    def __init__(self, connection: Connection, answer: Answer, lease: Lease, start: int, end: int | None) -> None:
        self._connection, self._stream, self._lease = connection, answer["Body"], lease
        super().__init__(extent(answer), int(answer.get("ContentLength", 0)), start, end)

    def _body(self, size: int) -> bytes:
        if self._stream is None:
            raise StorageError("the reader is closed")
        return self._connection.step(self._lease, _taken(self._stream, size))

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._connection.drop(self._lease, stream.close)

    def __del__(self) -> None:
        if getattr(self, "_stream", None) is not None:
            self.close()
