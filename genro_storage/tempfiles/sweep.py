"""The sweep: what dead owners left goes, with what they registered, safe among racing sweepers."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import closing
from typing import Literal, NamedTuple

from . import crew, journal, log
from .cleanup import Policy
from .lease import DIRECTORY, PREFIX, Hold, Owner, hold_dead, translating, turn
from .removal import Pace, Unfinished, empty, remove
from .retries import Retries
from .secure import overwrite_all

PATIENCE = 60.0


class SweepReport(NamedTuple):
    """What one sweep found: how many dead owners it removed, how many live, what resisted (path → reason).

    `left`: owners not reached, or not finished, before the timeout; the next sweep goes on with them.
    """

    removed: int
    alive: int
    failed: dict[str, str]
    left: int = 0


class Sweep:
    """One sweep of the base directory `base`, open as `base_fd`. `own` is the name of the sweeper's own directory."""

    def __init__(self, base: str, base_fd: int, policy: Policy, retries: Retries, own: str = "") -> None:
        self._base, self._base_fd, self._policy, self._retries, self._own = base, base_fd, policy, retries, own
        self._deadline = time.monotonic() + policy.timeout
        self._pace = Pace(policy.batch_size, self._is_over)
        self._turn = threading.Lock()  # of what follows
        self._removed = self._alive = self._left = 0
        self._failed: dict[str, str] = {}

    def _is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def run(self, patient: bool = False) -> SweepReport:
        """Removes every dead owner directory of this user, and what its journal names, as far as `roots` allow.

        `patient`: those that resisted are tried again only when their time has come.
        """
        with translating("sweep", self._base), turn(self._base_fd, fcntl.LOCK_EX) as self._locks:
            names = [name for name in os.listdir(self._base_fd) if name.startswith(PREFIX)]
        if patient:
            names = [name for name in names if self._retries.due(f"{self._base}/{name}")]
        left = crew.run(iter(names), self._bury, self._policy.threads, self._is_over)
        if self._removed:
            log.info("Cleaned up %d directories of dead processes in %s", self._removed, self._base)
        return SweepReport(self._removed, self._alive, self._failed, self._left + len(left))

    def _bury(self, name: str) -> None:
        path = f"{self._base}/{name}"
        removed = alive = left = 0
        failed: dict[str, str] = {}
        try:
            fate = self._removed_dead(name, failed)
            removed, alive = fate is True, fate is False
        except Unfinished:
            left = 1
        except OSError as error:
            failed[path] = str(error)
        if failed:
            first = next(iter(failed))
            self._retries.put_off(path, failed[first] if first == path else f"{first}: {failed[first]}")
        elif removed:
            self._retries.forgive(path)
        with self._turn:
            self._removed += removed
            self._alive += alive
            self._left += left
            self._failed |= failed

    def _removed_dead(self, name: str, failed: dict[str, str]) -> bool | None:
        """True: it was dead and is gone; False: alive; None: not ours to judge, or not gone yet."""
        hold = dead(name, self._base_fd, self._locks) if name != self._own else False
        if not isinstance(hold, Hold):
            return hold
        with closing(hold):
            hold.claim()
            buried = bury(name, self._base_fd, hold.fd, self._policy, self._pace)
        failed |= buried.failed
        return buried.removed or None


class Burial(NamedTuple):
    """What became of a dead owner: whether its directory is gone, and which of its registered files are not."""

    removed: bool
    failed: dict[str, str]


def bury(name: str, base_fd: int, fd: int, policy: Policy, pace: Pace) -> Burial:
    """Removes the owner directory open as `fd`, which we hold, and what its journal names.

    Of files that resisted but may not do so for ever the journal stays, and its directory, for a later sweep. What
    nobody will ever prove to be what was registered is told, and forgotten.
    """
    replayed = journal.replay(fd, policy.roots, policy.secure, pace)
    if policy.secure:
        overwrite_all(fd, journal.NAME)
    if not replayed.again:
        return Burial(remove(name, base_fd, fd, pace), replayed.failed)
    problems: list[OSError] = []
    empty(fd, problems, pace, (journal.NAME,))
    return Burial(False, replayed.failed)


def dead(name: str, base_fd: int, locks: bool) -> Hold | Literal[False] | None:
    """The hold on an owner directory whose owner is dead; False: it lives; None: not ours, or gone."""
    try:
        if os.stat(name, dir_fd=base_fd, follow_symlinks=False).st_uid != os.geteuid():
            return None
        fd = os.open(name, DIRECTORY, dir_fd=base_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return hold_dead(fd, base_fd, locks) or False


def dead_owners(base_fd: int) -> tuple[int, int]:
    """How many owner directories of this user are in a base directory, and how many of them nobody holds."""
    owners = dead_ones = 0
    with turn(base_fd, fcntl.LOCK_SH) as locks:
        names = os.listdir(base_fd)
    for name in names:
        if name.startswith(PREFIX):
            # Held for a moment only; a new owner who meets that takes another name, as with a sweeper.
            hold = dead(name, base_fd, locks)
            owners += hold is not None
            if isinstance(hold, Hold):
                hold.close()
                dead_ones += 1
    return owners, dead_ones


def release(owner: Owner, policy: Policy) -> None:
    """Does to an owner directory of ours what a sweep does to a dead one, and gives up its lease.

    Does nothing in a fork, which owns another.
    """
    if owner.pid != os.getpid():
        return
    # Whoever is at work for longer than this at the end of a process leaves the directory to the next sweep.
    if owner.busy.acquire(timeout=PATIENCE):
        try:
            _release(owner, policy)
        finally:
            owner.busy.release()


def _release(owner: Owner, policy: Policy) -> None:
    with owner.pen:
        fd, owner.fd = owner.fd, -1
        pen, owner.journal = owner.journal, -1
    try:
        for path, reason in bury(owner.name, owner.base_fd, fd, policy, Pace()).failed.items():
            log.warning("Failed to remove %s: %s", path, reason)
    except OSError as error:
        log.warning("Failed to remove %s: %s", owner.path, error)
    finally:
        if owner.heart is not None:
            owner.heart.stop()
        if pen >= 0:
            os.close(pen)
        os.close(fd)
        os.close(owner.base_fd)


def discard(path: str, secure: bool = False) -> None:
    """Removes a directory of our own with all that is in it; what cannot be removed is left to the next sweep."""
    try:
        fd = os.open(path, DIRECTORY)
        try:
            if secure:
                overwrite_all(fd)
            remove(path, None, fd, Pace())
        finally:
            os.close(fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("Failed to remove %s: %s", path, error)
