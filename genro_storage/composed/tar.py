"""Tar archives as mounts, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from contextlib import closing
from typing import IO, Any, ClassVar, Literal

from ..exceptions import StorageCorruptedError, StorageError
from ..paths import Rules
from ..types import Features, Stat
from .archive import ArchiveBackend, ArchiveOptions, Index, Member, Stream

Compression = Literal["auto", "none", "gzip", "bz2", "xz"]

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_STEP = 1 << 20


class TarOptions(ArchiveOptions, frozen=True, kw_only=True):
    """`compression`: of the whole archive; ``auto`` looks at its first bytes."""

    compression: Compression = "auto"


class TarBackend(ArchiveBackend):
    """Reads; a file of an uncompressed archive is one range of it, elsewhere all before it is unpacked on the way."""

    Options: ClassVar[Any] = TarOptions
    features = Features(ordered=True, readonly=True, mtime_resolution=1.0, surrogates=True, backslash=True)

    def _compression(self, raw: io.BufferedReader) -> str:
        if self.options.compression != "auto":
            return str(self.options.compression)
        head = raw.read(6)
        raw.seek(0)
        return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "none")

    def _plain(self, archive: Stat, kind: str, raw: io.BufferedReader) -> IO[bytes]:
        if kind == "none":
            return raw
        return Bounded(_unpacked(kind, raw), raw, lambda size: self.judge_ratio(size, archive.size or 0))  # type: ignore[return-value]

    def _read_index(self, archive: Stat) -> Index:
        with self._raw(archive.etag) as raw:
            kind = self._compression(raw)
            index = Index(archive, kind, Rules(backslash=True, surrogates=True))
            with (
                closing(self._plain(archive, kind, raw)) as plain,
                tarfile.TarFile(fileobj=plain, mode="r", errors="surrogateescape") as tar,
            ):
                for info in tar:
                    index.add(info.name, _member(info))
        return index

    def _open(self, index: Index, member: Member, start: int) -> Stream:
        info: tarfile.TarInfo = member.handle
        first = info.offset_data + start
        mount, path = self._place
        if index.source == "none":
            end = info.offset_data + info.size
            return mount.reader(path, first, end, if_match=index.archive.etag)
        raw = self._raw(index.archive.etag)
        plain = self._plain(index.archive, index.source, raw)
        try:
            plain.seek(first)
        except BaseException:
            plain.close()
            raise
        return plain

    def translate(self, error: Exception) -> StorageError | None:
        kinds = (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
        if isinstance(error, kinds) or (isinstance(error, OSError) and str(error) == "Invalid data stream"):  # bz2
            return StorageCorruptedError(f"not a sound tar archive: {error or 'it ends too early'}")
        return None


def _unpacked(kind: str, file: IO[bytes]) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    return bz2.BZ2File(file) if kind == "bz2" else lzma.LZMAFile(file)


def _member(info: tarfile.TarInfo) -> Member:
    mode, mtime = info.mode & 0o7777, float(info.mtime)
    if info.isdir():
        return Member(Stat("", is_dir=True, mtime=mtime, mode=mode))
    if info.islnk() or info.issym():
        return Member(Stat("", mtime=mtime, mode=mode, is_other=True), info, info.linkname, info.islnk())
    other = not info.isfile() or info.issparse()
    return Member(Stat("", None if other else info.size, mtime=mtime, mode=mode, is_other=other), info)


class Bounded(io.RawIOBase):
    """An unpacked stream that goes forward only as far as `judge` lets it; closing it closes the packed one too."""

    def __init__(self, plain: Any, packed: IO[bytes], judge: Callable[[int], None]) -> None:
        self._plain = plain
        self._packed = packed
        self._judge = judge

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        data: bytes = self._plain.read(min(size, _STEP))
        self._judge(self._plain.tell())
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        at = self._plain.tell()
        while at + _STEP < offset:
            at += _STEP
            if self._plain.seek(at) < at:
                break
            self._judge(at)
        at = self._plain.seek(offset)
        self._judge(at)
        return int(at)

    def tell(self) -> int:
        return int(self._plain.tell())

    def close(self) -> None:
        if not self.closed:
            self._plain.close()
            self._packed.close()
        super().close()
