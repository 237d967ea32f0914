"""The files a user holds, real `io` objects, and the port's readers and writers with late errors translated."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from .backends.base import BackendEditor, BackendReader, BackendWriter, PartWriter
from .backends.handles import Part, PartsAround
from .exceptions import StorageUnavailableError
from .retry import Guard
from .types import Stat

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

READ_AHEAD = 1 << 20
WRITE_BUFFER = 1 << 17

OpenRange = Callable[[int, int | None, str | None], BackendReader]
"""(start, end, if_match) → a reader of that range of the file."""


def cut_short(data: bytes, stat: Stat, start: int, end: int | None) -> StorageUnavailableError | None:
    """The error for an answer of fewer bytes than [start, end) of the file has; None if it has them all."""
    size = stat.size or 0
    begin = max(0, size + start) if start < 0 else start
    until = size if end is None else min(end, size)
    if begin + len(data) >= until:
        return None
    return StorageUnavailableError(f"the storage's answer ended at byte {begin + len(data)} of {until}")


class MountReader:
    """A backend's reader with context for late errors; a retry goes on in the same object or fails."""

    def __init__(
        self, guard: Guard, path: str, opened: OpenRange, start: int, end: int | None, if_match: str | None
    ) -> None:
        self._guard, self._path, self._opened, self._end = guard, path, opened, end
        self._reader = guard.call("read", path, opened, start, end, if_match)
        self.stat = self._reader.stat
        self._position = max(0, (self.stat.size or 0) + start) if start < 0 else start

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; b"" at the end, which is never before the file's."""
        try:
            data = self._whole(self._reader.read(size), size)
        except Exception as error:
            if self.stat.etag is None:  # nothing would prove that a reopened file is the same object
                raise self._guard.failure(error, "read", self._path) from error
            data = self._guard.again(error, "read", self._path, lambda: self._resumed(size))
        self._position += len(data)
        return data

    def _resumed(self, size: int) -> bytes:
        self._reader.close()
        self._reader = self._opened(self._position, self._end, self.stat.etag)
        return self._whole(self._reader.read(size), size)

    def _whole(self, data: bytes, size: int) -> bytes:
        if (size < 0 or (size and not data)) and (error := cut_short(data, self.stat, self._position, self._end)):
            raise error
        return data

    def close(self) -> None:
        self._reader.close()


class MountWriter:
    """A backend's writer with context for errors; what the port lets be repeated is repeated."""

    def __init__(self, guard: Guard, path: str, writer: BackendWriter) -> None:
        self._guard, self._path, self._writer = guard, path, writer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._writer.write(data)
        except Exception as error:  # noqa: BLE001 - a driver call: the guard translates
            self._guard.again(error, "write", self._path, lambda: self._writer.write(b""))

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._guard.call("write", self._path, self._writer.commit, hashes)

    def discard(self) -> None:
        self._writer.discard()


