"""What is written on a connection: commits judged and applied, the sweep, and the numbers of versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ...exceptions import VersionConflictError
from ..base import Change, Check, Clock, Delete, Put, conflict
from .file import LOGGED, translated
from .lane import Job
from .statements import checkpoint

FEW = 8
"""Changes of a commit that is written without looking first; a wrong guess costs them twice."""
VACUUM_PAGES = 2000
TOGETHER = 4 << 10
"""Bytes of a record that is written in one statement with others: SQLite copies each value once more there."""
_POWERS = (64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement; few different ones, so that all stay prepared."""
Row = tuple[str, str, int, int | None, bytes]


def _repeated(text: str) -> Mapping[int, str]:
    return {many: ",".join([text] * many) for many in _POWERS}


_VERSIONS = {
    many: f"WITH wanted(s, k) AS (VALUES {marks}) SELECT space, key, version, expires_at "
    "FROM wanted CROSS JOIN records ON space=s AND key=k"  # in this order: the table is not read from end to end
    for many, marks in _repeated("(?,?)").items()
}
_PUTS = {
    many: f"INSERT INTO records (space, key, version, expires_at, data) VALUES {marks} ON CONFLICT (space, key) "
    "DO UPDATE SET version=excluded.version, expires_at=excluded.expires_at, data=excluded.data"
    for many, marks in _repeated("(?,?,?,?,?)").items()
}
_NEW = f"{_PUTS[1]} WHERE records.expires_at<=?"
_REPLACE = (
    "UPDATE records SET version=?, expires_at=?, data=? "
    "WHERE space=? AND key=? AND version=? AND (expires_at IS NULL OR expires_at>?)"
)
RESERVED = 1000
PAGE = 4096
_RESERVE = "UPDATE meta SET value=value+? WHERE name='rev' RETURNING value"
_DELETE = "DELETE FROM records WHERE space=? AND key=?"
_SWEEP = (
    "DELETE FROM records WHERE rowid IN "
    "(SELECT rowid FROM records WHERE expires_at IS NOT NULL AND expires_at<=? LIMIT ?)"
)

Name = tuple[str, str]
"""Space and key."""
T = TypeVar("T")


def _in_powers(rows: Sequence[T]) -> Iterator[tuple[int, Sequence[T]]]:
    """The rows in parts for which there is a statement: (how many, they)."""
    start = 0
    for many in _POWERS:
        while len(rows) - start >= many:
            yield many, rows[start : start + many]
            start += many


def hoped(connection: sqlite3.Connection, changes: Sequence[Change], moment: int, fresh: Fresh) -> list[int] | None:
    """Writes as if each `expect` held; the versions, None as soon as one does not: it must be rolled back then."""
    versions, execute = list[int](), connection.execute
    for change in changes:
        space, key, expect = change.space, change.key, change.expect
        if type(change) is not Put:
            if expect is not None and _version(connection, space, key, moment) != expect:
                return None
            if type(change) is Delete:
                execute(_DELETE, (space, key))
            versions.append(expect or 0 if type(change) is Check else 0)
            continue
        version = fresh.next(execute)
        if expect is None:
            execute(_PUTS[1], (space, key, version, change.expires_at, change.data))
        elif expect:
            values = (version, change.expires_at, change.data, space, key, expect, moment)
            if execute(_REPLACE, values).rowcount != 1:
                return None
        elif execute(_NEW, (space, key, version, change.expires_at, change.data, moment)).rowcount != 1:
            return None
        versions.append(version)
    return versions


def _pages(changes: Sequence[Change]) -> int:
    """How many pages of the log they take, about: of the table, of its index, and for what is long."""
    return 2 * len(changes) + sum([len(change.data) for change in changes if type(change) is Put]) // PAGE


def _version(connection: sqlite3.Connection, space: str, key: str, moment: int) -> int:
    """Of a living record; 0 where there is none."""
    for _, _, version, expires_at in connection.execute(_VERSIONS[1], (space, key)).fetchall():
        if expires_at is None or expires_at > moment:
            return int(version)
    return 0


class Fresh:
    """Versions that no record ever had: a thousand are reserved at a time, so that few commits write the counter."""

    def __init__(self) -> None:
        self._last = self._end = 0
        self._open = False

    def next(self, execute: Callable[..., sqlite3.Cursor]) -> int:
        if self._last == self._end:
            self._open = True
            ((self._end,),) = execute(_RESERVE, (RESERVED,)).fetchall()
            self._last = self._end - RESERVED
        self._last += 1
        return self._last

    def committed(self) -> None:
        self._open = False

    def rolled_back(self) -> None:
        """What this transaction reserved is not ours."""
        if self._open:
            self._last = self._end = 0
            self._open = False


