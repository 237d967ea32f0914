"""The range of an object that was asked for, out of what a server sends: as bytes, and as a stream."""

from __future__ import annotations

import re

from ..exceptions import StorageUnavailableError
from .base import cut

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def extent(content_range: str, length: int | None) -> tuple[int, int | None]:
    """Where a body of `length` bytes begins in its object, and the size of that."""
    match = _CONTENT_RANGE.fullmatch(content_range)
    return (int(match[1]), int(match[2])) if match else (0, length)


def trimmed(data: bytes, begin: int, size: int | None, start: int, end: int | None) -> bytes:
    """What was asked of what came: a server may answer a range with the whole."""
    if start < 0:
        start = max(0, (len(data) if size is None else size) + start)
    if begin == start and (end is None or begin + len(data) <= end):
        return data
    return cut(data, max(0, start - begin), None if end is None else max(0, end - begin))


class SpanReader:
    """[start, end) of an object, front to back, from a body of `length` bytes that has the given `extent`.

    A driver writes `_body` and `close`, which is idempotent.
    """

    def __init__(self, extent: tuple[int, int | None], length: int, start: int, end: int | None) -> None:
        begin, size = extent
        if start < 0:
            start = max(0, (size or 0) + start)
        self._skip = max(0, start - begin)
        last = begin + length if end is None else min(begin + length, end)
        self._left = max(0, last - max(start, begin))

    def _body(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end; of a closed reader → `StorageError`."""
        raise NotImplementedError

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; a body that ends early → `StorageUnavailableError`."""
        while self._skip:
            self._skip -= len(self._take(min(self._skip, 1 << 20)))
        size = self._left if size < 0 else min(size, self._left)
        if size == 0:
            return b""
        data = self._take(size)
        self._left -= len(data)
        if self._left == 0:
            self.close()
        return data

    def _take(self, size: int) -> bytes:
        data = self._body(size)
        if len(data) < size:
            raise StorageUnavailableError(f"the answer ended {self._left - len(data)} bytes early")
        return data

    def close(self) -> None:
        """Gives the connection back, unless bytes are left in it."""
        raise NotImplementedError
