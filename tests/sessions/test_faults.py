"""A fault at every call of a record store, under everything that sessions and checkpoints do: the end is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from genro_storage import StorageUnavailableError
from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import SessionStore
from genro_storage.testing import FaultyRecordStore, RecordFault

Step = Callable[[], Awaitable[Any]]
TIMES = {"at", "created_at", "updated_at", "last_activity", "ended_at", "timestamp", "expires_at", "ts"}


def steps(store: SessionStore, mark: str) -> list[Step]:
    """Each call that writes or reads, once at least; `mark` keeps the ids of several runs apart."""
    saver = GenroCheckpointSaver(store)
    one, two, thread, copy = (f"{name}{mark}" for name in ("one", "two", "thread", "copy"))
    message = {"role": "user", "content": "x"}

    def config(at: int | None, name: str = thread) -> Any:
        checkpoint_id = None if at is None else f"00000000-0000-6000-8000-{at:012}"
        return {"configurable": {"thread_id": name, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}

    def graph(at: int) -> Step:
        values = {"shared": "s" * 2000, "own": f"{at}" * 2000, "small": at}
        named = config(at)["configurable"]["checkpoint_id"]
        checkpoint: Any = empty_checkpoint() | {"id": named, "channel_values": values}
        parent = config(at - 1 if at else None)
        return lambda: saver.aput(parent, checkpoint, {"step": at, "run_id": f"run{mark}"}, dict.fromkeys(values, "1"))  # type: ignore[arg-type,typeddict-unknown-key]

    async def listed() -> int:
        return len([found async for found in saver.alist(config(None))])

    async def imported() -> Any:
        told = await store.export_session(one)
        told["session"]["session_id"] = two
        return await store.import_session(told)

    return [
        lambda: store.create_session(one, "u", {"a": 1}),
        lambda: store.update_session(one, {"metadata": {"b": 2}}, increment_requests=True),
        lambda: store.update_session(one, mark_error=True, add_processing_time=1.5),
        lambda: store.append_messages(one, [message] * 3),
        lambda: store.add_conversation_message(one, "user", "last"),
        lambda: store.pop_message(one),
        lambda: store.store_task_context(one, {"step": 1}),
        lambda: store.store_task_context(one, {"step": 2}),
        lambda: store.get_task_context(one),
        lambda: store.get_conversation_history(one),
        lambda: store.list_sessions(user_id="u"),
        lambda: store.end_session(one, "done"),
        lambda: store.reopen_session(one),
        imported,
        lambda: store.batch_end_sessions([one, two], "gone"),
        lambda: store.store_checkpoint(thread, "c1", {"x": 1}),
        lambda: store.put_writes(thread, "c1", "task", [("channel", 1)]),
        lambda: store.store_checkpoint(thread, "c2", {"x": 2}),
        lambda: store.store_checkpoint(thread, "c1", {"x": 3}),
        lambda: store.list_checkpoints(thread),
        graph(0),
        graph(1),
        lambda: saver.aput_writes(config(1), [("a", 1), ("b", "w" * 2000)], "task"),
        graph(2),
        listed,
        lambda: saver.aget_tuple(config(None)),
        lambda: saver.acopy_thread(thread, copy),
        lambda: saver.aprune([thread]),
        lambda: store.prune([copy], keep_last=1),
        lambda: store.delete_checkpoint(copy, "c1"),
        lambda: store.delete_session(two),
        lambda: store.sweep(),
    ]


def timeless(value: Any) -> Any:
    """Without times, which differ from run to run."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [timeless(one) for one in value]
    return value


async def ending(records: RecordStore, mark: str) -> Any:
    """All that is there, by a store that met no fault; nothing may be wrong in it, and nothing lonely."""
    store = SessionStore(records)
    saver = GenroCheckpointSaver(store)
    await store.sweep()
    told = await store.verify()
    assert told.faults == []
    graphs = [
        [
            (one.config["configurable"]["checkpoint_id"], one.checkpoint["channel_values"], one.pending_writes)
            async for one in saver.alist({"configurable": {"thread_id": f"{name}{mark}"}})
        ]
        for name in ("thread", "copy")
    ]
    seeds = [await store.list_checkpoints(f"{name}{mark}", None) for name in ("thread", "copy")]
    writes = await store.get_writes(f"thread{mark}", "c1")
    sessions = [await store.get_session(f"{name}{mark}") for name in ("one", "two")]
    exported = await store.export_session(f"one{mark}")
    text = repr(timeless([graphs, seeds, writes, sessions, exported]))
    return text.replace(mark, "")


async def driven(records: RecordStore, mark: str, *faults: RecordFault) -> FaultyRecordStore:
    """Every step, done again once if it failed because the store could not be reached."""
    faulty = FaultyRecordStore(records, *faults)
    for step in steps(SessionStore(faulty), mark):
        try:
            await step()
        except StorageUnavailableError:
            await step()
    return faulty


def calls_of(records: RecordStore) -> int:
    return len(asyncio.run(driven(records, "-count-")).calls)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_fault_at_every_call(kind: Any) -> None:
    """Refused, or done with its answer lost: done again, the end is that of a run without faults."""
    total = calls_of(MemoryRecordStore())
    assert total > 80

    async def every() -> None:
        clean = MemoryRecordStore()
        await driven(clean, "-x-")
        wanted = await ending(clean, "-x-")
        for at in range(1, total + 1):
            records = MemoryRecordStore()
            await driven(records, "-x-", RecordFault(at, kind))
            assert await ending(records, "-x-") == wanted, f"call {at}"

    asyncio.run(every())


@pytest.mark.parametrize("kind", ["before", "after"])
def test_faults_over_every_store(records: RecordStore, kind: Any) -> None:
    """Some calls of each store, in runs with ids of their own."""
    runner = SessionStore(records).sync

    async def some() -> None:
        await driven(records, "-clean-")
        wanted = await ending(records, "-clean-")
        for number, at in enumerate(range(3, 120, 13)):
            mark = f"-{kind}{number}-"
            await driven(records, mark, RecordFault(at, kind))
            assert await ending(records, mark) == wanted, f"call {at}"

    runner.run(some())


def test_silence_at_every_call() -> None:
    """A store that hangs: the caller gives up, nothing is left by half, and the same store goes on afterwards."""
    total = calls_of(MemoryRecordStore())

    async def silent(records: RecordStore, at: int) -> None:
        faulty, cancelled = FaultyRecordStore(records, RecordFault(at, "hang")), False
        for step in steps(SessionStore(faulty), "-x-"):
            task = asyncio.ensure_future(step())
            while not task.done() and len(faulty.calls) < at:
                await asyncio.wait([task], timeout=0.001)
            await asyncio.wait([task], timeout=0.02)
            if not task.done() and len(faulty.calls) >= at and not cancelled:
                cancelled = task.cancel()
                asyncio.get_running_loop().call_later(0.01, setattr, faulty, "released", True)
            try:
                await task
            except (asyncio.CancelledError, StorageUnavailableError):
                await step()
        assert cancelled, f"nothing hung at call {at}"

    async def every() -> None:
        clean = MemoryRecordStore()
        await driven(clean, "-x-")
        wanted = await ending(clean, "-x-")
        for at in range(1, total + 1, 3):
            records = MemoryRecordStore()
            await silent(records, at)
            assert await ending(records, "-x-") == wanted, f"call {at}"

    asyncio.run(every())
