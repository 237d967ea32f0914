"""What is begun and not finished: whoever is killed, cancelled or overtaken at any step leaves nothing for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from genro_storage import StorageError
from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import drafts, graphs
from genro_storage.sessions.drafts import LEASE
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.migrate import copy_session, copy_thread
from genro_storage.sessions.store import SessionStore
from genro_storage.testing import RecordFault
from genro_storage.testing.record_words import FakeClock
from tests.conftest import soak_scale

from .conftest import STORES
from .noting import NotingRecordStore, lonely

STEPS = 60
"""More calls than anything here takes."""
DEAD = 10**9
Work = Callable[[SessionStore], Awaitable[object]]


def checkpoint(number: int, **values: Any) -> Any:
    values = values or {"a": f"{number}" * 3000, "b": "s" * 3000, "small": number}
    return empty_checkpoint() | {"id": f"c{number:03}", "channel_values": values}


def config(thread: str, parent: int | None = None) -> Any:
    checkpoint_id = None if parent is None else f"c{parent:03}"
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}


async def put(store: SessionStore, thread: str, number: int, **values: Any) -> None:
    saver = GenroCheckpointSaver(store)
    one = checkpoint(number, **values)
    told: Any = {"step": number, "run_id": f"run{number % 2}"}
    changed: Any = dict.fromkeys(one["channel_values"], "1")
    made = await saver.aput(config(thread, number - 1 if number else None), one, told, changed)
    await saver.aput_writes(made, [("a", "w" * 2000)], "task")


async def filled(store: SessionStore) -> None:
    """A thread of both kinds of checkpoints, a session with all it can have."""
    for number in range(3):
        await put(store, "source", number)
        await store.store_checkpoint("source", f"named{number}", {"n": number})
    await store.put_writes("source", "named1", "task", [("a", 1)])
    await store.create_session("s", "u")
    await store.append_messages("s", [{"role": "user", "content": f"{n}"} for n in range(5)])
    await store.store_task_context("s", {"n": 1})


async def copying(store: SessionStore) -> None:
    await store.copy_thread("source", "target")


async def importing(store: SessionStore) -> None:
    exported = await store.export_session("s")
    assert exported is not None
    await store.import_session(exported | {"session": exported["session"] | {"session_id": "t"}})


async def putting_much(store: SessionStore) -> None:
    """More values than go into one commit with their header, into a thread that is there and one that is not."""
    for thread in ("source", "target"):
        await put(store, thread, 50, **{f"v{n}": f"{n:05}" * 300 for n in range(25)})


async def moving_session(store: SessionStore) -> None:
    source = SessionStore(MemoryRecordStore(clock=store.records.clock))
    await filled(source)
    await copy_session(source, store, "s")


async def moving_thread(store: SessionStore) -> None:
    source = SessionStore(MemoryRecordStore(clock=store.records.clock))
    await filled(source)
    await copy_thread(source, store, "source")


WORKS: list[Work] = [copying, importing, putting_much, moving_session, moving_thread]
MOVES = (moving_session, moving_thread)


# The steps are those of the layer above the stores: two stores are enough where time is short.
everywhere = pytest.mark.parametrize("records", STORES if soak_scale() >= 1 else ["memory", "sqlite"], indirect=True)


@pytest.fixture
def stride(records: RecordStore, soak: Callable[[int], int]) -> int:
    """Every step in memory, and at full scale anywhere; else some, for the steps are those of the layer above."""
    return 1 if isinstance(records, MemoryRecordStore) or soak(100) >= 100 else 9


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten values are many here, five records take two commits."""
    monkeypatch.setattr(graphs, "_MOST", 10)
    monkeypatch.setattr(drafts, "SLICE", 3)
    monkeypatch.setattr(drafts, "MAX_CHANGES", 5)