class Transaction:
    """The one open write transaction: commits of several callers, each judged before anything of it is applied.

    What they expect is looked up together and what they write is written together: a statement costs more than a row.
    """

    def __init__(self, connection: sqlite3.Connection, moment: int, fresh: Fresh) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.moment = moment
        self.fresh = fresh
        self._versions: dict[Name, int] = {}
        """Versions of living records as they are now, as far as they were asked for or written; 0: absent."""
        self._writes: dict[Name, Change] = {}
        self._given: dict[Name, int] = {}
        self.swept = False

    def look(self, changes: Iterable[Change]) -> None:
        """Reads the versions that these changes expect, those that are not known yet."""
        known = self._versions
        names = {(one.space, one.key): None for one in changes if one.expect is not None}
        unknown = [name for name in names if name not in known]
        known.update(dict.fromkeys(unknown, 0))
        for many, part in _in_powers(unknown):
            values = [text for name in part for text in name]
            for space, key, version, expires_at in self.execute(_VERSIONS[many], values).fetchall():
                if expires_at is None or expires_at > self.moment:
                    known[space, key] = version

    def commit(self, changes: Sequence[Change]) -> list[int]:
        """The versions of one caller's changes, which were looked at; on a conflict nothing of them is applied."""
        for index, change in enumerate(changes):
            if change.expect is not None:
                actual = self._versions[change.space, change.key]
                if actual != change.expect:
                    raise conflict(changes, index, actual)
        return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> int:
        if type(change) is Check:
            return change.expect
        name = change.space, change.key
        self._writes[name] = change
        if type(change) is Put:
            self._given[name] = version = self.fresh.next(self.execute)
            living = change.expires_at is None or change.expires_at > self.moment
            self._versions[name] = version if living else 0
            return version
        self._versions[name] = 0
        return 0

    def write(self) -> None:
        """Brings what was judged into the table; of several writes of one record the last."""
        small, puts, gone = list[Row](), list[Row](), list[Name]()
        for name, change in self._writes.items():
            if type(change) is Put:
                row = (*name, self._given[name], change.expires_at, change.data)
                (small if len(change.data) <= TOGETHER else puts).append(row)
            else:
                gone.append(name)
        for many, part in _in_powers(small):
            self.execute(_PUTS[many], [value for row in part for value in row])
        for row in puts:
            self.execute(_PUTS[1], row)
        if gone:
            self.connection.executemany(_DELETE, gone)
        self._writes.clear()

    def sweep(self, limit: int) -> int:
        """Removes expired records; free pages go back to the file system after the commit."""
        self.swept = True
        self.write()
        removed: int = self.execute(_SWEEP, (self.moment, limit)).rowcount
        return removed

    def end(self) -> None:
        self.write()
        self.execute("COMMIT")
        if self.swept:
            shrink(self.connection)


def shrink(connection: sqlite3.Connection) -> None:
    """Gives free pages back to the file system."""
    try:
        # Only executescript takes this statement to its end; execute stops after one page.
        connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    except sqlite3.OperationalError:  # somebody else writes now: the next sweep does it
        pass


class Commit:
    """What a job of the writer's lane does for a caller of `commit`."""

    __slots__ = ("changes",)

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes

    def __call__(self, transaction: Transaction) -> list[int]:
        return transaction.commit(self.changes)


class Writing:
    """Serves the writer's lane: one transaction for a batch; who conflicts fails alone, a failed COMMIT fails all."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.fresh = Fresh()
        self.batches = 0
        self.commits = 0
        self._logged = 0
        """Pages in the write-ahead log since it was last brought into the database, about."""

    def __call__(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
        try:
            # A deferred transaction that reads and then writes fails at once with BUSY, whatever the busy_timeout.
            connection.execute("BEGIN IMMEDIATE")
            moment = self.clock()
            if len(jobs) > 1 or not self._alone(connection, jobs[0], moment):
                self._together(connection, jobs, moment)
            self.fresh.committed()
        except BaseException as error:
            self.fresh.rolled_back()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.path) from error
            raise
        self.batches += 1
        self.commits += len(jobs)
        for job in jobs:
            if type(job.call) is Commit:
                self._logged += _pages(job.call.changes)

    def tidy(self, connection: sqlite3.Connection) -> None:
        """Brings the log into the database while nobody waits; SQLite itself would do it within a commit."""
        if self._logged > LOGGED:
            self._logged = 0
            checkpoint(connection, "PASSIVE")

    def _alone(self, connection: sqlite3.Connection, job: Job[Any], moment: int) -> bool:
        """Does a single commit of few records as it hopes to, judged by what is changed; False: nothing was done."""
        if type(job.call) is not Commit or len(job.call.changes) > FEW:
            return False
        versions = hoped(connection, job.call.changes, moment, self.fresh)
        if versions is None:
            connection.execute("ROLLBACK")
            self.fresh.rolled_back()
            connection.execute("BEGIN IMMEDIATE")
            return False
        connection.execute("COMMIT")
        job.value = versions
        return True

    def _together(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]], moment: int) -> None:
        transaction = Transaction(connection, moment, self.fresh)
        transaction.look(change for job in jobs if type(job.call) is Commit for change in job.call.changes)
        for job in jobs:
            try:
                job.value = job.call(transaction)
            except VersionConflictError as error:
                job.error = error
        transaction.end()
