"""Health and metrics of a session store."""

from __future__ import annotations

import asyncio

import pytest

from genro_storage import StorageSchemaError
from genro_storage.records.base import Put, RecordStore
from genro_storage.sessions import health
from genro_storage.sessions.interfaces import ICheckpointerBackend, IStorageBackend
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing import FaultyRecordStore, RecordFault


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
