"""Deletion of what is old enough: files of the owner directory by their last change, others by their identity."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from . import crew
from .identity import IdentityUnknown, Remover
from .journal import Journal
from .lease import Owner
from .registry import Entry, Registry
from .retries import Retries
from .secure import overwrite

FOLDERS = ("f", "n")
MOMENT = 10.0
"""Seconds that an empty directory stays at least."""

_UNFINISHED = ".genro-"


class CleanupReport(NamedTuple):
    """What one cleanup did.

    `removed`: files unlinked; `gone`: nothing was there any more; `replaced`: another file has the path and stays;
    `failed`: path → reason; `left`: not reached before the timeout; `duration`: seconds;
    `secure`: ``"best effort"`` if files were overwritten first, else empty.
    """

    removed: int = 0
    gone: int = 0
    replaced: int = 0
    failed: dict[str, str] = {}  # noqa: RUF012 - never changed
    left: int = 0
    duration: float = 0.0
    secure: str = ""


class Policy(NamedTuple):
    """How a manager cleans."""

    batch_size: int = 100
    threads: int = 4
    timeout: float = 30.0
    secure: bool = False
    roots: tuple[str, ...] | None = None


class Tally:
    """The counts of a cleanup under way; `aged` is told the ages of removed files, in seconds."""

    def __init__(self, aged: Callable[[Sequence[float]], None]) -> None:
        self.removed = self.gone = self.replaced = self.left = 0
        self.failed: dict[str, str] = {}
        self.reasons: list[str] = []
        """The class of each failure, as ``EPERM``."""
        self.aged = aged

    def fail(self, path: str, error: OSError) -> None:
        """Notes that a file resisted."""
        self.failed[path] = str(error)
        unknown = "identity_unknown" if isinstance(error, IdentityUnknown) else type(error).__name__
        self.reasons.append(errno.errorcode.get(error.errno or 0, unknown))


def clean_tracked(
    registry: Registry,
    journal: Journal,
    due: list[tuple[str, Entry]],
    policy: Policy,
    clock: Callable[[], float],
    deadline: float,
    tally: Tally,
) -> None:
    """Deletes tracked files, a batch at a time, until the deadline; what resists stays tracked."""
    size = policy.batch_size
    batches = iter([due[start : start + size] for start in range(0, len(due), size)])
    turn = threading.Lock()  # of the tally; the registry's lock may be held by our caller, so it waits to the end
    done: list[tuple[list[tuple[str, Entry]], dict[str, OSError]]] = []

    def work(batch: list[tuple[str, Entry]]) -> None:
        ended, failed, removed, replaced = _remove(batch, policy)
        now = clock()
        with turn:
            done.append((ended, failed))
            tally.removed += len(removed)
            tally.replaced += replaced
            tally.gone += len(ended) - len(removed) - replaced
            for path, error in failed.items():
                tally.fail(path, error)
            tally.aged([now - entry.born for entry in removed])

    left = crew.run(batches, work, policy.threads, lambda: clock() >= deadline)
    for ended, failed in done:
        registry.settle(ended, failed)
    registry.conclude(journal, [path for ended, _ in done for path, _ in ended])
    tally.left += sum(map(len, left))


def _remove(
    batch: list[tuple[str, Entry]], policy: Policy
) -> tuple[list[tuple[str, Entry]], dict[str, OSError], list[Entry], int]:
    """What is over with, what resisted, what was unlinked, and how many were replaced by another file."""
    ended: list[tuple[str, Entry]] = []
    failed: dict[str, OSError] = {}
    removed: list[Entry] = []
    replaced = 0
    with Remover(policy.roots, policy.secure) as remover:
        for item in batch:
            path, entry = item
            try:
                outcome = remover.remove(path, entry)
            except OSError as error:
                failed[path] = error
                continue
            ended.append(item)
            if outcome == "removed":
                removed.append(entry)
            elif outcome == "replaced":
                replaced += 1
    return ended, failed, removed, replaced


# --- in the owner directory ---


def born_files(owner: Owner) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """(directory descriptor, its path in the owner directory, name, facts) of each file that nodes and callers made."""
    for folder in FOLDERS:
        try:
            for path, _, names, at in os.fwalk(folder, dir_fd=owner.fd, follow_symlinks=False, topdown=False):
                for name in names:
                    try:
                        yield at, path, name, os.stat(name, dir_fd=at, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        except FileNotFoundError:
            continue


def walked(owner: Owner) -> Iterator[tuple[str, str, os.stat_result]]:
    """(first part of its path, name, facts) of everything in the owner directory that is no directory."""
    for path, _, names, at in os.fwalk(".", dir_fd=owner.fd, follow_symlinks=False):
        top = path[2:].partition("/")[0]
        for name in names if top else ():
            with suppress(FileNotFoundError):
                yield top, name, os.stat(name, dir_fd=at, follow_symlinks=False)


class Clocks:
    """The two clocks, and the age of a file by the wall's, which may be set back.

    A change in the future then counts from its first sight. `offset`: seconds that both clocks are ahead, for tests.
    """

    def __init__(self) -> None:
        self.offset = 0.0
        self._future: dict[tuple[int, int, int], float] = {}

    def wall(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self.offset

    def age(self, st: os.stat_result) -> float:
        """Seconds since the last change (of content, or of mode and the like, which only makes it younger)."""
        age = self.wall() - st.st_ctime_ns / 1e9
        if age >= 0:
            return age
        now = self.monotonic()
        if len(self._future) > 100_000:
            self._future.clear()
        return now - self._future.setdefault((st.st_dev, st.st_ino, st.st_ctime_ns), now)


def clean_born(
    owner: Owner,
    max_age: float,
    force: bool,
    policy: Policy,
    clocks: Clocks,
    deadline: float,
    retries: Retries,
    tally: Tally,
) -> None:
    """Deletes expired files of the owner directory; with `force` all but those that are just being written."""
    for at, folder, name, st in born_files(owner):
        age = clocks.age(st)
        if age < max_age and not (force and not name.startswith(_UNFINISHED)):
            continue
        if clocks.monotonic() >= deadline:
            tally.left += 1
            continue
        path = f"{owner.path}/{folder}/{name}"
        if not force and not retries.due(path):
            continue
        try:
            os.unlink(overwrite(name, at) if policy.secure else name, dir_fd=at)
        except FileNotFoundError:
            tally.gone += 1
        except OSError as error:
            tally.fail(path, error)
            retries.put_off(path, str(error))
            continue
        else:
            tally.removed += 1
            tally.aged([age])
        retries.forgive(path)
    _clean_folders(owner, max_age, clocks)


def _clean_folders(owner: Owner, max_age: float, clocks: Clocks) -> None:
    """Removes empty directories unchanged for `max_age` seconds; failing is not worth a word.

    Whoever makes a directory to write into it has a moment to do so, however short `max_age` is.
    """
    for folder in FOLDERS:
        with suppress(FileNotFoundError):
            for path, names, _, at in os.fwalk(folder, dir_fd=owner.fd, follow_symlinks=False, topdown=False):
                for name in names:
                    if f"{path}/{name}" not in owner.kept:
                        with suppress(OSError):
                            if clocks.age(os.stat(name, dir_fd=at, follow_symlinks=False)) >= max(max_age, MOMENT):
                                os.rmdir(name, dir_fd=at)
