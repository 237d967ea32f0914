"""Records in Redis 7 or newer, without modules: each commit one script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

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
from . import _redis_scripts as scripts
from .base import Change, Check, Clock, Put, Record, RecordFeatures, RecordStore, conflict, now

PAGE = 1000
OLDEST = 7
APART = 16 << 10
"""Bytes from which a value is sent as it is and not copied into the rest of its command."""

Command = tuple[Any, ...]


class RedisOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server is used; seconds.

    At most `max_connections` for each event loop; who finds none free waits `timeout`. `prefix`: stores of different
    prefixes know nothing of each other. `min_replicas`: a commit is acknowledged once that many replicas have it.
    `require_durable`: refuses a server without append-only file.
    """

    url: str
    max_connections: int = 32
    timeout: float = 5
    prefix: str = "gs"
    min_replicas: int = 0
    require_durable: bool = False

    def __post_init__(self) -> None:
        if not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("url begins with redis://, rediss:// or unix://")
        if not self.prefix or set(self.prefix) & set("{}\0"):
            raise ValueError(f"prefix is a word without braces, not {self.prefix!r}")
        if self.max_connections < 1 or self.min_replicas < 0:
            raise ValueError("max_connections is 1 or more, min_replicas 0 or more")


class RedisRecordStore(RecordStore):
    """`url` and the options of `RedisOptions`.

    A record is a hash; the names of a space are a sorted set with one score, which Redis orders by bytes. All keys of a
    store share one hash tag, and so one slot of a cluster.
    """

    name = "redis"
    features = RecordFeatures(durable=True, shared=True)
    durability = "unknown"

    def __init__(self, url: str, *, clock: Clock = now, **options: Any) -> None:
        super().__init__(clock=clock)
        try:
            self.options = RedisOptions(url=url, **options)
        except (TypeError, ValueError) as error:
            raise StorageConfigError(f"redis: {error}") from None
        self._prefix = f"{{{self.options.prefix}}}".encode()
        self._counter = self._prefix + b":rev"
        self._pools: PerLoop[Any] = PerLoop(self._connect, _close)

    # --- calls ---

    async def _get(self, space: str, key: str) -> Record | None:
        (found,) = await self._call([self._read(space, key)])
        return self._living(space, key, found)

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        found = await self._call([self._read(space, key) for space, key in keys])
        return [self._living(space, key, values) for (space, key), values in zip(keys, found, strict=True)]

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        low = b"(" + after.encode() if after else b"-"
        high = b"+" if until is None else b"(" + until.encode()
        found: list[Record] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            bounds = (
                (b"ZREVRANGEBYLEX", self._space(space), high, low)
                if reverse
                else (b"ZRANGEBYLEX", self._space(space), low, high)
            )
            ((names,),) = [await self._call([(*bounds, b"LIMIT", 0, size)])]
            keys = [name.decode() for name in names]
            if keys:
                found += await self._page(space, keys)
            if len(keys) < size:
                break
            low, high = (low, b"(" + names[-1]) if reverse else (b"(" + names[-1], high)
        return found

    async def _page(self, space: str, keys: Sequence[str]) -> list[Record]:
        """The living records of these keys; what is not there any more loses its name."""
        values = await self._call([self._read(space, key) for key in keys])
        gone = [key for key, found in zip(keys, values, strict=True) if found[1] is None]
        if gone:
            records = [self._record(space, key) for key in gone]
            await self._script(scripts.PURGE, [self._space(space), *records], [key.encode() for key in gone])
        living = (self._living(space, key, found) for key, found in zip(keys, values, strict=True))
        return [record for record in living if record is not None]

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        keys: list[bytes] = [self._counter]
        words: list[Any] = [self.clock()]
        for change in changes:
            keys += [self._record(change.space, change.key), self._space(change.space)]
            words += _words(change)
        versions = await self._script(scripts.COMMIT, keys, words, commit=True)
        if versions[0] < 0:
            raise conflict(changes, -versions[0] - 1, versions[1])
        return [int(version) for version in versions]

    async def approximate_count(self) -> int:
        """The keys of the whole database, of which a few are not records."""
        (count,) = await self._call([(b"DBSIZE",)])
        return int(count)

    async def initialize(self) -> None:
        await self._pools.get()

    async def close(self) -> None:
        await self._pools.close()

    async def sweep(self, limit: int = 500) -> int:
        """Nothing: the server removes the expired by itself, and their names go when a scan meets them."""
        return 0

    # --- names ---

    def _record(self, space: str, key: str) -> bytes:
        return b"%b:r:%b\0%b" % (self._prefix, space.encode(), key.encode())  # no name holds a NUL

    def _space(self, space: str) -> bytes:
        return b"%b:s:%b" % (self._prefix, space.encode())

    def _read(self, space: str, key: str) -> Command:
        return (b"HMGET", self._record(space, key), b"d", b"v", b"e")

    def _living(self, space: str, key: str, found: Sequence[bytes | None]) -> Record | None:
        data, version, expires = found
        if version is None or data is None:
            return None
        expires_at = None if expires is None else int(expires)
        if expires_at is not None and expires_at <= self.clock():
            return None
        return Record(space, key, data, int(version), expires_at)

    # --- the server ---

    async def _script(self, script: str, keys: Sequence[bytes], words: Sequence[Any], *, commit: bool = False) -> Any:
        """What a script answers; one that the server does not know any more is sent in full."""
        redis = _driver()
        wait: list[Command] = []
        if commit and self.options.min_replicas:
            wait = [(b"WAIT", self.options.min_replicas, int(self.options.timeout * 800))]
        try:
            command = (b"EVALSHA", scripts.digest(script), len(keys), *keys, *words)
            answers = await self._call([command, *wait], sent=commit)
        except redis.exceptions.NoScriptError:
            answers = await self._call([(b"EVAL", script, len(keys), *keys, *words), *wait], sent=commit)
        if wait and answers[1] < self.options.min_replicas:
            text = f"the commit reached {answers[1]} of {self.options.min_replicas} replicas in time"
            raise CommitOutcomeUnknownError(text, operation="commit")
        return answers[0]

    async def _call(self, commands: Sequence[Command], *, sent: bool = False) -> list[Any]:
        """The answers to commands that travel together; a lost answer to a commit that was `sent` is unknown."""
        if not commands:
            return []
        try:
            return await self._call_once(commands, sent)
        except StorageUnavailableError as error:
            if sent or isinstance(error, StorageTimeoutError):
                raise
        return await self._call_once(commands, sent)  # a read is done again on another connection

    async def _call_once(self, commands: Sequence[Command], sent: bool) -> list[Any]:
        pool = await self._pools.get()
        connection = await self._taken(pool)
        try:
            answers = await _exchange(connection, commands)
        except BaseException as error:
            if not isinstance(error, _driver().exceptions.ResponseError):
                await connection.disconnect(nowait=True)  # an answer that comes late must not be another's
            known = translated(error)
            if known is None:
                raise
            if sent and type(known) in (StorageUnavailableError, StorageTimeoutError):
                text = f"the connection was lost while a commit was under way ({type(error).__name__})"
                raise CommitOutcomeUnknownError(text, operation="commit") from error
            raise known from error
        finally:
            await pool.release(connection)
        return answers

    async def _taken(self, pool: Any) -> Any:
        """A connection that works, or the reason why there is none; nothing was sent yet."""
        try:
            connection = await pool.get_connection()
            reader = getattr(connection, "_reader", None)
            if reader is None or not reader.at_eof():  # the pool looks for answers left over, not for an end
                return connection
            try:
                await connection.disconnect(nowait=True)
                await connection.connect()
                return connection
            except BaseException:
                await pool.release(connection)
                raise
        except Exception as error:
            known = translated(error)
            if known is None:
                raise
            raise known from error

    async def _connect(self) -> Any:
        redis = _driver()
        options = self.options
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                options.url,
                max_connections=options.max_connections,
                timeout=options.timeout,
                socket_timeout=options.timeout,
                socket_connect_timeout=options.timeout,
                # Its own retries would send a commit twice.
                retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
            )
        except ValueError as error:
            raise StorageConfigError(f"redis: {error}") from None
        try:
            await self._inspect(pool)
        except BaseException:
            await pool.disconnect()
            raise
        return pool

    async def _inspect(self, pool: Any) -> None:
        """What the server is like: too old, a replica, written by a newer release, forgetful."""
        connection = await self._taken(pool)
        try:
            (info,) = await _exchange(connection, [(b"INFO", b"server", b"replication", b"persistence", b"memory")])
            facts = dict(line.partition(":")[::2] for line in info.decode(errors="replace").splitlines())
            if int(facts.get("redis_version", "0").partition(".")[0]) < OLDEST:
                raise StorageConfigError(f"Redis {facts.get('redis_version')} is too old, {OLDEST} is needed")
            if facts.get("role") == "slave":
                raise StorageConfigError("this Redis server is a replica; records need the primary")
            key = self._prefix + b":layout"
            (layout,) = await _exchange(connection, [(b"SET", key, scripts.LAYOUT, b"NX", b"GET")])
            if layout is not None and int(layout) > scripts.LAYOUT:
                raise StorageSchemaError(f"prefix {self.options.prefix} has layout {int(layout)}")
            self._judge(facts, await self._settings(connection))
        except StorageError:
            raise
        except Exception as error:
            await connection.disconnect(nowait=True)
            known = translated(error)
            if known is None:
                raise
            raise known from error
        finally:
            await pool.release(connection)

    async def _settings(self, connection: Any) -> dict[str, str]:
        """Where the server tells them."""
        try:
            (answer,) = await _exchange(connection, [(b"CONFIG", b"GET", b"appendfsync")])
        except _driver().exceptions.ResponseError:
            return {}
        pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
        return {name.decode(): value.decode() for name, value in pairs}

    def _judge(self, facts: dict[str, str], settings: dict[str, str]) -> None:
        if facts.get("aof_enabled") == "1":
            fsync = settings.get("appendfsync")
            self.durability = {None: "unknown", "no": "unknown"}.get(fsync, f"aof-{fsync}")
        else:
            self.durability = "none" if facts.get("aof_enabled") == "0" else "unknown"
        if self.options.require_durable and not self.durability.startswith("aof-"):
            raise StorageConfigError(f"this Redis server keeps no append-only file (durability: {self.durability})")
        policy = facts.get("maxmemory_policy", "")
        forgets = policy.startswith("allkeys-")
        self.warnings = (f"maxmemory-policy {policy} removes records under their index",) if forgets else ()


