"""A file in memory, changed in place."""

from __future__ import annotations

import io

from ._memory_store import File, Store


class MemoryEditor:
    """Every write is seen by the next reader; readers that are open keep what they had. Modes "r+", "a", "a+"."""

    def __init__(self, store: Store, file: File, mode: str) -> None:
        self._store, self._file = store, file
        self._appends = mode.startswith("a")
        self._reads = mode != "a"
        self._position = len(file.data) if self._appends else 0
        self._closed = False

    def readinto(self, buffer: memoryview) -> int:
        if not self._reads:
            raise io.UnsupportedOperation("not readable")
        with self._store.lock:
            self._check()
            data = self._file.data[self._position : self._position + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        content = memoryview(data).cast("B")
        with self._store.lock:
            self._check()
            buffer = self._file.thawed()
            if self._appends:
                self._position = len(buffer)
            elif self._position > len(buffer):
                buffer.extend(bytes(self._position - len(buffer)))
            buffer[self._position : self._position + len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check()
        start = (0, self._position, len(self._file.data))[whence]
        if start + offset < 0:
            raise ValueError("a position before the beginning of the file")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int) -> int:
        with self._store.lock:
            self._check()
            buffer = self._file.thawed()
            del buffer[size:]
            buffer.extend(bytes(size - len(buffer)))
        return size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on a closed file")
