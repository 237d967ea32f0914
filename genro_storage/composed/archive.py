"""Archives as mounts: an index of what one holds, read from a file in any other mount."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import unquote

from msgspec import field
from msgspec.structs import asdict, replace

from ..backends import backend_class
from ..backends.base import BackendReader, StorageBackend, conflict, no_version, order
from ..backends.options import Context, Options, Url, secrets_in
from ..exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..mount import Mount
from ..paths import STRICT, Rules, is_addressable, join, normalise
from ..retry import NO_RETRY
from ..streams import RawReader
from ..types import Features, Stat

UNSUSPECTED = 1 << 20
"""Bytes up to which nobody minds how strongly they were compressed."""
_BUFFER = 64 << 10
_MAX_LINKS = 40
_ANY = Rules(backslash=True, surrogates=True)


class ArchiveOptions(Options, frozen=True, kw_only=True):
    """`file`: a local path, ``mount:path`` or a URL. `max_ratio`: bytes that one byte of the archive may become.

    `target_protocol`: what stands before ``://`` in the URL, if `file` leaves it out. `target_options`: of the file
    system of fsspec that reads the URL.
    """

    file: Url
    target_protocol: str | None = None
    target_options: dict[str, Any] = field(default_factory=dict)
    max_ratio: int = 1000


class Place(NamedTuple):
    """The file that an archive is."""

    mount: Mount
    path: str


def place_of(options: Any, context: Context, *, needed: bool) -> Place:
    """Where the archive is; a local one must exist (`needed`) or at least have a directory, others are not asked."""
    scheme, separator, rest = options.file.partition("://")
    if not separator:
        scheme, rest = "", options.file
    protocol = options.target_protocol or scheme
    if scheme not in ("", protocol):
        raise StorageConfigError(f"'file' says '{scheme}://' and 'target_protocol' says '{protocol}'")
    remote = protocol not in ("", "file", "local")
    if remote and context.stands_on is None:
        return _remote(options, context, protocol, rest)
    if remote or options.target_options:
        reason = "'target_protocol' and 'target_options' are of an archive at a URL"
        raise StorageConfigError(f"{reason}, and 'file' is none: '{options.file}'")
    if context.stands_on is not None:
        mount, path = context.stands_on
        return Place(mount, normalise(path, mount.rules))
    file = os.path.realpath(os.path.join(context.directory, os.path.expanduser(rest)))
    if needed and not os.path.isfile(file):
        if os.path.isdir(file):
            raise StorageIsADirectoryError(f"'file' is a directory, not an archive: '{options.file}'")
        raise StorageNotFoundError(f"there is no archive '{options.file}'; 'file' is a local path or 'mount:path'")
    directory, name = os.path.split(file)
    local = backend_class("local")
    return Place(Mount(f"{context.mount} (file)", local(local.Options(path=directory)), retry=NO_RETRY), name)


def _remote(options: Any, context: Context, scheme: str, rest: str) -> Place:
    """A file at a URL, which nothing asks yet; without options the web is read by our own driver, which knows etags."""
    directory, _, name = rest.rpartition("/")
    if not name:
        raise StorageConfigError(f"the URL names no file: '{options.file}'")
    if scheme in ("http", "https") and not options.target_options:
        name, mark, query = name.partition("?")
        cls, name = backend_class("http"), unquote(name, errors="surrogateescape")
        given = cls.Options(base_url=Url.parse(f"{scheme}://{directory}/{mark}{query}"))
    else:
        cls = backend_class("fsspec")
        given = cls.Options(url=Url.parse(f"{scheme}://{directory}"), options=options.target_options)
    secrets = list(secrets_in(asdict(options)))
    return Place(Mount(f"{context.mount} (file)", cls(given, context), retry=NO_RETRY, secrets=secrets), name)


class Member(NamedTuple):
    """One entry: its facts, how its archive finds it again, and where it leads if it is a link."""

    stat: Stat
    handle: Any = None
    link: str | None = None
    hard: bool = False


class Index:
    """What an archive holds, by path and by directory; parents that have no entry of their own are implied."""

    def __init__(self, archive: Stat, source: Any = None, rules: Rules = STRICT) -> None:
        self._rules = rules
        self.archive = archive
        self.source = source
        self.total = 0
        self.members = {"": Member(Stat("", is_dir=True))}
        self.odd: list[Stat] = []
        self._levels: dict[str, list[Stat]] = {}

    def add(self, name: str, member: Member) -> None:
        """Takes an entry up; a later one of the same name replaces it, a name no path can express is only listed."""
        path = name.removeprefix("./").rstrip("/")
        if path in ("", "."):
            return
        stat = replace(member.stat, path=path)
        self.total += stat.size or 0
        if not is_addressable(path, self._rules):
            self.odd.append(stat)
            return
        there = self.members.get(path)
        if there is not None and there.stat.is_dir != stat.is_dir:
            raise StorageCorruptedError(f"the archive holds '{path}' both as a file and as a directory")
        self.members[path] = member._replace(stat=stat)
        self._imply(posixpath.dirname(path))

    def _imply(self, path: str) -> None:
        while path:
            there = self.members.setdefault(path, Member(Stat(path, is_dir=True)))
            if not there.stat.is_dir:
                raise StorageCorruptedError(f"the archive holds '{path}' both as a file and as a directory")
            path = posixpath.dirname(path)

    def finished(self) -> Index:
        """Itself, with links described by what they lead to and every directory in order."""
        for path, member in self.members.items():
            if member.link is not None:
                self.members[path] = member._replace(stat=self._linked(path, member))
        levels: dict[str, list[Stat]] = {path: [] for path, member in self.members.items() if member.stat.is_dir}
        for path, member in self.members.items():
            if path:
                levels[posixpath.dirname(path)].append(member.stat)
        levels[""] += self.odd
        self._levels = {path: sorted(level, key=order) for path, level in levels.items()}
        return self

    def _linked(self, path: str, member: Member) -> Stat:
        target = self._target(path)
        if target is None:
            return replace(member.stat, size=None, is_symlink=not member.hard, is_other=True)
        return replace(target.stat, path=path, is_symlink=not member.hard)

    def _target(self, path: str) -> Member | None:
        """The file at the end of a chain of links; None if it leads nowhere, out of the archive, or to no file."""
        member: Member | None = self.members[path]
        for _ in range(_MAX_LINKS):
            if member is None or member.link is None:
                break
            link = (
                member.link.removeprefix("./") if member.hard else posixpath.join(posixpath.dirname(path), member.link)
            )
            path = posixpath.normpath(link)
            member = self.members.get(path)
        return member if member and member.link is None and member.stat.is_file else None

    def member(self, path: str) -> Member:
        """The entry at a path; a file in the way of it is `StorageNotADirectoryError`."""
        found = self.members.get(path)
        if found is None:
            raise StorageNotFoundError("No such file or directory in the archive")
        return found

    def file(self, path: str) -> Member:
        """The file at a path, behind links; facts are those of `path`."""
        member = self.member(path)
        if member.stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if member.stat.is_other:
            raise UnsupportedOperation("a link to no file of this archive, or a special file; it has no content")
        target = member if member.link is None else self._target(path)
        assert target is not None  # a link without one is_other
        return target._replace(stat=member.stat)

    def level(self, path: str) -> list[Stat]:
        """What is directly in a directory, in order."""
        if not self.member(path).stat.is_dir:
            raise StorageNotADirectoryError("Not a directory")
        return self._levels[path]


class _Held:
    """The index of one process, and for which state of the file it was read."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.mark: object = None
        self.index: Index | None = None


