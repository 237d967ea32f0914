"""What the tests of read-only web backends share: the folder behind the server, to write into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from msgspec.structs import replace

from genro_storage.backends.base import BackendReader, BackendWriter, StorageBackend
from genro_storage.exceptions import StorageError, UnsupportedOperation
from genro_storage.types import PLAIN, Stat, WriteOptions


class Witnessed(StorageBackend):
    """Reads by one backend, writes by another that is another door to the same files.

    So that the whole suite, which must write what it reads, holds for a read-only type.
    """

    def __init__(self, read: StorageBackend, write: StorageBackend) -> None:
        super().__init__()
        self.read, self.write = read, write
        self.features = replace(read.features, readonly=False, if_absent="none", if_match="none")

    @property
    def abilities(self) -> frozenset[str]:
        return self.read.abilities | {"mkdir", "rmdir"}

    @property
    def storage_id(self) -> str:
        return self.read.storage_id

    def native_path(self, path: str) -> str:
        return self.read.native_path(path)

    def rooted(self, path: str) -> Self:
        return type(self)(self.read.rooted(path), self.write.rooted(path))

    def translate(self, error: Exception) -> StorageError | None:
        return self.read.translate(error) or self.write.translate(error)

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        return self.read.stat(path, version=version)

    def scan(self, path: str, **how: Any) -> Iterator[Sequence[Stat]]:
        return self.read.scan(path, **how)

    def walk(self, path: str, **how: Any) -> Iterator[Sequence[Stat]]:
        return self.read.walk(path, **how)

    def readlink(self, path: str) -> str:
        return self.read.readlink(path)

    def public_url(self, path: str) -> str:
        return self.read.public_url(path)

    def reader(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> BackendReader:
        return self.read.reader(path, start, end, **how)

    def get(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> tuple[bytes, Stat]:
        return self.read.get(path, start, end, **how)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        unconditional(options)
        return Plain(self.write.writer(path, options), path)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        unconditional(options)
        return Stat(path, self.write.put(path, data, options).size)

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.write.delete(path)

    def mkdir(self, path: str) -> None:
        self.write.mkdir(path)

    def rmdir(self, path: str) -> None:
        self.write.rmdir(path)


def unconditional(options: WriteOptions) -> None:
    """The two doors have different etags, so that no condition can be judged."""
    if options.if_absent or options.if_match is not None:
        raise UnsupportedOperation("the witness judges no conditions")


class Plain:
    """A writer that tells no etag but the size: the witness's etags are its own."""

    def __init__(self, writer: BackendWriter, path: str) -> None:
        self._writer, self._path = writer, path
        self.write, self.discard = writer.write, writer.discard

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return Stat(self._path, self._writer.commit(hashes).size)
