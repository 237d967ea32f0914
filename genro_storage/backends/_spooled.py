"""A part of a stream that is too large to hold: in a temporary file until it is sent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import IO

from ._staging import PIECE


class Spooled:
    """Bytes in a temporary file without a name, at most `room` of them; each iteration reads them anew."""

    def __init__(self, room: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="genro-", buffering=0)  # noqa: SIM115 - closed below
        self._size, self._room = 0, room

    def __len__(self) -> int:
        return self._size

    @property
    def full(self) -> bool:
        return self._size >= self._room

    def take(self, data: bytearray, most: int) -> None:
        """Moves up to `most` bytes from the beginning of `data` here; on a full disk they stay where they are."""
        size = min(most, self._room - self._size, len(data))
        with memoryview(data) as view, view[:size] as first:
            written = 0
            while written < size:
                written += os.pwrite(self._file.fileno(), first[written:], self._size + written)
        self._size += size
        del data[:size]

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        while at < self._size and (piece := os.pread(self._file.fileno(), min(PIECE, self._size - at), at)):
            at += len(piece)
            yield piece

    def file(self) -> IO[bytes]:
        """The file at its beginning, for who reads one."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Frees the disk; idempotent."""
        self._file.close()
