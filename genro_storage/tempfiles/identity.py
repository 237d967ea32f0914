"""Which file exactly: device, inode, and what tells an inode from the next file that gets its number."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
from types import TracebackType
from typing import NamedTuple, Self

# _IOR('v', 1, long); what comes back is an int.
_GETVERSION = 0x80007601 | struct.calcsize("l") << 16
_ROOM = bytes(8)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_HAS_BIRTH = hasattr(os.stat_result, "st_birthtime")
_tmpfs: dict[int, bool] = {}


class Identity(NamedTuple):
    """`mark`: ``g…`` the inode's generation, ``b…`` its birth, ``c…`` its last change (neither is known here), or ``-``
    where inode numbers are never given twice."""

    dev: int
    ino: int
    mark: str


class IdentityUnknown(OSError):
    """The file may be the one that was registered, and nothing here can prove it."""

    def __init__(self) -> None:
        super().__init__("identity unknown: changed since it was registered, on a file system without generations")


def identify(name: str, dir_fd: int | None = None) -> Identity | None:
    """The identity of a file or symbolic link; None for anything else. Raises `OSError`, absent included."""
    st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    kind = stat.S_IFMT(st.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        return None
    if _HAS_BIRTH:
        return Identity(st.st_dev, st.st_ino, f"b{st.st_birthtime!r}")  # type: ignore[attr-defined]
    generation = _generation(name, dir_fd) if kind == stat.S_IFREG else 0
    if generation:
        # Replaced between the two calls, it has a number of one file and a generation of another: no file's identity.
        return Identity(st.st_dev, st.st_ino, f"g{generation}")
    return Identity(st.st_dev, st.st_ino, "-" if _is_tmpfs(st.st_dev) else f"c{st.st_ctime_ns}")


def _generation(name: str, dir_fd: int | None) -> int:
    """0: the file system keeps none, or does not let us read it."""
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
    if dev not in _tmpfs:
        wanted = f"{os.major(dev)}:{os.minor(dev)}"
        found = False
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
                for line in mounts:
                    left, _, right = line.partition(" - ")
                    if left.split()[2] == wanted:
                        found = right.split()[0] == "tmpfs"
        except OSError:
            pass
        _tmpfs[dev] = found
    return _tmpfs[dev]


class Remover:
    """Unlinks files that are still exactly those of an identity, each through a descriptor of its directory.

    `roots`: real directories outside of which nothing is removed. Between the check and the unlink is an instant that
    POSIX offers no way to close. One thread uses one remover, as a context manager.
    """

    def __init__(self, roots: tuple[str, ...] | None, secure: bool = False) -> None:
        self._roots = roots
        self._secure = secure
        self._folder = ""
        self._fd = -1

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
        try:
            self._enter(folder or "/")
            found = identify(name, self._fd)
            if found is None or found[:2] != identity[:2] or found.mark[0] != identity.mark[0]:
                return "replaced"
            if found.mark != identity.mark:
                if found.mark[0] == "c":
                    raise IdentityUnknown
                return "replaced"
            self._unlink(name)
            return "removed"
        except (FileNotFoundError, NotADirectoryError):
            return "gone"

    def _unlink(self, name: str) -> None:
        if self._secure:
            from .secure import overwrite

            name = overwrite(name, self._fd)
        os.unlink(name, dir_fd=self._fd)

    def _enter(self, folder: str) -> None:
        if self._fd >= 0 and folder == self._folder:
            return
        self._close()
        if not allowed(folder, self._roots):
            raise PermissionError(f"outside allowed_roots: {folder}")
        self._fd, self._folder = os.open(folder, _FOLDER), folder


def allowed(folder: str, roots: tuple[str, ...] | None) -> bool:
    """Whether a directory, its links resolved, is one of `roots` or below."""
    if roots is None:
        return True
    real = os.path.realpath(folder)
    return any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in roots)