class MountParts(PartsAround):
    """A backend's part writer with context for errors; every call of it may be repeated."""

    def __init__(self, guard: Guard, path: str, inner: PartWriter) -> None:
        super().__init__(inner)
        self._guard, self._path = guard, path

    def reread(self, start: int, end: int) -> bytes | None:
        return self._guard.call("write", self._path, self._inner.reread, start, end)

    def put(self, offset: int, data: Part) -> str:
        return self._guard.call("write", self._path, self._inner.put, offset, data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._guard.call("write", self._path, self._inner.commit, hashes)


class MountEditor:
    """A backend's editor with context for errors; nothing is repeated."""

    def __init__(self, guard: Guard, path: str, editor: BackendEditor) -> None:
        self._editor = editor
        self._guard, self._path = guard, path

    def _call(self, method: Callable[..., int | None], *args: object) -> int:
        try:
            return method(*args) or 0
        except Exception as error:
            raise self._guard.failure(error, "edit", self._path) from error

    def readinto(self, buffer: memoryview) -> int:
        return self._call(self._editor.readinto, buffer)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return self._call(self._editor.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._call(self._editor.seek, offset, whence)

    def tell(self) -> int:
        return self._call(self._editor.tell)

    def truncate(self, size: int) -> int:
        return self._call(self._editor.truncate, size)

    def flush(self) -> None:
        self._call(self._editor.flush)

    def close(self) -> None:
        self._call(self._editor.close)


class RawReader(io.RawIOBase):
    """A seekable reader of one object: a stream while read in order, ranges of growing size after a seek."""

    def __init__(self, open_range: OpenRange) -> None:
        self._open_range = open_range
        self._reader: BackendReader | None = None  # so that a file that never opened can be closed
        self._reader = open_range(0, None, None)
        self.stat: Stat = self._reader.stat
        self._position = 0
        self._at = 0
        self._until: int | None = None
        self._window = READ_AHEAD

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.stat.size is not None

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _next(self, size: int) -> bytes:
        if self._reader is None or self._at != self._position:
            self._window = READ_AHEAD
            self._reopen(size)
        assert self._reader is not None
        data = self._reader.read(size)
        if not data and self._until is not None and self._position == self._until:
            self._window *= 2
            self._reopen(size)
            data = self._reader.read(size)
        self._at = self._position + len(data)
        return data

    def _reopen(self, size: int) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._until = self._position + max(size, self._window)
        if self.stat.size is not None and self._until >= self.stat.size:
            self._until = None
        self._reader = self._open_range(self._position, self._until, self.stat.etag)
        self._at = self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            if self.stat.size is None:
                raise io.UnsupportedOperation("the size of this file is not known")
            offset += self.stat.size
        elif whence == io.SEEK_CUR:
            offset += self._position
        if offset < 0:
            raise io.UnsupportedOperation(f"negative seek position {offset}")  # an OSError, as of files: zipfile asks
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed and self._reader is not None:
            self._reader.close()
        super().close()


class RawWriter(io.RawIOBase):
    """Feeds a backend writer; closing commits, unless a write failed or it was discarded."""

    def __init__(self, writer: BackendWriter) -> None:
        self._writer = writer
        self._position = 0
        self._broken = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: ReadableBuffer) -> int:
        length = memoryview(data).nbytes
        if self._broken:  # discarded: what the buffers above still flush is meant to vanish
            return length
        try:
            self._writer.write(memoryview(data).cast("B"))
        except BaseException:
            self.discard()
            raise
        self._position += length
        return length

    def discard(self) -> None:
        self._broken = True
        self._writer.discard()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if not self._broken:
            try:
                self._writer.commit()
            finally:
                self.discard()

    def __del__(self) -> None:
        # The wrappers above warn; here only nothing may be committed by the garbage collector.
        if not self.closed:
            self.discard()


class BinaryWriter(io.BufferedWriter):
    """A file opened for writing: `close()` commits, leaving `with` by an exception or `discard()` gives up."""

    def __init__(self, writer: BackendWriter, target: str) -> None:
        self.target = target
        super().__init__(RawWriter(writer), WRITE_BUFFER)

    def abandon(self) -> None:
        """Whatever is still flushed from above vanishes; closing then only closes."""
        raw: Any = self.raw
        raw.discard()

    def discard(self) -> None:
        """Gives up what was written; the old bytes stay."""
        if not self.closed:
            self.abandon()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        drop(self, self.target)


class Abandonable(Protocol):
    """A binary file that can be told to commit nothing."""

    target: str

    def abandon(self) -> None: ...


class TextWriter(io.TextIOWrapper):
    """A text file opened for writing; commits and gives up as the binary one below it."""

    def __init__(self, writer: Abandonable, encoding: str, errors: str, newline: str | None) -> None:
        self._binary = writer
        binary: Any = writer
        super().__init__(binary, encoding=encoding, errors=errors, newline=newline)

    def discard(self) -> None:
        """Gives up what was written; the old bytes stay."""
        if not self.closed:
            self._binary.abandon()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        drop(self, self._binary.target)


def drop(file: Any, target: str) -> None:
    """For finalizers: what was not closed is not written."""
    if not file.closed:
        file.discard()
        warnings.warn(f"'{target}' was dropped unclosed: nothing was written", ResourceWarning, stacklevel=2)


class RawEditor(io.RawIOBase):
    """A file changed in place."""

    def __init__(self, editor: BackendEditor, *, reads: bool) -> None:
        self._editor = editor
        self._reads = reads

    def readable(self) -> bool:
        return self._reads

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._editor.readinto(memoryview(buffer).cast("B"))

    def write(self, data: ReadableBuffer) -> int:
        return self._editor.write(memoryview(data).cast("B"))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._editor.seek(offset, whence)

    def tell(self) -> int:
        return self._editor.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._editor.truncate(self._editor.tell() if size is None else size)

    def flush(self) -> None:
        if not self.closed:
            self._editor.flush()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._editor.close()
