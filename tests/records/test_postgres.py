"""Records in PostgreSQL: the suite with and without the installed function, lost connections, rights, races."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from genro_storage.exceptions import (
    CommitOutcomeUnknownError,
    StorageConfigError,
    StoragePermissionError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
    VersionConflictError,
)
from genro_storage.records import _postgres_client
from genro_storage.records.base import Check, Delete, Put, RecordStore
from genro_storage.records.postgres import PostgresRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock, at_once
from tests.servers.postgres import Postgres
from tests.servers.tcpproxy import TcpProxy
from tests.test_bridge import in_child


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    """A database that the cases of this module share."""
    return postgres.url(postgres.make_database())


class TestPostgres(RecordSuite):
    lacks = frozenset()
    examples = 25

    @pytest.fixture
    def store(self, database: str, clock: FakeClock) -> PostgresRecordStore:
        return PostgresRecordStore(database, clock=clock)

    def reopened(self, store: RecordStore, clock: FakeClock) -> PostgresRecordStore:
        assert isinstance(store, PostgresRecordStore)
        return PostgresRecordStore(store.options.url, clock=clock, schema=store.options.schema)


class WithoutFunction(PostgresRecordStore):
    """As where a role may not install it."""

    async def _prepare(self, connection: object) -> None:
        await super()._prepare(connection)
        self.has_function = False


class TestPostgresWithoutFunction(TestPostgres):
    @pytest.fixture
    def store(self, database: str, clock: FakeClock) -> PostgresRecordStore:
        return WithoutFunction(database, clock=clock, statement_cache_size=0)


@pytest.fixture(params=[PostgresRecordStore, WithoutFunction])
def store(request: pytest.FixtureRequest, database: str) -> Iterator[PostgresRecordStore]:
    store: PostgresRecordStore = request.param(database)
    yield store
    store.sync.close()


# --- races ---


def test_crossing_commits_do_not_deadlock(store: PostgresRecordStore) -> None:
    keys = [f"{n:02}" for n in range(40)]

    def write(number: int) -> None:
        for _ in range(10):
            store.sync.commit([Put("cross", key, b"") for key in (keys if number % 2 else reversed(keys))])

    at_once(write, 8)
    assert len({record.version for record in store.sync.scan("cross")}) == 40


def test_absence_is_held(store: PostgresRecordStore) -> None:
    """Of two commits that each write what the other one says is absent, one fails."""

    def write(number: int) -> bool:
        try:
            mine, other = ("a", "b") if number % 2 else ("b", "a")
            store.sync.commit([Put("skew", mine, b"", expect=0), Check("skew", other, expect=0)])
        except VersionConflictError:
            return False
        return True

    for _ in range(20):
        assert sum(at_once(write, 2)) <= 1
        store.sync.commit([Delete("skew", "a"), Delete("skew", "b")])


def test_what_is_checked_is_held(store: PostgresRecordStore) -> None:
    """While a session's end is committed, nobody adds to it."""

    def write(number: int) -> bool:
        try:
            if number:
                store.sync.commit([Delete("held", "session", expect=version), Put("held", "ended", b"")])
            else:
                store.sync.commit([Check("held", "session", expect=version), Put("held", "message", b"")])
        except VersionConflictError:
            return False
        return True

    for _ in range(20):
        (version, _, _) = store.sync.commit(
            [Put("held", "session", b""), Delete("held", "ended"), Delete("held", "message")]
        )
        added, ended = at_once(write, 2)
        assert ended
        assert (store.sync.get("held", "message") is not None) == added


