"""The local file system: real directories, atomic writes, links held inside the mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import islice
from typing import Any, ClassVar, Literal, Self

from ..exceptions import (
    StoragePermissionError,
    UnsupportedOperation,
)
from ..paths import Rules, join
from ..types import PLAIN, Stat, Unfinished, WriteOptions
from . import _attributes, _kernel, _links
from ._localcopy import copy_open, copy_small, rename
from ._localedit import opened_in_place
from ._localfile import (
    NAMELESS,
    LocalReader,
    LocalWriter,
    described,
    etag,
    locked,
    nanoseconds,
    put_new,
    read_all,
    read_exactly,
    span,
    steady,
)
from ._localparts import LocalParts, StagedFile, unfinished
from ._near import NearTree
from ._nofollow import KIND, LINK, Tree, base_directory, local_features, make_directory
from ._staging import fitting
from .base import PAGE, BackendEditor, StorageBackend, Tick, conflict, no_version, order, source_changed
from .options import Context, Octal, Options

_RULES = Rules(backslash=True, surrogates=True)


class LocalOptions(Options, frozen=True, kw_only=True):
    """`path`: the base directory. `file_mode`, `dir_mode`: of what is made new; without them the umask decides.

    `metadata`: ``xattr`` keeps it in an extended attribute.
    """

    path: str
    symlinks: Literal["inside", "follow", "refuse"] = "inside"
    fsync: bool = False
    file_mode: Octal | None = None
    dir_mode: Octal | None = None
    create: bool = False
    metadata: Literal["none", "xattr"] = "none"


class LocalStorage(StorageBackend):
    """Files below a base directory, which is trusted; below it no link leads out, whoever puts it there and when."""

    Options: ClassVar[Any] = LocalOptions
    storage_id = "local"

    _tree: Tree
    _file_mode: int | None = None
    _fsync = False
    _plain = False  # whether a new file needs nothing but its bytes
    _replaced = False  # whether the last `put` replaced a file: a guess at the next one, locked by nobody

    def __new__(cls, options: Any = None, *more: Any) -> Any:
        if cls is LocalStorage and options is not None and options.metadata == "xattr":
            from ._localmeta import LocalWithMetadata  # a few mounts need it

            return super().__new__(LocalWithMetadata)
        return super().__new__(cls)

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        self.options = options
        self.context = context
        self._file_mode, self._dir_mode = options.file_mode, options.dir_mode
        self._fsync = options.fsync
        self._plain = bool(NAMELESS) and not options.fsync and options.file_mode is None
        base = base_directory(options.path, context.directory, options.create, options.dir_mode)
        self._tree = Tree(base, "", options.symlinks, options.dir_mode)
        self.features = local_features(base)

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities - ({"symlink"} if self._tree.links == "refuse" else set())

    def rooted(self, path: str) -> Self:
        twin = copy(self)
        twin.root = join(self.root, path, rules=_RULES)
        twin._tree = self._tree.below(twin.root)
        return twin

    @contextmanager
    def near(self) -> Iterator[Self]:
        twin = copy(self)
        twin._tree = tree = NearTree(self._tree)
        try:
            yield twin
        finally:
            tree.close()

    def native_path(self, path: str) -> str:
        """The absolute path as it is written; whether a link stands on it is not asked."""
        return self._tree.absolute(join("", path, rules=_RULES))

    def local_path(self, path: str) -> str:
        """The absolute path; `StoragePermissionError` if a link on it leads where this mount may not follow."""
        try:
            with self._tree.spot(path, through=True):
                pass
        except StoragePermissionError:
            raise
        except OSError:
            pass  # there need not be anything yet
        return self.native_path(path)

    # --- facts and listing ---

    def has(self, path: str) -> bool:
        return self._tree.has(path)

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        st = self._tree.stat(path)
        if st.st_mode & KIND == LINK:
            return self._stat_link(path, st)
        return described(path, st)

    def _stat_link(self, path: str, link: os.stat_result) -> Stat:
        """Facts of what a link leads to, or of the link itself where that is nowhere or not ours."""
        try:
            with self._tree.spot(path, through=True) as (at, name):
                return described(path, os.stat(name, dir_fd=at, follow_symlinks=False), linked=True)
        except OSError:
            return described(path, link, linked=True)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        prefix = f"{path}/" if path else ""
        page_of = self._page if facts else self._names
        fd = self._tree.open_directory(path)
        try:
            with os.scandir(fd) as entries:
                if after or limit is not None:
                    least = after.encode("utf-8", "surrogateescape")
                    yield sorted((entry for entry in page_of(prefix, entries) if order(entry) > least), key=order)[
                        :limit
                    ]
                    return
                while found := list(islice(entries, PAGE)):
                    yield page_of(prefix, found)
        finally:
            os.close(fd)

    def _page(self, prefix: str, entries: Iterable[os.DirEntry[str]]) -> list[Stat]:
        page = []
        for entry in entries:
            try:
                st = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            path = prefix + entry.name
            page.append(self._stat_link(path, st) if st.st_mode & KIND == LINK else described(path, st))
        return page

    def _names(self, prefix: str, entries: Iterable[os.DirEntry[str]]) -> list[Stat]:
        """As `_page`, from what the directory itself says: no request per entry but for links and the like."""
        page = []
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                page.append(Stat(prefix + entry.name))
            elif entry.is_dir(follow_symlinks=False):
                page.append(Stat(prefix + entry.name, None, True))
            else:
                page += self._page(prefix, (entry,))
        return page

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
        if version is not None:
            no_version(version)
        fd, st = self._tree.open_file(path)
        try:
            stat = described(path, st)
            if if_match is not None and stat.etag != if_match:
                raise conflict(if_match, stat.etag)
            size = st.st_size
            if start == 0 and end is None and size:
                data = read_exactly(fd, size, 0)
                return data, steady(stat, st, os.fstat(fd))
            start, stop = span(size, start, end)
            if stop is None:
                return read_all(fd, start), stat
            return read_exactly(fd, max(0, stop - start), start), stat
        finally:
            os.close(fd)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> LocalReader:
        no_version(version)
        fd, st = self._tree.open_file(path)
        try:
            stat = described(path, st)
            if if_match is not None and stat.etag != if_match:
                raise conflict(if_match, stat.etag)
            return LocalReader(fd, stat, start, end)
        except BaseException:
            os.close(fd)
            raise

    # --- writing ---

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> LocalParts:
        at, name, old = self._target(path, options, parents=token is None)
        file = StagedFile(path, at, name, options, old, mode=self._file_mode, fsync=self._fsync, token=token)
        return LocalParts(file, path, options, fitting(part_size, options.size), receipts)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self._tree, path, older_than)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> LocalWriter:
        return self._writer(path, options, named=False)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        if self._plain and options.if_match is None and options.mode is None:
            try:
                stat = self._put_new(path, data, options)
            except FileNotFoundError:
                stat = None  # no directory yet
            if stat is not None:
                return stat
        writer = self._writer(path, options, named=True)
        try:
            writer.write(data)
            return writer.commit()
        finally:
            writer.discard()

    def _put_new(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions) -> Stat | None:
        """The short way to a name that nothing has; None where it does not lead there."""
        at, name = self._tree.locate(path)
        try:
            # After a replacement another one is likely: a look spares a nameless file that could not be named.
            if self._replaced and os.access(name, os.F_OK, dir_fd=at):
                return None
            mtime = None if options.mtime is None else nanoseconds(options.mtime)
            stat = put_new(path, at, name, data, options, mtime)
            self._replaced = stat is None
            return stat
        finally:
            self._tree.leave(at)

    def _writer(self, path: str, options: WriteOptions, named: bool) -> LocalWriter:
        """`named`: where a file is to be replaced, under a hidden name at once; that is soon over and costs less."""
        at, name, old = self._target(path, options)
        named = named and old is not None and not options.if_absent
        return LocalWriter(path, at, name, options, old, mode=self._file_mode, fsync=self._fsync, named=named)

    def _target(
        self, path: str, options: WriteOptions, *, parents: bool = True
    ) -> tuple[int | None, str, os.stat_result | None]:
        """Where a file is to be written, and what is there now; the caller closes the descriptor."""
        try:
            return self._tree.target(path, parents=parents and options.if_match is None)
        except FileNotFoundError:
            if options.if_match is None:
                raise
            raise conflict(options.if_match, None) from None
        except IsADirectoryError:
            if options.if_absent:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            raise

    def edit(self, path: str, mode: str) -> BackendEditor:
        return opened_in_place(self._tree, path, mode, self._file_mode)

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
        no_version(version)
        origin = _local(source)._tree
        if self._plain and options.if_match is None and options.mode is None:
            stat = copy_small(origin, source_path, self._tree, path, options, tick)
            if stat is not None:
                return stat
        fd, st = origin.open_file(source_path)
        try:
            if options.source_match is not None and options.source_match != etag(st):
                raise source_changed()
            writer = self.writer(path, options)
            try:
                return copy_open(fd, st, writer, tick)
            finally:
                writer.discard()
        finally:
            os.close(fd)

    # --- changing the tree ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        no_version(version)
        at, name = self._tree.locate(path)
        try:
            if if_match is None:
                os.unlink(name, dir_fd=at)
            else:
                with locked("." if at is not None else os.path.dirname(name), at):
                    found = self.stat(path).etag
                    if found != if_match:
                        raise conflict(if_match, found)
                    os.unlink(name, dir_fd=at)
        except PermissionError:
            if _kernel.is_directory(name, at):  # what some systems say of a directory
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
            raise
        finally:
            self._tree.leave(at)

    def mkdir(self, path: str) -> None:
        with self._tree.spot(path) as (at, name):
            make_directory(name, at, self._dir_mode)

    def rmdir(self, path: str) -> None:
        if not path:
            raise OSError(errno.EBUSY, "the root of a mount is not removed")
        with self._tree.spot(path) as (at, name):
            os.rmdir(name, dir_fd=at)

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        origin = _local(source)
        if options.if_match is not None:
            raise UnsupportedOperation("a rename here does not look at what it replaces")
        if (origin._file_mode, origin._dir_mode) != (self._file_mode, self._dir_mode):
            raise UnsupportedOperation("what is renamed would keep a mode that this mount does not give")
        rename(origin._tree, source_path, self._tree, path, absent=options.if_absent)
        return self.stat(path)

    def set_mode(self, path: str, mode: int) -> None:
        _attributes.set_mode(self._tree, path, mode)

    def set_mtime(self, path: str, mtime: float) -> None:
        _attributes.set_mtime(self._tree, path, mtime)

    def symlink(self, path: str, target: str) -> None:
        """Makes a relative link; its target stays below the root of the mount, existing or not."""
        _links.symlink(self._tree, path, join("", target, rules=_RULES))

    def readlink(self, path: str) -> str:
        return _links.readlink(self._tree, path)

    def free_space(self) -> int:
        found = os.statvfs(self._tree.base)
        return found.f_bavail * found.f_frsize


def _local(source: StorageBackend) -> LocalStorage:
    if not isinstance(source, LocalStorage):
        raise UnsupportedOperation("the other side is not in the local file system")
    return source
