"""The body of one GET as a stream that never ends early in silence, and the range it was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from urllib3 import exceptions as http

from ...exceptions import StorageError, StorageUnavailableError
from ...types import Stat
from .._objectwriter import check_process
from ..base import cut

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def extent(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where the body of an answer begins in its object, and the object's size."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match:
        return int(match[1]), int(match[2])
    length = headers.get("content-length")
    return 0, None if length is None else int(length)


def trimmed(data: bytes, headers: Mapping[str, str], start: int, end: int | None) -> bytes:
    """What was asked of what came: a server may answer a range with the whole."""
    begin, size = extent(headers)
    if start < 0:
        start = max(0, (len(data) if size is None else size) + start)
    if begin == start and (end is None or begin + len(data) <= end):
        return data
    return cut(data, max(0, start - begin), None if end is None else max(0, end - begin))


class BodyReader:
    """The body of one GET, front to back; holds one connection until its end or `close`."""

    def __init__(self, response: Any, stat: Stat, start: int, end: int | None) -> None:
        self.stat = stat
        self._response, self._pid = response, os.getpid()
        begin, size = extent(response.headers)
        if start < 0:
            start = max(0, (size or 0) + start)
        length = int(response.headers.get("content-length", 0))
        self._skip = max(0, start - begin)
        last = begin + length if end is None else min(begin + length, end)
        self._left = max(0, last - max(start, begin))

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
        if self._response is None:
            raise StorageError("the reader is closed")
        check_process(self._pid)
        try:
            data: bytes = self._response.read(size, decode_content=False)
        except http.IncompleteRead as error:
            raise StorageUnavailableError(f"the answer ended {error.expected} bytes early") from error
        if len(data) < size:
            raise StorageUnavailableError(f"the answer ended {self._left - len(data)} bytes early")
        return data

    def close(self) -> None:
        """Gives the connection back, unless bytes are left in it; idempotent."""
        response, self._response = self._response, None
        if response is not None and self._pid == os.getpid():
            if response.length_remaining:
                response.close()
            response.release_conn()

    def __del__(self) -> None:
        if getattr(self, "_response", None) is not None:
            self.close()