class ArchiveBackend(StorageBackend):
    """Files inside an archive, read-only; one look at the archive file per call tells whether the index still holds."""

    Options: ClassVar[Any] = ArchiveOptions
    features = Features(ordered=True, readonly=True, mtime_resolution=1.0)

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self._place = place_of(options, context, needed=True)
        self._held = _Held()

    def _read_index(self, archive: Stat) -> Index:
        raise NotImplementedError

    def _open(self, index: Index, member: Member, start: int) -> Stream:
        """The bytes of a file from `start` on."""
        raise NotImplementedError

    # --- the archive file ---

    @property
    def storage_id(self) -> str:
        mount, path = self._place
        return f"archive:{mount.backend.storage_id}:{mount.backend.native_path(path)}"

    def close(self) -> None:
        self._held = _Held()

    def index(self) -> Index:
        """What the archive file holds now."""
        held = self._held
        if held.pid != os.getpid():
            held = self._held = _Held()
        mount, path = self._place
        try:
            archive = mount.stat_file(path)
        except (StorageNotFoundError, StorageNotADirectoryError) as error:
            raise StorageUnavailableError(f"the archive '{self.options.file}' is not there", retryable=False) from error
        mark = (archive.etag, archive.mtime, archive.size)
        with held.lock:
            if held.index is None or held.mark != mark:
                held.index = self._read_index(archive).finished()
                held.mark = mark
            return held.index

    def _raw(self, etag: str | None = None) -> BufferedReader:
        """The archive file, seekable; with `etag` only if it is still that one."""
        mount, path = self._place

        def opened(start: int, end: int | None, known: str | None) -> BackendReader:
            return mount.reader(path, start, end, if_match=etag or known)

        return BufferedReader(RawReader(opened), _BUFFER)

    def judge_ratio(self, plain: int, packed: int) -> None:
        """Raises `StorageCorruptedError` if so few bytes should never become so many."""
        if plain > max(UNSUSPECTED, self.options.max_ratio * packed):
            reason = (
                f"{packed} bytes of the archive expand to {plain} or more; raise 'max_ratio' if it is to be trusted"
            )
            raise StorageCorruptedError(reason)

    # --- the port ---

    def _at(self, path: str) -> str:
        return join(self.root, path, rules=_ANY)

    def native_path(self, path: str) -> str:
        return self._at(path)

    def _own(self, stat: Stat) -> Stat:
        return replace(stat, path=stat.path[len(self.root) + 1 :]) if self.root else stat

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        return self._own(self.index().member(self._at(path)).stat)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        level = [self._own(stat) for stat in self.index().level(self._at(path))]
        yield [stat for stat in level if not after or order(stat) > after.encode("utf-8", "surrogateescape")][:limit]

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> MemberReader:
        no_version(version)
        if if_match is not None:
            raise conflict(if_match, None)
        index = self.index()
        member = index.file(self._at(path))
        size = member.stat.size or 0
        first = max(0, size + start) if start < 0 else min(start, size)
        last = size if end is None else max(first, min(end, size))
        return MemberReader(self._open(index, member, first), self._own(member.stat), last - first)

    def readlink(self, path: str) -> str:
        member = self.index().member(self._at(path))
        if member.link is None or member.hard:
            raise UnsupportedOperation("this is not a link")
        return member.link


class Stream(Protocol):
    """What a driver reads a file of an archive from."""

    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


class MemberReader:
    """The next `left` bytes of a stream."""

    def __init__(self, stream: Stream, stat: Stat, left: int) -> None:
        self.stat = stat
        self._stream = stream
        self._left = left

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        parts = []
        while wanted and (data := self._stream.read(wanted)):
            parts.append(data)
            wanted -= len(data)
            self._left -= len(data)
        if wanted:
            raise StorageCorruptedError("the archive ends before this file does")
        return b"".join(parts)

    def close(self) -> None:
        self._stream.close()
