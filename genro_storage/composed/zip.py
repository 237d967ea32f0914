"""Zip archives as mounts: read in place, or staged beside and put in place as a whole."""

from __future__ import annotations

import lzma
import os
import shutil
import stat as modes
import struct
import threading
import time
import zipfile
import zlib
from contextlib import closing
from typing import Any, ClassVar, Literal, Self

from msgspec.structs import replace

from .. import emulate
from ..backends import backend_class
from ..backends._nofollow import Tree
from ..backends.base import StorageBackend
from ..backends.options import Context, Secret
from ..backends.temp import TempBackend, TempOptions
from ..exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StorageError,
    StoragePermissionError,
    UnsupportedOperation,
)
from ..streams import BinaryWriter
from ..types import PLAIN, Features, Stat, WriteOptions
from .archive import ArchiveBackend, ArchiveOptions, Index, Member, Stream, place_of

_TIMES = 0x5455  # the "extended timestamp" of Info-ZIP: POSIX seconds, where the format itself has local time
_CHUNK = 256 << 10


class ZipOptions(ArchiveOptions, frozen=True, kw_only=True):
    """`mode`: ``r`` reads, ``w`` makes a new archive, ``a`` changes one. `password`: of encrypted entries, to read."""

    mode: Literal["r", "w", "a"] = "r"
    password: Secret | None = None


class ZipBackend(ArchiveBackend):
    """Reads; with another mode than ``r`` it is a `StagedZip`."""

    Options: ClassVar[Any] = ZipOptions
    features = Features(ordered=True, readonly=True, mtime_resolution=2.0)

    def __new__(cls, options: Any = None, context: Context = Context()) -> Any:  # noqa: B008 - immutable
        if options is not None and options.mode != "r":
            return StagedZip(options, context)
        return super().__new__(cls)

    def _read_index(self, archive: Stat) -> Index:
        found = zipfile.ZipFile(self._raw(archive.etag))
        index = Index(archive, found)
        for info in found.infolist():
            index.add(info.filename, self._member(found, info))
        return index

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
        mode = info.external_attr >> 16
        size = None if info.is_dir() else info.file_size
        stat = Stat("", size, info.is_dir(), mtime=_mtime(info), mode=modes.S_IMODE(mode) or None)
        if not modes.S_ISLNK(mode):
            return Member(stat, info)
        if info.file_size > 4096:
            return Member(replace(stat, is_other=True, is_symlink=True), info)
        return Member(stat, info, link=archive.read(info, self._password).decode("utf-8", "surrogateescape"))

    @property
    def _password(self) -> bytes | None:
        return self.options.password.encode() if self.options.password else None

    def _open(self, index: Index, member: Member, start: int) -> Stream:
        info: zipfile.ZipInfo = member.handle
        self.judge_ratio(info.file_size, info.compress_size)
        self.judge_ratio(index.total, index.archive.size or 0)
        file = index.source.open(info, pwd=self._password)
        file.seek(start)
        return file  # type: ignore[no-any-return]

    def translate(self, error: Exception) -> StorageError | None:
        return _translated(error)


def _translated(error: Exception) -> StorageError | None:
    if isinstance(error, (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)):
        return StorageCorruptedError(f"not a sound zip archive: {error or 'it ends too early'}")
    if isinstance(error, RuntimeError) and "password" in str(error):
        return StoragePermissionError("this entry is encrypted and the mount's 'password' does not open it")
    return None


def _mtime(info: zipfile.ZipInfo) -> float | None:
    """POSIX seconds: from the extended timestamp if there is one, else the local time that the format keeps."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _TIMES and length >= 5 and len(extra) >= 9 and extra[4] & 1:
            return float(struct.unpack_from("<i", extra, 5)[0])
        extra = extra[4 + length :]
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (OverflowError, ValueError):  # a date that is none
        return None


class _Stage:
    """What one process has staged: whose it is, and what of it the archive already holds."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pid = 0
        self.closed = False
        self.etag: str | None = None
        self.published: list[Any] | None = None


