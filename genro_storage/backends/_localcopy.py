"""Copies within the local file system: a small file in the fewest steps there are, a large one by the kernel."""

from __future__ import annotations

import os

from ..exceptions import StorageConflictError
from ..types import Stat, WriteOptions
from . import _kernel
from ._localfile import LocalWriter, put_new
from ._nofollow import KIND, REGULAR, Tree
from .base import Tick

SMALL = 1 << 20
CHANGED = "the source was changed while it was copied"


def copy_small(origin: Tree, source_path: str, tree: Tree, path: str, options: WriteOptions, tick: Tick) -> Stat | None:
    """A small file without holes to a name that nothing has, of default mode; None, and nothing done, elsewhere.

    The kernel's help costs twice as much as reading it and writing it.
    """
    if "follow" in (origin.links, tree.links) or ".." in source_path or ".." in path:
        return None
    full = tree.absolute(path)
    slash = full.rfind("/")
    at = _kernel.open_directory(full[:slash])
    if at < 0:
        return None
    try:
        data = _read(origin.absolute(source_path))
        if data is None:
            return None
        stat = put_new(path, at, full[slash + 1 :], data, options)
        tick(len(data) if stat is not None else 0)
        return stat
    finally:
        os.close(at)


def _read(path: str) -> bytes | None:
    """All of a small file, in one state of it; None for what else may be there, and for links on the way."""
    fd = _kernel.open_read(path)
    if fd < 0:
        return None
    try:
        st = os.fstat(fd)
        size = st.st_size
        if st.st_mode & KIND != REGULAR or size > SMALL or st.st_blocks * 512 < size:
            return None
        data = os.pread(fd, size + 1, 0)
        now = os.fstat(fd)
        if len(data) != size or now.st_mtime_ns != st.st_mtime_ns or now.st_size != size:
            raise StorageConflictError(CHANGED, retryable=True)
        return data
    finally:
        os.close(fd)


def copy_open(fd: int, st: os.stat_result, writer: LocalWriter, tick: Tick) -> Stat:
    """The open file `fd`, as `st` describes it, into a new file; the caller closes and discards."""
    copied = _kernel.copy_bytes(fd, writer.fd, st.st_size, tick)
    now = os.fstat(fd)
    if copied < st.st_size or (now.st_size, now.st_mtime_ns) != (st.st_size, st.st_mtime_ns):
        raise StorageConflictError(CHANGED, retryable=True)
    writer.wrote(copied)
    return writer.commit()