def test_what_many_tasks_commit_and_read_travels_together(
    store: PostgresRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the fault of one is nobody else's: a record that is there, and a time that no column holds."""

    async def use() -> None:
        await store.commit([Put("crowd", "taken", b"")])
        client = await store._clients.get()
        taken, trips = client.take, []

        async def counted() -> object:
            trips.append(1)
            return await taken()

        monkeypatch.setattr(client, "take", counted)
        good = [[Put("crowd", f"{n:02}", b"%d" % n, expect=0), Put("crowd/x", f"{n:02}", b"")] for n in range(40)]
        bad = [
            [Put("crowd", "taken", b"", expect=0), Put("crowd/x", "no", b"")],
            [Put("crowd", "odd", b"", None, 1 << 70)],
        ]
        answers = await asyncio.gather(*map(store.commit, [*good[:20], *bad, *good[20:]]), return_exceptions=True)
        refused, odd = answers[20:22]
        assert isinstance(refused, VersionConflictError)
        assert (refused.index, refused.key) == (0, "taken")
        assert isinstance(odd, Exception)
        versions = [answer for answer in answers if isinstance(answer, list)]
        assert len({version for pair in versions for version in pair}) == 80
        records = await asyncio.gather(*(store.get("crowd", f"{n:02}") for n in range(40)))
        assert [(record.data, record.version) for record in records if record] == [
            (b"%d" % n, first) for n, (first, _) in enumerate(versions)
        ]
        assert len(trips) < 60  # and not 82

    asyncio.run(use())
    assert [record.key for record in store.sync.scan("crowd")] == [*(f"{n:02}" for n in range(40)), "taken"]
    assert [record.key for record in store.sync.scan("crowd/x")] == [f"{n:02}" for n in range(40)]
    store.sync.commit([Delete(space, f"{n:02}") for n in range(40) for space in ("crowd", "crowd/x")])


# --- rights and schemas ---


def test_a_role_that_may_only_write_rows(postgres: Postgres) -> None:
    """Tables by somebody else, without the function: commits are transactions, and all works."""
    name = postgres.make_database()
    owner = PostgresRecordStore(postgres.url(name))
    owner.sync.commit([Put("s", "k", b"owner's")])
    owner.sync.close()
    postgres.sql(
        f"""
        DROP FUNCTION genro_storage.records_commit_many;
        CREATE ROLE writer_{name} LOGIN PASSWORD '{postgres.password}';
        GRANT USAGE ON SCHEMA genro_storage TO writer_{name};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA genro_storage TO writer_{name};
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA genro_storage TO writer_{name};
        """,
        name,
    )
    store = PostgresRecordStore(postgres.url(name, user=f"writer_{name}"))
    store.sync.commit([Put("s", "k", b"writer's"), Put("s", "l", b"")])
    assert store.has_function is False
    assert [record.data for record in store.sync.scan("s")] == [b"writer's", b""]
    store.sync.close()


def test_a_role_that_may_only_read(postgres: Postgres) -> None:
    name = postgres.make_database()
    owner = PostgresRecordStore(postgres.url(name))
    owner.sync.commit([Put("s", "k", b"data")])
    owner.sync.close()
    postgres.sql(
        f"""
        CREATE ROLE reader_{name} LOGIN PASSWORD '{postgres.password}';
        GRANT USAGE ON SCHEMA genro_storage TO reader_{name};
        GRANT SELECT ON ALL TABLES IN SCHEMA genro_storage TO reader_{name};
        """,
        name,
    )
    store = PostgresRecordStore(postgres.url(name, user=f"reader_{name}"))
    record = store.sync.get("s", "k")
    assert record is not None
    assert record.data == b"data"
    with pytest.raises(StoragePermissionError):
        store.sync.commit([Put("s", "k", b"")])
    store.sync.close()


def test_a_newer_layout(postgres: Postgres) -> None:
    name = postgres.make_database()
    store = PostgresRecordStore(postgres.url(name), schema="mine")
    store.sync.initialize()
    store.sync.close()
    postgres.sql("UPDATE mine.records_meta SET value = 99", name)
    with pytest.raises(StorageSchemaError, match="layout 99"):
        store.sync.initialize()
    store.sync.close()


def test_many_open_a_fresh_database(postgres: Postgres) -> None:
    url = postgres.url(postgres.make_database())
    stores = [PostgresRecordStore(url) for _ in range(8)]
    at_once(lambda number: stores[number].sync.commit([Put("s", f"{number}", b"")]), 8)
    assert len(stores[0].sync.scan("s")) == 8
    for store in stores:
        store.sync.close()


def test_how_data_is_kept(postgres: Postgres) -> None:
    name = postgres.make_database()
    store = PostgresRecordStore(postgres.url(name))
    store.sync.initialize()
    store.sync.close()
    kept = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'genro_storage.records'::regclass AND attname = 'data'"
    assert postgres.sql(kept, name) == "e"  # external: not compressed
    order = (
        "SELECT collname FROM pg_collation c JOIN pg_attribute a ON a.attcollation = c.oid WHERE attname = 'key' AND "
    )
    assert postgres.sql(f"{order} attrelid = 'genro_storage.records'::regclass", name) == "C"


@pytest.mark.parametrize(
    "options",
    [{"url": "mysql://x"}, {"url": "postgresql://x", "schema": "a;b"}, {"url": "postgresql://x", "pool": 3}],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(StorageConfigError):
        PostgresRecordStore(**options)  # type: ignore[arg-type]


# --- connections ---


def test_nobody_there() -> None:
    store = PostgresRecordStore("postgresql://user:secret-word@127.0.0.1:9/x", acquire_timeout=2)
    for call in (store.sync.initialize, lambda: store.sync.commit([Put("s", "k", b"")])):
        with pytest.raises(StorageUnavailableError) as caught:
            call()
        assert caught.value.retryable
        assert "secret-word" not in f"{caught.value!r} {caught.value} {store!r}"
        assert "127.0.0.1" in str(caught.value)
    store.sync.close()


def test_a_wrong_password(postgres: Postgres) -> None:
    store = PostgresRecordStore(postgres.url().replace(postgres.password, "wrong-word"))
    with pytest.raises(StoragePermissionError) as caught:
        store.sync.initialize()
    assert "wrong-word" not in f"{caught.value}"
    store.sync.close()


def test_a_full_pool_is_waited_for_no_longer_than_told(database: str) -> None:
    """Regression: a pool that waited for ever, because a query's timeout does not bound it."""
    store = PostgresRecordStore(database, pool_size=1, max_overflow=0, acquire_timeout=1)

    async def use() -> None:
        client = await store._clients.get()
        taken = await client.take()
        with pytest.raises(StorageTimeoutError):
            await store.get("s", "k")
        await client.leave(taken)
        await store.get("s", "k")

    asyncio.run(use())


def test_who_waits_for_a_connection_gets_one_that_is_left(database: str) -> None:
    """It waits at the pool, and must not miss one that is kept at hand for the next."""
    store = PostgresRecordStore(database, pool_size=1, max_overflow=0, acquire_timeout=60)

    async def use() -> None:
        client = await store._clients.get()
        taken = await client.take()
        waiting = asyncio.ensure_future(store.get("s", "k"))
        await asyncio.sleep(0.05)
        await client.leave(taken)
        await asyncio.wait_for(waiting, 30)
        assert await client.take() is not None  # at hand again

    asyncio.run(use())


def test_what_is_not_used_goes_back_to_the_pool(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres_client, "AT_HAND", 0.01)
    store = PostgresRecordStore(database)

    async def use() -> None:
        await store.get("s", "k")
        client = await store._clients.get()
        assert client.pool.get_idle_size() == 0
        deadline = time.monotonic() + 60
        while not client.pool.get_idle_size():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await store.get("s", "k")

    asyncio.run(use())


def test_a_burst_larger_than_the_pool(database: str) -> None:
    """Regression: 1,000 tasks at once raised for want of connections."""
    store = PostgresRecordStore(database, pool_size=4, max_overflow=4)

    async def burst() -> list[object]:
        calls = (store.commit([Put("burst", f"{n:04}", b"")]) for n in range(1000))
        return await asyncio.gather(*calls)

    assert len(asyncio.run(burst())) == 1000


def test_broken_connections_are_replaced(store: PostgresRecordStore, postgres: Postgres) -> None:
    """Somebody ends all idle connections; nobody is told."""
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "

    async def use() -> None:
        await asyncio.gather(*(store.get("s", f"{n}") for n in range(5)))
        for _ in range(3):
            await asyncio.to_thread(postgres.sql, f"{kill} '{store.options.url.rpartition('/')[2]}'")
            await asyncio.gather(*(store.get("s", f"{n}") for n in range(5)))
            await asyncio.to_thread(postgres.sql, f"{kill} '{store.options.url.rpartition('/')[2]}'")
            await asyncio.sleep(0.05)
            await store.commit([Put("s", "k", b"")])

    asyncio.run(use())


def test_a_commit_whose_answer_is_lost(postgres: Postgres, database: str) -> None:
    """The connection is cut at many moments of a commit: unknown or unavailable, and then exactly one truth."""
    unknown = 0
    for cut in range(0, 240, 20):
        with TcpProxy(postgres.port) as proxy:
            store = PostgresRecordStore(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
            store.sync.commit([Put("cut", "before", b"")])
            proxy.cut(cut)
            try:
                store.sync.commit([Put(f"cut/{cut}", "one", b"x" * 200), Put(f"cut/{cut}", "two", b"")])
                wanted = (2,)
            except CommitOutcomeUnknownError:
                wanted, unknown = (0, 2), unknown + 1
            except StorageUnavailableError:
                wanted = (0,)
            proxy.clear()
            assert len(store.sync.scan(f"cut/{cut}")) in wanted
            store.sync.close()
    assert unknown


def test_a_server_that_says_nothing(postgres: Postgres, database: str) -> None:
    with TcpProxy(postgres.port) as proxy:
        url = database.replace(f":{postgres.port}/", f":{proxy.port}/")
        store = PostgresRecordStore(url, command_timeout=2, acquire_timeout=5)
        store.sync.initialize()
        proxy.silence()
        start = time.monotonic()
        with pytest.raises(StorageTimeoutError):
            store.sync.get("s", "k")
        with pytest.raises((StorageTimeoutError, CommitOutcomeUnknownError)):
            store.sync.commit([Put("s", "k", b"")])
        assert time.monotonic() - start < 30
        proxy.cut()
        store.sync.close()


def test_a_forked_child_connects_by_itself(store: PostgresRecordStore) -> None:
    store.sync.commit([Put("fork", "parent", b"")])

    def child() -> None:
        store.sync.commit([Put("fork", "child", b"")])
        store.sync.close()

    assert in_child(child)
    assert [record.key for record in store.sync.scan("fork")] == ["child", "parent"]
