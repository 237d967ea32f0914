"""Records in PostgreSQL: for many hosts; one round trip for a commit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from .._bridge import PerLoop
from ..exceptions import (
    CommitOutcomeUnknownError,
    StorageConfigError,
    StorageDriverError,
    StorageError,
    StoragePermissionError,
    StorageQuotaError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from . import _postgres_sql as sql
from ._postgres_plain import Mismatch, commit_without_function
from .base import Change, Check, Clock, Delete, Put, Record, RecordFeatures, RecordStore, conflict, now

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")
ATTEMPTS = 4
"""Tries of a commit that PostgreSQL undid because of another one."""
_AGAIN = {"40001", "40P01", sql.RACE}


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

    def __init__(self, url: str, *, clock: Clock = now, **options: Any) -> None:
        super().__init__(clock=clock)
        try:
            self.options = PostgresOptions(url=url, **options)
        except (TypeError, ValueError) as error:
            raise StorageConfigError(f"postgresql: {error}") from None
        names = ("GET", "GET_MANY", "SWEEP", "CALL", "LOCK", "VERSIONS", "INSERT", "UPSERT", "REMOVE")
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
        self._pools: PerLoop[Any] = PerLoop(self._connect, _close)
        self.has_function: bool | None = None
        """Whether commits call the installed function; None before the first use."""

    # --- calls ---

    async def _get(self, space: str, key: str) -> Record | None:
        row = await self._read(lambda connection: connection.fetchrow(self._sql["GET"], space, key))
        if row is None or (row[2] is not None and row[2] <= self.clock()):
            return None
        return Record(space, key, *row)

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        if not keys:
            return []
        if len(keys) <= sql.FEW:
            statement, moment = self._few[len(keys)], self.clock()
            words = [word for key in keys for word in key]
            rows = await self._read(lambda connection: connection.fetch(statement, moment, *words))
        else:
            statement, moment = self._sql["GET_MANY"], self.clock()
            spaces, names = [space for space, _ in keys], [key for _, key in keys]
            rows = await self._read(lambda connection: connection.fetch(statement, spaces, names, moment))
        found: list[Record | None] = [None] * len(keys)
        for row in rows:
            found[row[0] - 1] = Record(*row[1:])
        return found

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        statement = self._scans[until is not None, reverse]
        moment = self.clock()
        rows = await self._read(lambda connection: connection.fetch(statement, space, after, until, moment, limit))
        return [Record(space, *row) for row in rows]

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        # Code points order as their UTF-8 does: every commit locks in the same order.
        order = sorted(range(len(changes)), key=lambda place: (changes[place].space, changes[place].key))
        ordered = [changes[place] for place in order]
        for attempt in range(ATTEMPTS):
            try:
                versions = await self._once(ordered)
                break
            except Exception as error:
                again = isinstance(error, _NotSentError) or getattr(error, "sqlstate", None) in _AGAIN
                if not again or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.01 * 2**attempt)
        else:
            raise AssertionError  # the last attempt raises
        if versions and versions[0] < 0:
            raise conflict(changes, order[-versions[0] - 1], versions[1])
        result = [0] * len(changes)
        for place, version in zip(order, versions, strict=True):
            result[place] = version
        return result

    async def _once(self, changes: Sequence[Change]) -> list[int]:
        async with self._connection() as connection:
            with self._translating(sent="commit"):
                if not self.has_function:
                    return await self._without_function(connection, changes)
                answer: list[int] = await connection.fetchval(self._sql["CALL"], *_columns(changes), self.clock())
                return answer

    async def _without_function(self, connection: Any, changes: Sequence[Change]) -> list[int]:
        """Answers as the function does: of a mismatch the negative place and the version found."""
        try:
            return await commit_without_function(connection, self._sql, changes, self.clock())
        except Mismatch as mismatch:
            index, actual = mismatch.args
            return [-1 - index, actual]

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
        async with self._connection():
            pass

    async def close(self) -> None:
        await self._pools.close()

    # --- connections ---

    async def _read(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """What may be done twice; a connection that turns out to be broken is replaced."""
        for attempt in range(2):
            async with self._connection() as connection:
                try:
                    with self._translating():
                        return await call(connection)
                except StorageTimeoutError:
                    raise
                except StorageUnavailableError:
                    if attempt:
                        raise
        raise AssertionError  # the last attempt returns or raises

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = await self._pools.get()
        with self._translating():
            # Where one is idle there is nothing to wait for, and a timer would cost more than taking it.
            timeout = None if pool.get_idle_size() else self.options.acquire_timeout
            connection = await pool.acquire(timeout=timeout)
        try:
            yield connection
        except StorageUnavailableError:
            with suppress(_driver().InterfaceError):  # closed, it went back to the pool by itself
                connection.terminate()  # whatever it is in the middle of, nobody else gets it
            raise
        finally:
            await pool.release(connection, timeout=self.options.acquire_timeout)

    async def _connect(self) -> asyncpg.Pool:
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
        return pool

    async def _prepare(self, connection: Any) -> None:
        """Makes what is missing, one process at a time, and no more: a role without rights may work here."""
        schema = self.options.schema
        layout = await self._layout(connection)
        if layout is None:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"genro_storage {schema}")
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
        try:
            await connection.execute(sql.FUNCTION.format(schema=self.options.schema, race=sql.RACE))
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
            known = _translated(error)
            if known is None:
                raise
            if sent and isinstance(known, StorageUnavailableError) and not isinstance(known, _NotSentError):
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


async def _close(pool: Any) -> None:
    try:
        await asyncio.wait_for(pool.close(), 10)
    except TimeoutError:
        pool.terminate()


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


class _NotSentError(StorageUnavailableError):
    """The connection was found broken before anything was sent."""


_CLASSES: tuple[tuple[str, type[StorageError], str], ...] = (
    ("08", StorageUnavailableError, "the connection to PostgreSQL was lost"),
    ("57014", StorageTimeoutError, "PostgreSQL did not answer in time"),
    ("57P", StorageUnavailableError, "PostgreSQL is starting or stopping"),
    ("40", StorageUnavailableError, "PostgreSQL undid the transaction because of others"),
    ("55P03", StorageTimeoutError, "somebody holds a lock"),
    ("53300", StorageUnavailableError, "PostgreSQL has too many connections"),
    ("53", StorageQuotaError, "PostgreSQL is out of disk or memory"),
    ("28", StoragePermissionError, "PostgreSQL refuses the user or the password"),
    ("42501", StoragePermissionError, "the user lacks a right in the database"),
    ("25006", StoragePermissionError, "the database is read-only"),
    ("3D000", StorageConfigError, "there is no such database"),
)


def _translated(error: Exception) -> StorageError | None:
    """Our error for one of the driver's; None for what must be tried again or is a fault of ours."""
    state = getattr(error, "sqlstate", None)
    if state in _AGAIN:
        return None
    if state is not None:
        for prefix, kind, meaning in _CLASSES:
            if state.startswith(prefix):
                return kind(f"{meaning} ({error})")
        return StorageError(f"PostgreSQL: {error}")
    if isinstance(error, TimeoutError):
        return StorageTimeoutError("PostgreSQL did not answer in time")
    if type(error).__name__ == "InternalClientError":  # the server's farewell arrived and was not looked at yet
        return _NotSentError("the connection to PostgreSQL was lost")
    if isinstance(error, OSError) or type(error).__name__ in ("InterfaceError", "ConnectionDoesNotExistError"):
        return StorageUnavailableError(f"PostgreSQL cannot be reached ({type(error).__name__})")
    return None
