"""Mounts with `max_file_size` or `quota`: what does not fit is refused before it is seen, and the old bytes stay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import emulate
from .backends.base import BackendEditor, BackendWriter, PartWriter, StorageBackend, Tick
from .backends.handles import Part, PartsAround
from .exceptions import StorageError, StorageQuotaError, UnsupportedOperation
from .mount import Mount
from .types import PLAIN, Stat, WriteOptions

FRESH = 300.0
"""Seconds after which what is stored is counted again: others write too."""


class Limit:
    """How much one directory of a backend may hold, in bytes; thread-safe.

    What is stored is counted by a listing before the first write, and again before anything is refused.
    """

    def __init__(self, backend: StorageBackend, max_file_size: int | None, quota: int | None) -> None:
        self._backend = backend
        self._max_file_size = max_file_size
        self._quota = quota
        self._lock = threading.Lock()
        self._used = 0
        self._counted = float("-inf")

    def judge(self, size: int, replaced: Callable[[], int]) -> None:
        """Raises `StorageQuotaError` if a file of `size` bytes does not fit; `replaced` tells what it takes away."""
        if self._max_file_size is not None and size > self._max_file_size:
            raise StorageQuotaError(f"{size} bytes; 'max_file_size' of this mount is {self._max_file_size}")
        if self._quota is None:
            return
        with self._lock:
            if time.monotonic() - self._counted > FRESH:
                self._count()
            if self._used + size <= self._quota:
                return
            self._count()
            left = self._quota - self._used + replaced()
        if size > left:
            raise StorageQuotaError(f"{size} bytes; 'quota' of this mount is {self._quota} and leaves {max(0, left)}")

    def add(self, size: int) -> None:
        """A file of `size` bytes was written."""
        with self._lock:
            self._used += size

    def _count(self) -> None:
        try:
            pages = emulate.walk(self._backend, "")
            self._used = sum(entry.size or 0 for page in pages for entry in page if not entry.is_dir)
        except FileNotFoundError:  # nothing is stored yet
            self._used = 0
        self._counted = time.monotonic()


class LimitedMount(Mount):
    """A mount that holds its own limits and those of the mounts it stands on."""

    def __init__(self, name: str, backend: StorageBackend, *, limits: Sequence[Limit], **policy: Any) -> None:
        super().__init__(name, backend, **policy)
        self.limits = tuple(limits)

    def can(self, ability: str) -> bool:
        """As everywhere, but that nothing is changed in place: there the old bytes could not stay."""
        return ability != "edit" and super().can(ability)

    def admit(self, path: str, size: int) -> None:
        """Raises `StorageQuotaError` if a file of `size` bytes does not fit at `path`."""
        try:
            for limit in self.limits:
                limit.judge(size, lambda: self._size_of(path))
        except StorageError as error:
            raise self.guard.failure(error, "write", path) from error.__cause__

    def _size_of(self, path: str) -> int:
        found = self._found(path)
        return found.size or 0 if found is not None else 0

    def wrote(self, size: int) -> None:
        """Counts what was written."""
        for limit in self.limits:
            limit.add(size)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        self.judge(path, "write")
        size = memoryview(data).nbytes
        self.admit(path, size)
        stat = super().put(path, data, options)
        self.wrote(size)
        return stat

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        self.judge(path, "write")
        self.admit(path, options.size or 0)
        return LimitedWriter(self, path, super().writer(path, options))

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> PartWriter:
        self.judge(path, "write")
        self.admit(path, options.size or 0)
        return LimitedParts(self, path, super().parts(path, options, **how))

    def edit(self, path: str, mode: str) -> BackendEditor:
        reason = "a mount with 'quota' or 'max_file_size' changes nothing in place; write the file anew"
        raise self.guard.failure(UnsupportedOperation(reason), "open", path)

    def copy_from(
        self,
        source: Mount,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        self.judge(path, "copy")
        size = options.size
        if size is None:
            size = source.stat_file(source_path, version=version).size or 0
        self.admit(path, size)
        stat = super().copy_from(source, source_path, path, options, version=version, tick=tick)
        self.wrote(size)
        return stat

    def rename_from(self, source: Mount, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        if source.name != self.name:
            reason = "what comes from another mount is counted, file by file"
            raise self.guard.failure(UnsupportedOperation(reason), "move", path)
        return super().rename_from(source, source_path, path, options)


class LimitedWriter:
    """Counts what is written and refuses what would be too much."""

    def __init__(self, mount: LimitedMount, path: str, writer: BackendWriter) -> None:
        self._mount, self._path, self._writer = mount, path, writer
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._size += memoryview(data).nbytes
        self._mount.admit(self._path, self._size)
        self._writer.write(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._mount.admit(self._path, self._size)
        stat = self._writer.commit(hashes)
        self._mount.wrote(self._size)
        return stat

    def discard(self) -> None:
        self._writer.discard()


class LimitedParts(PartsAround):
    """Judges each part by the size that the file has with it at least."""

    def __init__(self, mount: LimitedMount, path: str, inner: PartWriter) -> None:
        super().__init__(inner)
        self._mount, self._path = mount, path

    def put(self, offset: int, data: Part) -> str:
        self._mount.admit(self._path, offset + len(data))
        return super().put(offset, data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        stat = super().commit(hashes)
        self._mount.wrote(stat.size or 0)
        return stat
