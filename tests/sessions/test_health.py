"""Health and metrics of a session store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from genro_storage import StorageManager, StorageSchemaError, StorageUnavailableError
from genro_storage.observe import Telemetry, set_telemetry
from genro_storage.records.base import Put, RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import (
    MemoryStorageBackend,
    MountStorageBackend,
    RedisStorageBackend,
    SQLiteStorageBackend,
    StorageAdapter,
    health,
)
from genro_storage.sessions.interfaces import ICheckpointerBackend, IStorageBackend
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing import FaultyRecordStore, RecordFault
from tests.servers.fixtures import running
from tests.servers.redis import Redis

from .test_langgraph import counter


def test_the_store_is_what_the_interfaces_say(sessions: BlockingSessions) -> None:
    assert isinstance(sessions.store, IStorageBackend)
    assert isinstance(sessions.store, ICheckpointerBackend)
    assert sessions.initialize() is True
    assert sessions.initialize() is True


def test_a_healthy_store(sessions: BlockingSessions, records: RecordStore) -> None:
    told = sessions.health_check()
    assert told["status"] == "healthy"
    assert told["backend"] == records.name
    assert isinstance(told["durability"], str)
    assert 0 < told["latency_ms"] < 5000
    assert (told["warnings"], told["pending_gc"]) == ([], 0)
    assert [one.key for one in records.sync.scan("meta")] == []


def test_an_unhealthy_store_tells_and_does_not_raise(records: RecordStore) -> None:
    faulty = FaultyRecordStore(records, RecordFault(1, times=10**9))
    told = SessionStore(faulty).sync.health_check()
    assert told["status"] == "unhealthy"
    assert "injected fault" in told["error"]


def test_a_store_that_hangs_is_unhealthy(records: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.LIMIT == 5
    monkeypatch.setattr(health, "LIMIT", 0.3)
    faulty = FaultyRecordStore(records, RecordFault(2, "hang"))
    store = SessionStore(faulty)

    async def check() -> dict[str, object]:
        async with asyncio.timeout(20):
            return await store.health_check()

    told = asyncio.run(check())
    assert told["status"] == "unhealthy"
    assert "0.3 s" in str(told["error"])


def test_nobody_waits_for_a_commit_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be cancelled: its outcome would be unknown."""
    monkeypatch.setattr(health, "LIMIT", 0.05)
    faulty = FaultyRecordStore(MemoryRecordStore(), RecordFault(1, "hang", on="commit"))

    async def check() -> None:
        told = await SessionStore(faulty).health_check()
        assert (told["status"], told["error"]) == ("unhealthy", "no answer within 0.05 s")
        faulty.released = True

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_store_of_a_newer_release_is_refused(sessions: BlockingSessions, records: RecordStore) -> None:
    sessions.initialize()
    assert records.sync.get("meta", "layout").data == b"1"
    records.sync.commit([Put("meta", "layout", b"2")])
    with pytest.raises(StorageSchemaError, match="newer"):
        SessionStore(records).sync.initialize()


