"""The byte port: what a storage driver writes, and what the base derives from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cache
from typing import Any, ClassVar, Self

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from ..paths import join
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from ._bytes import BytesReader as BytesReader
from ._bytes import BytesWriter as BytesWriter
from ._bytes import check_size as check_size
from ._bytes import cut as cut
from .handles import BackendEditor as BackendEditor
from .handles import BackendReader as BackendReader
from .handles import BackendWriter as BackendWriter
from .handles import PartWriter as PartWriter
from .handles import Tick as Tick
from .options import Context, Options

PAGE = 1000

ABILITIES = frozenset(
    {
        "copy_from",
        "delete_many",
        "edit",
        "free_space",
        "get_tags",
        "mkdir",
        "parts",
        "public_url",
        "readlink",
        "rename_from",
        "rmdir",
        "set_metadata",
        "set_mode",
        "set_mtime",
        "set_tags",
        "sign",
        "symlink",
        "unfinished",
        "versions",
        "walk",
    }
)


class StorageBackend:
    """Bytes at relative '/'-paths: thread-safe, connects on first use, reconnects after fork.

    Paths arrive normalised, or exactly as an own listing gave them, relative to `root`. No globbing, no caching, no
    retrying here. A driver overrides the six methods `stat scan reader writer delete mkdir`; a simple one writes
    `read_bytes write_bytes exists delete list_dir` instead and the base derives the six. Absence, presence and the
    wrong kind are told by the builtin exceptions or our classes that mean them; other errors may be anything that
    `translate` understands.
    """

    Options: ClassVar[Any] = Options
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path"}
    features: Features = Features(real_dirs=False, tells_missing=False)
    root: str = ""
    readonly_reason: ClassVar[str] = "this kind of mount is read-only"

    options: Any = None
    context: Context = Context()

    def __init__(self, options: Any = None) -> None:
        self.options = options
        self.root = getattr(options, "path", "").strip("/")

    # --- identity ---

    @property
    def abilities(self) -> frozenset[str]:
        """The optional methods that work here: by default those the class overrides."""
        return overridden(type(self))  # type: ignore[arg-type]  # a class is hashable

    @property
    def storage_id(self) -> str:
        """Equal ids and equal native paths are the same bytes."""
        return f"{type(self).__qualname__}#{id(self.options)}"

    def native_path(self, path: str) -> str:
        """The driver's own full path of `path`."""
        return join(self.root, path)

    def rooted(self, path: str) -> Self:
        """The same storage seen from a directory below; shares the connection."""
        if callable(getattr(self, "read_bytes", None)):  # a driver of the simple five knows nothing of roots
            from .below import Below

            return Below(self, path)  # type: ignore[return-value]
        twin = copy(self)
        twin.root = join(self.root, path)
        return twin

    def near(self) -> AbstractContextManager[Self]:
        """The same storage for one thread and a run of calls, mostly in one directory; what they share stays open."""
        return nullcontext(self)

    def check(self) -> Mapping[str, str]:
        """One real request that shows that the storage answers; returns facts that only it knows."""
        try:
            next(iter(self.scan("", limit=1, facts=False)), None)
        except UnsupportedOperation:  # it lists nothing, but it may answer
            self.has("")
        return {}

    def close(self) -> None:
        """Releases what the backend holds. Idempotent."""

    def translate(self, error: Exception) -> StorageError | None:
        """Our error for one of the driver's; None where it has nothing special to say."""
        return None

    @property
    def fs(self) -> Any:
        """The fsspec file system behind this mount; it bypasses the mount's permissions."""
        raise UnsupportedOperation("this type has no file system of fsspec behind it", operation="fs")

    # --- the six ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        """Facts of exactly this key; `StorageNotFoundError` if absent.

        Where directories are implied (`features.real_dirs` False) a directory without a key of its own is absent here.
        """
        no_version(version)
        for entry in self._listed(path.rpartition("/")[0]):
            if entry.path == path and not entry.is_dir:
                return entry if entry.size is not None else Stat(path, len(self._read(path)))
        raise StorageNotFoundError("No such file")

    def has(self, path: str) -> bool:
        """Whether anything is at exactly this key, for callers that need no facts."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def look(self, path: str, *, version: str | None = None) -> Stat:
        """As `stat`, for callers that need no hashes: where a request is cheaper without them they are not told."""
        return self.stat(path, version=version)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        """One level, in pages of entries; those above `after` (a path, a directory's with "/") only, at most `limit`.

        Missing → `StorageNotFoundError`, a file → `StorageNotADirectoryError`; `limit=1`, which only asks whether
        there is anything, may tell a file as missing. `facts=False`: path and kind suffice.
        """
        entries = [entry for entry in self._listed(path) if entry.path > after]
        if not entries and path and not after:
            if self._need("exists")(path):
                raise StorageNotADirectoryError("Not a directory")
            raise StorageNotFoundError("No such directory")
        yield entries[:limit]

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        """The bytes [start, end) of a file; a negative `start` counts from the end; past the end there is nothing.

        Missing → `StorageNotFoundError`, a directory → `StorageIsADirectoryError`, other bytes than `if_match` →
        `StorageConflictError`.
        """
        no_version(version)
        if if_match is not None:
            raise UnsupportedOperation("this storage has no etags")
        data = self._read(path)
        return BytesReader(cut(data, start, end), Stat(path, len(data)))

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        """A new file at `path`; parents appear by themselves; nothing is visible before commit."""
        return BytesWriter(lambda data: self.put(path, data, options), options.size)

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        """Removes exactly this key; a link, never its target.

        Missing → `StorageNotFoundError` where the store tells; a real directory → `StorageIsADirectoryError`.
        """
        raise UnsupportedOperation("this storage cannot delete")

    def mkdir(self, path: str) -> None:
        """Makes exactly this directory. There already → `StorageExistsError`, no parent → `StorageNotFoundError`.

        Where directories are implied it only stores a marker, and the caller looks first.
        """
        raise UnsupportedOperation("this storage has no directories of its own")

    # --- with defaults ---

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        """A small file, or a range of one, in one request: (bytes, facts)."""
        reader = self.reader(path, start, end, version=version, if_match=if_match)
        try:
            return reader.read(), reader.stat
        finally:
            reader.close()

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        """A small file in one request."""
        if type(self).writer is not StorageBackend.writer:
            writer = self.writer(path, options)
            try:
                writer.write(data)
                return writer.commit()
            finally:
                writer.discard()
        if options.if_absent or options.if_match is not None:
            raise UnsupportedOperation("this storage has no conditional writes")
        self._need("write_bytes")(path, bytes(data))
        return Stat(path, len(data))

    # --- abilities: absent unless overridden and named in `abilities` ---

    def rmdir(self, path: str) -> None:
        """Removes exactly this empty directory (or its marker); not empty → `StorageNotEmptyError`."""
        raise UnsupportedOperation("this storage has no directories of its own")

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        """Everything below, in pages; as `scan` for errors and `after`."""
        raise UnsupportedOperation("this storage cannot list recursively")

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
        """The server or the kernel copies one file; `UnsupportedOperation` if these two cannot."""
        raise UnsupportedOperation("this storage cannot copy by itself")

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        """Moves a file or a whole directory in one step; `UnsupportedOperation` if these two cannot."""
        raise UnsupportedOperation("this storage cannot rename")

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> PartWriter:
        """A new file at `path`, staged in parts; with `token` and `receipts` (offset → receipt) one that was begun.

        `part_size` in bytes is the least a part has. A token that is gone → `StorageNotFoundError`.
        """
        raise UnsupportedOperation("this storage takes a file in one stream only")

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        """What was staged at or below `path` over `older_than` seconds ago and neither committed nor discarded."""
        raise UnsupportedOperation("this storage keeps no unfinished writes, or does not tell them")

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Removes exactly these keys with few requests; yields the failures only."""
        raise UnsupportedOperation("this storage cannot delete many at once")

    def set_mode(self, path: str, mode: int) -> None:
        """Sets the permission bits; of a link, those of what it leads to."""
        raise UnsupportedOperation("this storage has no permission bits")

    def set_mtime(self, path: str, mtime: float) -> None:
        """Sets the time of last change, POSIX seconds."""
        raise UnsupportedOperation("this storage keeps its own times")

    def edit(self, path: str, mode: str) -> BackendEditor:
        """Opens a file in place: mode ``"r+"``, ``"a"`` or ``"a+"``; ``a`` creates."""
        raise UnsupportedOperation("this storage cannot change a file in place")

    def symlink(self, path: str, target: str) -> None:
        """Makes a link at `path` to `target`, a path of this mount."""
        raise UnsupportedOperation("this storage has no symbolic links")

    def readlink(self, path: str) -> str:
        """What a link says, verbatim."""
        raise UnsupportedOperation("this storage has no symbolic links")

    def versions(self, path: str) -> Iterator[Version]:
        """The versions of exactly this key, newest first in the server's own order, deletions included.

        Nothing where there never was such a key. `reader`, `get`, `stat`, `delete` and `copy_from` take their ids.
        """
        raise UnsupportedOperation("this storage does not support versioning")

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        """Replaces all metadata of a file; its bytes, type and tags stay."""
        raise UnsupportedOperation("this storage does not support metadata")

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        """The tags of a file."""
        raise UnsupportedOperation("this storage does not support tags")

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Replaces all tags of a file."""
        raise UnsupportedOperation("this storage does not support tags")

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        """A request that anybody may send for a while; needs no request itself."""
        raise UnsupportedOperation("this storage cannot sign requests")

    def public_url(self, path: str) -> str:
        """Where anybody can read this file without a signature."""
        raise UnsupportedOperation("this storage has no public URLs")

    def free_space(self) -> int:
        """Bytes that can still be written."""
        raise UnsupportedOperation("this storage does not tell its free space")

    def local_path(self, path: str) -> str | None:
        """The absolute path of `path` in the local file system, existing or not; None where there is none."""
        return None

    # --- the simple five, where a driver wrote those ---

    def _need(self, method: str) -> Any:
        found = getattr(self, method, None)
        if found is None:
            raise UnsupportedOperation(f"{type(self).__name__} has no method {method}()")
        return found

    def _read(self, path: str) -> bytes:
        data: bytes = self._need("read_bytes")(path)
        return data

    def _listed(self, path: str) -> list[Stat]:
        """`list_dir` gives names (a directory's ends in "/") or Stats whose path is the name."""
        entries: Iterable[str | Stat] = self._need("list_dir")(path)
        stats = []
        for entry in entries:
            given = entry.path if isinstance(entry, Stat) else entry
            full = f"{path}/{given.rstrip('/')}" if path else given.rstrip("/")
            if isinstance(entry, Stat):
                stats.append(Stat(full, entry.size, entry.is_dir, mtime=entry.mtime, etag=entry.etag))
            else:
                stats.append(Stat(full, is_dir=given.endswith("/")))
        return sorted(stats, key=order)


@cache
def overridden(cls: type[StorageBackend]) -> frozenset[str]:
    """The abilities whose methods a class writes itself."""
    return frozenset(name for name in ABILITIES if getattr(cls, name) is not getattr(StorageBackend, name))


def order(entry: Stat) -> bytes:
    """The bytewise order of listings: a directory sorts as ``name/``."""
    return (entry.path + "/" if entry.is_dir else entry.path).encode("utf-8", "surrogateescape")


def no_version(version: str | None) -> None:
    """Refuses a version where the storage has none."""
    if version is not None:
        raise UnsupportedOperation("this storage does not support versioning")


def source_changed() -> StorageConflictError:
    """The error for a source that is not what a copy was asked of."""
    return StorageConflictError("the source was changed before it was copied")


def conflict(if_match: str, found: str | None) -> StorageConflictError:
    """The error for a condition that did not hold."""
    seen = "nothing is there" if found is None else f"its etag is {found}"
    return StorageConflictError(f"changed meanwhile: etag {if_match} was expected, {seen}")
