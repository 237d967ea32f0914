"""Which file exactly: device, inode, and what tells an inode from the next file that gets its number."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from .filesystem import filesystem
from .handles import Handles, handles

# _IOR('v', 1, long); what comes back is an int.
_GETVERSION = 0x80007601 | struct.calcsize("l") << 16
_ROOM = bytes(8)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_HAS_BIRTH = hasattr(os.stat_result, "st_birthtime")
_KIND, _FILE = 0o170000, stat.S_IFREG
_tmpfs: dict[int, bool] = {}


class Identity:
    """`mark`: ``g…`` the inode's generation, ``b…`` its birth, ``c…`` its last change (neither is known here), or ``-``
    where inode numbers are never given twice."""

    __slots__ = ("dev", "ino", "mark")

    def __init__(self, dev: int, ino: int, mark: str) -> None:
        self.dev, self.ino, self.mark = dev, ino, mark

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Identity{self._key()}"

    def _key(self) -> tuple[int, int, str]:
        return self.dev, self.ino, self.mark


SomeIdentity = TypeVar("SomeIdentity", bound=Identity)


class IdentityUnknown(OSError):
    """The file may be the one that was registered, and nothing here can prove it."""

    def __init__(self) -> None:
        super().__init__("identity unknown: changed since it was registered, on a file system without generations")


def identify(name: str, dir_fd: int | None, make: Callable[[int, int, str], SomeIdentity]) -> SomeIdentity | None:
    """The identity of a file or symbolic link; None for anything else. Raises `OSError`, absent included."""
    st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    dev, kind = st.st_dev, st.st_mode & _KIND
    if kind not in (_FILE, stat.S_IFLNK):
        return None
    if _HAS_BIRTH:
        return make(dev, st.st_ino, f"b{st.st_birthtime!r}")  # type: ignore[attr-defined]
    if _tmpfs[dev] if dev in _tmpfs else _is_tmpfs(dev):
        return make(dev, st.st_ino, "-")
    known = _generation(name, dir_fd, st.st_ino, kind == _FILE)
    return make(dev, st.st_ino, f"g{known}" if known else f"c{st.st_ctime_ns}")


def _generation(name: str, dir_fd: int | None, ino: int, can_open: bool) -> int:
    """0: the file system keeps none, or does not let us read it."""
    known = handles().generation(name, dir_fd, ino)
    if known or not can_open:
        return known
    # Replaced since its number was read, it has the number of one file and the generation of another: no file's.
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:
        raise
    except OSError:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(fd, _GETVERSION, _ROOM)[:4], sys.byteorder)
    except OSError:
        return 0
    finally:
        os.close(fd)


def _is_tmpfs(dev: int) -> bool:
    _tmpfs[dev] = found = filesystem(dev) == "tmpfs"
    return found


class Remover:
    """Unlinks files that are still exactly those of an identity, each through a descriptor of its directory.

    `roots`: real directories outside of which nothing is removed. Between the check and the unlink is an instant that
    POSIX offers no way to close. One thread uses one remover, as a context manager.
    """

    _handles: Handles

    def __init__(self, roots: tuple[str, ...] | None, secure: bool = False) -> None:
        self._roots = roots
        self._secure = secure
        self._folder = ""
        self._fd = self._dev = self._mount = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self, path: str, identity: Identity) -> str:
        """``removed``, ``gone`` (nothing is there) or ``replaced`` (something else is: it stays); raises `OSError`."""
        folder, _, name = path.rpartition("/")
        mark = identity.mark
        try:
            if folder != self._folder or self._fd < 0:
                self._enter(folder)
            # In the directory's own mount a file is on its device.
            is_surely = (
                mark[0] == "g"
                and identity.dev == self._dev
                and self._handles.is_exactly(name, self._fd, int(mark[1:]) << 32 | identity.ino, self._mount)
            )
            if not is_surely and not self._is_still(name, identity):
                return "replaced"
            if self._secure:
                from .secure import overwrite

                name = overwrite(name, self._fd)
            os.unlink(name, dir_fd=self._fd)
            return "removed"
        except (FileNotFoundError, NotADirectoryError):
            return "gone"

    def _is_still(self, name: str, identity: Identity) -> bool:
        """The same, where one question does not tell."""
        found = identify(name, self._fd, Identity)
        if found is None or (found.dev, found.ino) != (identity.dev, identity.ino):
            return False
        if found.mark != identity.mark and not (found.mark[0] == identity.mark[0] != "c"):
            raise IdentityUnknown
        return found.mark == identity.mark

    def _enter(self, folder: str) -> None:
        self._close()
        if not allowed(folder, self._roots):
            raise PermissionError(f"outside allowed_roots: {folder}")
        self._fd, self._folder = os.open(folder or "/", _FOLDER), folder
        self._handles = handles()
        self._dev, self._mount = os.fstat(self._fd).st_dev, self._handles.mount(self._fd)


def allowed(folder: str, roots: tuple[str, ...] | None) -> bool:
    """Whether a directory, its links resolved, is one of `roots` or below."""
    if roots is None:
        return True
    real = os.path.realpath(folder)
    return any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in roots)
