"""Time and permission bits of local files, set without following a link that leads out of the mount."""

from __future__ import annotations

import os

from ..exceptions import StoragePermissionError, UnsupportedOperation
from ._localfile import nanoseconds
from ._nofollow import KIND, LINK, Tree


def set_mtime(tree: Tree, path: str, mtime: float) -> None:
    """Sets the time of last change of a file or directory, or of what a link leads to; the time of access stays."""
    with tree.spot(path, through=_is_link(tree.stat(path))) as (at, name):
        st = os.stat(name, dir_fd=at, follow_symlinks=False)
        os.utime(name, ns=(st.st_atime_ns, nanoseconds(mtime)), dir_fd=at, follow_symlinks=False)


def set_mode(tree: Tree, path: str, mode: int) -> None:
    """Sets the permission bits of a file or directory, or of what a link leads to."""
    with tree.spot(path, through=_is_link(tree.stat(path))) as (at, name):
        if not hasattr(os, "O_PATH"):
            os.chmod(name, mode, dir_fd=at, follow_symlinks=False)
            return
        # Linux changes no mode by a name without following it: what the name is now is held first, then changed.
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            if _is_link(os.fstat(held)):
                raise StoragePermissionError("a symbolic link here changes too often")
            _change(held, mode)
        finally:
            os.close(held)


def _change(held: int, mode: int) -> None:
    try:
        os.chmod(f"/proc/self/fd/{held}", mode)
    except FileNotFoundError as error:
        raise UnsupportedOperation("permission bits are set through /proc, which is not mounted here") from error


def _is_link(st: os.stat_result) -> bool:
    return st.st_mode & KIND == LINK
