"""The body of one GET as a stream that never ends early in silence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from urllib3 import exceptions as http

from ...exceptions import StorageError, StorageUnavailableError
from ...types import Stat
from .. import _span
from .._objectwriter import check_process


def extent(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where the body of an answer begins in its object, and the object's size."""
    length = headers.get("content-length")
    return _span.extent(headers.get("content-range", ""), None if length is None else int(length))


class BodyReader(_span.SpanReader):
    """The body of one GET; holds one connection until its end or `close`."""

    def __init__(self, response: Any, stat: Stat, start: int, end: int | None) -> None:
        self.stat = stat
        self._response, self._pid = response, os.getpid()
        super().__init__(extent(response.headers), int(response.headers.get("content-length", 0)), start, end)

    def _body(self, size: int) -> bytes:
        if self._response is None:
            raise StorageError("the reader is closed")
        check_process(self._pid)
        try:
            data: bytes = self._response.read(size, decode_content=False)
        except http.IncompleteRead as error:
            raise StorageUnavailableError(f"the answer ended {error.expected} bytes early") from error
        return data

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None and self._pid == os.getpid():
            if response.length_remaining:
                response.close()
            response.release_conn()

    def __del__(self) -> None:
        if getattr(self, "_response", None) is not None:
            self.close()
