"""An object store in memory: implied directories, markers, conditions, and a listing whose order can be wrong."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from genro_storage.backends.base import StorageBackend, Tick, order
from genro_storage.exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.types import PLAIN, Features, Stat, WriteOptions

Hook = Callable[[str, str], object]


class _Reader:
    def __init__(self, data: bytes, stat: Stat, store: ObjectStore) -> None:
        self.stat, self._data, self._store = stat, data, store
        store.open_readers += 1
        self._open = True

    def read(self, size: int = -1) -> bytes:
        self._store.called("read", self.stat.path)
        size = len(self._data) if size < 0 else size
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def close(self) -> None:
        if self._open:
            self._open = False
            self._store.open_readers -= 1


class _Writer:
    def __init__(self, store: ObjectStore, path: str, options: WriteOptions) -> None:
        self._store, self._path, self._options = store, path, options
        self._data = bytearray()
        self.commit_hashes: dict[str, str] = {}
        store.open_writers += 1
        self._open = True

    def write(self, data: Any) -> None:
        self._store.called("write", self._path)
        self._data += data

    def commit(self, hashes: Any = {}) -> Stat:
        self._store.called("commit", self._path)
        self._store.commit_hashes = dict(hashes)
        stat = self._store._store(self._path, bytes(self._data), self._options)
        self.discard()
        return stat

    def discard(self) -> None:
        if self._open:
            self._open = False
            self._store.open_writers -= 1


class ObjectStore(StorageBackend):
    """Keys and bytes. `calls` is what came in; `hook` is called first and may raise or act."""

    features = Features(
        real_dirs=False, ordered=True, if_absent="atomic", if_match="atomic", keeps_mtime=True, mtime_resolution=1.0,
        hashes=frozenset({"md5"}), metadata=True, content_type=True, tells_missing=False,
    )  # fmt: skip

    def __init__(self, *, in_order: bool = True, copies: bool = False, id: str | None = None, **features: Any) -> None:
        super().__init__()
        self.features = replace(ObjectStore.features, **features)
        self.keys: dict[str, tuple[bytes, Stat]] = {}
        self.in_order = in_order
        self._copies = copies
        self._id = id or f"store-{id_of(self)}"
        self.calls: list[tuple[str, str]] = []
        self.hook: Hook = lambda name, path: None
        self.open_readers = self.open_writers = 0
        self.commit_hashes: dict[str, str] = {}
        self._lock = threading.RLock()

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"walk", "rmdir", "mkdir"} | ({"copy_from"} if self._copies else set()))

    @property
    def storage_id(self) -> str:
        return self._id

    def called(self, name: str, path: str) -> None:
        with self._lock:
            self.calls.append((name, path))
        self.hook(name, path)

    def names(self) -> list[str]:
        """The calls' names, sorted."""
        return sorted(name for name, _ in self.calls)

    def set(self, key: str, data: bytes = b"", **facts: Any) -> None:
        """Puts a key as another client would; a marker ends in "/"."""
        self._store(key, data, PLAIN)
        if facts:
            self.keys[key] = (data, replace(self.keys[key][1], **facts))

    def _store(self, key: str, data: bytes, options: WriteOptions) -> Stat:
        with self._lock:
            if options.if_absent and key in self.keys:
                raise StorageExistsError("Already exists")
            if options.size is not None and options.size != len(data):
                raise StorageConflictError("size")
            digest = hashlib.md5(data).hexdigest()
            mtime = time.time() if options.mtime is None else options.mtime
            stat = Stat(
                key, len(data), mtime=mtime, etag=f"{digest}-{len(self.calls)}", hashes={"md5": digest},
                content_type=options.content_type, metadata=options.metadata or {},
            )  # fmt: skip
            self.keys[key] = (data, stat)
            return stat

    def _find(self, path: str) -> tuple[bytes, Stat]:
        with self._lock:
            if path not in self.keys:
                raise StorageNotFoundError("No such key")
            return self.keys[path]

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        self.called("stat", path)
        return self._find(path)[1]

    def get(self, path: str, start: int = 0, end: int | None = None, **conditions: Any) -> tuple[bytes, Stat]:
        self.called("get", path)
        return self._find(path)

    def reader(self, path: str, start: int = 0, end: int | None = None, **conditions: Any) -> Any:
        self.called("reader", path)
        return _Reader(*self._find(path), self)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> Any:
        self.called("writer", path)
        return _Writer(self, path, options)

    def put(self, path: str, data: Any, options: WriteOptions = PLAIN) -> Stat:
        self.called("put", path)
        return self._store(path, bytes(data), options)

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.called("delete", path)
        with self._lock:
            if if_match is not None and path in self.keys and self.keys[path][1].etag != if_match:
                raise StorageConflictError("changed meanwhile")
            self.keys.pop(path, None)

    def mkdir(self, path: str) -> None:
        self.called("mkdir", path)
        self._store(path + "/", b"", PLAIN)

    def rmdir(self, path: str) -> None:
        self.called("rmdir", path)
        self.keys.pop(path + "/", None)

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        self.called("walk", path)
        prefix = f"{path}/" if path else ""
        with self._lock:
            found = [stat for key, (_, stat) in self.keys.items() if key.startswith(prefix) and key != prefix]
        entries = [self._listed(stat) for stat in found]
        entries.sort(key=order if self.in_order else lambda stat: [part.encode() for part in stat.path.split("/")])
        if not entries and path and prefix not in self.keys:
            if path in self.keys:
                raise StorageNotADirectoryError("a file")
            raise StorageNotFoundError("No such directory")
        for start in range(0, len(entries), 100):
            yield entries[start : start + 100]

    @staticmethod
    def _listed(stat: Stat) -> Stat:
        """A listing tells neither type nor metadata."""
        if stat.path.endswith("/"):
            return Stat(stat.path[:-1], is_dir=True)
        return replace(stat, content_type=None, metadata=None)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        self.called("scan", path)
        prefix = f"{path}/" if path else ""
        level: dict[str, Stat] = {}
        for key, (_, stat) in list(self.keys.items()):
            if key.startswith(prefix) and key != prefix:
                name, slash, _ = key[len(prefix) :].partition("/")
                one = Stat(prefix + name, is_dir=True) if slash else self._listed(stat)
                level[prefix + name + slash] = one
        if not level and path and prefix not in self.keys:
            if path in self.keys and limit != 1:
                raise StorageNotADirectoryError("a file")
            raise StorageNotFoundError("No such directory")
        yield sorted(level.values(), key=order)[:limit]

    def copy_from(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        self.called("copy_from", path)
        if source.storage_id != self.storage_id or not isinstance(source, ObjectStore):
            raise UnsupportedOperation("another store")
        data, stat = source._find(source_path)
        tick(len(data))
        kept = replace(
            options,
            content_type=options.content_type or stat.content_type,
            metadata=stat.metadata if options.metadata is None else options.metadata,
        )
        return self._store(path, data, kept)


def id_of(thing: object) -> int:
    return id(thing)


def objects(name: str = "o", **how: Any) -> tuple[Mount, ObjectStore]:
    """A mount over a fresh object store, and the store."""
    store = ObjectStore(**how)
    return Mount(name, store), store
