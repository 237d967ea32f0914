"""What no store may be brought to by what it is given, by a clock that goes back, or by a damaged record."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from genro_storage.exceptions import StorageConfigError, StorageCorruptedError
from genro_storage.records.base import Put, RecordStore, now
from genro_storage.records.memory import NOTED, MemoryRecordStore
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing import FaultyRecordStore, RecordFault
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened
from .test_langgraph import got, put

THOUSAND_YEARS = 1000 * 365.25 * 86400


@pytest.fixture
def plain() -> Iterator[BlockingSessions]:
    """A store in memory: what is judged before any store is asked, or by none of them."""
    store = SessionStore(MemoryRecordStore())
    yield store.sync
    store.sync.close()


# --- what is given ---


def test_a_session_that_would_end_after_all_dates_is_refused(plain: BlockingSessions) -> None:
    plain.create_session("s", "u")
    for ttl in (THOUSAND_YEARS + 1, 1e12, sys.maxsize, 1e300, float("inf"), float("nan"), True):
        with pytest.raises(ValueError, match="1000 years"):
            plain.create_session("late", "u", ttl=ttl)
        with pytest.raises(ValueError, match="1000 years"):
            plain.batch_create_sessions([{"session_id": "late", "user_id": "u", "ttl": ttl}])
    assert [one["session_id"] for one in plain.list_sessions()] == ["s"]


def test_a_session_may_last_for_a_thousand_years(sessions: BlockingSessions) -> None:
    made = sessions.create_session("s", "u", ttl=THOUSAND_YEARS)
    assert made["expires_at"] > "3000"
    assert sessions.update_session("s", increment_requests=True)
    assert sessions.sweep().sessions == 0
    assert sessions.list_sessions()[0]["expires_at"] >= made["expires_at"]


@pytest.mark.parametrize("option", ["session_ttl", "checkpoint_ttl", "sweep_interval"])
def test_options_last_no_longer_either(option: str) -> None:
    with pytest.raises(StorageConfigError, match="1000 years"):
        SessionStore(MemoryRecordStore(), **{option: THOUSAND_YEARS + 1})


def test_a_none_in_metadata_stays_until_it_is_asked_to_go(plain: BlockingSessions) -> None:
    plain.create_session("s", "u", {"none": None, "a": 1})
    assert plain.update_session("s", {"metadata": {"a": 2}})
    assert plain.get_session("s")["metadata"] == {"none": None, "a": 2}
    assert plain.update_session("s", {"metadata": {"none": None}})
    assert plain.get_session("s")["metadata"] == {"a": 2}


def _changed(exported: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return exported | {"session": exported["session"] | {"session_id": "new"} | facts}


NONSENSE: list[dict[str, Any]] = [
    {"request_count": "5"},
    {"total_processing_time": []},
    {"version": None},
    {"version": 1 << 70},
    {"status": 1},
    {"ttl": 1e12},
    {"ttl": "9"},
    {"created_at": 5},
    {"metadata": 5},
]


def test_an_import_of_nonsense_is_refused_and_leaves_nothing(plain: BlockingSessions) -> None:
    plain.create_session("s", "u")
    exported = plain.export_session("s")
    for facts in NONSENSE:
        with pytest.raises(StorageCorruptedError):
            plain.import_session(_changed(exported, **facts))
    assert [one["session_id"] for one in plain.list_sessions()] == ["s"]
    assert plain.import_session(_changed(exported))


def test_an_import_of_messages_with_gaps_is_refused(plain: BlockingSessions) -> None:
    plain.create_session("s", "u")
    plain.append_messages("s", [{"role": "user", "content": n} for n in range(2)])
    exported = plain.export_session("s")
    for seqs in ([1, 3], [2, 1], [0, 1], [1, 1]):
        numbered = [one | {"seq": seq} for one, seq in zip(exported["messages"], seqs, strict=True)]
        with pytest.raises(StorageCorruptedError, match="numbered"):
            plain.import_session(_changed(exported | {"messages": numbered}))
    assert plain.get_session("new") is None


def test_an_export_of_what_is_made_anew_meanwhile_is_whole() -> None:
    """Not half of the one that went."""

    class Restless(MemoryRecordStore):
        meanwhile: Any = None

        async def _scan(self, space: str, *bounds: Any) -> Any:
            if self.meanwhile is not None and space.startswith("m/"):
                call, self.meanwhile = self.meanwhile, None
                await call()
            return await super()._scan(space, *bounds)

    async def test() -> None:
        records = Restless()
        store = SessionStore(records)
        await store.create_session("s", "u")
        await store.add_conversation_message("s", "user", "old")

        async def again() -> None:
            await store.delete_session("s")
            await store.create_session("s", "u", {"new": 1})
            await store.add_conversation_message("s", "user", "new")

        records.meanwhile = again
        exported = await store.export_session("s")
        assert exported is not None
        assert exported["session"]["metadata"] == {"new": 1}
        assert [one["content"] for one in exported["messages"]] == ["new"]
        records.meanwhile = lambda: store.delete_session("s")
        assert await store.export_session("s") is None

    asyncio.run(test())


# --- a clock that goes back ---


def test_a_clock_that_goes_back_while_a_sweep_looks_loses_no_entry(
    opened: Opened, records: RecordStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(session_ttl=10, checkpoint_ttl=10)
    store.sync.create_session("s", "u")
    store.sync.store_checkpoint("t", "c", {})
    clock.advance(11)
    scan = records.scan

    async def back(space: str, **bounds: Any) -> Any:
        found = await scan(space, **bounds)
        if space in ("x/expiry", "x/threads") and found:
            clock.advance(-5)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(records, "scan", back)
        report = store.sync.sweep()
    assert (report.sessions, report.threads) == (0, 0)
    assert store.sync.get_session("s") is not None
    assert store.sync.get_checkpoint("t") is not None
    clock.advance(30)
    report = store.sync.sweep()
    assert (report.sessions, report.threads) == (1, 1)


# --- others at the same time, and answers that are lost ---


def test_a_prune_leaves_what_was_stored_anew_since_it_looked(plain: BlockingSessions) -> None:
    for name in ("a", "b", "c"):
        plain.store_checkpoint("t", name, {"n": 1})
    store = plain.store
    get = store.records.get
    meanwhile = [lambda: SessionStore(store.records).store_checkpoint("t", "a", {"n": 2})]

    async def looked(space: str, key: str) -> Any:
        if space.startswith("di/") and meanwhile:
            await meanwhile.pop()()
        return await get(space, key)

    store.records.get = looked  # type: ignore[method-assign]
    assert plain.prune(["t"]) == 1
    assert [(one["checkpoint_id"], one["data"]["n"]) for one in plain.list_checkpoints("t")] == [("a", 2), ("c", 1)]


def test_a_deletion_of_a_thread_whose_answer_was_lost_is_one() -> None:
    async def test() -> None:
        faulty = FaultyRecordStore(MemoryRecordStore())
        store = SessionStore(faulty)
        await store.store_checkpoint("t", "c", {})
        faulty.calls.clear()
        faulty.faults = [RecordFault(1, "after", on="commit")]
        assert await store.delete_thread("t") is True
        assert await store.delete_thread("t") is False
        await store.sweep()
        assert await faulty.inner.approximate_count() == 0

    asyncio.run(test())


# --- what ends by itself ---


def test_who_never_initializes_has_a_sweeper_too(clock: FakeClock) -> None:
    for made in ("session", "thread"):
        records = MemoryRecordStore(clock=clock)
        store = SessionStore(records, checkpoint_ttl=5, sweep_interval=0.01)
        if made == "session":
            store.sync.create_session("s", "u", ttl=5)
        else:
            store.sync.store_checkpoint("t", "c", {})
        clock.advance(6)
        until = time.monotonic() + 60
        while records.sync.get("s", "s") or records.sync.get("t", "t"):
            assert time.monotonic() < until
            time.sleep(0.01)
        store.sync.close()
        records.sync.close()


def test_sessions_in_memory_that_end_take_no_room_for_each_use() -> None:
    async def test() -> None:
        records = MemoryRecordStore()
        store = SessionStore(records, session_ttl=1000)
        for name in ("a", "b"):
            await store.create_session(name, "u")
        for _ in range(NOTED):
            await store.update_session("a")
        assert len(records._expiring) <= NOTED
        records.clock = lambda: now() + 2_000_000_000
        assert (await store.sweep()).sessions == 2
        assert records._expiring == []

    asyncio.run(test())


# --- damaged records ---


DAMAGED = [b"", b"\xc1", b"\x93\x01\x02\x03", b"[1]", bytes(40)]


def test_damage_is_told_as_what_it_is(sessions: BlockingSessions, records: RecordStore) -> None:
    sessions.create_session("s", "u")
    sessions.add_conversation_message("s", "user", "x")
    sessions.store_task_context("s", {"a": 1})
    sessions.store_checkpoint("t", "c", {"a": 1})
    saver = GenroCheckpointSaver(sessions.store)
    name, inc = put(saver, "graph", {"a": 1}), _inc(sessions)
    cases: list[tuple[str, str, Callable[[], object]]] = [
        ("s", "s", lambda: sessions.get_session("s")),
        ("h", "s", lambda: sessions.get_session("s")),
        (f"m/{inc['s']}#", f"{1:020}", lambda: sessions.get_conversation_history("s")),
        (f"c/{inc['s']}#", f"{1:020}", lambda: sessions.get_task_context("s")),
        ("t", "t", lambda: sessions.get_checkpoint("t")),
        ("tb", "t", lambda: sessions.list_checkpoints("t")),
        (f"d/{inc['t']}#", f"{1:020}", lambda: sessions.get_checkpoint("t")),
        (f"k/{inc['graph']}/", name, lambda: got(saver, "graph", name)),
    ]
    for space, key, call in cases:
        whole = records.sync.get(space, key)
        assert whole is not None
        for data in DAMAGED:
            records.sync.commit([Put(space, key, data)])
            with pytest.raises(StorageCorruptedError):
                call()
        records.sync.commit([Put(space, key, whole.data)])
        call()


def _inc(sessions: BlockingSessions) -> dict[str, str]:
    """The incarnations of a session and of threads, by their names."""
    from genro_storage.sessions.lanes import read_state

    state = sessions.run(read_state(sessions.store.records, "s"))
    threads = {name: sessions.run(sessions.store.thread(name)) for name in ("t", "graph")}
    assert state is not None
    return {"s": state.hot.inc} | {name: one.thread.inc for name, one in threads.items() if one is not None}


def test_records_that_do_not_belong_together_end_no_call_in_a_loop(plain: BlockingSessions) -> None:
    records = plain.store.records
    for name in ("s", "other"):
        plain.create_session(name, "u")
    plain.store_checkpoint("t", "c", {})
    other = records.sync.get("h", "other")
    assert other is not None
    records.sync.commit([Put("h", "s", other.data)])
    records.sync.commit([Put("tb", "t", b"\xc1")])
    with pytest.raises(StorageCorruptedError, match="do not belong together"):
        plain.get_session("s")
    report = plain.verify()
    assert (report.sessions, report.threads, report.faulty) == (1, 0, 2)
    assert "do not belong together" in report.faults[0]
    assert "'t'" in report.faults[1]
