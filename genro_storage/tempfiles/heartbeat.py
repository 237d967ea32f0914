"""The lease where the file system has no flock: a byte-range lock on a file in the owner directory, and a heartbeat."""

from __future__ import annotations

import fcntl
import os
import struct
import threading

from .lease import HEART, NO_LOCKS

EVERY = 30.0
DEAD_AFTER = 120.0

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WHOLE = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
# Of the open file and not of the process: else whoever closes a second descriptor of it gives the lock up.
_SET = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("l") == 8 else None


class Heart:
    """Holds the lease of the owner directory open as `dir_fd`; beats until `stop`. `fd` keeps the lock.

    A fork keeps the lock with it and does not beat.
    """

    def __init__(self, dir_fd: int) -> None:
        self.fd = os.open(HEART, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=dir_fd)
        _locked(self.fd)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="genro-storage-temp-heart", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(EVERY):
            try:
                os.utime(self.fd)
            except OSError:
                continue  # a network that is away for a moment: the next beat may reach it

    def stop(self) -> None:
        """Ends it and gives up the lock."""
        self._stopped.set()
        self._thread.join()
        fd, self.fd = self.fd, -1
        os.close(fd)


def seize(dir_fd: int, now: float) -> int | None:
    """What holds the lease of a dead owner from now on, a descriptor to be closed; None: the owner lives.

    Dead is whose lock nobody holds and whose heart has not beaten for `DEAD_AFTER` seconds. Both are asked, for some
    of these file systems have no locks at all, and a process that is merely stopped does not beat.
    `now`: POSIX seconds by the clock of the file system, which is the one that stamps the beats.
    """
    try:
        fd = os.open(HEART, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:  # being born, or dead before it had one
        return None if now - os.fstat(dir_fd).st_mtime <= DEAD_AFTER else os.dup(dir_fd)
    try:
        if now - os.fstat(fd).st_mtime > DEAD_AFTER and _locked(fd):
            held, fd = fd, -1
            return held
        return None
    finally:
        if fd >= 0:
            os.close(fd)


def _locked(fd: int) -> bool:
    """Whether nobody else had the lock; it is ours now, where there are locks."""
    if _SET is None:
        return True
    try:
        fcntl.fcntl(fd, _SET, _WHOLE)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True
