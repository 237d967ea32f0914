"""Named checkpoints and the writes of tasks, over every store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from genro_storage import RecordTooLargeError, SessionConflictError, StorageUnavailableError
from genro_storage.exceptions import VersionConflictError
from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import pruning
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.sessions.threads import ThreadState
from genro_storage.testing import FaultyRecordStore, RecordFault
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened


def ids(listed: list[dict[str, Any]]) -> list[str]:
    return [one["checkpoint_id"] for one in listed]


def test_the_last_stored_is_the_newest_whatever_its_id(sessions: BlockingSessions) -> None:
    for name in ("b", "a", "c", "a"):
        assert sessions.store_checkpoint("t", name, {"state": name}, {"step": 1}) is True
    newest = sessions.get_checkpoint("t")
    assert (newest["checkpoint_id"], newest["thread_id"], newest["data"]) == ("a", "t", {"state": "a"})
    assert newest.keys() == {"checkpoint_id", "thread_id", "data", "metadata", "created_at"}
    assert sessions.get_checkpoint("t", "b")["metadata"] == {"step": 1}
    assert ids(sessions.list_checkpoints("t")) == ["a", "c", "b"]
    assert ids(sessions.list_checkpoints("t", 1)) == ["a"]
    assert sessions.list_checkpoints("t", 0) == []
    assert sessions.get_checkpoint("t", "no") is None
    assert sessions.get_checkpoint("no") is None
    with pytest.raises(ValueError, match="limit"):
        sessions.list_checkpoints("t", -1)


def test_values_come_back_as_they_were(sessions: BlockingSessions) -> None:
    data = {"pair": (1, 2), "raw": b"\0", "deep": [{"x": {1, 2}}]}
    sessions.put_checkpoint("t", "c", data)
    assert sessions.get_checkpoint("t")["data"] == data
    assert type(sessions.get_checkpoint("t")["data"]["pair"]) is tuple


def test_r_writes_are_tuples_by_task_and_in_their_order(sessions: BlockingSessions) -> None:
    sessions.store_checkpoint("t", "c", {})
    sessions.put_writes("t", "c", "task:2", [("a", 1), ("b", {"x": (1,)})])
    sessions.put_writes("t", "c", "task:1", [("c", n) for n in range(12)])
    sessions.put_writes("t", "c", "task:2", [("z", 9)])
    assert sessions.get_writes("t", "c") == [*(("c", n) for n in range(12)), ("z", 9)]
    assert all(type(one) is tuple for one in sessions.get_writes("t", "c"))
    assert sessions.get_writes("t", "no") == sessions.get_writes("no", "c") == []
    with pytest.raises(RecordTooLargeError, match="901"):
        sessions.put_writes("t", "c", "x", [("a", n) for n in range(901)])


def test_r_deleting_takes_the_writes_along(sessions: BlockingSessions, records: RecordStore) -> None:
    sessions.store_checkpoint("t", "a", {})
    sessions.store_checkpoint("t", "b", {})
    for task in range(3):
        sessions.put_writes("t", "b", f"task{task}", [("x", n) for n in range(600)])
    assert sessions.delete_checkpoint("t", "b") is True
    assert sessions.delete_checkpoint("t", "b") is False
    assert sessions.get_writes("t", "b") == []
    assert sessions.get_checkpoint("t")["checkpoint_id"] == "a"
    sessions.put_writes("t", "early", "task", [("before", "its checkpoint")])
    assert sessions.delete_thread("t") is True
    assert sessions.delete_thread("t") is False
    assert sessions.get_checkpoint("t") is None
    assert sessions.delete_checkpoint("t", "a") is False
    _nothing_left(records)


def _nothing_left(records: RecordStore) -> None:
    for space in ("t", "tb", "gc"):
        assert records.sync.scan(space) == []
    if hasattr(records, "_spaces"):
        assert records._spaces == {}


def test_prune(sessions: BlockingSessions, clock: FakeClock) -> None:
    for number in range(6):
        sessions.store_checkpoint("t", f"c{number}", {"n": number})
        clock.advance(10)
    assert sessions.prune(["t", "no"], keep_last=4) == 2
    assert ids(sessions.list_checkpoints("t", None)) == ["c5", "c4", "c3", "c2"]
    assert sessions.prune(["t"], keep_last=1, older_than=35) == 1
    assert ids(sessions.list_checkpoints("t", None)) == ["c5", "c4", "c3"]
    assert sessions.prune(["t"]) == 2
    assert ids(sessions.list_checkpoints("t", None)) == ["c5"]


def test_copies_of_threads(sessions: BlockingSessions) -> None:
    for number in range(5):
        sessions.store_checkpoint("t", f"c{number}", {"n": number})
    sessions.put_writes("t", "c3", "task", [("x", 1)])
    assert sessions.copy_thread("t", "copy") is True
    assert sessions.copy_thread("no", "other") is False
    with pytest.raises(SessionConflictError, match="'copy'"):
        sessions.copy_thread("t", "copy")
    sessions.store_checkpoint("copy", "c9", {})
    sessions.delete_thread("t")
    assert ids(sessions.list_checkpoints("copy")) == ["c9", "c4", "c3", "c2", "c1", "c0"]
    assert sessions.get_writes("copy", "c3") == [("x", 1)]


def test_threads_are_listed(sessions: BlockingSessions) -> None:
    for number in range(25):
        sessions.store_checkpoint(f"t{number:02}", "c", {})
    page = sessions.list_threads(limit=10)
    assert [one["thread_id"] for one in page] == [f"t{n:02}" for n in range(10)]
    page = sessions.list_threads(limit=20, after=page.next)
    assert [one["thread_id"] for one in page] == [f"t{n:02}" for n in range(10, 25)]
    assert page.next is None


def test_a_thread_expires_after_its_last_put(opened: Opened, clock: FakeClock) -> None:
    store = opened(checkpoint_ttl=10).sync
    store.store_checkpoint("t", "a", {})
    clock.advance(8)
    store.store_checkpoint("t", "b", {})
    clock.advance(8)
    assert ids(store.list_checkpoints("t")) == ["b", "a"]
    clock.advance(3)
    assert store.get_checkpoint("t") is None
    store.store_checkpoint("t", "c", {})
    assert ids(store.list_checkpoints("t")) == ["c"]


def test_many_tasks_at_one_thread(opened: Opened) -> None:
    stores = [opened() for _ in range(3)]

    async def put() -> None:
        await asyncio.gather(
            *(store.store_checkpoint("t", f"{at}-{n}", {"n": n}) for n in range(20) for at, store in enumerate(stores))
        )

    stores[0].sync._thread.run(put())
    assert len(stores[1].sync.list_checkpoints("t", None)) == 60


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 6))
def test_a_fault_at_every_call(records: RecordStore, kind: Any, at: int) -> None:
    faulty = SessionStore(FaultyRecordStore(records, RecordFault(at, kind))).sync
    acknowledged = []
    for number in range(3):
        try:
            faulty.store_checkpoint("t", f"c{number}", {})
        except StorageUnavailableError:
            continue
        acknowledged.append(f"c{number}")
    assert len(acknowledged) >= 2
    assert ids(SessionStore(records).sync.list_checkpoints("t")) == acknowledged[::-1]


def test_a_prune_sees_what_others_store_meanwhile(records: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it knows of a thread from its last commit is looked at again where somebody else was there since."""
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    mine, other = (GenroCheckpointSaver(SessionStore(records)) for _ in range(2))
    calls = itertools.count(1)

    def put(saver: GenroCheckpointSaver, count: int) -> None:
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        for _ in range(count):
            checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": {"a": "x" * 3000, "b": "y"}}
            config = saver.put(config, checkpoint, {"source": "loop"}, {"a": "1", "b": "1"})

    def older_ones(headers: Mapping[Any, Any]) -> set[Any]:
        if next(calls) == 2:
            put(other, 3)
        return set(sorted(headers)[:-1])

    put(mine, 7)
    assert mine.store.sync.run(mine.store.drop_graphs("t", older_ones)) == 9
    (left,) = other.list(None)
    assert left.checkpoint["channel_values"] == {"a": "x" * 3000, "b": "y"}
    assert left.parent_config is None
    assert other.store.sync.verify().faults == []
    for saver in (mine, other):
        saver.store.sync.close()


@pytest.mark.parametrize("copies", [False, True])
def test_who_is_cancelled_while_it_holds_a_thread_lets_it_go(copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all others would wait until the hold lapses."""
    store = SessionStore(MemoryRecordStore())
    seen = asyncio.Event()

    async def slow(state: ThreadState, *others: object) -> Any:
        """Somebody else is faster each time, until the thread is held; then it takes for ever."""
        if not state.bump.held:
            await store.store_checkpoint("t", "meanwhile", {})
            raise VersionConflictError("another one was faster")
        seen.set()
        await asyncio.Event().wait()

    async def all_of_it() -> int:
        await store.store_checkpoint("t", "c", {})
        monkeypatch.setattr(store, "_copied", slow)
        work = store.copy_thread("t", "u") if copies else store.put_in_thread("t", slow)
        task = asyncio.ensure_future(work)
        await seen.wait()
        assert (await state_of(store)).bump.held
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await state_of(store)).bump.held

    assert asyncio.run(all_of_it()) == 0


async def state_of(store: SessionStore) -> ThreadState:
    state = await store.thread("t")
    assert state is not None
    return state
