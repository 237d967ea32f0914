"""Copies and renames within the local file system: a small file in few steps, a large one by the kernel."""

from __future__ import annotations

import errno
import os

from ..exceptions import StorageConflictError, UnsupportedOperation
from ..types import Stat, WriteOptions
from . import _kernel
from ._localfile import LocalWriter, put_new
from ._nofollow import DIRECTORY, KIND, READ, REGULAR, Tree
from .base import Tick

SMALL = 1 << 20
CHANGED = "the source was changed while it was copied"


def copy_small(origin: Tree, source_path: str, tree: Tree, path: str, options: WriteOptions, tick: Tick) -> Stat | None:
    """A small file without holes to a name that nothing has, of default mode; None, and nothing done, elsewhere.

    The kernel's help costs twice as much as reading it and writing it.
    """
    data = _read(origin, source_path)
    if data is None:
        return None
    at = None
    try:
        at, name = tree.locate(path)
        stat = put_new(path, at, name, data, options)
    except FileNotFoundError:
        return None  # no directory yet
    finally:
        tree.leave(at)
    tick(len(data) if stat is not None else 0)
    return stat


def _read(tree: Tree, path: str) -> bytes | None:
    """All of a small file, in one state of it; None for what else may be there."""
    at, fd = None, -1
    try:
        at, name = tree.locate(path)
        fd = os.open(name, READ, dir_fd=at)
        st = os.fstat(fd)
        size = st.st_size
        if st.st_mode & KIND != REGULAR or size > SMALL or st.st_blocks * 512 < size:
            return None
        data = os.pread(fd, size + 1, 0)
        now = os.fstat(fd)
    except OSError:
        return None
    finally:
        tree.leave(at)
        if fd >= 0:
            os.close(fd)
    if data and not size:
        return None  # a file of /proc, which does not say how much it holds
    if len(data) != size or now.st_mtime_ns != st.st_mtime_ns or now.st_size != size:
        raise StorageConflictError(CHANGED, retryable=True)
    return data


def copy_open(fd: int, st: os.stat_result, writer: LocalWriter, tick: Tick) -> Stat:
    """The open file `fd`, as `st` describes it, into a new file; the caller closes and discards."""
    copied = _kernel.copy_bytes(fd, writer.fd, st.st_size, tick)
    now = os.fstat(fd)
    if copied < st.st_size or (now.st_size, now.st_mtime_ns) != (st.st_size, st.st_mtime_ns):
        raise StorageConflictError(CHANGED, retryable=True)
    writer.wrote(copied)
    return writer.commit()


def rename(origin: Tree, source_path: str, tree: Tree, path: str, *, absent: bool) -> None:
    """A file or a directory, at once; `absent`: unless something has the new name."""
    with origin.spot(source_path) as (source_at, source_name):
        # What the rename would refuse is refused before directories are made for it.
        moved = os.stat(source_name, dir_fd=source_at, follow_symlinks=False)
        if not source_path or (
            moved.st_mode & KIND == DIRECTORY and tree.absolute(path).startswith(f"{origin.absolute(source_path)}/")
        ):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with tree.spot(path, make=True) as (at, name):
            try:
                if absent:
                    _kernel.rename_absent(source_name, source_at, name, at)
                else:
                    os.rename(source_name, name, src_dir_fd=source_at, dst_dir_fd=at)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise UnsupportedOperation("these are two file systems") from error
                raise
