"""A mount: a name, a backend and a policy; where errors get their context and retries happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from enum import IntEnum
from typing import Any, Self, TypeVar

from . import emulate, paths
from .backends.base import BackendEditor, BackendReader, BackendWriter, PartWriter, StorageBackend, Tick
from .exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    UnsupportedOperation,
)
from .pages import OddKey as OddKey
from .pages import Pages
from .retry import DEFAULT_RETRY, NO_RETRY, Guard, RetryPolicy
from .settling import gone, same_bytes, same_content
from .streams import MountEditor, MountParts, MountReader, MountWriter, cut_short
from .types import PLAIN, Features, Stat, Unfinished, Version, WriteOptions

T = TypeVar("T")


class Level(IntEnum):
    """What a mount lets its users do; each level includes those below."""

    readonly = 1
    readwrite = 2
    delete = 3


class Mount:
    """The one portable type: normalised path → policy → ability or emulation → backend → error context.

    Paths arrive normalised (`paths.py`) or exactly as an own listing gave them. Every verb raises the tree of
    `exceptions` only, with mount, path and operation filled in.
    """

    def __init__(
        self,
        name: str,
        backend: StorageBackend,
        *,
        level: Level = Level.delete,
        retry: RetryPolicy = DEFAULT_RETRY,
        allow_backslash: bool = False,
        secrets: Sequence[str] = (),
        base_url: str | None = None,
        internal_url: str | None = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.level = Level.readonly if backend.features.readonly else level
        self.guard = Guard(name, backend.translate, retry, secrets)
        self.rules = paths.Rules(allow_backslash, backend.features.surrogates, backend.features.literal)
        self.base_url, self.internal_url = base_url, internal_url

    def __repr__(self) -> str:
        return f"Mount({self.name!r}, {type(self.backend).__name__}, {self.level.name})"

    # --- what it is ---

    @property
    def features(self) -> Features:
        return self.backend.features

    def can(self, ability: str) -> bool:
        """Whether the backend has an optional method here; permissions are another matter."""
        return ability in self.backend.abilities

    def without_retries(self) -> Self:
        """The same mount for a caller that retries on its own (the transfer engine)."""
        twin = copy(self)
        twin.guard = Guard(self.name, self.backend.translate, NO_RETRY, self.guard.secrets)
        return twin

    def require(self, level: Level, operation: str, path: str = "") -> None:
        """Raises `StoragePermissionError` unless the mount allows `level`."""
        if self.level >= level:
            return
        if self.features.readonly:
            raise self.guard.failure(UnsupportedOperation(self.backend.readonly_reason), operation, path)
        reason = f"the mount allows '{self.level.name}' and this needs '{level.name}'; see its 'permissions'"
        raise self.guard.failure(StoragePermissionError(reason), operation, path)

    # --- facts ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        """Facts of a file or a directory; missing → `StorageNotFoundError`."""
        if self.backend.features.real_dirs:
            return self.guard.call("stat", path, self.backend.stat, path, version=version)
        if not path:
            return Stat("", is_dir=True)
        try:
            return self.stat_file(path, version=version)
        except StorageNotFoundError:
            if version is None and self.is_dir(path):
                return Stat(path, is_dir=True)
            raise

    def stat_file(self, path: str, *, version: str | None = None) -> Stat:
        """Facts of exactly this key, in one request."""
        return self.guard.call("stat", path, self.backend.stat, path, version=version)

    def look(self, path: str, *, version: str | None = None) -> Stat:
        """As `stat_file`, for callers that need no hashes."""
        return self.guard.call("stat", path, self.backend.look, path, version=version)

    def exists(self, path: str, *, version: str | None = None) -> bool:
        """False only for a proven absence."""
        if version is not None:
            return self._found(path, version) is not None
        real = self.backend.features.real_dirs
        if not path and not real:
            return True
        return self._asked(path, self.backend.has) or (not real and self.is_dir(path))

    def is_file(self, path: str, *, version: str | None = None) -> bool:
        found = self._found(path, version) if path else None
        return found is not None and found.is_file

    def is_dir(self, path: str) -> bool:
        if self.backend.features.real_dirs:
            found = self._found(path)
            return found is not None and found.is_dir
        if not path:
            return True
        return self.guard.call("stat", path, emulate.is_dir, self.backend, path)

    def is_symlink(self, path: str) -> bool:
        found = self._found(path) if self.can("readlink") else None
        return found is not None and found.is_symlink

    def _found(self, path: str, version: str | None = None) -> Stat | None:
        """Facts of exactly this key."""
        stat = self.backend.stat
        return self._asked(path, lambda path: stat(path, version=version))

    def _asked(self, path: str, ask: Callable[[str], T]) -> T | None:
        """What a driver answers; None for a proven absence, without the error that nobody would see."""
        try:
            return ask(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # noqa: BLE001 - a driver call: the guard translates
            try:
                return self.guard.again(error, "stat", path, lambda: ask(path))
            except (StorageNotFoundError, StorageNotADirectoryError):
                return None

    def local_path(self, path: str) -> str | None:
        """The real file's path, where the backend has real files."""
        return self.guard.call("local_path", path, self.backend.local_path, path)

    # --- listing ---

    def scan(self, path: str, *, facts: bool = True, odd: OddKey | None = None) -> Iterator[Sequence[Stat]]:
        """One level in pages, in the storage's order. Names no path can express go to `odd`, else one warning."""
        return self._pages(path, lambda after: self.backend.scan(path, after=after, facts=facts), odd)

    def walk(self, path: str, *, odd: OddKey | None = None) -> Iterator[Sequence[Stat]]:
        """Everything below in pages, in bytewise order (`backends.base.order`). Links are listed, not descended."""
        return self._pages(path, lambda after: emulate.walk(self.backend, path, after), odd)

    def _pages(
        self, path: str, start: Callable[[str], Iterator[Sequence[Stat]]], odd: OddKey | None
    ) -> Iterator[Sequence[Stat]]:
        return Pages(self.guard, path, start, self.rules, self.features.ordered, odd).addressable()

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
        """A small file or a range, in one request: (bytes, facts); never less than was asked for and is there."""
        try:  # not by the guard's own call: this is the hottest path there is
            found = self.backend.get(path, start, end, version=version, if_match=if_match)
            if len(found[0]) == found[1].size or (short := cut_short(*found, start, end)) is None:
                return found
            error: Exception = short
        except Exception as failed:  # noqa: BLE001 - a driver call: the guard translates
            error = failed
        return self.guard.again(error, "read", path, lambda: self._whole(path, start, end, version, if_match))

    def _whole(
        self, path: str, start: int, end: int | None, version: str | None, if_match: str | None
    ) -> tuple[bytes, Stat]:
        data, stat = self.backend.get(path, start, end, version=version, if_match=if_match)
        if (error := cut_short(data, stat, start, end)) is not None:
            raise error
        return data, stat

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        """A stream of [start, end); where the storage has etags, a retry continues the same object or fails."""
        backend = self.backend

        def opened(start: int, end: int | None, if_match: str | None) -> BackendReader:
            return backend.reader(path, start, end, version=version, if_match=if_match)

        return MountReader(self.guard, path, opened, start, end, if_match)

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        """A small file in one request."""
        self.judge(path, "write")
        try:  # as in `get`
            return self.backend.put(path, data, options)
        except Exception as failed:  # noqa: BLE001 - a driver call: the guard translates
            error = failed

        def ours(failure: StorageError) -> Stat | None:
            if not isinstance(failure, (StorageExistsError, StorageConflictError)):
                return None
            there, stat = self.backend.get(path)
            return stat if there == bytes(data) else None

        return self.guard.again(error, "write", path, lambda: self.backend.put(path, data, options), ours)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        """A stream into a new file that appears whole at commit."""
        self.judge(path, "write")
        return MountWriter(self.guard, path, self.guard.call("write", path, self.backend.writer, path, options))

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> PartWriter:
        """A new file staged in parts, or one that was begun; see `StorageBackend.parts`."""
        self.judge(path, "write")
        made = self.backend.parts
        how: dict[str, Any] = {"part_size": part_size, "token": token, "receipts": receipts}
        return MountParts(self.guard, path, self.guard.call("write", path, made, path, options, **how))

    def unfinished(self, path: str, *, older_than: float) -> list[Unfinished]:
        """What was staged at or below `path` over `older_than` seconds ago and never finished."""
        asked = self.backend.unfinished
        return self.guard.call("list", path, lambda: list(asked(path, older_than=older_than)))

    def judge(self, path: str, operation: str, level: Level = Level.readwrite) -> None:
        """What must hold before the first byte: the mount allows it, and the store can hold the name."""
        self.require(level, operation, path)
        if not path:
            raise self.guard.failure(StorageIsADirectoryError("the root of a mount is a directory"), operation, path)
        if len(path) > 60 and (reason := paths.too_long(path, self.backend.root, self.features)):
            raise self.guard.failure(StoragePathError(reason), operation, path)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes a directory, as `pathlib.Path.mkdir`; a file there is `StorageExistsError` even with `exist_ok`."""
        self.require(Level.readwrite, "mkdir", path)
        try:
            if not path:
                raise StorageExistsError("the root of a mount exists")
            self.judge(path, "mkdir")

            def made(failure: StorageError) -> bool | None:
                return True if isinstance(failure, StorageExistsError) and self.is_dir(path) else None

            self.guard.settled("mkdir", path, lambda: emulate.mkdir(self.backend, path, parents), made)
        except StorageExistsError as error:
            if not (exist_ok and (not path or self.is_dir(path))):
                raise self.guard.failure(error, "mkdir", path) from None

    def edit(self, path: str, mode: str) -> BackendEditor:
        """A file opened in place; mode ``"r+"``, ``"a"`` or ``"a+"``."""
        self.judge(path, "open")
        return MountEditor(self.guard, path, self.guard.call("open", path, self.backend.edit, path, mode))

    def set_mtime(self, path: str, mtime: float) -> None:
        self.require(Level.readwrite, "touch", path)
        self.guard.call("touch", path, self.backend.set_mtime, path, mtime)

    def symlink(self, path: str, target: str) -> None:
        self.judge(path, "symlink_to")
        self.guard.call("symlink_to", path, self.backend.symlink, path, target)

    def readlink(self, path: str) -> str:
        return self.guard.call("readlink", path, self.backend.readlink, path)

    # --- removing ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        """Removes exactly this file or link."""
        self.judge_removal(path)
        conditions: dict[str, Any] = (
            {} if version is None and if_match is None else {"version": version, "if_match": if_match}
        )
        asked = self.backend.delete
        self.guard.settled("delete", path, lambda: asked(path, **conditions), gone)

    def rmdir(self, path: str) -> None:
        """Removes exactly this empty directory; not empty → `StorageNotEmptyError`."""
        self.judge_removal(path)
        self.guard.settled("delete", path, lambda: emulate.rmdir(self.backend, path), gone)

    def delete_tree(self, path: str) -> None:
        """Removes everything below `path`, whatever its name, and `path` itself unless it is the root."""
        self.require(Level.delete, "delete", path)
        self.guard.call("delete", path, emulate.delete_tree, self.backend, path)

    def empty(self, path: str) -> None:
        """Removes everything below a directory and keeps it."""
        self.require(Level.delete, "empty", path)
        self.guard.call("empty", path, emulate.empty, self.backend, path)

    def delete_many(self, keys: Sequence[str]) -> list[tuple[str, StorageError]]:
        """Removes exactly these files; returns the failures."""
        self.require(Level.delete, "delete")
        failures = self.guard.call("delete", "", lambda: list(emulate.delete_many(self.backend, keys)))
        return [(key, self.guard.failure(error, "delete", key)) for key, error in failures]

    def judge_removal(self, path: str, operation: str = "delete") -> None:
        """What must hold before anything is taken away."""
        self.require(Level.delete, operation, path)
        if not path:
            reason = "the root of a mount is not removed; empty() clears what is below it"
            raise self.guard.failure(StoragePermissionError(reason), operation, path)

    # --- what only some storages can ---

    def use(self, ability: str, path: str, *args: Any, **kwargs: Any) -> Any:
        """Calls an optional method of the backend to which nothing is added here; changes need `require` first."""
        return self.guard.call(ability, path, getattr(self.backend, ability), path, *args, **kwargs)

    def versions(self, path: str) -> Iterator[Version]:
        """The versions of a file, newest first, deletions included."""
        return iter(self.guard.call("versions", path, lambda: list(self.backend.versions(path))))

    # --- by the server or the kernel ---

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
        """One file, moved by the storage itself; `UnsupportedOperation` if these two cannot."""
        self.judge(path, "copy")
        mine, theirs = self.backend, source.backend
        try:  # as in `get`
            return mine.copy_from(theirs, source_path, path, options, version=version, tick=tick)
        except Exception as failed:  # noqa: BLE001 - a driver call: the guard translates
            error = failed

        def copied() -> Stat:
            return mine.copy_from(theirs, source_path, path, options, version=version, tick=tick)

        def ours(failure: StorageError) -> Stat | None:
            if not isinstance(failure, (StorageExistsError, StorageConflictError)):
                return None
            here, there = source._found(source_path, version), self._found(path)
            if here is None or there is None:
                return None
            same = same_content(here, there)
            if same is None:  # what was copied in parts has no hash of its own
                same = same_bytes(source.reader(source_path, version=version), self.reader(path), tick)
            return there if same else None

        return self.guard.again(error, "copy", path, copied, ours)

    def rename_from(self, source: Mount, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        """A file or a directory in one step; `UnsupportedOperation` if these two cannot."""
        source.judge_removal(source_path, "move")
        self.judge(path, "move")
        return self.guard.call("move", path, self.backend.rename_from, source.backend, source_path, path, options)
