"""Archives of the many formats that the system's libarchive reads, as mounts."""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from io import BufferedReader
from typing import Any, ClassVar

import libarchive  # type: ignore[import-untyped]
from libarchive import ffi
from libarchive.read import ArchiveRead, new_archive_read  # type: ignore[import-untyped]

from ..exceptions import StorageCorruptedError, StorageError, StoragePermissionError
from ..paths import Rules
from ..types import Features, Stat
from .archive import ArchiveBackend, ArchiveOptions, Index, Member, Stream

# Named one by one: "all" has mtree, whose entries may name any file of this machine as their content, and filters that
# run programs.
_FORMATS = ("7zip", "ar", "cab", "cpio", "iso9660", "lha", "rar", "rar5", "tar", "xar", "zip")
_FILTERS = ("bzip2", "compress", "gzip", "lz4", "lzip", "lzma", "rpm", "xz", "zstd")
_BLOCK = 64 << 10
_FATAL = -30


class LibarchiveOptions(ArchiveOptions, frozen=True, kw_only=True):
    """The keys of all archives."""


class LibarchiveBackend(ArchiveBackend):
    """Reads; whatever stands before a file in the archive is passed on the way to it."""

    Options: ClassVar[Any] = LibarchiveOptions
    features = Features(ordered=True, readonly=True, mtime_resolution=1.0, surrogates=True, backslash=True)

    def _read_index(self, archive: Stat) -> Index:
        index, total = Index(archive, rules=Rules(backslash=True, surrogates=True)), 0
        with self._entries(archive) as entries:
            for number, entry in enumerate(entries):
                size = entry.size
                if entry.isreg and size is None and not entry.islnk:  # formats that tell it after the content
                    size = sum(len(block) for block in self._blocks(archive, entry, total))
                total += size or 0
                self.judge_ratio(total, archive.size or 0)
                index.add(_text(entry.pathname), _member(entry, number, size))
        return index

    @contextmanager
    def _entries(self, archive: Stat) -> Iterator[ArchiveRead]:
        """The archive, opened at its beginning; an error of the mount below is raised as what it is."""
        with closing(self._raw(archive.etag)) as raw:
            source = _Source(raw)
            try:
                with new_archive_read("tar", "gzip") as pointer:
                    _support(pointer)
                    ffi.read_set_seek_callback(pointer, source.seek)
                    ffi.read_open(pointer, None, ffi.NO_OPEN_CB, source.read, ffi.NO_CLOSE_CB)
                    yield ArchiveRead(pointer)
            except libarchive.ArchiveError:
                if source.error is not None:
                    raise source.error from None
                raise

    def _blocks(self, archive: Stat, entry: Any, before: int = 0) -> Iterator[bytes]:
        done = before
        for block in entry.get_blocks(_BLOCK):
            done += len(block)
            self.judge_ratio(done, archive.size or 0)
            yield block

    def _open(self, index: Index, member: Member, start: int) -> Stream:
        return _Content(self._content(index.archive, member.handle), start)

    def _content(self, archive: Stat, wanted: int) -> Generator[bytes, None, None]:
        with self._entries(archive) as entries:
            for number, entry in enumerate(entries):
                if number == wanted:
                    yield from self._blocks(archive, entry)
                    return

    def translate(self, error: Exception) -> StorageError | None:
        if not isinstance(error, libarchive.ArchiveError):
            return None
        reason = error.msg or "it ends too early"
        if "passphrase" in reason.lower() or "encrypt" in reason.lower():
            return StoragePermissionError("this entry is encrypted, and encrypted archives are not read here")
        return StorageCorruptedError(f"not a sound archive of a known format: {reason}")


def _support(pointer: Any) -> None:
    """Lets an archive be of any of our formats, as far as this libarchive has them."""
    for names, find in ((_FORMATS, ffi.get_read_format_function), (_FILTERS, ffi.get_read_filter_function)):
        for name in names:
            try:
                find(name)(pointer)
            except ValueError:
                continue  # an older libarchive


def _text(name: str | bytes | None) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name or ""


def _member(entry: Any, number: int, size: int | None) -> Member:
    mtime = None if entry.mtime is None else float(entry.mtime)
    mode = entry.mode & 0o7777 or None
    if entry.isdir:
        return Member(Stat("", is_dir=True, mtime=mtime, mode=mode))
    if entry.issym or entry.islnk:
        link = Stat("", mtime=mtime, mode=mode, is_other=True)
        return Member(link, number, _text(entry.linkpath), not entry.issym)
    other = not entry.isreg
    return Member(Stat("", None if other else size, mtime=mtime, mode=mode, is_other=other), number)


class _Source:
    """What libarchive calls to read the archive; it knows no exceptions, so the first one is kept."""

    def __init__(self, raw: BufferedReader) -> None:
        self.error: Exception | None = None
        self._raw = raw
        self._buffer = ctypes.create_string_buffer(_BLOCK)
        self.read = ffi.READ_CALLBACK(self._read)
        self.seek = ffi.SEEK_CALLBACK(self._seek)

    def _read(self, pointer: object, context: object, where: Any) -> int:
        try:
            length = self._raw.readinto(self._buffer)
        except Exception as error:  # noqa: BLE001 - raised again as soon as libarchive returns
            self.error = error
            return _FATAL
        ctypes.cast(where, ctypes.POINTER(ctypes.c_void_p))[0] = ctypes.cast(self._buffer, ctypes.c_void_p)
        return length

    def _seek(self, pointer: object, context: object, offset: int, whence: int) -> int:
        try:
            return self._raw.seek(offset, whence)
        except Exception as error:  # noqa: BLE001 - as above
            self.error = error
            return _FATAL


class _Content:
    """A file of an archive, block by block, from `start` on."""

    def __init__(self, blocks: Generator[bytes, None, None], start: int) -> None:
        self._blocks = blocks
        self._skip = start
        self._rest = b""
        self._next()  # now, while the archive is the one whose index was asked

    def _next(self) -> None:
        while not self._rest and (block := next(self._blocks, None)) is not None:
            self._rest, self._skip = block[self._skip :], max(0, self._skip - len(block))

    def read(self, size: int = -1, /) -> bytes:
        self._next()
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken

    def close(self) -> None:
        self._blocks.close()