class StagedZip(TempBackend):
    """A private directory that `flush` and `close` pack into an archive, which takes the old one's place at once.

    A fork has a stage of its own, and what its parent staged is published by the parent alone.
    """

    Options: ClassVar[Any] = ZipOptions

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        if options.password:
            raise StorageConfigError("'password' is for reading; encrypted archives cannot be written")
        self._place = place_of(options, context, needed=False)
        self._place.mount.judge(self._place.path, "write")
        self._stage = _Stage()
        super().__init__(TempOptions(path=options.path), context)
        self.options = options
        self.features = replace(
            self.features, temporary=False, surrogates=False, backslash=False, mtime_resolution=1.0, keeps_mode=False
        )

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities - {"symlink", "readlink", "free_space", "set_mode"}

    @property
    def _tree(self) -> Tree:
        if self._stage.pid != os.getpid():
            self._begin()
        return TempBackend._tree.fget(self)  # type: ignore[attr-defined, no-any-return]

    @_tree.setter
    def _tree(self, tree: Tree) -> None:
        self._current = tree

    def rooted(self, path: str) -> Self:
        twin = super().rooted(path)
        twin.features = self.features
        return twin

    def _whole(self) -> StorageBackend:
        """The stage from its top, whatever the root of this mount."""
        local = backend_class("local")
        whole: StorageBackend = local(local.Options(path=self.temp_manager.nodes_dir))
        return whole

    def _begin(self) -> None:
        stage = self._stage
        with stage.lock:
            if stage.pid == os.getpid():
                return
            stage.published = None
            if self.options.mode == "a" and self._place.mount.exists(self._place.path):
                stage.etag = self._unpack()
                stage.published = self._snapshot()
            stage.pid = os.getpid()

    def _unpack(self) -> str | None:
        """Stages what the archive holds; returns the etag it had."""
        archive: ZipBackend = ZipBackend(replace(self.options, mode="r", path=""), self.context)
        whole = self._whole()
        index = archive.index()
        if index.odd:
            raise UnsupportedOperation(
                f"the archive holds the name {index.odd[0].path!r}; it can only be read (mode 'r')"
            )
        for path, member in sorted(index.members.items()):
            if member.stat.is_dir:
                if path:
                    emulate.mkdir(whole, path, True)
                continue
            if member.link is not None or member.stat.is_other:
                raise UnsupportedOperation(f"the archive holds the link '{path}'; it can only be read (mode 'r')")
            options = WriteOptions(mtime=member.stat.mtime, mode=0o600 | ((member.stat.mode or 0) & 0o111))
            with closing(archive.reader(path)) as reader, closing(_Copy(whole, path, options)) as copy:
                while data := reader.read(_CHUNK):
                    copy.write(data)
                copy.commit()
        return index.archive.etag

    def _snapshot(self) -> list[Any]:
        """What is staged, so exactly that any change tells."""
        return [(s.path, s.is_dir, s.etag) for page in emulate.ordered_walk(self._whole(), "") for s in page]

    def flush(self) -> None:
        """Packs what is staged into the archive's place, if anything changed; the old archive stays on any error."""
        stage, (mount, path) = self._stage, self._place
        with stage.lock:
            if stage.closed or stage.pid != os.getpid():
                return  # nobody used it, or what is staged is a fork's parent's
            now = self._snapshot()
            if now == stage.published or (not now and stage.published is None and mount.exists(path)):
                return
            with BinaryWriter(mount.writer(path, self._condition()), f"{mount.name}:{path}") as out:
                self._pack(out)
            stage.published, stage.etag = now, mount.stat_file(path).etag

    def _condition(self) -> WriteOptions:
        """An archive that is changed must still be the one that was unpacked."""
        if self.options.mode == "w" or self._stage.etag is None or self._place.mount.features.if_match == "none":
            return PLAIN
        return WriteOptions(if_match=self._stage.etag)

    def _pack(self, out: BinaryWriter) -> None:
        whole = self._whole()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for page in emulate.ordered_walk(whole, ""):
                for stat in page:
                    info = _info(stat)
                    if stat.is_dir:
                        archive.writestr(info, b"")
                        continue
                    with (
                        closing(whole.reader(stat.path)) as source,
                        archive.open(info, "w", force_zip64=info.file_size > 1 << 30) as target,
                    ):
                        shutil.copyfileobj(source, target, _CHUNK)

    def close(self) -> None:
        if self._owns:
            self.flush()
            self._stage.closed = True
        super().close()

    def translate(self, error: Exception) -> StorageError | None:
        return _translated(error) or super().translate(error)


class _Copy:
    """A writer that `closing` discards unless it was committed."""

    def __init__(self, backend: StorageBackend, path: str, options: WriteOptions) -> None:
        self._writer = backend.writer(path, options)
        self.write, self.commit, self.close = self._writer.write, self._writer.commit, self._writer.discard


def _info(stat: Stat) -> zipfile.ZipInfo:
    """The entry for one staged file or directory."""
    seconds = int(stat.mtime or 0)
    info = zipfile.ZipInfo(f"{stat.path}/" if stat.is_dir else stat.path)
    info.date_time = max((1980, 1, 1, 0, 0, 0), min((2107, 12, 31, 23, 59, 58), time.localtime(seconds)[:6]))
    info.compress_type = zipfile.ZIP_STORED if stat.is_dir else zipfile.ZIP_DEFLATED
    info.file_size = stat.size or 0
    info.create_system = 3  # Unix: permission bits follow
    if -(1 << 31) <= seconds < 1 << 31:
        info.extra = struct.pack("<HHBi", _TIMES, 5, 1, seconds)
    kind = modes.S_IFDIR | 0o755 if stat.is_dir else modes.S_IFREG | 0o644 | ((stat.mode or 0) & 0o111)
    info.external_attr = kind << 16 | (0x10 if stat.is_dir else 0)
    return info
