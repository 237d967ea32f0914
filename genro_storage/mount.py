"""A mount: a name, a backend and a policy; where errors get their context and retries happen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from enum import IntEnum
from typing import Any, ParamSpec, Self, TypeVar

from . import emulate, paths
from .backends.base import BackendEditor, BackendReader, BackendWriter, StorageBackend, Tick
from .exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageWarning,
    UnsupportedOperation,
    from_builtin,
)
from .retry import NO_RETRY, RetryPolicy
from .types import PLAIN, Features, Stat, WriteOptions

P = ParamSpec("P")
T = TypeVar("T")

OddKey = Callable[[Stat], object]
"""Called with each listed entry that no path can express."""


_SUSPECT = ("/.", "\n.", "\\", "\0", "//", "\n/", "/\n", "\n\n")
"""One of these stands in a page of listed paths, each between line ends, if any of them needs a closer look."""


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
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - an immutable tuple
        allow_backslash: bool = False,
        secrets: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.backend = backend
        self.level = Level.readonly if backend.features.readonly else level
        self.retry = retry
        self.rules = paths.Rules(allow_backslash, backend.features.surrogates)
        self.secrets = tuple(secret for secret in secrets if secret)

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
        twin.retry = NO_RETRY
        return twin

    def require(self, level: Level, operation: str, path: str = "") -> None:
        """Raises `StoragePermissionError` unless the mount allows `level`."""
        if self.level >= level:
            return
        if self.features.readonly:
            raise self._failure(UnsupportedOperation("this kind of mount is read-only"), operation, path)
        reason = f"the mount allows '{self.level.name}' and this needs '{level.name}'; see its 'permissions'"
        raise self._failure(StoragePermissionError(reason), operation, path)

    # --- facts ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        """Facts of a file or a directory; missing → `StorageNotFoundError`."""
        if self.backend.features.real_dirs:
            return self._call("stat", path, self.backend.stat, path, version=version)
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
        return self._call("stat", path, self.backend.stat, path, version=version)

    def exists(self, path: str, *, version: str | None = None) -> bool:
        """False only for a proven absence."""
        try:
            self.stat(path, version=version)
        except (StorageNotFoundError, StorageNotADirectoryError):
            return False
        return True

    def is_file(self, path: str, *, version: str | None = None) -> bool:
        if not path:
            return False
        try:
            return self.stat_file(path, version=version).is_file
        except (StorageNotFoundError, StorageNotADirectoryError, StorageIsADirectoryError):
            return False

    def is_dir(self, path: str) -> bool:
        if self.backend.features.real_dirs:
            try:
                return self._call("stat", path, self.backend.stat, path).is_dir
            except (StorageNotFoundError, StorageNotADirectoryError):
                return False
        if not path:
            return True
        return self._call("stat", path, emulate.is_dir, self.backend, path)

    def is_symlink(self, path: str) -> bool:
        try:
            return self._call("stat", path, self.backend.stat, path).is_symlink
        except (StorageNotFoundError, StorageNotADirectoryError):
            return False

    def local_path(self, path: str) -> str | None:
        """The real file's path, where the backend has real files."""
        return self._call("local_path", path, self.backend.local_path, path)

    # --- listing ---

    def scan(self, path: str, *, facts: bool = True, odd: OddKey | None = None) -> Iterator[Sequence[Stat]]:
        """One level in pages, in the storage's order. Names no path can express go to `odd`, else one warning."""
        return self._pages("list", path, lambda after: self.backend.scan(path, after=after, facts=facts), odd)

    def walk(self, path: str, *, odd: OddKey | None = None) -> Iterator[Sequence[Stat]]:
        """Everything below in pages, in bytewise order (`backends.base.order`). Links are listed, not descended."""
        return self._pages("list", path, lambda after: emulate.walk(self.backend, path, after), odd)

    def _pages(
        self, operation: str, path: str, start: Callable[[str], Iterator[Sequence[Stat]]], odd: OddKey | None
    ) -> Iterator[Sequence[Stat]]:
        strange: list[Stat] = []
        last, attempt, pages = "", 0, None
        while True:
            try:
                pages = start(last) if pages is None else pages
                page = next(pages, None)
            except Exception as error:  # a driver call: _failure translates
                failure = self._failure(error, operation, path)
                if not self.retry.allows(attempt, failure) or (last and not self.features.ordered):
                    raise failure from cause(failure, error)
                self.retry.wait(attempt, failure)
                attempt, pages = attempt + 1, None
                continue
            if page is None:
                break
            if page:
                last = page[-1].path
                yield self._addressable(page, odd or strange.append)
        if strange:
            message = f"{len(strange)} names below '{self.name}:{path}' cannot be written as a path and were passed over"
            warnings.warn(message, StorageWarning, stacklevel=3)

    def _addressable(self, page: Sequence[Stat], odd: OddKey) -> Sequence[Stat]:
        text = "\n".join(["", *[entry.path for entry in page], ""])
        if text.isascii() and not any(mark in text for mark in _SUSPECT):
            return page
        kept = []
        for entry in page:
            if paths.is_hidden(entry.path):
                continue
            if paths.is_addressable(entry.path, self.rules):
                kept.append(entry)
            else:
                odd(entry)
        return kept

    # --- reading ---

    def get(
        self, path: str, start: int = 0, end: int | None = None, *, version: str | None = None, if_match: str | None = None
    ) -> tuple[bytes, Stat]:
        """A small file or a range, in one request: (bytes, facts)."""
        return self._call("read", path, self.backend.get, path, start, end, version=version, if_match=if_match)

    def reader(
        self, path: str, start: int = 0, end: int | None = None, *, version: str | None = None, if_match: str | None = None
    ) -> BackendReader:
        """A stream of [start, end); where the storage has etags, a retry continues the same object or fails."""
        return MountReader(self, path, start, end, version, if_match)

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        """A small file in one request."""
        self.judge(path, "write")

        def ours(failure: StorageError) -> Stat | None:
            if not isinstance(failure, (StorageExistsError, StorageConflictError)):
                return None
            there, stat = self.backend.get(path)
            return stat if there == bytes(data) else None

        return self._settled("write", path, lambda: self.backend.put(path, data, options), ours)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        """A stream into a new file that appears whole at commit."""
        self.judge(path, "write")
        return MountWriter(self, path, self._call("write", path, self.backend.writer, path, options))

    def judge(self, path: str, operation: str, level: Level = Level.readwrite) -> None:
        """What must hold before the first byte: the mount allows it, and the store can hold the name."""
        self.require(level, operation, path)
        if not path:
            raise self._failure(StorageIsADirectoryError("the root of a mount is a directory"), operation, path)
        if len(path) > 60:
            self._judge_length(path, operation)

    def _judge_length(self, path: str, operation: str) -> None:
        features = self.features
        if features.max_segment is not None:
            longest = max(path.split("/"), key=_length)
            if _length(longest) > features.max_segment:
                reason = f"a name of {_length(longest)} bytes; this storage holds {features.max_segment} at most"
                raise self._failure(StoragePathError(reason), operation, path)
        if features.max_key is not None and (length := _length(paths.join(self.backend.root, path, rules=self.rules))) > features.max_key:
            reason = f"a key of {length} bytes; this storage holds {features.max_key} at most"
            raise self._failure(StoragePathError(reason), operation, path)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes a directory, as `pathlib.Path.mkdir`; a file there is `StorageExistsError` even with `exist_ok`."""
        self.require(Level.readwrite, "mkdir", path)
        try:
            if not path:
                raise StorageExistsError("the root of a mount exists")
            self.judge(path, "mkdir")
            self._call("mkdir", path, emulate.mkdir, self.backend, path, parents)
        except StorageExistsError as error:
            if not (exist_ok and (not path or self.is_dir(path))):
                raise self._failure(error, "mkdir", path) from None

    def edit(self, path: str, mode: str) -> BackendEditor:
        """A file opened in place; mode ``"r+"``, ``"a"`` or ``"a+"``."""
        self.judge(path, "open")
        return MountEditor(self, path, self._call("open", path, self.backend.edit, path, mode))

    def set_mtime(self, path: str, mtime: float) -> None:
        self.require(Level.readwrite, "touch", path)
        self._call("touch", path, self.backend.set_mtime, path, mtime)

    def symlink(self, path: str, target: str) -> None:
        self.judge(path, "symlink_to")
        self._call("symlink_to", path, self.backend.symlink, path, target)

    def readlink(self, path: str) -> str:
        return self._call("readlink", path, self.backend.readlink, path)

    # --- removing ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        """Removes exactly this file or link."""
        self.judge_removal(path)
        conditions: dict[str, Any] = {} if version is None and if_match is None else {"version": version, "if_match": if_match}
        asked = self.backend.delete

        def gone(failure: StorageError) -> bool | None:
            return True if isinstance(failure, StorageNotFoundError) else None

        self._settled("delete", path, lambda: asked(path, **conditions), gone)

    def rmdir(self, path: str) -> None:
        """Removes exactly this empty directory; not empty → `StorageNotEmptyError`."""
        self.judge_removal(path)
        self._call("delete", path, emulate.rmdir, self.backend, path)

    def delete_tree(self, path: str) -> None:
        """Removes everything below `path`, whatever its name, and `path` itself unless it is the root."""
        self.require(Level.delete, "delete", path)
        self._call("delete", path, emulate.delete_tree, self.backend, path)

    def empty(self, path: str) -> None:
        """Removes everything below a directory and keeps it."""
        self.require(Level.delete, "empty", path)
        self._call("empty", path, emulate.empty, self.backend, path)

    def delete_many(self, keys: Sequence[str]) -> list[tuple[str, StorageError]]:
        """Removes exactly these files; returns the failures."""
        self.require(Level.delete, "delete")
        failures = self._call("delete", "", lambda: list(emulate.delete_many(self.backend, keys)))
        return [(key, self._failure(error, "delete", key)) for key, error in failures]

    def judge_removal(self, path: str, operation: str = "delete") -> None:
        """What must hold before anything is taken away."""
        self.require(Level.delete, operation, path)
        if not path:
            reason = "the root of a mount is not removed; empty() clears what is below it"
            raise self._failure(StoragePermissionError(reason), operation, path)

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
        backend = self.backend
        return self._call(
            "copy", path, backend.copy_from, source.backend, source_path, path, options, version=version, tick=tick
        )

    def rename_from(self, source: Mount, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        """A file or a directory in one step; `UnsupportedOperation` if these two cannot."""
        source.judge_removal(source_path, "move")
        self.judge(path, "move")
        return self._call("move", path, self.backend.rename_from, source.backend, source_path, path, options)

    # --- errors and retries ---

    def _call(self, operation: str, path: str, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # a driver call: _again translates
            return self._again(error, operation, path, lambda: method(*args, **kwargs), None)

    def _settled(
        self, operation: str, path: str, call: Callable[[], T], settle: Callable[[StorageError], T | bool | None]
    ) -> T:
        """As `_call`, for a change whose answer may be lost: a refusal after a retry may be our own success."""
        try:
            return call()
        except Exception as error:  # a driver call: _again translates
            return self._again(error, operation, path, call, settle)

    def _again(
        self,
        error: Exception,
        operation: str,
        path: str,
        call: Callable[[], T],
        settle: Callable[[StorageError], Any] | None,
    ) -> T:
        attempt = 0
        while True:
            failure = self._failure(error, operation, path)
            if attempt and settle and not failure.retryable and (settled := settle(failure)) is not None:
                return settled  # type: ignore[no-any-return]
            if not self.retry.allows(attempt, failure):
                raise failure from cause(failure, error)
            self.retry.wait(attempt, failure)
            attempt += 1
            try:
                return call()
            except Exception as again:  # a driver call, as above
                error = again

    def _failure(self, error: Exception, operation: str, path: str) -> StorageError:
        """Our error for any error, telling where it happened in the user's words."""
        failure = error if isinstance(error, StorageError) else self.backend.translate(error) or from_builtin(error)
        if failure.mount is None:
            failure.mount, failure.path = self.name, path
            failure.operation = failure.operation or operation
            failure.message = f"{self._redacted(failure.message)}: '{self.name}:{path}'"
            failure.args = (failure.message,)
        return failure

    def _redacted(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def cause(failure: StorageError, error: Exception) -> BaseException | None:
    """What to name after `raise … from`: the driver's error, or what our own error already named."""
    return failure.__cause__ if failure is error else error


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


class MountReader:
    """A backend's reader with context for late errors; a retry reopens the same object where it was."""

    def __init__(
        self, mount: Mount, path: str, start: int, end: int | None, version: str | None, if_match: str | None
    ) -> None:
        self._mount, self._path, self._end, self._version = mount, path, end, version
        self._position = start
        self._reader = self._open(if_match)
        self.stat = self._reader.stat
        if start < 0:
            self._position = max(0, (self.stat.size or 0) + start)

    def _open(self, if_match: str | None) -> BackendReader:
        mount = self._mount
        backend = mount.backend
        return mount._call(
            "read", self._path, backend.reader, self._path, self._position, self._end, version=self._version, if_match=if_match
        )

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._reader.read(size)
        except Exception as error:  # a driver call: _again translates
            data = self._mount._again(error, "read", self._path, lambda: self._reopened(size, error), None)
        self._position += len(data)
        return data

    def _reopened(self, size: int, error: Exception) -> bytes:
        if self.stat.etag is None and self.stat.version_id is None:
            raise error  # nothing proves that it would be the same object
        self._reader.close()
        self._reader = self._open(self.stat.etag)
        return self._reader.read(size)

    def close(self) -> None:
        self._reader.close()


class MountWriter:
    """A backend's writer with context for errors, repeating what may be repeated."""

    def __init__(self, mount: Mount, path: str, writer: BackendWriter) -> None:
        self._mount, self._path, self._writer = mount, path, writer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._writer.write(data)
        except Exception as error:  # a driver call: _again translates
            self._mount._again(error, "write", self._path, lambda: self._writer.write(b""), None)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._mount._call("write", self._path, self._writer.commit, hashes)

    def discard(self) -> None:
        self._writer.discard()


class MountEditor:
    """A backend's editor with context for errors."""

    def __init__(self, mount: Mount, path: str, editor: BackendEditor) -> None:
        self._editor = editor
        self._call = lambda method, *args: mount._call("edit", path, method, *args)

    def readinto(self, buffer: memoryview) -> int:
        return int(self._call(self._editor.readinto, buffer))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return int(self._call(self._editor.write, data))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._call(self._editor.seek, offset, whence))

    def tell(self) -> int:
        return int(self._call(self._editor.tell))

    def truncate(self, size: int) -> int:
        return int(self._call(self._editor.truncate, size))

    def flush(self) -> None:
        self._call(self._editor.flush)

    def close(self) -> None:
        self._call(self._editor.close)