@everywhere
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
@pytest.mark.parametrize("kind", ["before", "after", "hang"])
def test_killed_at_every_step(records: RecordStore, clock: FakeClock, work: Work, kind: Any, stride: int) -> None:
    """Nothing answers from one call on, as for a process that is no more; after the lease a sweep finds all of it."""
    spaces: set[str] = set()
    survivor = SessionStore(NotingRecordStore(records, spaces=spaces))
    if work not in MOVES:
        survivor.sync.run(filled(survivor))
    before = survivor.sync.verify()
    for at in range(1, STEPS, stride):
        dying = NotingRecordStore(records, RecordFault(at, kind), RecordFault(at + 1, times=DEAD), spaces=spaces)
        survivor.sync.run(killed(SessionStore(dying), work, dying, at))
        clock.advance(LEASE / 1e6 + 1)
        survivor.sync.sweep()
        told = survivor.sync.verify()
        assert told.faults == []
        assert lonely(records, spaces) == {}
        if len(dying.calls) < at:  # it was done before the fault
            break
        survivor.sync.delete_thread("target")
        survivor.sync.delete_session("t")
        if work in MOVES:
            survivor.sync.delete_thread("source")
            survivor.sync.delete_session("s")
    else:
        pytest.fail("it never came to its end")
    assert (told.threads, told.sessions) > (before.threads, before.sessions) or work is putting_much
    assert len(dying.calls) >= 5


async def killed(store: SessionStore, work: Work, records: NotingRecordStore, at: int) -> None:
    """The work, until it ends or hangs; what hangs is cancelled."""
    doing = asyncio.ensure_future(work(store))
    hangs = any(fault.kind == "hang" for fault in records.faults)
    while not doing.done() and not (hangs and len(records.calls) >= at):  # noqa: ASYNC110 - called from any thread
        await asyncio.sleep(0)
    if not doing.done():
        doing.cancel()
        records.released = True  # a commit waits for its outcome
    await asyncio.wait([doing])
    if not doing.cancelled() and doing.exception() is not None:
        assert isinstance(doing.exception(), StorageError)


@everywhere
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_sweep_that_believes_a_slow_one_dead(records: RecordStore, clock: FakeClock, work: Work, stride: int) -> None:
    """At every step once: the slow one begins anew, and is done; nothing of its first try is left."""
    spaces: set[str] = set()
    swept = SessionStore(NotingRecordStore(records, spaces=spaces))
    if work not in MOVES:
        swept.sync.run(filled(swept))
    for at in range(1, STEPS, stride):
        slow = NotingRecordStore(records, spaces=spaces)
        seen: list[str] = []

        async def late(name: str, at: int = at, seen: list[str] = seen) -> None:
            seen.append(name)
            if len(seen) == at:
                clock.advance(LEASE / 1e6 + 1)
                await swept.sweep()

        slow.before = late
        swept.sync.run(work(SessionStore(slow)))
        assert swept.sync.verify().faults == []
        assert lonely(records, spaces) == {}
        if work is copying:
            copy = [one.checkpoint["id"] for one in GenroCheckpointSaver(swept).list(config("target"))]
            assert copy == ["c002", "c001", "c000"]
        elif work is putting_much:
            for thread in ("source", "target"):
                found = GenroCheckpointSaver(swept).get_tuple(config(thread, 50))
                assert found is not None
                assert found.checkpoint["channel_values"]["v24"] == "00024" * 300
        if len(seen) < at:
            return
        swept.sync.delete_thread("target")
        swept.sync.delete_session("t")
        if work in MOVES:
            swept.sync.delete_thread("source")
            swept.sync.delete_session("s")
        elif work is putting_much:
            swept.sync.delete_thread("source")
    pytest.fail("it never came to its end")


@everywhere
def test_a_copy_of_what_is_pruned_meanwhile(records: RecordStore, stride: int) -> None:
    """At every step once, by one who dies before the writes of what it pruned are gone: the copy may have them."""
    spaces: set[str] = set()
    store = SessionStore(NotingRecordStore(records, spaces=spaces))
    for at in range(1, STEPS, stride):
        for number in range(2):
            store.sync.run(put(store, "source", number))
        slow = NotingRecordStore(records, spaces=spaces)
        seen: list[str] = []

        async def prune(name: str, at: int = at, seen: list[str] = seen) -> None:
            seen.append(name)
            if len(seen) == at:
                dying = NotingRecordStore(records, RecordFault(2, on="commit", times=DEAD), spaces=spaces)
                await GenroCheckpointSaver(SessionStore(dying)).aprune(["source"])

        slow.before = prune
        assert store.sync.run(SessionStore(slow).copy_thread("source", "target"))
        store.sync.sweep()
        assert store.sync.verify().faults == []
        assert lonely(records, spaces) == {}
        store.sync.delete_thread("target")
        store.sync.delete_thread("source")
        assert lonely(records, spaces) == {}
        if len(seen) < at:
            return
    pytest.fail("it never came to its end")
