"""Any file system of fsspec behind the byte port: exact keys, made parents, writes that appear whole where it can."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

from msgspec.structs import replace

from ..exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, Stat, WriteOptions
from ._fsspec import (
    SPOOL,
    Connection,
    FsspecOptions,
    FsspecReader,
    FsspecWriter,
    Kind,
    Spool,
    mtime_of,
    span,
)
from ._fsspec_chain import base_of, file_system, kind_of, protocols
from ._portable import PortableBackend
from .base import BackendReader, BytesReader, cut, no_version, order
from .options import Context

P = ParamSpec("P")
T = TypeVar("T")


class FsspecBackend(PortableBackend):
    """A directory of an fsspec file system; links are followed wherever that follows them.

    A subclass for one protocol may override `kind`, `connect`, `base`, `described` and `translate`.
    """

    Options = FsspecOptions
    options: FsspecOptions

    def __init__(self, options: FsspecOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        self._kind = kind = self.kind()
        self._base = self.base()
        self._connection = Connection(self.connect)
        self.features = Features(
            real_dirs=kind.real_dirs,
            ordered=True,
            atomic_write=kind.atomic,
            mtime_resolution=kind.mtime,
            readonly=kind.readonly,
            max_segment=kind.max_segment,
        )

    # --- what a subclass may know better ---

    def kind(self) -> Kind:
        """What is known of the file system, before it is made."""
        return kind_of(self.options)

    def connect(self) -> Any:
        """A new file system."""
        return file_system(self.options)

    def base(self) -> str:
        """The path in the file system where the mount's root `path` begins; told without connecting."""
        return base_of(self.options)

    def described(self, path: str, info: Mapping[str, Any]) -> Stat:
        """Facts from what `info` or `ls` say of one path."""
        is_dir = info.get("type") == "directory"
        is_other = info.get("type") not in ("directory", "file", None)
        is_link = bool(info.get("islink"))
        size = None if is_dir or is_other else info.get("size")
        mtime = None if is_dir or self._kind.mtime is None else mtime_of(info)
        return Stat(path, size, is_dir, is_link, mtime=mtime, is_other=is_other)

    # --- identity ---

    @property
    def abilities(self) -> frozenset[str]:
        if self._kind.readonly:
            return frozenset()
        return super().abilities - (frozenset() if self._kind.real_dirs else {"mkdir", "rmdir"})

    @property
    def storage_id(self) -> str:
        options = self.options
        if options.url is None:
            return f"fsspec:object#{id(options.filesystem)}"
        told = repr((str(options.url), sorted(options.options.items(), key=str)))
        return f"fsspec:{protocols(options.url)[0]}#{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    @property
    def fs(self) -> Any:
        return self._connection.get()

    def native_path(self, path: str) -> str:
        return self._at(path)

    def _at(self, path: str) -> str:
        """The path in the file system; ``..`` is refused here too."""
        if ".." in path and ".." in path.split("/") and self._kind.real_dirs:
            raise StoragePathError(f"Parent directory traversal ('..') is not allowed: {path!r}")
        base = self._base.rstrip("/")
        whole = "/".join(part for part in (self.root, path) if part)
        return f"{base}/{whole}" if whole and self._base else whole or self._base

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One call of the driver, alone where it does not bear company."""
        if self._kind.threads:
            return method(*args, **kwargs)
        with self._connection.lock:
            return method(*args, **kwargs)

    # --- facts and listings ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        stat = self._info(path)
        if stat.is_dir and not self.features.real_dirs:
            raise StorageNotFoundError("No such file")
        return stat

    def _info(self, path: str) -> Stat:
        try:
            return self.described(path, self._call(self.fs.info, self._at(path)))
        except FileNotFoundError:
            if path:
                raise
            return Stat("", is_dir=True)  # a mount's root is there, and nothing may be in it yet

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        own = self._at(path)
        try:
            found = self._call(self.fs.ls, own, detail=True)
        except FileNotFoundError as error:
            if path:  # some say so of a file
                raise (StorageNotADirectoryError("Not a directory") if self._there(path) else error) from None
            found = []
        entries = {}
        for info in found:
            name = self.fs._strip_protocol(info["name"]).strip("/")
            if name != own.strip("/"):
                child = name.rpartition("/")[2]
                stat = self._listed_as(f"{path}/{child}" if path else child, info)
                entries[stat.path, stat.is_dir] = stat
        if path and not entries and not self._info(path).is_dir:
            raise StorageNotADirectoryError("Not a directory")
        least = after.encode("utf-8", "surrogateescape")
        yield [stat for stat in sorted(entries.values(), key=order) if order(stat) > least][:limit]

    def _listed_as(self, path: str, info: Mapping[str, Any]) -> Stat:
        if info.get("islink"):  # some listings tell of the link what is asked of its target
            try:
                return self._info(path)
            except OSError:
                return Stat(path, is_symlink=True, is_other=True)
        return self.described(path, info)

    # --- reading ---

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        stat = self._readable(path, version, if_match)
        first, last = span(stat.size, start, end)
        if last - first <= SPOOL:
            return BytesReader(self._bytes(path, stat, start, end), stat)
        file = self._call(self.fs.open, self._at(path), "rb")
        if isinstance(file, BytesIO):  # fsspec's memory gives the one object to all, with one position
            return BytesReader(file.getvalue()[first:last], stat)
        return FsspecReader(self._call, file, stat, first, last)

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        stat = self._readable(path, version, if_match)
        data = self._bytes(path, stat, start, end)
        return data, replace(stat, size=len(data)) if stat.size is None and (start, end) == (0, None) else stat

    def _readable(self, path: str, version: str | None, if_match: str | None) -> Stat:
        no_version(version)
        if if_match is not None:
            raise UnsupportedOperation("this storage has no etags")
        stat = self._info(path)
        if stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        return stat

    def _bytes(self, path: str, stat: Stat, start: int, end: int | None) -> bytes:
        if stat.size is None:
            return cut(self._call(self.fs.cat_file, self._at(path)), start, end)
        first, last = span(stat.size, start, end)
        if first >= last:
            return b""
        asked = {} if (first, last) == (0, stat.size) else {"start": first, "end": last}
        data: bytes = self._call(self.fs.cat_file, self._at(path), **asked)
        if asked and len(data) == stat.size:  # a web server that knows no ranges
            return data[first:last]
        if len(data) != last - first:
            raise StorageConflictError("changed while it was read")
        return data

    # --- writing ---

    def writer(self, path: str, options: WriteOptions = PLAIN) -> FsspecWriter:
        self._need_writing(path)
        if options.if_absent or options.if_match is not None:
            raise UnsupportedOperation("this storage has no conditional writes")
        return FsspecWriter(self._store, path, options)

    def _need_writing(self, path: str) -> None:
        if self.features.readonly:
            raise UnsupportedOperation("this storage is read-only")
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
        self._at(path)

    # --- removing and making ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self._need_writing(path)
        no_version(version)
        if if_match is not None:
            raise UnsupportedOperation("this storage has no etags")
        stat = self.stat(path)
        if stat.is_dir and not stat.is_symlink:
            raise StorageIsADirectoryError("Is a directory")
        self._call(self.fs.rm_file, self._at(path))

    def mkdir(self, path: str) -> None:
        self._need_writing(path)
        if not self._kind.real_dirs:
            return
        above = path.rpartition("/")[0]
        if above and not self._info(above).is_dir:
            raise StorageNotADirectoryError("the directory above is a file")
        if self._there(path):
            raise StorageExistsError("Already exists")
        self._call(self.fs.mkdir, self._at(path), create_parents=False)

    def _there(self, path: str) -> Stat | None:
        try:
            return self._info(path)
        except FileNotFoundError:
            return None

    def rmdir(self, path: str) -> None:
        self._need_writing(path)
        if not self._info(path).is_dir:
            raise StorageNotADirectoryError("Not a directory")
        if any(page for page in self.scan(path)):
            raise StorageNotEmptyError("Directory not empty")
        self._call(self.fs.rmdir, self._at(path))

    def _store(self, path: str, spool: Spool) -> None:
        try:
            self._stored(path, spool)
        except FileNotFoundError:
            above = path
            while above := above.rpartition("/")[0]:
                if (there := self._there(above)) is not None and not there.is_dir:
                    raise StorageNotADirectoryError("a directory above is a file") from None
            raise

    def _stored(self, path: str, spool: Spool) -> None:
        """Makes the bytes the file's content, in one step where the kind allows it; the directories above appear."""
        kind, fs, target = self._kind, self.fs, self._at(path)
        above = path.rpartition("/")[0]
        there = self._there(path) if kind.real_dirs else None
        if there is not None and there.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if kind.real_dirs and there is None:
            self._call(fs.makedirs, self._at(above), exist_ok=True)
        first = self._at(f"{above}/.genro-{secrets.token_hex(6)}".lstrip("/")) if kind.renames else target
        try:
            self._call(spool.send, fs, first)
            if kind.renames:
                self._call(fs.mv, first, target)
        except BaseException:
            if kind.renames or (there is None and not kind.atomic):
                self._forget(first)
            raise

    def _forget(self, target: str) -> None:
        try:
            self._call(self.fs.rm_file, target)
        except Exception:  # noqa: BLE001 - a driver call after another failed: that failure is told
            pass
