"""Sweeps, the sweeper's thread, and verification."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

from genro_storage.exceptions import StorageConflictError
from genro_storage.records.base import Delete, Put, Record, RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import lanes
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import SessionStore
from genro_storage.sessions.sweeper import Sweeper
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened
from .test_langgraph import put


def test_threads_past_their_time_are_swept(opened: Opened, records: RecordStore, clock: FakeClock) -> None:
    store = opened(checkpoint_ttl=10)
    saver = GenroCheckpointSaver(store)
    put(saver, "graph", {"a": "x" * 5000})
    store.sync.store_checkpoint("named", "c", {})
    clock.advance(6)
    store.sync.store_checkpoint("named", "d", {})
    clock.advance(6)
    assert store.sync.sweep().threads == 1
    assert store.sync.get_checkpoint("named")["checkpoint_id"] == "d"
    clock.advance(6)
    assert store.sync.sweep().threads == 1
    for space in ("t", "tb", "gc", "x/threads"):
        assert records.sync.scan(space) == []


def test_only_one_sweeps(opened: Opened, records: RecordStore, clock: FakeClock) -> None:
    store = opened()
    records.sync.commit([Put("meta", "lease/sweep", b"", expires_at=clock() + 1_000_000)])
    assert store.sync.sweep_alone() is None
    clock.advance(2)
    assert store.sync.sweep_alone() is not None
    assert records.sync.get("meta", "lease/sweep") is None


def test_racing_sweepers_remove_each_session_once(opened: Opened, clock: FakeClock) -> None:
    stores = [opened(session_ttl=10) for _ in range(4)]
    stores[0].sync.batch_create_sessions([{"session_id": f"s{n}", "user_id": "u"} for n in range(60)])
    clock.advance(11)

    async def race() -> list[int]:
        reports = await asyncio.gather(*(store.sweep() for store in stores))
        return [report.sessions for report in reports]

    assert sum(stores[0].sync.run(race())) == 60
    assert stores[0].sync.verify().ok


def test_the_sweeper_runs_by_itself_and_holds_nobody(records: RecordStore, clock: FakeClock) -> None:
    store = SessionStore(records, session_ttl=5, sweep_interval=0.05)
    store.sync.initialize()
    store.sync.create_session("s", "u")
    clock.advance(6)
    until = time.monotonic() + 20
    while records.sync.get("s", "s") is not None and time.monotonic() < until:
        time.sleep(0.02)
    assert records.sync.get("s", "s") is None
    threads = [one for one in threading.enumerate() if one.name == "genro-sessions-sweep"]
    assert threads
    del store
    until = time.monotonic() + 20
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        gc.collect()  # a sweep that was under way held it a little longer
        time.sleep(0.05)
    assert not any(thread.is_alive() for thread in threads)


def test_a_sweep_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    """Not even by an error that is none of ours, as of a record that is damaged."""

    class Damaged:
        def __init__(self) -> None:
            self.sync, self.swept = self, threading.Event()
            self.errors = [StorageConflictError("changed 200 times"), ValueError("damaged")]

        def sweep_alone(self) -> None:
            if self.errors:
                raise self.errors.pop()
            self.swept.set()

    store: Any = Damaged()
    sweeper = Sweeper(store, 0.001)
    sweeper.start()
    assert store.swept.wait(60)
    sweeper.stop()
    assert "damaged" in caplog.text
    assert "changed 200 times" in caplog.text


def test_what_is_swept_does_not_drive_out_what_lives(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """A loop remembers so many sessions; one that is remembered takes a message without being read."""
    monkeypatch.setattr(lanes, "REMEMBERED", 40)  # more than a sweep judges at once: those are at work
    records = MemoryRecordStore(clock=clock)
    store = SessionStore(records, session_ttl=10)
    read: list[tuple[str, str]] = []

    async def get(space: str, key: str) -> Record | None:
        read.append((space, key))
        return await MemoryRecordStore.get(records, space, key)

    store.sync.batch_create_sessions([{"session_id": f"s{n}", "user_id": "u"} for n in range(120)])
    clock.advance(11)
    store.sync.create_session("live", "u")
    monkeypatch.setattr(records, "get", get)
    assert store.sync.sweep().sessions == 120
    read.clear()
    store.sync.add_conversation_message("live", "user", "hello")
    assert read == []
    store.sync.close()


def test_verification_finds_and_repairs(opened: Opened, records: RecordStore) -> None:
    store = opened()
    for number in range(3):
        store.sync.create_session(f"s{number}", "u")
        store.sync.append_messages(f"s{number}", [{"role": "user", "content": n} for n in range(5)])
    saver = GenroCheckpointSaver(store)
    put(saver, "t", {"a": "x" * 5000})
    told = store.sync.verify()
    assert (told.ok, told.sessions, told.threads, told.faults) == (True, 3, 1, [])

    (entry, *_) = records.sync.scan("x/user/u")
    inc = store.sync.thread("t").thread.inc
    records.sync.commit([Delete("x/user/u", entry.key), Put(f"b/{inc}#", "f" * 40, b"lonely")])
    told = store.sync.verify()
    assert (told.ok, told.faulty) == (False, 2)
    told = store.sync.verify(repair=True)
    assert (told.ok, told.repaired) == (True, 2)
    assert store.sync.verify().faults == []
    assert len(store.sync.list_sessions("u")) == 3

    (message, *_) = records.sync.scan(f"m/{_inc(store, 's1')}#")
    records.sync.commit([Delete(message.space, message.key)])
    assert "4 messages" in store.sync.verify().faults[0]
    (blob,) = records.sync.scan(f"b/{inc}#")
    records.sync.commit([Delete(blob.space, blob.key)])
    assert "missing" in store.sync.verify().faults[1]


def _inc(store: SessionStore, session_id: str) -> str:
    from genro_storage.sessions.models import hot_of

    return hot_of(store.records.sync.get("h", session_id).data).inc
