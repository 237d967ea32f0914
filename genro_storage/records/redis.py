"""Records in Redis 7 or newer, without modules: each commit one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from .._bridge import PerLoop
from ..exceptions import (
    CommitOutcomeUnknownError,
    StorageConfigError,
    StorageError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from . import _redis_scripts as scripts
from ._redis_client import BATCH, DEMOTED, Asked, Client, driver, exchange, lost, translated
from ._redis_wire import Command, Refusal, packed
from .base import Change, Check, Clock, Delete, Put, Record, RecordFeatures, RecordStore, conflict, now

PAGE = 1000
OLDEST = 7
COMMAND_BYTES = 1 << 10
"""What a command weighs beside its words."""


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
        self._clients: PerLoop[Client] = PerLoop(self._connect, _close)

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
        version = await self._script(scripts.COMMIT, keys, words, commit=True)
        if type(version) is list:
            place, actual = version
            raise conflict(changes, place - 1, actual)
        given = {Put: int(version), Delete: 0}
        return [change.expect if type(change) is Check else given[type(change)] for change in changes]

    async def approximate_count(self) -> int:
        """The keys of the whole database, of which a few are not records."""
        (count,) = await self._call([(b"DBSIZE",)])
        return int(count)

    async def initialize(self) -> None:
        await self._clients.get()

    async def close(self) -> None:
        await self._clients.close()

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
        wait: list[Command] = []
        if commit and self.options.min_replicas:
            wait = [(b"WAIT", self.options.min_replicas, int(self.options.timeout * 800))]
        try:
            command = (b"EVALSHA", scripts.digest(script), len(keys), *keys, *words)
            answers = await self._call([command, *wait], sent=commit)
        except Refusal:
            answers = await self._call([(b"EVAL", script, len(keys), *keys, *words), *wait], sent=commit)
        if wait and answers[1] < self.options.min_replicas:
            text = f"the commit reached {answers[1]} of {self.options.min_replicas} replicas in time"
            raise CommitOutcomeUnknownError(text, operation="commit")
        return answers[0]

    async def _call(self, commands: Sequence[Command], *, sent: bool = False) -> list[Any]:
        """The answers to commands that travel together; a lost answer to a commit that was `sent` is unknown."""
        if not commands:
            return []
        asked = Asked(packed(commands), len(commands), sent)
        try:
            answers = await self._ask(asked)
        except StorageUnavailableError as error:
            if sent or isinstance(error, StorageTimeoutError):
                raise
            answers = await self._ask(asked)  # a read is done again on another connection
        for answer in answers:
            if type(answer) is Refusal:
                if answer.code in DEMOTED:
                    await (await self._clients.get()).renounce()
                raise translated(answer) or answer
        return answers

    async def _ask(self, asked: Asked) -> list[Any]:
        client = await self._clients.get()
        weight = sum(map(len, asked.pieces)) + COMMAND_BYTES * asked.replies
        if self.options.min_replicas and asked.sent:
            weight = BATCH + 1  # it waits for the replicas, and nobody should wait for that
        return await client.convoy.ask(asked, weight=weight, settle=asked.sent)

    async def _carried(self, client: Client, batch: Sequence[Asked]) -> list[list[Any] | BaseException]:
        """Sends all on one connection, then reads all."""
        connection = await client.take()
        count = sum(asked.replies for asked in batch)
        try:
            pieces = [piece for asked in batch for piece in asked.pieces]
            answers = await exchange(connection, pieces, count, self.options.timeout)
        except BaseException as error:
            await connection.disconnect(nowait=True)  # an answer that comes late must not be another's
            known = translated(error)
            if known is None:
                raise
            known.__cause__ = error
            return [lost(known) if asked.sent else known for asked in batch]
        finally:
            await client.leave(connection)
        rest = iter(answers)
        return [[next(rest) for _ in range(asked.replies)] for asked in batch]

    async def _connect(self) -> Client:
        redis = driver()
        options = self.options
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                options.url,
                max_connections=options.max_connections,
                timeout=options.timeout,
                socket_timeout=options.timeout,
                socket_connect_timeout=options.timeout,
                protocol=2,
                # Its own retries would send a commit twice.
                retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
            )
        except ValueError as error:
            raise StorageConfigError(f"redis: {error}") from None
        client = Client(pool, self._carried)
        try:
            await self._inspect(client)
        except BaseException:
            await pool.disconnect()
            raise
        return client

    async def _inspect(self, client: Client) -> None:
        """What the server is like: too old, a replica, written by a newer release, forgetful."""
        connection = await client.take()
        try:
            info = await self._told(connection, b"INFO", b"server", b"replication", b"persistence", b"memory")
            facts = dict(line.partition(":")[::2] for line in info.decode(errors="replace").splitlines())
            if int(facts.get("redis_version", "0").partition(".")[0]) < OLDEST:
                raise StorageConfigError(f"Redis {facts.get('redis_version')} is too old, {OLDEST} is needed")
            if facts.get("role") == "slave":
                raise StorageConfigError("this Redis server is a replica; records need the primary")
            key = self._prefix + b":layout"
            layout = await self._told(connection, b"SET", key, scripts.LAYOUT, b"NX", b"GET")
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
            await client.leave(connection)

    async def _told(self, connection: Any, *command: Any) -> Any:
        (answer,) = await exchange(connection, packed([command]), 1, self.options.timeout)
        if type(answer) is Refusal:
            raise answer
        return answer

    async def _settings(self, connection: Any) -> dict[str, str]:
        """Where the server tells them."""
        try:
            answer = await self._told(connection, b"CONFIG", b"GET", b"appendfsync")
        except Refusal:
            return {}
        return {name.decode(): value.decode() for name, value in zip(answer[::2], answer[1::2], strict=True)}

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


def _words(change: Change) -> list[Any]:
    """One change as the script takes it."""
    expect = b"" if change.expect is None else change.expect
    key = change.key.encode()
    if type(change) is Put:
        return [scripts.PUT, expect, key, b"" if change.expires_at is None else change.expires_at, change.data]
    return [scripts.CHECK if type(change) is Check else scripts.DELETE, expect, key, b"", b""]


async def _close(client: Client) -> None:
    await client.pool.disconnect(inuse_connections=True)
