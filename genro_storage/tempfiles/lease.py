"""The owner directory: made under a shared turn, held by flock for as long as its process, or a fork of it, lives."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
)
from .filesystem import filesystem

if TYPE_CHECKING:
    from .heartbeat import Heart

PREFIX = "o-"
HEART = ".lease"
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_OF_MACHINES = ("nfs", "cifs", "smb", "lustre", "fuse", "9p", "virtiofs", "afs", "ceph")
"""File systems that several machines may share, and on which a directory's flock is this machine's own affair."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PATIENCE = 1.0
"""Seconds to wait for the turn."""

_CLASSES: dict[int | None, type[StorageError]] = {
    errno.ENOENT: StorageNotFoundError,
    errno.EEXIST: StorageExistsError,
    errno.ENOTDIR: StorageNotADirectoryError,
    errno.ENAMETOOLONG: StoragePathError,
    errno.EINVAL: StoragePathError,
    errno.EILSEQ: StoragePathError,
    errno.EACCES: StoragePermissionError,
    errno.EPERM: StoragePermissionError,
    errno.ELOOP: StoragePermissionError,
    errno.EROFS: StoragePermissionError,
    errno.ENOSPC: StorageQuotaError,
    errno.EDQUOT: StorageQuotaError,
}


@contextmanager
def translating(operation: str, path: str) -> Iterator[None]:
    """Turns the operating system's errors into those of our tree."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        kind = _CLASSES.get(error.errno, StorageUnavailableError)
        message = f"cannot {operation} '{path}': {error.strerror or error}"
        raise kind(message, operation=operation, path=path) from error


def token() -> str:
    """16 hexadecimal digits that nobody guesses or repeats."""
    return os.urandom(8).hex()


class Owner:
    """The directory `path` of one process, held: `fd` is the lease, a directory descriptor under a shared flock.

    The kernel drops the lock when the last descriptor of it is closed, whatever the death; forks count, exec'd
    programs only if `lease_fd` was passed to them. Without flock the lease is its `heart`.
    `busy` is held by whoever works with `fd`, `pen` by whoever writes the journal: a descriptor closed under their
    hands could be another file's by then. Once released, `fd` is -1.
    """

    __slots__ = ("_made", "base_fd", "busy", "fd", "heart", "journal", "kept", "name", "path", "pen", "pid")

    def __init__(self, base: str, base_fd: int, name: str, fd: int, heart: Heart | None) -> None:
        self.path = f"{base}/{name}"
        self.base_fd = base_fd
        self.name = name
        self.fd = fd
        self.heart = heart
        self.journal = -1
        self.busy = threading.RLock()
        self.pen = threading.Lock()
        self.pid = os.getpid()
        self._made: set[str] = set()
        self.kept: set[str] = set()
        """Directories, by their path in this one, that stay when they are empty."""

    @property
    def lease_fd(self) -> int:
        """The descriptor that keeps the lease."""
        return self.fd if self.heart is None else self.heart.fd

    def folder(self, name: str) -> str:
        """The path of a private directory inside this one, made on first use."""
        path = f"{self.path}/{name}"
        if name not in self._made:
            with translating("make temporary directory", path), suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self._made.add(name)
        return path


def take(base: str, owner_check: bool) -> Owner:
    """A new owner directory inside `base`; raises what `open_base` raises."""
    base_fd = open_base(base, owner_check)
    try:
        with translating("make temporary directory in", base), turn(base_fd, fcntl.LOCK_SH) as locks:
            while (born := _bear(base_fd, _locked if locks else _beating)) is None:
                pass
    except BaseException:
        os.close(base_fd)
        raise
    return Owner(base, base_fd, *born)


def _bear(base_fd: int, hold: Callable[[int], Heart | None]) -> tuple[str, int, Heart | None] | None:
    """Makes and holds a directory; None if a sweeper who did not get its turn took it for a dead one."""
    name = PREFIX + token()
    os.mkdir(name, 0o700, dir_fd=base_fd)
    try:
        fd = os.open(name, DIRECTORY, dir_fd=base_fd)
    except FileNotFoundError:
        return None
    heart = None
    try:
        heart = hold(fd)
        # Held and still there under its name: from here on no sweeper can remove it.
        if os.path.samestat(os.stat(name, dir_fd=base_fd, follow_symlinks=False), os.fstat(fd)):
            return name, fd, heart
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        os.rmdir(name, dir_fd=base_fd)
        raise
    if heart is not None:
        heart.stop()
    os.close(fd)
    return None


def _locked(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _beating(fd: int) -> Heart:
    from .heartbeat import Heart

    return Heart(fd)


class Hold:
    """A dead owner's directory, open as `fd`, that nobody else takes before `close`."""

    def __init__(self, fd: int, lease_fd: int) -> None:
        self.fd, self._lease_fd = fd, lease_fd

    def claim(self) -> None:
        """Keeps other sweepers away where there are no locks at all, by beating once."""
        if self._lease_fd >= 0:
            os.utime(self._lease_fd)

    def close(self) -> None:
        with suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)  # see `turn`: a forked child's copy must not keep it
        if self._lease_fd >= 0:
            os.close(self._lease_fd)
        os.close(self.fd)


