"""Records in Redis: the suite, lost answers, forgotten scripts, what the server is like."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis.asyncio

from genro_storage.exceptions import (
    CommitOutcomeUnknownError,
    StorageConfigError,
    StoragePermissionError,
    StorageQuotaError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
    VersionConflictError,
)
from genro_storage.records._redis_wire import APART, packed
from genro_storage.records.base import Delete, Put, RecordStore
from genro_storage.records.redis import RedisRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock
from tests.servers.process import HOST
from tests.servers.redis import Redis
from tests.servers.running import running
from tests.servers.tcpproxy import TcpProxy
from tests.test_bridge import in_child


class TestRedis(RecordSuite):
    lacks = frozenset({"snapshot_scan"})
    examples = 25

    @pytest.fixture
    def store(self, redis_server: Redis, clock: FakeClock) -> RedisRecordStore:
        return RedisRecordStore(redis_server.url(), clock=clock)

    def reopened(self, store: RecordStore, clock: FakeClock) -> RedisRecordStore:
        assert isinstance(store, RedisRecordStore)
        return RedisRecordStore(store.options.url, clock=clock)


@pytest.fixture
def store(redis_server: Redis) -> Iterator[RedisRecordStore]:
    store = RedisRecordStore(redis_server.url(), prefix="mine")
    yield store
    store.sync.close()


def command(server: Redis, *words: str) -> str:
    done = subprocess.run(
        ["redis-cli", "-h", HOST, "-p", str(server.port), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_prefixes_know_nothing_of_each_other(store: RedisRecordStore, redis_server: Redis) -> None:
    other = RedisRecordStore(redis_server.url(), prefix="other")
    store.sync.commit([Put("s", "k", b"mine")])
    assert other.sync.get("s", "k") is None
    assert other.sync.scan("s") == []
    other.sync.close()


def test_all_keys_are_in_one_slot(store: RedisRecordStore, redis_server: Redis) -> None:
    store.sync.commit([Put("one", "a", b""), Put("two", "b", b"")])
    keys = command(redis_server, "--scan", "--pattern", "{mine}*").splitlines()
    assert len(keys) >= 5
    assert all(key.startswith("{mine}:") for key in keys)


def test_forgotten_scripts_are_sent_again(store: RedisRecordStore, redis_server: Redis) -> None:
    store.sync.commit([Put("s", "k", b"1")])
    command(redis_server, "SCRIPT", "FLUSH")
    store.sync.commit([Put("s", "k", b"2")])
    record = store.sync.get("s", "k")
    assert record is not None
    assert record.data == b"2"


def test_names_of_the_gone_go_when_they_are_met(redis_server: Redis) -> None:
    clock = FakeClock()
    store = RedisRecordStore(redis_server.url(), prefix="gone", clock=clock)
    clock.advance(-61)  # the server removes a minute later than it is told
    store.sync.commit([Put("s", f"{n}", b"", expires_at=clock() + 300_000) for n in range(5)])
    store.sync.commit([Put("s", "kept", b"")])
    deadline = time.monotonic() + 60
    while int(command(redis_server, "ZCARD", "{gone}:s:s")) > 1:
        store.sync.scan("s")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [record.key for record in store.sync.scan("s")] == ["kept"]
    store.sync.close()


def test_a_burst_larger_than_the_pool(redis_server: Redis) -> None:
    """Regression: 1,000 tasks at once raised for want of connections."""
    store = RedisRecordStore(redis_server.url(), prefix="burst", max_connections=4, timeout=20)

    async def burst() -> list[object]:
        return await asyncio.gather(*(store.commit([Put("s", f"{n}", b"")]) for n in range(1000)))

    assert len(asyncio.run(burst())) == 1000


def test_a_full_pool_is_waited_for_no_longer_than_told(redis_server: Redis) -> None:
    store = RedisRecordStore(redis_server.url(), prefix="full", max_connections=1, timeout=1)

    async def use() -> None:
        client = await store._clients.get()
        taken = await client.take()
        with pytest.raises(StorageUnavailableError):
            await store.get("s", "k")
        await client.leave(taken)
        await store.get("s", "k")

    asyncio.run(use())


def test_what_many_tasks_commit_and_read_travels_together(
    store: RedisRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the conflict of one is nobody else's."""

    async def use() -> None:
        await store.commit([Put("crowd", "taken", b"")])
        client = await store._clients.get()
        taken, trips = client.take, []

        async def counted() -> object:
            trips.append(1)
            return await taken()

        monkeypatch.setattr(client, "take", counted)
        changes = [[Put("crowd", f"{n:02}", b"%d" % n, expect=0), Put("crowd/x", f"{n:02}", b"")] for n in range(40)]
        changes.insert(20, [Put("crowd/x", "no", b""), Put("crowd", "taken", b"", expect=0)])
        answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
        refused = answers.pop(20)
        assert isinstance(refused, VersionConflictError)
        assert (refused.index, refused.key) == (1, "taken")
        records = await asyncio.gather(*(store.get("crowd", f"{n:02}") for n in range(40)))
        assert [record and record.data for record in records] == [b"%d" % n for n in range(40)]
        assert [[record and record.version] * 2 for record in records] == answers
        assert len(trips) < 20  # and not 81

    asyncio.run(use())
    assert len(store.sync.scan("crowd/x")) == 40
    store.sync.commit([Delete(space, f"{n:02}") for n in range(40) for space in ("crowd", "crowd/x")])


