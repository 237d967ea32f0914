"""The generation of an inode by its file handle, where the kernel tells one: half the cost of opening the file."""

from __future__ import annotations

import sys
import threading
from typing import Any

_INO32_GEN = 1 << 32 | 8
"""The head of such a handle: its length, 8 bytes, and above it the type, FILEID_INO32_GEN of linux/exportfs.h."""
_ROOM = 128
_NUMBER = 0xFFFFFFFF
_HERE = -100  # AT_FDCWD
_FS, _AS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_mine = threading.local()


class Handles:
    """Asks the kernel for handles, into buffers that the next question overwrites: for one thread at a time.

    A handle is what a file server gives its clients to find a file again: it changes when the inode's number is given
    to another file. It needs no right to read the file, and symbolic links have one.
    """

    def __init__(self) -> None:
        import ctypes  # only who registers files pays for it

        class Handle(ctypes.Structure):
            _fields_ = (("head", ctypes.c_uint64), ("inode", ctypes.c_uint64), ("room", ctypes.c_char * (_ROOM - 8)))

        self._ask: Any = getattr(ctypes.CDLL(None), "name_to_handle_at", lambda *asked: -1)
        self._handle, self._mount = Handle(_ROOM), ctypes.c_int()
        self._into, self._onto = ctypes.byref(self._handle), ctypes.byref(self._mount)

    def generation(self, name: str, at: int | None, ino: int) -> int:
        """Of the inode with this number and name, in the directory open as `at` or from here; 0: not known so."""
        handle = self._handle
        if self._ask(_HERE if at is None else at, name.encode(_FS, _AS), self._into, self._onto, 0):
            return 0
        inode: int = handle.inode
        if handle.head == _INO32_GEN and inode & _NUMBER == ino:
            return inode >> 32
        handle.head = _ROOM
        return 0

    def mount(self, at: int) -> int:
        """The mount that the directory open as `at` lies in; -1: not known so."""
        if self._ask(at, b".", self._into, self._onto, 0):
            return -1
        known: int = self._mount.value
        self._handle.head = _ROOM
        return known

    def is_exactly(self, name: str, at: int, inode: int, mount: int) -> bool:
        """Whether this is surely the inode at this name in the directory open as `at`, and in this mount.

        `inode`: its generation above 32 bits of its number.
        """
        handle = self._handle
        return (
            self._ask(at, name.encode(_FS, _AS), self._into, self._onto, 0) == 0
            and handle.inode == inode
            and handle.head == _INO32_GEN
            and self._mount.value == mount
        )


def handles() -> Handles:
    """The one of this thread."""
    try:
        found: Handles = _mine.handles
    except AttributeError:
        found = _mine.handles = Handles()
    return found
