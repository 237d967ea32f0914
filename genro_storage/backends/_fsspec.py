"""What the generic fsspec backend is made of: what is known of protocols, the shared file system, its files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from threading import RLock
from typing import Any, NamedTuple

from msgspec import field

from .. import hashing
from ..exceptions import StorageCorruptedError, StorageError, StorageUnavailableError
from ..types import Stat, WriteOptions
from .base import check_size
from .options import Options, Url

SPOOL = 8 << 20
"""Bytes of a write that are held in memory; more wait in a temporary file until the commit."""


class FsspecOptions(Options, frozen=True, kw_only=True):
    """`url` (any fsspec URL, chained ones too) or `filesystem` (an object); `options` go to the file system."""

    url: Url | None = None
    filesystem: Any = None
    options: dict[str, Any] = field(default_factory=dict)


class Kind(NamedTuple):
    """What is known of a protocol. What is not known is taken for the least."""

    real_dirs: bool = True
    renames: bool = False
    """Its `mv` replaces a file in one step, so that a write goes to a temporary name first."""
    atomic: bool = False
    """A file appears whole, by renaming or because a put is one step."""
    readonly: bool = False
    threads: bool = False
    """One instance may be used by many threads at once."""
    mtime: float | None = None
    """Seconds between two times that `info` can tell apart."""
    max_segment: int | None = None


_FILE = Kind(renames=True, atomic=True, threads=True, mtime=1e-6, max_segment=255)
_OBJECTS = Kind(real_dirs=False, atomic=True, threads=True, mtime=1.0)
_READ = Kind(readonly=True)
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("file", "local"), _FILE),
    "memory": Kind(atomic=True, threads=True),
    **dict.fromkeys(("sftp", "ssh"), Kind(renames=True, atomic=True, mtime=1.0, max_segment=255)),
    **dict.fromkeys(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "adl", "az", "oci", "oss", "obs"), _OBJECTS),
    **dict.fromkeys(("zip", "tar", "libarchive", "http", "https", "github", "gist", "git", "data", "reference"), _READ),
}
CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached"})
"""Protocols that show another file system under its own paths."""
WRAPPERS = CACHES | {"dir"}
"""Protocols that show another file system; their kind is that of the one behind."""


class Connection:
    """The file system of a mount and all its rooted twins, made on first use and anew after a fork."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._pid = 0
        self._fs: Any = None
        self.lock = RLock()

    def get(self) -> Any:
        """The file system."""
        if self._pid != os.getpid():
            if self._pid:  # in a child: the lock may belong to a thread that is not here
                self.lock = RLock()
            with self.lock:
                if self._pid != os.getpid():
                    self._fs = self._connect()
                    self._pid = os.getpid()
        return self._fs


class FsspecReader:
    """A span of an open file, front to back; ending early → `StorageUnavailableError`."""

    def __init__(self, call: Any, file: Any, stat: Stat, first: int, last: int) -> None:
        self.stat = stat
        self._call, self._file, self._left = call, file, last - first
        if first:
            call(file.seek, first)

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        parts = []
        while size:
            data: bytes = self._call(self._file.read, size)
            if not data:
                raise StorageUnavailableError(f"the file ended {self._left} bytes early")
            parts.append(data)
            size -= len(data)
            self._left -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        self._call(self._file.close)


class Spool:
    """Bytes on their way: in memory, and from `SPOOL` on in a temporary file."""

    def __init__(self) -> None:
        self._file: Any = BytesIO()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.size += memoryview(data).nbytes
        if self.size > SPOOL and isinstance(self._file, BytesIO):
            held, self._file = self._file, tempfile.NamedTemporaryFile(prefix="genro-")  # noqa: SIM115 - closed below
            self._file.write(held.getbuffer())
        self._file.write(data)

    def send(self, fs: Any, target: str) -> None:
        """Puts all of it into one file."""
        if isinstance(self._file, BytesIO):
            fs.pipe_file(target, self._file.getvalue())
            return
        self._file.flush()
        if protocol_of(fs) == "memory":  # its put_file shows what has come so far
            with open(self._file.name, "rb") as file:
                fs.pipe_file(target, file.read())
        else:
            fs.put_file(self._file.name, target)

    def digest(self, algorithm: str) -> str:
        hasher = hashing.new(algorithm)
        for data in self.pieces():
            hasher.update(data)
        return hasher.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """All of it from the beginning, 1 MiB at a time."""
        self._file.seek(0)
        while data := self._file.read(1 << 20):
            yield data

    def close(self) -> None:
        self._file.close()


class FsspecWriter:
    """A file that is sent at its commit, which may be repeated after a failure."""

    def __init__(self, store: Callable[[str, Spool], object], path: str, options: WriteOptions) -> None:
        self._store, self._path, self._options = store, path, options
        self._spool: Spool | None = Spool()

    def _open(self) -> Spool:
        if self._spool is None:
            raise StorageError("the writer is finished")
        return self._spool

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._open().write(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        spool = self._open()
        check_size(self._options.size, spool.size)
        for algorithm, expected in hashes.items():
            if spool.digest(algorithm) != expected:
                raise StorageCorruptedError(f"the {algorithm} of the bytes is not {expected}", retryable=True)
        self._store(self._path, spool)
        self.discard()
        return Stat(self._path, spool.size)

    def discard(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


def protocol_of(filesystem: Any) -> str:
    protocol = filesystem.protocol
    return protocol if isinstance(protocol, str) else str(protocol[0])


def span(size: int | None, start: int, end: int | None) -> tuple[int, int]:
    """[start, end) inside a file of `size` bytes; nothing where that is not known."""
    if size is None:
        return 0, 0
    first = max(0, size + start) if start < 0 else min(start, size)
    last = size if end is None else min(end, size)
    return first, max(first, last)


def mtime_of(info: Mapping[str, Any]) -> float | None:
    for key in ("mtime", "modified", "last_modified", "LastModified", "updated"):
        value = info.get(key)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None
