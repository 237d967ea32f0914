"""Removal of what dead owners left: by descriptor, following no link, entering no mount, safe among racing sweepers."""

from __future__ import annotations

import fcntl
import logging
import os
from typing import NamedTuple

from . import journal
from .lease import DIRECTORY, PREFIX, Owner, token, translating, try_lock, turn
from .secure import overwrite_all

logger = logging.getLogger("genro_storage.tempfiles")

PATIENCE = 60.0
PASSES = 3
"""How often a directory is emptied in which somebody else is still at work."""


class SweepReport(NamedTuple):
    """What one sweep found: how many dead owners it removed, how many live, what resisted (path → reason)."""

    removed: int
    alive: int
    failed: dict[str, str]


def sweep(base: str, base_fd: int, roots: tuple[str, ...] | None = None, secure: bool = False) -> SweepReport:
    """Removes every dead owner directory of this user in the base directory open as `base_fd`; `base` is its path.

    With it goes what its journal names, as far as that lies in `roots`. `secure`: everything is overwritten first.
    """
    with translating("sweep", base), turn(base_fd, fcntl.LOCK_EX):
        names = [name for name in os.listdir(base_fd) if name.startswith(PREFIX)]
    removed = alive = 0
    failed: dict[str, str] = {}
    for name in names:
        try:
            fate = _bury(name, base_fd, roots, secure, failed)
        except OSError as error:
            failed[f"{base}/{name}"] = str(error)
            logger.warning("Failed to remove %s: %s", f"{base}/{name}", error)
        else:
            removed += fate is True
            alive += fate is False
    if removed:
        logger.info("Cleaned up %d directories of dead processes in %s", removed, base)
    return SweepReport(removed, alive, failed)


def _bury(name: str, base_fd: int, roots: tuple[str, ...] | None, secure: bool, failed: dict[str, str]) -> bool | None:
    """True: it was dead and is gone; False: alive; None: not ours to judge, or another sweeper was first."""
    try:
        if os.stat(name, dir_fd=base_fd, follow_symlinks=False).st_uid != os.geteuid():
            return None
        fd = os.open(name, DIRECTORY, dir_fd=base_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not try_lock(fd, fcntl.LOCK_EX):
            return False
        resisted = journal.replay(fd, roots, secure)
        for path, reason in resisted.items():
            logger.warning("Failed to remove %s: %s", path, reason)
        failed |= resisted
        if secure:
            overwrite_all(fd)
        return remove(name, base_fd, fd)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # see `turn`: a forked child's copy must not keep it
        os.close(fd)


def dead_owners(base_fd: int) -> tuple[int, int]:
    """How many owner directories are in a base directory, and how many of them nobody holds."""
    owners = dead = 0
    for name in os.listdir(base_fd):
        if not name.startswith(PREFIX):
            continue
        try:
            fd = os.open(name, DIRECTORY, dir_fd=base_fd)
        except OSError:
            continue  # gone meanwhile, or another user's
        owners += 1
        try:
            # Locked for a moment only; a new owner who meets that takes another name, as with a sweeper.
            dead += _unheld(fd)
        finally:
            os.close(fd)
    return owners, dead


def _unheld(fd: int) -> bool:
    if not try_lock(fd, fcntl.LOCK_EX):
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def release(owner: Owner, roots: tuple[str, ...] | None = None, secure: bool = False) -> None:
    """Does to an owner directory of ours what a sweep does to a dead one, and gives up its lease.

    Does nothing in a fork, which owns another.
    """
    if owner.pid != os.getpid():
        return
    # Whoever is at work for longer than this at the end of a process leaves the directory to the next sweep.
    if owner.busy.acquire(timeout=PATIENCE):
        try:
            _release(owner, roots, secure)
        finally:
            owner.busy.release()


def _release(owner: Owner, roots: tuple[str, ...] | None, secure: bool) -> None:
    with owner.pen:
        fd, owner.fd = owner.fd, -1
        pen, owner.journal = owner.journal, -1
    try:
        for path, reason in journal.replay(fd, roots, secure).items():
            logger.warning("Failed to remove %s: %s", path, reason)
        if secure:
            overwrite_all(fd)
        remove(owner.name, owner.base_fd, fd)
    except OSError as error:
        logger.warning("Failed to remove %s: %s", owner.path, error)
    finally:
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
            remove(path, None, fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("Failed to remove %s: %s", path, error)


def remove(name: str, parent_fd: int | None, fd: int) -> bool:
    """Removes the directory `name` in `parent_fd`, open as `fd`; False if another remover was first.

    Raises the first `OSError` that kept something, when all that could go is gone.
    """
    problems: list[OSError] = []
    for _ in range(PASSES):
        problems.clear()
        empty(fd, problems)
        try:
            os.rmdir(name, dir_fd=parent_fd)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            problems.append(error)
    raise problems[0]


def empty(root: int, problems: list[OSError]) -> None:
    """Removes everything below the directory open as `root`, appending to `problems` what resisted.

    A subdirectory is first moved to a new name in `root`: so two descriptors do for any depth, a mount point (EBUSY)
    is not entered, and a link put in a directory's place meanwhile is moved, not opened, and unlinked in the next pass.
    """
    waiting = _strip(root, root, problems)
    while waiting:
        name = waiting.pop()
        try:
            fd = _open(name, root)
            try:
                waiting += _strip(fd, root, problems)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=root)
        except FileNotFoundError:
            pass
        except OSError as error:
            problems.append(error)


def _strip(fd: int, root: int, problems: list[OSError]) -> list[str]:
    """Unlinks the files of one directory and moves its directories into `root`; returns their names there."""
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    with os.scandir(fd) as entries:
        found = list(entries)
    moved = []
    for entry in found:
        name = entry.name
        try:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(name, dir_fd=fd)
            else:
                moved.append(_move_up(name, fd, root))
        except FileNotFoundError:
            pass
        except OSError as error:
            problems.append(error)
    return moved


def _move_up(name: str, fd: int, root: int) -> str:
    above = f"d-{token()}"
    try:
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=root)
    except PermissionError:
        _grant(name, fd)
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=root)
    return above


def _open(name: str, root: int) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=root)
    except PermissionError:
        _grant(name, root)
        return os.open(name, DIRECTORY, dir_fd=root)


def _grant(name: str, fd: int) -> None:
    """Gives us our rights on a directory of ours (build tools leave read-only trees), following no link."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, 0o700, dir_fd=fd, follow_symlinks=False)
        return
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