async def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Sends all, then reads all; the first error answer is raised after all were read."""
    await connection.send_packed_command(packed(commands), check_health=False)
    answers: list[Any] = []
    refusal: Exception | None = None
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except _driver().exceptions.ResponseError as error:
            refusal = refusal or error
            answers.append(None)
    if refusal is not None:
        raise refusal
    return answers


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Commands in the protocol of Redis, together but for what is large; redis-py takes twice as long for it."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if type(word) is bytes else str(word).encode()
            if len(data) <= APART:
                small.append(b"$%d\r\n%b\r\n" % (len(data), data))
            else:
                small.append(b"$%d\r\n" % len(data))
                pieces += [b"".join(small), data]
                small = [b"\r\n"]
    return [*pieces, b"".join(small)]


def _words(change: Change) -> list[Any]:
    """One change as the script takes it."""
    expect = b"" if change.expect is None else change.expect
    key = change.key.encode()
    if type(change) is Put:
        return [scripts.PUT, expect, key, b"" if change.expires_at is None else change.expires_at, change.data]
    return [scripts.CHECK if type(change) is Check else scripts.DELETE, expect, key, b"", b""]


async def _close(pool: Any) -> None:
    await pool.disconnect(inuse_connections=True)


def _driver() -> Any:
    try:
        import redis.asyncio
        import redis.asyncio.retry
        import redis.backoff
    except ImportError as error:
        raise StorageDriverError("redis needs redis-py: pip install 'genro-storage[redis]'") from error
    return redis


def translated(error: BaseException) -> StorageError | None:
    """Our error for one of the driver's; None for what is no answer of a server."""
    kinds = _driver().exceptions
    known: tuple[tuple[Any, type[StorageError], str], ...] = (
        (kinds.NoScriptError, StorageError, ""),
        ((kinds.AuthenticationError, kinds.NoPermissionError), StoragePermissionError, "Redis refuses the user"),
        (kinds.OutOfMemoryError, StorageQuotaError, "Redis is out of memory"),
        (
            (kinds.BusyLoadingError, kinds.ReadOnlyError, kinds.TryAgainError),
            StorageUnavailableError,
            "Redis is not ready",
        ),
        ((kinds.TimeoutError, asyncio.TimeoutError), StorageTimeoutError, "Redis did not answer in time"),
        ((kinds.ConnectionError, OSError), StorageUnavailableError, "Redis cannot be reached"),
        (kinds.ResponseError, StorageError, "Redis refuses"),
    )
    for kind, ours, meaning in known:
        if isinstance(error, kind):
            return ours(f"{meaning} ({type(error).__name__}: {error})") if meaning else None
    return None
