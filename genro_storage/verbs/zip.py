"""Archives of a file, a tree or a chain of nodes, written as they are read: memory holds names, never contents."""

from __future__ import annotations

import stat as modes
import time
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from .. import paths
from ..backends._bytes import BytesReader
from ..backends.base import BackendReader
from ..exceptions import StorageConflictError, StoragePathError, StorageWarning
from ..types import Stat
from . import content

if TYPE_CHECKING:
    from ..mount import Mount
    from ..nodes import StorageNode

CHUNK = 1 << 16
METHODS = {"deflate": zipfile.ZIP_DEFLATED, "store": zipfile.ZIP_STORED}
_SURE = 1 << 30
"""Bytes: larger files, and those of unknown size, get 64-bit sizes, so that one which grows still fits."""
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)


class Entry(NamedTuple):
    """A file or an empty directory on its way into an archive; `name` ends in a slash for a directory."""

    name: str
    stat: Stat
    opened: Callable[[], BackendReader] | None

    @property
    def wide(self) -> bool:
        """Whether it is announced with 64-bit sizes."""
        return self.stat.size is None or self.stat.size > _SURE


class ZipStream:
    """The bytes of an archive in pieces; iterate once, or close.

    `length` is the number of all bytes where it is known before: in archives that store and do not compress.
    """

    def __init__(self, entries: Sequence[Entry], chunk: int, compression: str) -> None:
        if compression not in METHODS:
            raise ValueError(f"compression is 'deflate' or 'store', not {compression!r}")
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk is a number of bytes, not {chunk!r}")
        self.length = _length(entries) if compression == "store" else None
        self._pieces = _pieces(entries, chunk, METHODS[compression])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Releases the file that is just being read. Idempotent."""
        self._pieces.close()


class _Sink:
    """What `zipfile` writes to; it cannot seek, so sizes follow each file's bytes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces, self.size = [], 0
        return data


def _pieces(entries: Sequence[Entry], chunk: int, method: int) -> Generator[bytes, None, None]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", method) as archive:  # type: ignore[call-overload]  # write and flush suffice
        for entry in entries:
            if entry.opened is None:
                archive.mkdir(_info(entry, zipfile.ZIP_STORED))
                continue
            for _ in _filed(archive, entry, method, chunk):
                if sink.size >= chunk:
                    yield sink.take()
            if sink.size >= chunk:
                yield sink.take()
    yield sink.take()


def _filed(archive: zipfile.ZipFile, entry: Entry, method: int, chunk: int) -> Iterator[None]:
    """Writes one file; hands over after each chunk."""
    assert entry.opened is not None
    done = 0
    with closing(entry.opened()) as reader, archive.open(_info(entry, method), "w", force_zip64=entry.wide) as target:
        while data := reader.read(chunk):
            target.write(data)
            done += len(data)
            yield
    if method == zipfile.ZIP_STORED and done != entry.stat.size:
        raise StorageConflictError(f"'{entry.name}' changed its size while it was archived", operation="zip")


def _info(entry: Entry, method: int) -> zipfile.ZipInfo:
    stamp = _EARLIEST if entry.stat.mtime is None else time.localtime(min(max(entry.stat.mtime, 0.0), 4.4e9))[:6]
    info = zipfile.ZipInfo(entry.name, min(max(tuple(stamp), _EARLIEST), _LATEST))  # type: ignore[arg-type]
    info.compress_type = method
    if entry.opened is None:
        info.CRC = info.compress_size = info.file_size = 0
        info.external_attr = (modes.S_IFDIR | (entry.stat.mode or 0o755)) << 16 | 0x10
    else:
        info.external_attr = (modes.S_IFREG | (entry.stat.mode or 0o644)) << 16
    return info


def _length(entries: Sequence[Entry]) -> int | None:
    """The bytes of an archive that only stores, by the layout of PKWARE's APPNOTE 6.3."""
    limit, offset, directory = zipfile.ZIP64_LIMIT, 0, 0
    for entry in entries:
        name = len(entry.name.encode())
        directory += 46 + name
        wide = 8 * (offset > limit)
        offset_here = 30 + name
        if entry.opened is not None:
            if entry.stat.size is None:
                return None
            wide += 16 * (entry.stat.size > limit)
            offset_here += entry.stat.size + (20 + 24 if entry.wide else 16)
        directory += 4 + wide if wide else 0
        offset += offset_here
    if len(entries) > zipfile.ZIP_FILECOUNT_LIMIT or offset > limit or directory > limit:
        directory += 56 + 20
    return offset + directory + 22


# --- what goes in ---


def of_node(node: StorageNode) -> list[Entry]:
    """One entry for a file; for a directory its files by their paths below it, sorted, and its empty directories."""
    stat = node.stat()
    if not stat.is_dir:
        return [_entry(node.basename, node, stat)]
    found, passed = [], 0
    for page in node.mount.walk(node.path):
        for one in page:
            if one.is_other or (one.is_symlink and one.is_dir):
                passed += 1
            else:
                found.append(one)
    if passed:
        message = f"{passed} links and special files below '{node.fullpath}' were not archived"
        warnings.warn(message, StorageWarning, stacklevel=3)
    return list(_of_tree(node.mount, node.path, found))


def _of_tree(mount: Mount, root: str, found: Sequence[Stat]) -> Iterator[Entry]:
    cut = len(root) + 1 if root else 0
    for at, stat in enumerate(found):
        name = _safe(stat.path[cut:])
        if not stat.is_dir:
            yield Entry(name, stat, _opener(mount, stat.path, None))
        elif at + 1 == len(found) or not found[at + 1].path.startswith(stat.path + "/"):
            yield Entry(name + "/", stat, None)


def of_nodes(nodes: Iterable[StorageNode]) -> list[Entry]:
    """One entry per file, by its name; the second of a name is ``name (2).ext``."""
    taken: set[str] = set()
    entries = []
    for node in nodes:
        stat = node.stat()
        if stat.is_dir:
            raise node.is_a_directory("a directory in a chain of files cannot be archived")
        name = _free(node.basename, taken)
        taken.add(name)
        entries.append(_entry(name, node, stat))
    return entries


def made(name: str, data: bytes) -> Entry:
    """An entry of bytes that are in no file."""
    stat = Stat(name, len(data))
    return Entry(_safe(name), stat, lambda: BytesReader(data, stat))


def _free(name: str, taken: set[str]) -> str:
    path, count, free = PurePosixPath(name), 1, name
    while free in taken:
        count += 1
        free = f"{path.stem} ({count}){path.suffix}"
    return free


def _entry(name: str, node: StorageNode, stat: Stat) -> Entry:
    return Entry(_safe(name), stat, _opener(node.mount, node.path, node.version))


def _opener(mount: Mount, path: str, version: str | None) -> Callable[[], BackendReader]:
    return lambda: mount.reader(path, version=version)


def _safe(name: str) -> str:
    """The name, if it stays below the folder into which any system unpacks it."""
    segments = name.replace("\\", "/").split("/")
    if "" in segments or ".." in segments or not paths.encodable(name):
        raise StoragePathError(f"'{name!a}' cannot be the name of an entry in an archive: rename it", operation="zip")
    return name


# --- where it goes ---


def whole(stream: ZipStream) -> bytes:
    """All of the archive in memory."""
    return b"".join(stream)


def stored(stream: ZipStream, target: StorageNode) -> StorageNode:
    """Writes the archive to a node, which shows it when it is complete."""
    with closing(stream):
        options = content.options_for(target, size=stream.length)
        content.stream(target.mount.writer(target.path, options), stream)
    return target