def hold_dead(fd: int, base_fd: int, locks: bool) -> Hold | None:
    """The hold on the owner directory open as `fd`, which it closes, if its owner is dead."""
    try:
        if locks and not try_lock(fd, fcntl.LOCK_EX):
            os.close(fd)
            return None
        if locks and not _beats(fd):
            return Hold(fd, -1)
        from .heartbeat import seize

        lease_fd = seize(fd, _now(base_fd))
    except BaseException:
        os.close(fd)
        raise
    hold = Hold(fd, -1 if lease_fd is None else lease_fd)
    if lease_fd is not None:
        return hold
    hold.close()
    return None


def _beats(fd: int) -> bool:
    """Whether the owner has no flock, because it meets us from another machine."""
    try:
        os.stat(HEART, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _now(base_fd: int) -> float:
    """POSIX seconds by the clock that stamps the files here."""
    fd = _open_turn(base_fd)
    try:
        os.utime(fd)
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def open_base(path: str, owner_check: bool) -> int:
    """A descriptor of the base directory, made 0700 if absent; never through a link.

    Raises `StoragePermissionError` if it is no real directory, or not the user's own and safe from others
    (`owner_check=False`: a directory shared by a sticky bit will do).
    """
    with translating("use base_dir", path):
        _make(path)
        found = os.lstat(path)
        _judge(path, found, owner_check)
        fd = os.open(path, DIRECTORY)
    if not os.path.samestat(found, os.fstat(fd)):
        os.close(fd)
        raise StoragePermissionError(f"base_dir '{path}' was replaced while it was being opened", path=path)
    return fd


def _make(path: str) -> None:
    with suppress(FileExistsError):
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            os.makedirs(path, 0o700)


def _judge(path: str, found: os.stat_result, owner_check: bool) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        problem = "is a symbolic link; name the directory itself"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory; choose another"
    elif owner_check and found.st_uid != os.geteuid():
        problem = f"belongs to user {found.st_uid}; choose a directory of your own, or pass owner_check=False"
    elif mode & 0o022 and owner_check:
        problem = f"is writable by others (mode {mode:o}); chmod go-w it, or choose another"
    elif mode & 0o022 and not mode & stat.S_ISVTX:
        problem = f"is writable by others and not sticky (mode {mode:o}); chmod +t it, or choose another"
    else:
        return
    raise StoragePermissionError(f"base_dir '{path}' {problem}", path=path)


@contextmanager
def turn(base_fd: int, how: int) -> Iterator[bool]:
    """Holds the lock file of a base directory: shared to make an owner directory, exclusive to list them.

    Yields whether a flock on a directory is a lease here, for all who may see it. The turn spares the makers and
    sweepers of a base each other's way and is not what keeps them safe (see `_bear`); so whoever waited `PATIENCE`
    seconds, for a stopped process say, goes on without it.
    """
    fd = _open_turn(base_fd)
    try:
        yield _wait(fd, how) and not filesystem(os.fstat(base_fd).st_dev).startswith(_OF_MACHINES)
    finally:
        # Not by closing alone: a child forked by another thread meanwhile would keep the lock with its copy.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _wait(fd: int, how: int) -> bool:
    """Whether there is flock at all."""
    deadline = time.monotonic() + PATIENCE
    try:
        while not try_lock(fd, how) and time.monotonic() < deadline:
            time.sleep(0.001)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def try_lock(fd: int, how: int) -> bool:
    """Whether the lock was free, and is held now."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_turn(base_fd: int) -> int:
    # Users who share a base directory sweep their own only: each has a lock file that the others cannot hold.
    uid = os.geteuid()
    name = ".sweep" if os.fstat(base_fd).st_uid == uid else f".sweep-{uid}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600, dir_fd=base_fd)
    found = os.fstat(fd)
    if found.st_uid != uid or not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise StoragePermissionError(f"'{name}' in base_dir is not a file of user {uid}; remove it")
    return fd