def test_metrics_count(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u")
    sessions.create_session("s", "u")
    for number in range(3):
        sessions.add_conversation_message("s", "user", number)
    for status in ("a", "a", *map(str, range(20))):
        sessions.end_session("s", status)
    told = sessions.get_metrics()
    assert (told["sessions_created"], told["messages"], told["sessions_ended"]) == (1, 3, 21)
    assert told["operations"]["commit"]["count"] >= 25
    assert told["operations"]["commit"]["errors"] >= 1
    assert told["conflicts"] >= 1
    assert 0 < told["operations"]["commit"]["p50"] <= told["operations"]["commit"]["p99"]
    text = sessions.store.metrics_text()
    assert f'genro_records_operations_total{{store="{sessions.store.records.name}",op="commit",outcome="ok"}}' in text
    assert 'genro_sessions_ended_total{status="other"}' in text
    assert text.count("genro_sessions_ended_total{") == 9
    assert "genro_sessions_messages_total 3" in text


# --- what is known without counting, and what a server says of itself ---


def test_the_count_is_about_right(tmp_path: Path) -> None:
    """Memory knows, SQLite looks at some places, also where rows are missing; nobody counts them all."""
    for store in (MemoryStorageBackend(), SQLiteStorageBackend(tmp_path / "s.db")):
        assert store.sync.get_metrics()["approximate_records"] in (0, None)
        names = [str(number) for number in range(400)]
        store.sync.batch_create_sessions([{"session_id": name, "user_id": "u"} for name in names])
        told = [store.sync.get_metrics()["approximate_records"] for _ in range(20)]
        assert told[-1] == 2000
        for name in names[100:300]:
            store.sync.delete_session(name)
        told = [store.sync.get_metrics()["approximate_records"] for _ in range(20)]
        assert 700 <= told[-1] <= 1300
        store.sync.close()


def test_the_count_of_a_mount() -> None:
    """A sweep lists the records anyway; what is made and deleted since is counted when it is folded."""
    place = StorageManager([{"name": "m", "type": "memory"}]).node("m:records")
    store = MountStorageBackend(place, lease=3)
    store.sync.create_session("first", "u")
    store.sync.close()  # all is folded
    store.sync.create_session("second", "u")
    assert store.sync.get_metrics()["approximate_records"] is None
    store.sync.sweep()
    first = store.sync.run(store.records.approximate_count())
    assert first is not None
    assert first >= 5

    def count() -> int:
        return store.sync.run(store.records.approximate_count()) or 0

    for number in range(20):
        store.sync.create_session(str(number), "u")
    while count() < 100:  # folding happens when nobody writes
        time.sleep(0.01)
    most = count()
    assert most <= 5 * 22 + 5
    for number in range(20):
        store.sync.delete_session(str(number))
    while count() > most - 90:
        time.sleep(0.01)
    store.sync.close()


def test_the_count_of_every_store(sessions: BlockingSessions, records: RecordStore) -> None:
    sessions.create_session("s", "u")
    count = sessions.run(records.approximate_count())
    if records.name == "mount":
        assert count is None  # nobody has listed it yet
    elif records.name == "postgresql":
        assert count is None or count >= 0  # the server's statistics come later
    else:
        assert count is not None
        assert count >= 5


def test_metrics_wait_for_nobody(records: RecordStore) -> None:
    """A store that does not answer is told by health, not by metrics."""
    store = SessionStore(records)
    store.sync.initialize()

    async def silent() -> int:
        await asyncio.sleep(3600)
        return 1

    records.approximate_count = silent  # type: ignore[method-assign]
    took = []
    for _ in range(5):
        start = time.perf_counter()
        assert store.sync.get_metrics()["approximate_records"] is None
        took.append(time.perf_counter() - start)
    assert min(took) < 2  # not the seconds that health gives a store


def test_what_a_store_warns_of_makes_it_degraded() -> None:
    records = MemoryRecordStore()
    records.warnings = ("something is wrong",)
    told = SessionStore(records).sync.health_check()
    assert (told["status"], told["warnings"]) == ("degraded", ["something is wrong"])


def test_redis_that_evicts_is_degraded_and_tells_how_durable_it_is() -> None:
    for server in running(Redis(durable=True)):
        store = RedisStorageBackend(server.url())
        told = store.sync.health_check()
        assert (told["status"], told["durability"], told["warnings"]) == ("healthy", "aof-always", [])
        store.sync.close()
        client = redis.Redis.from_url(server.url())
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.close()
        told = store.sync.health_check()
        assert told["status"] == "degraded"
        assert "allkeys-lru" in told["warnings"][0]
        store.sync.close()


def test_bytes_of_checkpoints(sessions: BlockingSessions) -> None:
    """What each would take alone grows with the history, what is stored does not."""
    app = counter().compile(checkpointer=GenroCheckpointSaver(sessions.store))
    history = [f"{number} " + "x" * 300 for number in range(64)]
    app.invoke({"count": 0, "log": history}, {"configurable": {"thread_id": "t"}})
    told = sessions.get_metrics()["checkpoint_bytes"]
    assert told["logical"] > 50_000
    assert told["stored"] < told["logical"] / 2
    sessions.store_checkpoint("seed", "c", {"x": "y" * 1000})
    later = sessions.get_metrics()["checkpoint_bytes"]
    assert {later[kind] - told[kind] for kind in ("logical", "stored")} == {len('{"x":"' + "y" * 1000 + '"}') + 2}
    text = sessions.store.metrics_text()
    assert f'genro_checkpoints_bytes_total{{kind="logical"}} {later["logical"]:g}' in text
    assert f'genro_records_queue_depth{{store="{sessions.store.records.name}"}} ' in text


def test_pending_reconcile_is_a_metric() -> None:
    primary = MemoryStorageBackend()
    fallback = SessionStore(FaultyRecordStore(MemoryRecordStore(), RecordFault(1, times=10**9)))
    adapter = StorageAdapter(primary, fallback, journal=MemoryRecordStore())

    async def use() -> None:
        await adapter.create_session("s", "u")
        told = await adapter.health_check()
        assert (told["status"], told["pending_reconcile"]) == ("degraded", 1)

    asyncio.run(use())
    assert "\ngenro_sessions_pending_reconcile 1\n" in adapter.metrics_text()


# --- OpenTelemetry ---


@pytest.fixture
def telemetry() -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    set_telemetry(Telemetry(tracing, MeterProvider([reader])))
    yield spans, reader
    set_telemetry(None)


def test_spans_and_metrics(
    sessions: BlockingSessions, telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    spans, reader = telemetry
    sessions.create_session("private-id", "private-user", {"private": "data"})
    sessions.get_session("private-id")
    sessions.list_sessions()
    sessions.create_session("private-id", "private-user")
    found = spans.get_finished_spans()
    assert {span.name for span in found} == {f"genro.records.{name}" for name in ("get", "scan", "commit")}
    assert {dict(span.attributes or {})["db.system"] for span in found} == {sessions.store.records.name}
    assert {span.status.status_code.name for span in found} == {"UNSET", "ERROR"}  # the second creation conflicts
    metrics = reader.get_metrics_data()
    assert metrics is not None
    text = metrics.to_json()
    for name in ("genro.records.operations_total", "genro.records.operation_seconds", "genro.sessions.created_total"):
        assert f'"{name}"' in text
    assert "private" not in text + "".join(span.to_json() for span in found)
    set_telemetry(None)
    sessions.get_session("private-id")
    assert len(spans.get_finished_spans()) == len(found)


class Stuck(MemoryRecordStore):
    """Its end is an error."""

    async def close(self) -> None:
        raise StorageUnavailableError("gone")


def test_closing_that_fails_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    store = SessionStore(Stuck())
    store.sync.create_session("s", "ada")
    records = Stuck()
    records.sync.commit([Put("s", "k", b"")])
    for one in (store.sync, records.sync):
        with pytest.raises(StorageUnavailableError):
            one.close()
    assert not set(threading.enumerate()) - before
