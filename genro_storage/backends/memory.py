"""Files in memory, the reference backend: everything a storage can promise, kept exactly."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

from msgspec.structs import replace

from ..exceptions import StorageError, StorageUnavailableError, UnsupportedOperation
from ..paths import refuse_climbing
from ..types import PLAIN, Features, Stat, Unfinished, Version, WriteOptions
from . import _memory_versions as versions
from ._labels import checked_tags
from ._memory_editor import MemoryEditor, MemoryWriter
from ._memory_parts import MemoryParts, unfinished
from ._memory_rules import judge_kind, judge_rename, judge_write
from ._memory_store import Directory, File, Node, Store, address, at_address, described, failure, files, private, shared
from ._staging import fitting
from .base import (
    PAGE,
    BackendEditor,
    BytesReader,
    StorageBackend,
    Tick,
    check_size,
    conflict,
    cut,
    source_changed,
)
from .options import Context, Options


class MemoryOptions(Options, frozen=True, kw_only=True):
    """`path`: where the mount begins in its store. `store`: mounts naming the same one share bytes.

    A store keeps versions as soon as one of its mounts is `versioned`.
    """

    store: str = ""
    versioned: bool = False
    metadata: bool = False


_VERSIONS = frozenset({"versions"})
_METADATA = frozenset({"set_metadata", "get_tags", "set_tags"})


class MemoryBackend(StorageBackend):
    """Bytes of this process and its forks; private to a manager and a mount name unless `store` names a shared one."""

    Options: ClassVar[Any] = MemoryOptions
    features = Features(
        ordered=True,
        if_absent="atomic",
        if_match="atomic",
        mtime_resolution=1e-6,
        keeps_mtime=True,
        content_type=True,
        backslash=True,
        ranges=True,
    )

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self._held: Store | None
        if options.store.startswith("@"):
            self._held = at_address(options.store)
        elif options.store:
            self._held = shared(options.store)
        elif context.manager:
            self._held = private(context.manager, context.mount)
        else:
            self._held = Store(f"alone:{id(self)}")
        if options.metadata:
            self.features = replace(self.features, metadata=True, tags=True)
        self._described = partial(described, metadata=options.metadata, versions=options.versioned)
        self._id = f"memory:{self._held.name if self._held else options.store}"
        if self._held is not None:
            with self._held.lock:
                self._held.make(self.root)
                self._held.versioned |= options.versioned

    @property
    def abilities(self) -> frozenset[str]:
        options = self.options
        absent = (frozenset() if options.versioned else _VERSIONS) | (frozenset() if options.metadata else _METADATA)
        return super().abilities - absent

    @property
    def storage_id(self) -> str:
        return self._id

    def pickle_options(self) -> dict[str, str]:
        """The options by which this process and its forks find the same bytes; elsewhere every use fails."""
        return {"store": address(self._held) if self._held else self.options.store}

    def close(self) -> None:
        self._held = None

    @property
    def _store(self) -> Store:
        if self._held is None:
            reason = (
                "the bytes of this memory mount are gone: they live as long as their mount, in the process that made it"
            )
            raise StorageUnavailableError(reason, retryable=False)
        return self._held

    def _full(self, path: str) -> str:
        if ".." in path:
            refuse_climbing(path)
        return f"{self.root}/{path}" if self.root and path else self.root or path

    def _file(self, path: str, version: str | None) -> File:
        """The file at `path`, or a version of it; call it under the lock."""
        if version is None:
            return self._store.file(self._full(path))
        if not self.options.versioned:
            raise UnsupportedOperation("this mount does not support versioning; see its 'versioned'")
        return versions.at(self._store, self._full(path), version)

    # --- facts and listing ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        store = self._store
        with store.lock:
            return self._described(path, store.find(self._full(path)) if version is None else self._file(path, version))

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        prefix = f"{path}/" if path else ""
        listed = self._level(path)
        if after:
            listed = [(name, node) for name, node in listed if prefix + name > after]
        listed = listed[:limit]
        for start in range(0, len(listed), PAGE):
            yield [described(prefix + name.rstrip("/"), node) for name, node in listed[start : start + PAGE]]

    def _level(self, path: str) -> list[tuple[str, Node]]:
        store = self._store
        with store.lock:
            return store.directory(self._full(path)).listed()

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        page: list[Stat] = []
        left = -1 if limit is None else limit
        for name, node in self._below(f"{path}/" if path else "", self._level(path), after):
            if left == 0:
                break
            left -= 1
            page.append(described(name.rstrip("/"), node))
            if len(page) >= PAGE:
                yield page
                page = []
        yield page

    def _below(self, prefix: str, listed: list[tuple[str, Node]], after: str) -> Iterator[tuple[str, Node]]:
        levels = [(prefix, iter(listed))]
        while levels:
            prefix, entries = levels[-1]
            name, node = next(entries, ("", None))
            if node is None:
                levels.pop()
                continue
            key = prefix + name
            if key > after:
                yield key, node
            if isinstance(node, Directory) and (key > after or after.startswith(key)):
                with self._store.lock:
                    levels.append((key, iter(node.listed())))

    # --- reading ---

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        with self._store.lock:
            file = self._file(path, version)
            if if_match is not None and file.etag != if_match:
                raise conflict(if_match, file.etag)
            return cut(file.frozen(), start, end), self._described(path, file)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BytesReader:
        return BytesReader(*self.get(path, start, end, version=version, if_match=if_match))

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        content = bytes(data)
        check_size(options.size, len(content))
        return self._placed(path, _made(content, options), options)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> MemoryWriter:
        with self._store.lock:
            judge_kind(self._store.look(self._full(path)), options)
        return MemoryWriter(lambda data: self.put(path, data, options), options.size)

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> MemoryParts:
        store, full = self._store, self._full(path)
        with store.lock:
            judge_kind(store.look(full), options)
        return MemoryParts(
            store,
            full,
            path,
            options,
            lambda data: self.put(path, data, options),
            part_size=fitting(part_size, options.size),
            token=token,
            receipts=receipts,
        )

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self._store, self._full(path), self.root, older_than)

    def _placed(self, path: str, file: File, options: WriteOptions) -> Stat:
        store, full = self._store, self._full(path)
        with store.lock:
            judge_write(store.look(full), options)
            directory, name = store.above(full, make=True)
            store.keep(full, directory.children.get(name))
            directory.put(name, file)
            return self._described(path, file)

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
        origin = _memory(source)
        with origin._store.lock:
            file = origin._file(source_path, version).snapshot()
        if options.source_match not in (None, file.etag):
            raise source_changed()
        data = file.frozen()
        check_size(options.size, len(data))
        tick(len(data))
        kept = replace(
            options,
            content_type=file.content_type if options.content_type is None else options.content_type,
            metadata=file.metadata if options.metadata is None else options.metadata,
            tags=file.tags if options.tags is None else options.tags,
        )
        return self._placed(path, _made(data, kept), options)

    def set_mtime(self, path: str, mtime: float) -> None:
        store = self._store
        with store.lock:
            store.find(self._full(path)).mtime = mtime

    def edit(self, path: str, mode: str) -> BackendEditor:
        store, full = self._store, self._full(path)
        with store.lock:
            if mode != "r+" and store.look(full) is None:
                self._placed(path, File(b"", None, None), PLAIN)
            return MemoryEditor(store, full, mode)

    # --- versions, metadata, tags ---

    def versions(self, path: str) -> Iterator[Version]:
        store = self._store
        with store.lock:
            return iter(versions.listed(store, self._full(path)))

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        store, full = self._store, self._full(path)
        with store.lock:
            file = store.file(full)
            store.keep(full, file)
            file.metadata = {key.lower(): value for key, value in metadata.items()}
            file.renew()

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        with self._store.lock:
            return dict(self._file(path, version).tags)

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        checked = checked_tags(tags)
        with self._store.lock:
            self._file(path, None).tags = checked

    # --- changing the tree ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        store, full = self._store, self._full(path)
        with store.lock:
            if if_match is not None and (etag := self._file(path, version).etag) != if_match:
                raise conflict(if_match, etag)
            if version is not None:
                self._erase(full, version)
                return
            store.leave(full, store.file(full))
            directory, name = store.above(full)
            directory.remove(name)

    def _erase(self, full: str, version: str) -> None:
        if not self.options.versioned:
            raise UnsupportedOperation("this mount does not support versioning; see its 'versioned'")
        versions.erase(self._store, full, version)

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        for path in paths:
            try:
                self.delete(path)
            except FileNotFoundError:
                continue  # as asked
            except (OSError, StorageError) as error:
                yield path, error

    def mkdir(self, path: str) -> None:
        store, full = self._store, self._full(path)
        with store.lock:
            if store.look(full) is not None:
                raise failure(errno.EEXIST)
            directory, name = store.above(full)
            directory.put(name, Directory())

    def rmdir(self, path: str) -> None:
        store, full = self._store, self._full(path)
        with store.lock:
            if store.directory(full).children:
                raise failure(errno.ENOTEMPTY)
            if not full:
                raise failure(errno.EBUSY)
            directory, name = store.above(full)
            directory.remove(name)

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        origin = _memory(source)
        here, there = self._store, origin._store
        full, source_full = self._full(path), origin._full(source_path)
        with ExitStack() as locks:
            for store in sorted({here, there}, key=id):
                locks.enter_context(store.lock)
            node = there.find(source_full)
            if here is there and full == source_full:
                if options.if_absent or not full:
                    raise failure(errno.EEXIST if full else errno.EINVAL)
                return self._described(path, node)
            if not source_full or (
                here is there and isinstance(node, Directory) and full.startswith(source_full + "/")
            ):
                raise failure(errno.EINVAL)
            if here is there and not options.if_absent and source_full.startswith(f"{full}/"):
                raise failure(errno.ENOTEMPTY)
            judge_rename(node, here.look(full), options)
            target, name = here.above(full, make=True)
            directory, source_name = there.above(source_full)
            there.leave(source_full, node)
            here.keep(full, here.look(full))
            directory.remove(source_name)
            target.put(name, node)
            if here.versioned or there.versioned:
                for _, file in files(full, node):
                    file.renew()
            return self._described(path, node)


def _made(data: bytes, options: WriteOptions) -> File:
    return File(data, options.mtime, options.content_type, options.metadata, checked_tags(options.tags or {}))


def _memory(source: StorageBackend) -> MemoryBackend:
    if not isinstance(source, MemoryBackend):
        raise UnsupportedOperation("the other side is not in memory")
    return source
