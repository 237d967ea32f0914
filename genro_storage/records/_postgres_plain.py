"""A commit where no function may be installed: the same locks and judgements in one transaction of a few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _postgres_sql as sql
from .base import Change, Check, Delete, Put

if TYPE_CHECKING:
    import asyncpg


Made = Mapping[tuple[str, str], int]
"""The new version of each record."""


class Race(Exception):
    """A record came between judging and writing."""

    sqlstate = sql.RACE


async def commit_without_function(
    connection: asyncpg.Connection, statements: Mapping[str, str], changes: Sequence[Change], moment: int
) -> list[Any]:
    """Writes changes that are in order of (space, key); answers as the function does."""
    async with connection.transaction(isolation="read_committed"):
        locked = await connection.fetch(statements["LOCK"], *names(changes))
        held = {(row["space"], row["key"]): row for row in locked}
        refused = _refused(changes, held, moment)
        if refused:
            return refused
        versions = [row[0] for row in await connection.fetch(statements["VERSIONS"], len(changes))]
        made = dict(zip(zip(*names(changes), strict=True), versions, strict=True))
        # What must be absent is inserted, also where nothing is to be written: only the unique index holds off others.
        # One statement, in order of the keys, so that two such commits do not wait for each other.
        absent = [change for change in changes if change.expect == 0 and (change.space, change.key) not in held]
        await _insert(connection, statements, absent, made)
        gone = [c for c in changes if type(c) is Delete] + [c for c in absent if type(c) is Check]
        if gone:
            await connection.execute(statements["REMOVE"], *names(gone))
        new = {(change.space, change.key) for change in absent}
        old = [c for c in changes if type(c) is Put and (c.space, c.key) not in new]
        if old:
            await connection.execute(statements["UPSERT"], *rows(old, made))
    return versions


def _refused(changes: Sequence[Change], held: Mapping[tuple[str, str], Any], moment: int) -> list[list[int]]:
    """The place, from 1, of each change whose `expect` does not hold, and the version that is there."""
    refused = []
    for place, change in enumerate(changes, 1):
        row = held.get((change.space, change.key))
        living = row is not None and (row["expires_at"] is None or row["expires_at"] > moment)
        actual = int(row["version"]) if row is not None and living else 0
        if change.expect is not None and change.expect != actual:
            refused.append([place, actual])
    return refused


async def _insert(
    connection: asyncpg.Connection, statements: Mapping[str, str], changes: Sequence[Change], made: Made
) -> None:
    """Inserts what must be new."""
    if changes:
        done = await connection.execute(statements["INSERT"], *rows(changes, made))
        if done != f"INSERT 0 {len(changes)}":
            raise Race


def names(changes: Sequence[Change]) -> tuple[list[str], list[str]]:
    """Spaces and keys."""
    return [change.space for change in changes], [change.key for change in changes]


def rows(changes: Sequence[Change], made: Made) -> tuple[object, ...]:
    """The columns of new rows; those of a change that writes nothing are empty."""
    puts = [change if type(change) is Put else Put(change.space, change.key, b"") for change in changes]
    versions = [made[put.space, put.key] for put in puts]
    return *names(puts), versions, [put.expires_at for put in puts], [put.data for put in puts]