def test_a_cancelled_read_leaves_no_answer_for_others(store: RedisRecordStore) -> None:
    store.sync.commit([Put("s", f"{n}", b"%d" % n) for n in range(50)])

    async def use() -> None:
        for steps in range(20):
            task = asyncio.ensure_future(store.get("s", "1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            found = await asyncio.gather(*(store.get("s", f"{n}") for n in range(50)))
            assert [record.data for record in found if record] == [b"%d" % n for n in range(50)]

    asyncio.run(use())


def test_a_commit_whose_answer_is_lost(redis_server: Redis) -> None:
    direct = RedisRecordStore(redis_server.url(), prefix="cut")
    unknown = 0
    for cut in range(12):
        with TcpProxy(redis_server.port) as proxy:
            store = RedisRecordStore(redis_server.url(port=proxy.port), prefix="cut", timeout=2)
            store.sync.commit([Put("s", "before", b"")])
            proxy.cut(cut)
            try:
                store.sync.commit([Put(f"s/{cut}", "one", b""), Put(f"s/{cut}", "two", b"")])
                wanted = (2,)
            except CommitOutcomeUnknownError:
                wanted, unknown = (0, 2), unknown + 1
            except StorageUnavailableError:
                wanted = (0,)
            assert len(direct.sync.scan(f"s/{cut}")) in wanted
            proxy.clear()
            store.sync.close()
    assert unknown
    direct.sync.close()


def test_a_server_that_says_nothing(redis_server: Redis) -> None:
    with TcpProxy(redis_server.port) as proxy:
        store = RedisRecordStore(redis_server.url(port=proxy.port), timeout=2)
        store.sync.initialize()
        proxy.silence()
        with pytest.raises(StorageTimeoutError):
            store.sync.get("s", "k")
        with pytest.raises((StorageTimeoutError, CommitOutcomeUnknownError)):
            store.sync.commit([Put("s", "k", b"")])
        store.sync.close()


def test_nobody_there() -> None:
    store = RedisRecordStore("redis://user:secret-word@127.0.0.1:9/0", timeout=2)
    for call in (store.sync.initialize, lambda: store.sync.commit([Put("s", "k", b"")])):
        with pytest.raises(StorageUnavailableError) as caught:
            call()
        assert caught.value.retryable
        assert "secret-word" not in f"{caught.value!r} {caught.value} {store!r}"
    store.sync.close()


def test_a_forked_child_connects_by_itself(store: RedisRecordStore) -> None:
    store.sync.commit([Put("fork", "parent", b"")])

    def child() -> None:
        store.sync.commit([Put("fork", "child", b"")])
        store.sync.close()

    assert in_child(child)
    assert [record.key for record in store.sync.scan("fork")] == ["child", "parent"]


# --- what the server is like ---


@pytest.fixture(scope="module")
def odd_server() -> Iterator[Redis]:
    """A server that these tests set up in odd ways."""
    yield from running(Redis(durable=True))


def test_durability(odd_server: Redis, store: RedisRecordStore, redis_server: Redis) -> None:
    store.sync.initialize()
    assert store.durability == "none"
    with pytest.raises(StorageConfigError, match="append-only"):
        RedisRecordStore(redis_server.url(), require_durable=True).sync.initialize()
    kept = RedisRecordStore(odd_server.url(), require_durable=True)
    kept.sync.initialize()
    assert kept.durability == "aof-always"
    kept.sync.close()
    command(odd_server, "CONFIG", "SET", "appendfsync", "everysec")
    kept.sync.initialize()
    assert kept.durability == "aof-everysec"
    assert kept.warnings == ()
    kept.sync.close()


def test_a_server_that_forgets_warns(odd_server: Redis) -> None:
    command(odd_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    store = RedisRecordStore(odd_server.url())
    store.sync.initialize()
    assert "allkeys-lru" in store.warnings[0]
    store.sync.close()
    command(odd_server, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_out_of_memory(odd_server: Redis) -> None:
    store = RedisRecordStore(odd_server.url(), prefix="oom")
    store.sync.commit([Put("s", "old", b"")])
    command(odd_server, "CONFIG", "SET", "maxmemory", "1000000")
    try:
        with pytest.raises(StorageQuotaError):
            store.sync.commit([Put("s", f"{n}", bytes(1000)) for n in range(10)])
    finally:
        command(odd_server, "CONFIG", "SET", "maxmemory", "0")
    assert [record.key for record in store.sync.scan("s")] == ["old"]
    store.sync.close()


def test_replicas_that_are_not_there(odd_server: Redis) -> None:
    store = RedisRecordStore(odd_server.url(), prefix="replicas", min_replicas=1, timeout=1)
    with pytest.raises(CommitOutcomeUnknownError, match="0 of 1"):
        store.sync.commit([Put("s", "k", b"")])
    store.sync.close()


def test_a_newer_layout(odd_server: Redis) -> None:
    command(odd_server, "SET", "{newer}:layout", "99")
    store = RedisRecordStore(odd_server.url(), prefix="newer")
    with pytest.raises(StorageSchemaError, match="99"):
        store.sync.initialize()
    store.sync.close()


def test_a_primary_that_became_a_replica_is_left_for_the_one_its_name_leads_to(
    odd_server: Redis, redis_server: Redis
) -> None:
    """A failover that ends no connection, as behind the name of a service."""
    with TcpProxy(odd_server.port) as proxy:
        store = RedisRecordStore(f"redis://{HOST}:{proxy.port}", prefix="moved")

        async def test() -> None:
            async def put(key: str) -> None:
                await store.commit([Put("space", key, b"x")])

            await asyncio.gather(*(put(f"before-{number}") for number in range(40)))
            command(odd_server, "REPLICAOF", HOST, str(redis_server.port))
            proxy._target = redis_server.port
            with pytest.raises(StorageUnavailableError, match="READONLY"):
                await put("refused")
            await asyncio.gather(*(put(f"after-{number}") for number in range(40)))
            assert await store.get("space", "after-0") is not None
            await store.close()

        try:
            asyncio.run(asyncio.wait_for(test(), 60))
        finally:
            command(odd_server, "REPLICAOF", "NO", "ONE")
        direct = RedisRecordStore(redis_server.url(), prefix="moved")
        assert len(direct.sync.scan("space")) == 40
        direct.sync.close()


def test_a_replica_is_refused(odd_server: Redis, redis_server: Redis) -> None:
    command(odd_server, "REPLICAOF", HOST, str(redis_server.port))
    try:
        store = RedisRecordStore(odd_server.url())
        with pytest.raises(StorageConfigError, match="primary"):
            store.sync.initialize()
        store.sync.close()
    finally:
        command(odd_server, "REPLICAOF", "NO", "ONE")


def test_a_wrong_password(odd_server: Redis) -> None:
    command(odd_server, "CONFIG", "SET", "requirepass", "right-word")
    try:
        store = RedisRecordStore(odd_server.url().replace("//", "//:wrong-word@"))
        with pytest.raises(StoragePermissionError) as caught:
            store.sync.initialize()
        assert "wrong-word" not in f"{caught.value}"
        store.sync.close()
    finally:
        command(odd_server, "-a", "right-word", "CONFIG", "SET", "requirepass", "")


@pytest.mark.parametrize(
    "options",
    [{"url": "http://x"}, {"url": "redis://x", "prefix": "{a}"}, {"url": "redis://x", "pool_size": 3}],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(StorageConfigError):
        RedisRecordStore(**options)  # type: ignore[arg-type]


def test_what_is_acknowledged_survives_a_kill(odd_server: Redis) -> None:
    command(odd_server, "CONFIG", "SET", "appendfsync", "always")
    store = RedisRecordStore(odd_server.url(), prefix="kill")
    for number in range(3):
        store.sync.commit([Put("s", f"{number}", b"")])
        odd_server.restart()
    assert len(store.sync.scan("s")) == 3
    store.sync.close()


@pytest.mark.parametrize(
    "commands",
    [
        [(b"PING",)],
        [(b"EVALSHA", "digest", 2, b"k", "é\r\n", -1, b"", b"x" * APART), (b"WAIT", 1, 800)],
        [(b"SET", b"k", b"x" * (APART + 1)), (b"SET", b"k", b"y" * (1 << 20), b"NX"), (b"GET", b"k")],
    ],
)
def test_commands_are_packed_as_the_driver_does(commands: list[tuple[object, ...]]) -> None:
    pieces = packed(commands)
    assert b"".join(pieces) == b"".join(redis.asyncio.Connection().pack_commands(commands))
    large = {word for command in commands for word in command if isinstance(word, bytes) and len(word) > APART}
    assert large <= set(pieces)
