"""Records in PostgreSQL: for many hosts; one round trip for a commit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec import Struct

from .._bridge import PerLoop
from ..exceptions import (
    CommitOutcomeUnknownError,
    StorageConfigError,
    StorageDriverError,
    StorageError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from . import _postgres_sql as sql
from ._postgres_client import Client
from ._postgres_errors import AGAIN, NotSentError, translated
from ._postgres_plain import commit_without_function
from .base import Change, Check, Clock, Delete, Put, Record, RecordFeatures, RecordStore, conflict, now

T = TypeVar("T")
ATTEMPTS = 4
"""Tries of a commit that PostgreSQL undid because of another one, and of what could not be sent."""
CHANGE_BYTES = 256
"""What a change weighs beside its data."""


class PostgresOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a database is used; seconds.

    At most `pool_size` + `max_overflow` connections for each event loop, opened as they are needed and closed when idle
    for five minutes. Behind a transaction pooler set `statement_cache_size=0`.
    """

    url: str
    pool_size: int = 10
    max_overflow: int = 20
    acquire_timeout: float = 5
    command_timeout: float = 30
    statement_cache_size: int = 100
    schema: str = "genro_storage"

    def __post_init__(self) -> None:
        if not self.url.startswith(("postgresql://", "postgres://")):
            raise ValueError("url begins with postgresql://")
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", self.schema):
            raise ValueError(f"schema is a plain lowercase name, not {self.schema!r}")
        if self.pool_size < 1 or self.max_overflow < 0:
            raise ValueError("pool_size is 1 or more, max_overflow 0 or more")


