"""Overwriting before deletion: best effort, which copy-on-write file systems, snapshots and SSDs do not honour."""

from __future__ import annotations

import os
import stat

from .lease import token

_CHUNK = 1 << 20
_OPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def overwrite(name: str, dir_fd: int) -> str:
    """Overwrites a file of ours once with random bytes, empties and renames it; returns the name it has now.

    A link, a file of another user and one with further names stay as they are: their content is not only ours.
    """
    if not _ours(os.stat(name, dir_fd=dir_fd, follow_symlinks=False)):
        return name
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    try:
        st = os.fstat(fd)
        if not _ours(st):
            return name
        left = st.st_size
        while left > 0:
            left -= os.write(fd, os.urandom(min(left, _CHUNK)))
        os.fsync(fd)
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)
    hidden = f".genro-x-{token()}"
    os.rename(name, hidden, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    return hidden


def _ours(st: os.stat_result) -> bool:
    return stat.S_ISREG(st.st_mode) and st.st_nlink == 1 and st.st_uid == os.geteuid()


def overwrite_all(fd: int, spare: str = "") -> None:
    """Overwrites every file below the directory open as `fd` not called `spare`, following no link.

    What resists is left as it is.
    """
    for _, _, names, at in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
        for name in names:
            if name == spare:
                continue
            try:
                overwrite(name, at)
            except OSError:
                continue  # it is unlinked none the less, which is what a deletion must do
