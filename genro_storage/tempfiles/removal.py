"""Removal of directory trees: by descriptor, following no link, entering no mount, whoever else is at work there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from .lease import DIRECTORY, token

PASSES = 3
"""How often a directory is emptied in which somebody else is still at work."""
SLICE = 100
"""How many files are unlinked between two looks at the clock."""


class Unfinished(Exception):
    """The time was over before the work."""


class Pace:
    """When to stop: asked before each slice of a work, raises `Unfinished` when `is_over` says so."""

    def __init__(self, size: int = SLICE, is_over: Callable[[], bool] = lambda: False) -> None:
        self.size = size
        self._is_over = is_over

    def ask(self) -> None:
        if self._is_over():
            raise Unfinished


def remove(name: str, parent_fd: int | None, fd: int, pace: Pace) -> bool:
    """Removes the directory `name` in `parent_fd`, open as `fd`; False if another remover was first.

    Raises the first `OSError` that kept something, when all that could go is gone.
    """
    problems: list[OSError] = []
    for _ in range(PASSES):
        problems.clear()
        empty(fd, problems, pace)
        try:
            os.rmdir(name, dir_fd=parent_fd)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            problems.append(error)
    raise problems[0]


def empty(root: int, problems: list[OSError], pace: Pace, spare: Iterable[str] = ()) -> None:
    """Removes everything in the directory open as `root` but the names `spare`; `problems` tells what resisted.

    A subdirectory is first moved to a new name in `root`: so two descriptors do for any depth, a mount point (EBUSY)
    is not entered, and a link put in a directory's place meanwhile is moved, not opened, and unlinked in the next pass.
    """
    waiting = _strip(root, root, problems, pace, spare)
    while waiting:
        name = waiting.pop()
        try:
            fd = _open(name, root)
            try:
                waiting += _strip(fd, root, problems, pace)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=root)
        except FileNotFoundError:
            pass
        except OSError as error:
            problems.append(error)


def _strip(fd: int, root: int, problems: list[OSError], pace: Pace, spare: Iterable[str] = ()) -> list[str]:
    """Unlinks the files of one directory and moves its directories into `root`; returns their names there."""
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    with os.scandir(fd) as entries:
        found = [entry for entry in entries if entry.name not in spare]
    moved = []
    for start in range(0, len(found), pace.size):
        pace.ask()
        for entry in found[start : start + pace.size]:
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