class PostgresRecordStore(RecordStore):
    """`url` and the options of `PostgresOptions`.

    A commit calls a function that `initialize` installs; where that is forbidden and nobody did it before, it is one
    transaction of a few statements. `synchronous_commit` is the server's and never turned off.
    """

    name = "postgresql"
    features = RecordFeatures(durable=True, shared=True, snapshot_scan=True)
    durability = "the server's synchronous_commit"
    outlasts = True

    def __init__(self, url: str, *, clock: Clock = now, **options: Any) -> None:
        super().__init__(clock=clock)
        try:
            self.options = PostgresOptions(url=url, **options)
        except (TypeError, ValueError) as error:
            raise StorageConfigError(f"postgresql: {error}") from None
        names = ("GET_MANY", "SWEEP", "CALL", "LOCK", "VERSIONS", "INSERT", "UPSERT", "REMOVE")
        self._sql = {name: getattr(sql, name).format(schema=self.options.schema) for name in names}
        self._few = [sql.get_few(self.options.schema, count) for count in range(sql.FEW + 1)]
        self._scans = {
            (bounded, reverse): sql.SCAN.format(
                schema=self.options.schema,
                until="key < $3" if bounded else "$3::text IS NULL",
                order="DESC" if reverse else "ASC",
            )
            for bounded in (False, True)
            for reverse in (False, True)
        }
        self._clients: PerLoop[Client] = PerLoop(self._connect, Client.close)
        self.has_function: bool | None = None
        """Whether commits call the installed function; None before the first use."""

    # --- calls ---

    async def _get(self, space: str, key: str) -> Record | None:
        return (await self._get_many([(space, key)]))[0]

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        if not keys:
            return []
        client = await self._clients.get()
        return await client.reads.ask(keys, weight=len(keys))

    async def _found(self, batch: Sequence[Sequence[tuple[str, str]]]) -> list[list[Record | None]]:
        """What several `_get_many` asked for, by one statement."""
        keys = batch[0] if len(batch) == 1 else [key for asked in batch for key in asked]
        moment = self.clock()
        words: Sequence[Any]
        if len(keys) <= sql.FEW:
            statement, words = self._few[len(keys)], [word for key in keys for word in key]
        else:
            statement, words = self._sql["GET_MANY"], ([space for space, _ in keys], [key for _, key in keys])
        found: list[Record | None] = [None] * len(keys)
        for place, *facts in await self._read(lambda connection: connection.fetch(statement, moment, *words)):
            found[place - 1] = Record(*keys[place - 1], *facts)
        if len(batch) == 1:
            return [found]
        rest = iter(found)
        return [[next(rest) for _ in asked] for asked in batch]

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        statement = self._scans[until is not None, reverse]
        moment = self.clock()
        rows = await self._read(lambda connection: connection.fetch(statement, space, after, until, moment, limit))
        return [Record(space, *row) for row in rows]

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        client = await self._clients.get()
        names = {(change.space, change.key) for change in changes}
        weight = sum(CHANGE_BYTES + (len(change.data) if type(change) is Put else 0) for change in changes)
        return await client.commits.ask(changes, weight=weight, names=names, settle=True)

    async def _committed(self, batch: Sequence[Sequence[Change]]) -> list[list[int] | BaseException]:
        """What came of several commits that have no record in common, each whole or not at all."""
        # Code points order as their UTF-8 does: every commit locks in the same order.
        places = sorted(
            (change.space, change.key, number, place)
            for number, changes in enumerate(batch)
            for place, change in enumerate(changes)
        )
        try:
            told = await self._tried([batch[number][place] for *_, number, place in places])
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            if len(batch) == 1 or isinstance(error, StorageUnavailableError):
                return [error] * len(batch)
            return [(await self._committed([changes]))[0] for changes in batch]  # whose fault it is shows alone
        if type(told[0]) is list:
            return await self._without_refused(batch, [(*places[at - 1][2:], actual) for at, actual in told])
        versions = [[0] * len(changes) for changes in batch]
        for (*_, number, place), version in zip(places, told, strict=True):
            versions[number][place] = _version(batch[number][place], version)
        return [*versions]

    async def _without_refused(
        self, batch: Sequence[Sequence[Change]], refused: Sequence[tuple[int, int, int]]
    ) -> list[list[int] | BaseException]:
        """Commits again what nobody refused; `refused`: the commit, the place in it, and the version that is there."""
        answers: dict[int, list[int] | BaseException] = {}
        for number, place, actual in refused:
            answers.setdefault(number, conflict(batch[number], place, actual))
        rest = [number for number in range(len(batch)) if number not in answers]
        if rest:
            answers |= zip(rest, await self._committed([batch[number] for number in rest]), strict=True)
        return [answers[number] for number in range(len(batch))]

    async def _tried(self, changes: Sequence[Change]) -> list[Any]:
        """What the function answers; tried again where others came in between."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._once(changes)
            except Exception as error:
                if not isinstance(error, NotSentError) and getattr(error, "sqlstate", None) not in AGAIN:
                    raise
                if attempt == ATTEMPTS - 1:
                    if isinstance(error, StorageError):
                        raise
                    raise StorageUnavailableError(f"PostgreSQL undid the commit {ATTEMPTS} times") from error
            await asyncio.sleep(0.01 * 2**attempt if attempt else 0)
        raise AssertionError  # the last attempt raises

    async def _once(self, changes: Sequence[Change]) -> list[Any]:
        def call(connection: Any) -> Awaitable[list[Any]]:
            if not self.has_function:
                return commit_without_function(connection, self._sql, changes, self.clock())
            answer: Awaitable[list[Any]] = connection.fetchval(self._sql["CALL"], *_columns(changes), self.clock())
            return answer

        return await self._use(call, sent="commit")

    async def sweep(self, limit: int = 500) -> int:
        moment = self.clock()
        done: str = await self._read(lambda connection: connection.execute(self._sql["SWEEP"], moment, limit))
        return int(done.rpartition(" ")[2])

    async def approximate_count(self) -> int | None:
        """What the server's statistics say; None before it made some."""
        table = f"{self.options.schema}.records"
        statement = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)"
        count = await self._read(lambda connection: connection.fetchval(statement, table))
        return None if count is None or count < 0 else int(count)

    async def initialize(self) -> None:
        await self._read(lambda connection: connection.fetchval("SELECT 1"))

    async def close(self) -> None:
        await self._clients.close()

    # --- connections ---

    async def _read(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """What may be done again; a connection that turns out to be broken is replaced."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._use(call)
            except StorageTimeoutError:
                raise
            except StorageUnavailableError as error:
                if attempt and not (isinstance(error, NotSentError) and attempt < ATTEMPTS - 1):
                    raise
            await asyncio.sleep(0)  # the loop may see which others have ended too
        raise AssertionError  # the last attempt returns or raises

    async def _use(self, call: Callable[[Any], Awaitable[T]], sent: str = "") -> T:
        client = await self._clients.get()
        with self._translating():
            connection = await client.take()
        try:
            with self._translating(sent):
                result = await call(connection)
        except BaseException as error:
            await client.release(connection, broken=isinstance(error, StorageUnavailableError))
            raise
        await client.leave(connection)
        return result

    async def _connect(self) -> Client:
        asyncpg = _driver()
        options = self.options
        with self._translating():
            pool = await asyncpg.create_pool(
                options.url,
                min_size=0,
                max_size=options.pool_size + options.max_overflow,
                timeout=options.acquire_timeout,
                command_timeout=options.command_timeout,
                statement_cache_size=options.statement_cache_size,
                connection_class=_connection_class(),
            )
            try:
                async with pool.acquire(timeout=options.acquire_timeout) as connection:
                    await self._prepare(connection)
            except BaseException:
                pool.terminate()
                raise
        return Client(pool, asyncpg.InterfaceError, options.acquire_timeout, self._committed, self._found)

    async def _prepare(self, connection: Any) -> None:
        """Makes what is missing, one process at a time, and no more: a role without rights may work here."""
        schema = self.options.schema
        layout = await self._layout(connection)
        if layout is None:
            async with connection.transaction():
                await connection.execute(sql.ALONE, f"genro_storage {schema}")
                layout = await self._layout(connection)
                if layout is None:
                    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                    await connection.execute(sql.TABLES.format(schema=schema, layout=sql.LAYOUT))
                    await connection.execute(sql.FUNCTION.format(schema=schema, race=sql.RACE))
                    layout = sql.LAYOUT
        if layout > sql.LAYOUT:
            raise StorageSchemaError(f"schema {schema} has layout {layout}, this release knows {sql.LAYOUT}")
        self.has_function = bool(await connection.fetchval(sql.HAS_FUNCTION, schema))
        if not self.has_function:
            await self._install(connection)

    async def _layout(self, connection: Any) -> int | None:
        schema = self.options.schema
        if not await connection.fetchval(sql.HAS_TABLES, schema):
            return None
        found = await connection.fetchval(f"SELECT value FROM {schema}.records_meta WHERE name = 'layout'")
        return 0 if found is None else int(found)

    async def _install(self, connection: Any) -> None:
        schema = self.options.schema
        try:
            async with connection.transaction():  # two at once would be refused
                await connection.execute(sql.ALONE, f"genro_storage {schema}")
                await connection.execute(sql.FUNCTION.format(schema=schema, race=sql.RACE))
            self.has_function = True
        except _driver().InsufficientPrivilegeError:
            pass

    @contextmanager
    def _translating(self, sent: str = "") -> Iterator[None]:
        """Our errors for the driver's; once a commit was `sent`, a lost connection leaves its outcome unknown."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            known = translated(error)
            if known is None:
                raise
            if sent and isinstance(known, StorageUnavailableError) and not isinstance(known, NotSentError):
                text = f"the connection was lost while a commit was under way ({type(error).__name__})"
                raise CommitOutcomeUnknownError(text, operation=sent) from error
            raise known from error


def _columns(changes: Sequence[Change]) -> tuple[object, ...]:
    """The arguments of the function, one list for each column."""
    return (
        [change.space for change in changes],
        [change.key for change in changes],
        [_KINDS[type(change)] for change in changes],
        [change.expect for change in changes],
        [change.expires_at if type(change) is Put else None for change in changes],
        [change.data if type(change) is Put else None for change in changes],
    )


_KINDS: dict[type, int] = {Put: sql.PUT, Delete: sql.DELETE, Check: sql.CHECK}


def _version(change: Change, version: int) -> int:
    """What a commit returns of a change."""
    if type(change) is Put:
        return version
    return change.expect if type(change) is Check else 0


def _driver() -> Any:
    try:
        import asyncpg
    except ImportError as error:
        raise StorageDriverError("postgresql needs asyncpg: pip install 'genro-storage[postgres]'") from error
    return asyncpg


def _connection_class() -> type[Any]:
    class Connection(_driver().Connection):  # type: ignore[misc]  # imported on first use
        """A connection whose use never leaves anything to reset: that would be one more round trip for each call."""

        def get_reset_query(self) -> str:
            return ""

    return Connection
