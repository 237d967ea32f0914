"""A file in memory while it is written: as a whole, or in place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping

from ..exceptions import StorageError
from ..types import Stat
from ._bytes import BytesWriter
from ._memory_store import Store


class MemoryEditor:
    """Every write is seen by the next reader; readers that are open keep what they had. Modes "r+", "a", "a+"."""

    def __init__(self, store: Store, path: str, mode: str) -> None:
        self._store, self._path, self._file = store, path, store.file(path)
        self._appends = mode.startswith("a")
        self._reads = mode != "a"
        self._position = len(self._file.data) if self._appends else 0
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
            buffer = self._buffer()
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
            buffer = self._buffer()
            del buffer[size:]
            buffer.extend(bytes(size - len(buffer)))
        return size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._closed = True

    def _buffer(self) -> bytearray:
        self._check()
        file, store = self._file, self._store
        if isinstance(file.data, bytes) and store.look(self._path) is file:
            store.keep(self._path, file)
        return file.thawed()

    def _check(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on a closed file")


class MemoryWriter(BytesWriter):
    """Collects the bytes; a fork cannot finish what its parent began."""

    def __init__(self, put: Callable[[bytes], Stat], size: int | None) -> None:
        super().__init__(put, size)
        self._pid = os.getpid()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        super().write(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._check()
        return super().commit(hashes)

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise StorageError("this writer was opened before the process forked; open one of its own")
