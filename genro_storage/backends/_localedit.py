"""A local file opened in place, whoever puts a link there meanwhile."""

from __future__ import annotations

import errno
import io
import os

from ..exceptions import StoragePermissionError
from ._nofollow import Tree
from .base import BackendEditor

_TRIES = 8
_FLAGS = {
    "r+": os.O_RDWR,
    "a": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "a+": os.O_RDWR | os.O_APPEND | os.O_CREAT,
}


def opened_in_place(tree: Tree, path: str, mode: str, file_mode: int | None) -> BackendEditor:
    """The file at `path`, links followed as far as allowed; `file_mode`: of one that is made new, umask aside."""
    flags = _FLAGS[mode] | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if mode == "r+":
        os.close(tree.open_file(path)[0])  # tells what is not there, and what is no file
    for _ in range(_TRIES):
        at, name, old = tree.target(path)
        try:
            fd = os.open(name, flags, 0o666 if file_mode is None else file_mode, dir_fd=at)
        except OSError as error:
            if error.errno == errno.ELOOP:
                continue  # a link since we looked
            raise
        finally:
            if at is not None:
                os.close(at)
        if old is None and file_mode is not None:
            os.fchmod(fd, file_mode)
        return io.FileIO(fd, mode)
    raise StoragePermissionError("a symbolic link here changes too often")
