"""What killed transfers left behind: staged writes that nobody goes on with, and the rows that remember them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from msgspec import Struct, field

from ..exceptions import StorageError
from ..journal import Journal, Staged, default_path
from ..mount import Level, Mount
from ..paths import full
from ..types import Place, Unfinished
from .places import At
from .resume import journal_of, unusable
from .staging import discard

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class Leftover(Struct, frozen=True):
    """A staged write that was never finished: what it was to become, and when it was begun in POSIX seconds."""

    mount: str
    path: str
    token: str
    started: float | None = None

    @property
    def fullpath(self) -> str:
        return full(self.mount, self.path)


class RecoverReport(Struct):
    """What was taken away, or would be if `dry_run`; `jobs`: how many transfers were forgotten.

    `failures`: mounts, or single leftovers, where that did not work.
    """

    dry_run: bool = False
    aborted: list[Leftover] = field(default_factory=list)
    jobs: int = 0
    failures: list[tuple[str, StorageError]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {
            "dry_run": self.dry_run,
            "aborted": [{"path": one.fullpath, "token": one.token, "started": one.started} for one in self.aborted],
            "jobs": self.jobs,
            "failures": [
                {"path": path, "error": type(error).__name__, "message": str(error)} for path, error in self.failures
            ],
        }

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        removed, forgotten = len(self.aborted), self.jobs
        told = f"{removed} leftover{'' if removed == 1 else 's'} {would}removed"
        return f"{told}, {forgotten} transfer{'' if forgotten == 1 else 's'} {would}forgotten{failed}"


def recover(
    mounts: Iterable[Mount],
    find: Callable[[str], Place],
    *,
    older_than: float | str | timedelta = "7d",
    journal: Any = None,
    dry_run: bool = False,
) -> RecoverReport:
    """Aborts the staged writes on these mounts that are `older_than` (seconds, a timedelta, or text like ``"7d"``).

    Those of a transfer that the journal knows stay as long as somebody works on it, or did so since then. `journal` as
    for `CopyOptions`; None means the one of this user, if there is one. `find` gives the place of a ``mount:path`` or
    URL. Read-only mounts are passed over; a mount that does not answer is a failure of the report.

    Raises:
        StorageConfigError, StorageUnavailableError: the journal cannot be read; nothing was done.
    """
    age = seconds_of(older_than)
    report = RecoverReport(dry_run)
    with _opened(journal) as known:
        try:
            kept = set() if known is None else _forget(known, find, age, report)
        except StorageError as error:
            raise unusable(journal, error) from error
        for mount in mounts:
            for found in _unfinished(mount, age, report):
                if found.token not in kept:
                    kept.add(found.token)  # two mounts may show the same place
                    _abort(At(mount, found.path), found.token, found.started, report)
    return report


def seconds_of(age: float | str | timedelta) -> float:
    """An age in seconds: a number of them, a timedelta, or text like ``"90s"``, ``"12h"``, ``"7d"``, ``"2w"``."""
    if isinstance(age, timedelta):
        return age.total_seconds()
    if isinstance(age, str):
        found = _AGE.fullmatch(age.strip())
        if found is None:
            raise ValueError(f"an age is text like '12h' or '7d', not {age!r}")
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(age, bool) or not isinstance(age, (int, float)) or not age >= 0:
        raise ValueError(f"an age is a number of seconds from 0 up, not {age!r}")
    return float(age)


@contextmanager
def _opened(given: Any) -> Iterator[Journal | None]:
    """The journal, if there is one: looking for leftovers makes none."""
    path = default_path() if given is None else given
    if isinstance(path, (str, os.PathLike)) and not os.path.exists(path):
        yield None
        return
    try:
        journal = journal_of(given)
    except (StorageError, OSError) as error:
        raise unusable(given, error) from error
    try:
        yield journal
    finally:
        if isinstance(given, (str, os.PathLike)):
            journal.close()


def _forget(journal: Journal, find: Callable[[str], Place], age: float, report: RecoverReport) -> set[str]:
    """Drops jobs that nobody works on, with what they staged; returns the tokens of all that any job staged."""
    old = {info.id for info in journal.jobs(older_than=age)}
    tokens = set()
    for info in journal.jobs():
        staged = list(journal.staged(info.id))
        tokens |= {one.token for one in staged}
        if info.id in old and not journal.is_owned(info.id) and _all_aborted(staged, find, report):
            report.jobs += 1
            if not report.dry_run:
                journal.forget(info.id)
    return tokens


def _all_aborted(staged: list[Staged], find: Callable[[str], Place], report: RecoverReport) -> bool:
    """Whether nothing is left of what a job staged, so that it may be forgotten."""
    before = len(report.failures)
    for one in staged:
        try:
            place = find(one.target)
        except StorageError:
            return False  # of a mount that only another configuration has
        _abort(At(place.mount, place.path), one.token, one.created, report)
    return len(report.failures) == before


def _unfinished(mount: Mount, age: float, report: RecoverReport) -> list[Unfinished]:
    if mount.level < Level.readwrite or not mount.can("unfinished"):
        return []
    try:
        return mount.unfinished("", older_than=age)
    except StorageError as error:
        report.failures.append((full(mount.name, ""), error))
        return []


def _abort(place: At, token: str, started: float | None, report: RecoverReport) -> None:
    """Takes one away; what is gone by now is no leftover."""
    mount, path, _ = place
    try:
        if report.dry_run or discard(place, token):
            report.aborted.append(Leftover(mount.name, path, token, started))
    except StorageError as error:
        report.failures.append((full(mount.name, path), error))
