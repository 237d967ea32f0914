"""Copies and renames within the local file system: a small file in few steps, a large one by the kernel."""

from __future__ import annotations

import errno
import os

from ..exceptions import StorageConflictError, UnsupportedOperation
from ..types import Stat, WriteOptions
from . import _kernel
from ._localfile import LocalWriter, etag, nanoseconds, put_new
from ._nofollow import DIRECTORY, KIND, READ, REGULAR, Tree
from .base import Tick

SMALL = 1 << 20
CHANGED = "the source was changed while it was copied"


def copy_small(origin: Tree, source_path: str, tree: Tree, path: str, options: WriteOptions, tick: Tick) -> Stat | None:
    """A small file without holes to a name that nothing has, of default mode; None, and nothing done, elsewhere.

    The kernel's help costs twice as much as reading it and writing it.
    """
    found = _read(origin, source_path, options)
    if found is None:
        return None
    data, st = found
    mtime = None
    if options.mtime is not None:
        mtime = st.st_mtime_ns if options.mtime == st.st_mtime else nanoseconds(options.mtime)
    at = None
    try:
        at, name = tree.locate(path)
        stat = put_new(path, at, name, data, options, mtime)
    except FileNotFoundError:
        return None  # no directory yet
    finally:
        tree.leave(at)
    tick(len(data) if stat is not None else 0)
    return stat


def _read(tree: Tree, path: str, expected: WriteOptions) -> tuple[bytes, os.stat_result] | None:
    """All of a small file, in one state of it, and its facts; None for what else may be there.

    With the size and the etag that are `expected` one look is enough: what it is now it was all the time.
    """
    at, fd = None, -1
    size, match = expected.size, expected.source_match
    before = None
    try:
        at, name = tree.locate(path)
        fd = os.open(name, READ, dir_fd=at)
        if size is None or match is None:
            before = os.fstat(fd)
            size = before.st_size
        if size > SMALL:
            return None
        data = os.pread(fd, size + 1, 0)
        st = os.fstat(fd)
    except OSError:
        return None
    finally:
        tree.leave(at)
        if fd >= 0:
            os.close(fd)
    now = st.st_size
    if st.st_mode & KIND != REGULAR or st.st_blocks * 512 < now or (data and not now):
        return None  # a file of /proc does not say how much it holds
    if len(data) != now or (match is not None and etag(st) != match) or (before is not None and _differ(before, st)):
        raise StorageConflictError(CHANGED, retryable=True)
    return data, st


def _differ(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def copy_open(fd: int, st: os.stat_result, writer: LocalWriter, tick: Tick) -> Stat:
    """The open file `fd`, as `st` describes it, into a new file; the caller closes and discards."""
    copied = _kernel.copy_bytes(fd, writer.fd, st.st_size, tick)
    now = os.fstat(fd)
    if copied < st.st_size or _differ(st, now):
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
