"""Readers and writers over bytes in memory, for drivers that move a whole file at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..exceptions import StorageCorruptedError
from ..types import Stat


def cut(data: bytes, start: int, end: int | None) -> bytes:
    """The range [start, end) of bytes in memory; a negative start is a suffix."""
    if start < 0:
        start = max(0, len(data) + start)
    return data[start:] if end is None else data[start : max(start, end)]


class BytesReader:
    """A reader over bytes in memory."""

    def __init__(self, data: bytes, stat: Stat) -> None:
        self.stat = stat
        self._rest = memoryview(data)

    def read(self, size: int = -1) -> bytes:
        size = len(self._rest) if size < 0 else size
        taken, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return taken

    def close(self) -> None:
        self._rest = memoryview(b"")


class BytesWriter:
    """A writer that collects in memory and hands all to one function at commit."""

    def __init__(self, put: Callable[[bytes], Stat], size: int | None = None) -> None:
        self._put = put
        self._size = size
        self._data: bytearray | None = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._data is None:
            raise ValueError("write to a finished writer")
        self._data += data

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        if self._data is None:
            raise ValueError("commit of a finished writer")
        check_size(self._size, len(self._data))
        stat = self._put(bytes(self._data))
        self._data = None
        return stat

    def discard(self) -> None:
        self._data = None


def check_size(announced: int | None, written: int) -> None:
    """A writer that was told a size holds to it: `StorageCorruptedError` otherwise."""
    if announced is not None and announced != written:
        raise StorageCorruptedError(f"{written} bytes came where {announced} were announced")
