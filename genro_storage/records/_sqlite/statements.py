"""What is read on a connection, and backups."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from ..base import Record
from .file import translated, translating
from .lane import Job

INLINE = 64 << 10
"""Bytes of a record that is read on the caller's own thread."""
INLINE_ROWS, INLINE_SCANNED = 64, 4 << 10
"""Records, and bytes of each, that are scanned on the caller's own thread."""
_GET = "SELECT data, version, expires_at FROM records WHERE space=? AND key=?"
# length() of a blob reads its header only: a large record is not fetched to be thrown away.
_SMALL = f"CASE WHEN length(data)<={INLINE} THEN data END, version, expires_at FROM records WHERE space=? AND key=?"
_GET_SMALL = f"SELECT {_SMALL}"
FEW = 8
"""Records that are looked up together on the caller's own thread."""
_GET_FEW = {many: " UNION ALL ".join([f"SELECT space, key, {_SMALL}"] * many) for many in range(1, FEW + 1)}
_FEW_BYTES = f"CASE WHEN length(data)<={INLINE_SCANNED} THEN data END"
_SCANS = {
    (few, bounded, reverse): (
        f"SELECT key, {_FEW_BYTES if few else 'data'}, version, expires_at FROM records WHERE space=? AND key>? "
        f"{'AND key<? ' if bounded else ''}AND (expires_at IS NULL OR expires_at>?) "
        f"ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?"
    )
    for few in (False, True)
    for bounded in (False, True)
    for reverse in (False, True)
}
PLACES, WINDOW = 16, 32


def approximate_count(connection: sqlite3.Connection) -> int:
    """How dense the numbers of rows are in some places, times their range; few rows are counted."""
    ((low, high),) = connection.execute("SELECT (SELECT min(rowid) FROM records), (SELECT max(rowid) FROM records)")
    if high is None:
        return 0
    span = int(high - low + 1)
    step, size = (span, span) if span <= PLACES * WINDOW else (span // PLACES, WINDOW)
    starts = range(low, high + 1, step)
    count = "SELECT count(*) FROM records WHERE rowid>=? AND rowid<?"
    found: int = sum(connection.execute(count, (at, at + size)).fetchone()[0] for at in starts)
    return int(found * span / (len(starts) * size))


class Reading:
    """Serves the readers' lane: one short read transaction for a batch, so that each answer is of one moment.

    A read that fails fails alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
        with translating(self.path):
            connection.execute("BEGIN")
            try:
                for job in jobs:
                    self._answer(connection, job)
            finally:
                if connection.in_transaction:  # some errors end it
                    connection.execute("ROLLBACK")

    def _answer(self, connection: sqlite3.Connection, job: Job[Any]) -> None:
        try:
            job.value = job.call(connection)
        except sqlite3.Error as error:
            job.error = translated(error, self.path)
            job.error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked gets it
            job.error = error


def get(connection: sqlite3.Connection, space: str, key: str, moment: int) -> Record | None:
    """One living record."""
    for data, version, expires_at in connection.execute(_GET, (space, key)).fetchall():
        if expires_at is None or expires_at > moment:
            return Record(space, key, data, version, expires_at)
    return None


def get_small(connection: sqlite3.Connection, space: str, key: str, moment: int) -> tuple[bool, Record | None]:
    """(whether this is the answer, the record): no answer for one above `INLINE`."""
    # All rows, though there is one at most: a statement left in the middle keeps its read transaction open.
    for data, version, expires_at in connection.execute(_GET_SMALL, (space, key)).fetchall():
        if expires_at is None or expires_at > moment:
            return data is not None, Record(space, key, data, version, expires_at)
    return True, None


def scan(
    connection: sqlite3.Connection,
    moment: int,
    space: str,
    after: str,
    until: str | None,
    limit: int | None,
    reverse: bool,
) -> list[Record]:
    """Living records between two keys, in order."""
    bounds = (space, after) if until is None else (space, after, until)
    statement = _SCANS[False, until is not None, reverse]
    rows = connection.execute(statement, (*bounds, moment, -1 if limit is None else limit))
    return [Record(space, *row) for row in rows.fetchall()]


def scan_small(
    connection: sqlite3.Connection,
    moment: int,
    space: str,
    after: str,
    until: str | None,
    limit: int,
    reverse: bool,
) -> tuple[bool, list[Record]]:
    """As `scan`, for a few: (whether this is the answer, the records); no answer where one is large."""
    bounds = (space, after) if until is None else (space, after, until)
    rows = connection.execute(_SCANS[True, until is not None, reverse], (*bounds, moment, limit)).fetchall()
    return all(row[1] is not None for row in rows), [Record(space, *row) for row in rows]


def get_many_small(
    connection: sqlite3.Connection, keys: Sequence[tuple[str, str]], moment: int
) -> tuple[bool, list[Record | None]]:
    """As `get_small`, for at most `FEW` records at one moment."""
    if not keys:
        return True, []
    answered, found = True, dict[tuple[str, str], Record]()
    for row in connection.execute(_GET_FEW[len(keys)], [text for name in keys for text in name]).fetchall():
        space, key, data, _, expires_at = row
        if expires_at is None or expires_at > moment:
            answered = answered and data is not None
            found[space, key] = Record(*row)
    return answered, [found.get(name) for name in keys]


def checkpoint(connection: sqlite3.Connection, mode: str = "TRUNCATE") -> None:
    """Empties the write-ahead log, unless somebody reads it; ``PASSIVE`` waits for nobody."""
    try:
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
    except sqlite3.Error:  # busy, full, damaged: what was acknowledged stays in the log, and the next call tells
        pass


def backup(connection: sqlite3.Connection, source: str, path: str) -> None:
    """A whole copy at `path`, put there in one step by SQLite's online backup; writers are not held up."""
    target = os.path.abspath(path)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError("a backup onto the database itself")
    with translating(target):
        _backup(connection, target)


def _backup(connection: sqlite3.Connection, target: str) -> None:
    staged = f"{target}.genro-{os.urandom(4).hex()}"
    copy = sqlite3.connect(staged, isolation_level=None)
    try:
        with copy:
            connection.backup(copy)
        copy.close()
        fd = os.open(staged, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(staged, target)
    finally:
        copy.close()
        for name in (staged, f"{staged}-wal", f"{staged}-shm", f"{staged}-journal"):
            if os.path.exists(name):
                os.unlink(name)
