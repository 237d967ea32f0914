"""A commit where no function may be installed: the same locks and judgements in one transaction of a few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import _postgres_sql as sql
from .base import Change, Check, Delete, Put

if TYPE_CHECKING:
    import asyncpg


class Race(Exception):
    """A record came between judging and writing."""

    sqlstate = sql.RACE


class Mismatch(Exception):
    """The place of a change whose `expect` does not hold, and the version that is there."""


async def commit_without_function(
    connection: asyncpg.Connection, statements: Mapping[str, str], changes: Sequence[Change], moment: int
) -> list[int]:
    """The versions of changes that are in order of (space, key)."""
    async with connection.transaction(isolation="read_committed"):
        locked = await connection.fetch(statements["LOCK"], *names(changes))
        held = {(row["space"], row["key"]): row for row in locked}
        for index, change in enumerate(changes):
            row = held.get((change.space, change.key))
            living = row is not None and (row["expires_at"] is None or row["expires_at"] > moment)
            actual = int(row["version"]) if row is not None and living else 0
            if change.expect is not None and change.expect != actual:
                raise Mismatch(index, actual)
        puts = [change for change in changes if type(change) is Put]
        versions = [int(row[0]) for row in await connection.fetch(statements["VERSIONS"], len(puts))] if puts else []
        made = dict(zip(((put.space, put.key) for put in puts), versions, strict=True))
        # What must be absent is inserted, also where nothing is to be written: only the unique index holds off others.
        # One statement, in order of the keys, so that two such commits do not wait for each other.
        absent = [change for change in changes if change.expect == 0 and (change.space, change.key) not in held]
        new = [change if type(change) is Put else Put(change.space, change.key, b"") for change in absent]
        await _insert(connection, statements, new, [made.get((put.space, put.key), 0) for put in new])
        gone = [c for c in changes if type(c) is Delete] + [c for c in absent if type(c) is Check]
        if gone:
            await connection.execute(statements["REMOVE"], *names(gone))
        old = [put for put in puts if put.expect != 0 or (put.space, put.key) in held]
        if old:
            await connection.execute(statements["UPSERT"], *rows(old, [made[put.space, put.key] for put in old]))
    return [made.get((c.space, c.key), c.expect if type(c) is Check else 0) or 0 for c in changes]


async def _insert(
    connection: asyncpg.Connection, statements: Mapping[str, str], puts: Sequence[Put], versions: Sequence[int]
) -> None:
    """Inserts what must be new."""
    if puts:
        done = await connection.execute(statements["INSERT"], *rows(puts, versions))
        if done != f"INSERT 0 {len(puts)}":
            raise Race


def names(changes: Sequence[Change]) -> tuple[list[str], list[str]]:
    """Spaces and keys."""
    return [change.space for change in changes], [change.key for change in changes]


def rows(puts: Sequence[Put], versions: Sequence[int]) -> tuple[object, ...]:
    """The columns of new rows."""
    return *names(puts), versions, [put.expires_at for put in puts], [put.data for put in puts]
