"""What stands around a store: cache, batches, failover, migration, monitoring."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from genro_storage import (
    SessionConflictError,
    SessionNotFoundError,
    StaleSessionError,
    StorageCorruptedError,
    StorageUnavailableError,
)
from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import (
    BatchOptimizedStorageBackend,
    CachedStorageBackend,
    MemoryStorageBackend,
    SessionStore,
    StorageAdapter,
    StorageHealthChecker,
    StorageLogger,
    StorageMigrator,
    StorageMonitor,
    conversations,
    diagnose_connection_issue,
    diagnose_data_consistency,
)
from genro_storage.sessions import batched as batched_module
from genro_storage.sessions import cached as module
from genro_storage.sessions.forwarding import Forwarding
from genro_storage.sessions.keys import quoted
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.testing import FaultyRecordStore, RecordFault

from .test_langgraph import put

DOWN = RecordFault(1, times=10**9)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def quote(session_id: str) -> str:
    """As in the names of records."""
    with suppress(UnicodeEncodeError):
        return quoted(session_id)
    return ""


# --- cache ---


def test_the_cache_is_fresh_for_own_writes_and_stale_for_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    async def test() -> None:
        store = MemoryStorageBackend()
        cached = CachedStorageBackend(store, ttl=5)
        await cached.create_session("s", "u", {"a": [1]})
        first = await cached.get_session("s")
        assert first is not None
        first["metadata"]["a"].append(2)
        assert (await cached.get_session("s"))["metadata"] == {"a": [1]}
        await cached.update_session("s", {"metadata": {"a": 2}})
        assert (await cached.get_session("s"))["metadata"] == {"a": 2}
        await store.update_session("s", {"metadata": {"a": 3}})
        assert (await cached.get_session("s"))["metadata"] == {"a": 2}
        seconds[0] += 4.9
        assert (await cached.get_session("s"))["metadata"] == {"a": 2}
        seconds[0] += 0.2
        assert (await cached.get_session("s"))["metadata"] == {"a": 3}
        await store.update_session("s", {"metadata": {"a": 4}})
        with pytest.raises(StaleSessionError):
            await cached.update_session("s", {"metadata": {"a": 5}}, expected_version=2)
        assert (await cached.get_session("s"))["metadata"] == {"a": 4}  # who was refused sees why
        assert await cached.get_session("no") is None
        await cached.create_session("no", "u")
        assert await cached.get_session("no") is not None
        await cached.store_task_context("s", {"step": 1})
        assert await cached.get_task_context("s") == {"step": 1}
        await cached.store_task_context("s", {"step": 2})
        assert await cached.get_task_context("s") == {"step": 2}
        assert (await cached.list_sessions())[0]["session_id"] == "no"
        told = await cached.get_metrics()
        assert told["cache_hits"] >= 2
        assert told["cache_misses"] >= 5
        assert f'result="hit"}} {told["cache_hits"]}' in cached.metrics_text()

    run(test)


def test_the_cache_asks_once_and_drops_a_fill_that_a_write_overtook() -> None:
    async def test() -> None:
        store = MemoryStorageBackend()
        await store.create_session("s", "u")
        gate, asked = asyncio.Event(), []

        class Slow(SessionStore):
            async def get_session(self, session_id: str) -> dict[str, Any] | None:
                asked.append(session_id)
                found = await super().get_session(session_id)
                await gate.wait()
                return found

        cached = CachedStorageBackend(Slow(store.records))
        reads = [asyncio.create_task(cached.get_session("s")) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert asked == ["s"]
        await cached.update_session("s", {"metadata": {"new": 1}})
        gate.set()
        await asyncio.gather(*reads)
        assert (await cached.get_session("s"))["metadata"] == {"new": 1}

    run(test)


def test_the_cache_is_cleared_while_another_loop_asks() -> None:
    """Another thread begins a fill in the middle of looking which ones are under way."""
    cache = module._Cache(10, 1000)

    class Busy(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            cache._flights[len(cache._flights), "another"] = task
            return str.__eq__(self, other)

    async def test() -> None:
        nonlocal task
        task = asyncio.ensure_future(asyncio.sleep(0))
        cache._flights[0, "s"] = task
        cache.forget(Busy("s"))
        assert {key for _, key in cache._flights} == {"another"}
        await task

    task: asyncio.Task[Any]
    run(test)


CHANGES: dict[str, Callable[[CachedStorageBackend], Awaitable[object]]] = {
    "batch_end_sessions": lambda c: c.batch_end_sessions(["s"], "done"),
    "batch_create_sessions": lambda c: c.batch_create_sessions([{"session_id": "s", "user_id": "u"}]),
    "pop_message": lambda c: c.pop_message("s"),
    "import_session": lambda c: c.import_session({"session": {}}),
    "sweep": lambda c: c.sweep(),
    "cleanup_expired_sessions": lambda c: c.cleanup_expired_sessions(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_cache_asks_again_after_every_write_of_its_own(name: str) -> None:
    async def test() -> None:
        store = MemoryStorageBackend()
        cached = CachedStorageBackend(store, ttl=1000)
        await cached.create_session("s", "u")
        await cached.add_conversation_message("s", "user", "hi")
        assert (await cached.get_session("s"))["metadata"] == {}
        await store.update_session("s", {"metadata": {"by": "another"}})
        assert (await cached.get_session("s"))["metadata"] == {}
        with suppress(StorageCorruptedError):  # what is no export
            await CHANGES[name](cached)
        assert (await cached.get_session("s"))["metadata"] == {"by": "another"}

    run(test)


def test_the_cache_drops_a_fill_that_was_overtaken_when_it_forgot_its_epochs() -> None:
    async def test() -> None:
        store = MemoryStorageBackend()
        await store.create_session("s", "u")
        gate, asked = asyncio.Event(), asyncio.Event()

        class Slow(SessionStore):
            async def get_session(self, session_id: str) -> dict[str, Any] | None:
                found = await super().get_session(session_id)
                asked.set()
                await gate.wait()
                return found

        cached = CachedStorageBackend(Slow(store.records), cache_size=1, ttl=1000)
        read = asyncio.create_task(cached.get_session("s"))
        await asked.wait()
        for name in ("a", "b", "c", "d", "s"):
            await cached.update_session(name, {"metadata": {"new": 1}})
        gate.set()
        await read
        assert (await cached.get_session("s"))["metadata"] == {"new": 1}

    run(test)


def test_a_cache_may_be_written_while_another_loop_reads() -> None:
    """A look at what is under way is not disturbed by those who add to it."""
    cache, stop, errors = module._Cache(10, 5.0), threading.Event(), list[BaseException]()

    def forget() -> None:
        while not stop.is_set() and not errors:
            try:
                cache.forget("k")
            except RuntimeError as error:
                errors.append(error)

    async def read() -> None:
        gate = asyncio.Event()

        async def fill() -> int:
            await gate.wait()
            return 1

        for number in range(1500):
            tasks.append(asyncio.create_task(cache.get(f"{number}", fill)))
            if number % 300 == 0:
                await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == [1] * 1500

    tasks: list[asyncio.Task[Any]] = []
    thread, interval = threading.Thread(target=forget), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        asyncio.run(asyncio.wait_for(read(), 60))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert errors == []


# --- batches ---


def test_batches_acknowledge_what_is_stored_in_order() -> None:
    async def test() -> None:
        records = FaultyRecordStore(MemoryRecordStore())
        store = SessionStore(records)
        batched = BatchOptimizedStorageBackend(store, batch_size=50)
        for name in ("a", "b"):
            await batched.create_session(name, "u")
        records.calls.clear()
        calls = [batched.add_conversation_message("ab"[n % 2], "user", n) for n in range(200)]
        assert await asyncio.gather(*calls) == [True] * 200
        assert records.calls.count("commit") <= 10
        for at, name in enumerate("ab"):
            history = await batched.get_conversation_history(name, None)
            assert [one["content"] for one in history] == list(range(at, 200, 2))
        with pytest.raises(SessionNotFoundError):
            await batched.add_conversation_message("no", "user", "x")
        with pytest.raises(ValueError, match="role"):
            await batched.add_conversation_message("a", "", "x")

    run(test)


def test_buffered_batches_say_what_they_promise() -> None:
    async def test() -> None:
        batched = BatchOptimizedStorageBackend(MemoryStorageBackend(), ack="buffered", batch_timeout=300)
        await batched.create_session("s", "u")
        start = time.monotonic()
        assert await batched.add_conversation_message("s", "user", 1) is True
        told = await batched.health_check()
        assert told["buffered"] == 1
        assert "may lose" in told["warnings"][0]
        assert [one["content"] for one in await batched.get_conversation_history("s")] == [1]
        await batched.add_conversation_message("no", "user", 2)
        await batched.flush()
        told = await batched.health_check()
        assert (told["status"], told["lost"]) == ("degraded", 1)
        await batched.add_conversation_message("s", "user", 3)
        await batched.close()
        assert time.monotonic() - start < 60  # nothing waits for a batch to be full
        assert len(await batched.storage.get_conversation_history("s")) == 2

    run(test)


def test_a_buffered_message_is_what_it_was_when_it_was_given() -> None:
    async def test() -> None:
        batched = BatchOptimizedStorageBackend(MemoryStorageBackend(), ack="buffered")
        await batched.create_session("s", "u")
        content, metadata = {"n": 0, "in": [0]}, {"n": 0}
        for number in range(3):
            content["n"] = content["in"][0] = metadata["n"] = number  # type: ignore[index]
            await batched.add_conversation_message("s", "user", content, MappingProxyType(metadata))
        history = await batched.get_conversation_history("s")
        assert [one["content"] for one in history] == [{"n": n, "in": [n]} for n in range(3)]
        assert [one["metadata"] for one in history] == [{"n": n} for n in range(3)]

    run(test)


@pytest.mark.parametrize("session_id", [["s"], None, "", "\n"])
def test_what_is_no_id_keeps_nobody_of_its_batch_waiting(session_id: Any) -> None:
    async def test() -> None:
        batched = BatchOptimizedStorageBackend(MemoryStorageBackend())
        await batched.create_session("s", "u")
        calls = [batched.add_conversation_message(one, "user", "x") for one in ("s", session_id, "s")]
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert (told[0], told[2]) == (True, True)
        assert isinstance(told[1], TypeError | ValueError)

    run(test)


def test_messages_that_may_be_stored_each_may_be_stored_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 100_000
    monkeypatch.setattr(batched_module, "MOST_BYTES", most // 2)
    monkeypatch.setattr(conversations, "MAX_COMMIT", most + conversations._ROOM)

    async def test() -> None:
        batched = BatchOptimizedStorageBackend(MemoryStorageBackend(), batch_size=500)
        await batched.create_session("s", "u")
        calls = [batched.add_conversation_message("s", "user", f"{n:03}" * 10_000) for n in range(20)]
        assert await asyncio.gather(*calls) == [True] * 20
        history = await batched.get_conversation_history("s", None)
        assert [one["content"][:3] for one in history] == [f"{n:03}" for n in range(20)]

    run(test)


def test_a_buffered_message_is_stored_before_its_session_goes() -> None:
    async def test() -> None:
        store = MemoryStorageBackend()
        batched = BatchOptimizedStorageBackend(store, ack="buffered", batch_timeout=300)
        for call in (batched.delete_session, batched.export_session, batched.pop_message):
            await batched.create_session("s", "u")
            await batched.add_conversation_message("s", "user", "of the first")
            told = await call("s")
            assert told
            if call == batched.export_session:
                assert [one["content"] for one in told["messages"]] == ["of the first"]
            await batched.delete_session("s")
            await batched.create_session("s", "u")
            assert await batched.get_conversation_history("s") == []
            await batched.delete_session("s")
        assert batched.lost == 0
        await batched.close()

    run(test)


# --- failover ---


def test_reads_fail_over_and_writes_do_not() -> None:
    async def test() -> None:
        records = FaultyRecordStore(MemoryRecordStore())
        adapter = StorageAdapter(SessionStore(records), MemoryStorageBackend())
        await adapter.initialize()
        await adapter.settle()
        await adapter.create_session("s", "u", {"a": 1})
        await adapter.add_conversation_message("s", "user", "hi")
        records.faults = [DOWN]
        assert (await adapter.get_session("s"))["metadata"] == {"a": 1}
        assert (adapter.last_source, adapter.stale_reads) == ("fallback", 1)
        assert [one["content"] for one in await adapter.get_conversation_history("s")] == ["hi"]
        with pytest.raises(StorageUnavailableError):
            await adapter.update_session("s", increment_requests=True)
        records.faults = []
        assert await adapter.get_session("missing") is None
        assert adapter.last_source == "primary"
        with pytest.raises(SessionConflictError):
            await adapter.create_session("s", "other")
        await adapter.close()

    run(test)


def test_what_the_fallback_missed_is_made_up_for() -> None:
    async def test() -> None:
        primary = MemoryStorageBackend()
        behind = FaultyRecordStore(MemoryRecordStore())
        journal = MemoryRecordStore()
        adapter = StorageAdapter(primary, SessionStore(behind), journal=journal, mirror_timeout=30)
        await adapter.settle()
        await adapter.create_session("s", "u")
        behind.faults = [DOWN]
        await adapter.add_conversation_message("s", "user", "missed")
        await adapter.store_checkpoint("t", "c", {"x": 1})
        await adapter.put_writes("t", "c", "task", [("a", 1)])
        told = await adapter.health_check()
        assert (told["status"], told["pending_reconcile"]) == ("degraded", 2)
        behind.faults = []
        # A process that crashed in between left the same entries: another one settles them.
        other = StorageAdapter(primary, SessionStore(behind), journal=journal)
        assert await other.settle() == 0
        assert await other.settle() == 0
        fallback = SessionStore(behind)
        assert [one["content"] for one in await fallback.get_conversation_history("s")] == ["missed"]
        assert (await fallback.get_checkpoint("t"))["data"] == {"x": 1}
        assert await fallback.get_writes("t", "c") == [("a", 1)]
        assert (await other.health_check())["status"] == "healthy"
        assert await other.delete_session("s") is True
        assert await fallback.get_session("s") is None

    run(test)


def test_it_settles_by_itself_when_both_answer_again() -> None:
    async def test() -> None:
        behind = FaultyRecordStore(MemoryRecordStore(), DOWN)
        adapter = StorageAdapter(MemoryStorageBackend(), SessionStore(behind), journal=MemoryRecordStore())
        await adapter.create_session("s", "u")
        behind.faults = []
        while await SessionStore(behind).get_session("s") is None:  # `run` ends what never ends
            await adapter.get_session("s")
            await asyncio.sleep(0.01)

    run(test)


async def shape(store: SessionStore) -> Any:
    """All that a store tells, but for times."""
    sessions = [
        (one["session_id"], one["user_id"], one["status"], one["metadata"], one["request_count"])
        for one in await store.list_sessions(limit=None)
    ]
    talks = [(one[0], [m["content"] for m in await store.get_conversation_history(one[0], None)]) for one in sessions]
    contexts = [(one[0], await store.get_task_context(one[0])) for one in sessions]
    threads = []
    for facts in await store.list_threads(None):
        name = facts["thread_id"]
        named = await store.list_checkpoints(name, None)
        writes = [await store.get_writes(name, one["checkpoint_id"]) for one in named]
        graphs = [
            (one.config, one.checkpoint["channel_values"], one.metadata, one.parent_config, one.pending_writes)
            async for one in GenroCheckpointSaver(store).alist({"configurable": {"thread_id": name}})
        ]
        threads.append((name, [(one["checkpoint_id"], one["data"]) for one in named], writes, graphs))
    return sessions, talks, contexts, threads


async def died(*adapters: StorageAdapter) -> None:
    """What they do in the background ends where it is."""
    for adapter in adapters:
        assert adapter._mirror is not None
        task = adapter._mirror._settling
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def begun(adapter: StorageAdapter) -> None:
    """Something of each kind, on both sides."""
    for name in ("s", "s2"):
        await adapter.create_session(name, "u", {"a": 1})
    await adapter.add_conversation_message("s", "user", "hi")
    for number in range(3):
        await adapter.store_checkpoint("named", f"c{number}", {"n": number})
    saver, config = GenroCheckpointSaver(adapter), {"configurable": {"thread_id": "graph", "checkpoint_ns": ""}}
    for number in range(3):
        one: Any = empty_checkpoint() | {"id": f"g{number}", "channel_values": {"big": f"{number}" * 3000}}
        told: Any = {"run_id": f"run{number}"}
        config = await saver.aput(config, one, told, {"big": f"{number}"})  # type: ignore[assignment,arg-type]


async def _graph_put(adapter: StorageAdapter) -> None:
    one: Any = empty_checkpoint() | {"id": "g9", "channel_values": {"big": "9" * 3000}}
    config: Any = {"configurable": {"thread_id": "graph", "checkpoint_ns": "", "checkpoint_id": "g2"}}
    made = await GenroCheckpointSaver(adapter).aput(config, one, {"run_id": "run9"}, {"big": "9"})  # type: ignore[typeddict-unknown-key]
    await GenroCheckpointSaver(adapter).aput_writes(made, [("a", 1)], "task")


async def _import(adapter: StorageAdapter) -> None:
    exported = await adapter.export_session("s")
    assert exported is not None
    assert await adapter.import_session(exported | {"session": exported["session"] | {"session_id": "s3"}})


WRITES: dict[str, Callable[[StorageAdapter], Awaitable[object]]] = {
    "create_session": lambda a: a.create_session("new", "u", {"b": 2}),
    "update_session": lambda a: a.update_session("s", {"metadata": {"b": 2}}, increment_requests=True),
    "end_session": lambda a: a.end_session("s", "failed"),
    "delete_session": lambda a: a.delete_session("s"),
    "append_messages": lambda a: a.append_messages("s", [{"role": "user", "content": n} for n in range(3)]),
    "pop_message": lambda a: a.pop_message("s"),
    "store_task_context": lambda a: a.store_task_context("s", {"step": 1}),
    "store_checkpoint": lambda a: a.store_checkpoint("named", "c9", {"n": 9}),
    "put_checkpoint": lambda a: a.put_checkpoint("named", "c9", {"n": 9}),
    "delete_checkpoint": lambda a: a.delete_checkpoint("named", "c1"),
    "put_writes": lambda a: a.put_writes("named", "c1", "task", [("a", 1)]),
    "delete_thread": lambda a: a.delete_thread("graph"),
    "batch_create_sessions": lambda a: a.batch_create_sessions(
        [{"session_id": f"b{n}", "user_id": "u"} for n in range(600)]
    ),
    "batch_end_sessions": lambda a: a.batch_end_sessions(["s", "s2", "missing"], "done"),
    "import_session": _import,
    "copy_thread": lambda a: a.copy_thread("graph", "copy"),
    "prune": lambda a: a.prune(["named", "missing"], keep_last=1),
    "put_graph": _graph_put,
    "drop_graphs": lambda a: GenroCheckpointSaver(a).aprune(["graph"]),
    "drop_runs": lambda a: GenroCheckpointSaver(a).adelete_for_runs(["run1"]),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("how", ["mirrored", "missed", "lost answer"])
def test_every_write_reaches_the_fallback(name: str, how: str) -> None:
    """At once; or what it missed, or what nobody knows whether it has it, when it answers again."""

    async def test() -> None:
        primary, journal = MemoryStorageBackend(), MemoryRecordStore()
        behind = FaultyRecordStore(MemoryRecordStore())
        adapter = StorageAdapter(primary, SessionStore(behind), journal=journal, mirror_timeout=30)
        await adapter.settle()
        await begun(adapter)
        assert await shape(primary) == await shape(SessionStore(behind.inner))
        before = await shape(primary)
        if how == "missed":
            behind.faults = [DOWN]
        elif how == "lost answer":
            lost = RecordFault(1, "after", on="commit", times=10**9, error=lambda: StorageUnavailableError("lost"))
            behind.faults = [lost]
        await WRITES[name](adapter)
        assert await shape(primary) != before
        await died(adapter)
        behind.faults = []
        if how == "mirrored":
            assert (await adapter.health_check())["pending_reconcile"] == 0
            assert await shape(primary) == await shape(SessionStore(behind.inner))
        else:
            assert await StorageAdapter(primary, SessionStore(behind), journal=journal).settle() == 0
        assert await shape(primary) == await shape(SessionStore(behind.inner))

    run(test)


def test_no_write_passes_the_adapter_by() -> None:
    """What changes a session or thread is a call of its own there, and so is every read that could fail over."""
    mine = {name for one in (StorageAdapter, Forwarding) for name in vars(one)}
    calls = {name for name, call in inspect.getmembers(SessionStore, inspect.iscoroutinefunction) if name[0] != "_"}
    passed_by = calls - mine
    ground = {"collect", "collected", "given_up", "encoded", "decoded", "judge_layout", "put_in_thread", "thread"}
    ground |= {"states", "headers", "index_runs", "bury_thread", "adoption", "drop_orphans", "live"}
    assert passed_by - ground == {"sweep_alone", "verify", "rotate"}


def test_a_copy_stands_on_the_primarys_source() -> None:
    """Another process missed a write of the source in the fallback: the copy there is still what the primary has."""

    async def test() -> None:
        primary, journal, behind = MemoryStorageBackend(), MemoryRecordStore(), FaultyRecordStore(MemoryRecordStore())
        one, other = (StorageAdapter(primary, SessionStore(behind), journal=journal) for _ in range(2))
        for adapter in (one, other):
            await adapter.settle()
        await begun(one)
        behind.faults = [DOWN]
        await one.store_checkpoint("named", "late", {"n": 9})
        behind.faults = []
        assert await other.copy_thread("named", "copy")
        assert (await SessionStore(behind.inner).list_checkpoints("copy"))[0]["checkpoint_id"] == "late"
        await other.store_checkpoint("named", "later", {"n": 10})  # mirrored, but what was missed is still to be done
        await died(one, other)
        assert await StorageAdapter(primary, SessionStore(behind), journal=journal).settle() == 0
        assert await shape(primary) == await shape(SessionStore(behind.inner))

    run(test)


def test_a_write_that_was_refused_leaves_nothing_to_settle() -> None:
    async def test() -> None:
        adapter = StorageAdapter(MemoryStorageBackend(), MemoryStorageBackend(), journal=MemoryRecordStore())
        await adapter.settle()
        await begun(adapter)
        with pytest.raises(SessionConflictError):
            await adapter.create_session("s", "thief")
        with pytest.raises(SessionNotFoundError):
            await adapter.add_conversation_message("missing", "user", "x")
        with pytest.raises(SessionConflictError):
            await adapter.copy_thread("graph", "named")
        with pytest.raises(ValueError, match="status"):
            await adapter.batch_end_sessions(["s", "s2"], "")
        assert (await adapter.health_check())["status"] != "unhealthy"
        assert await adapter.settle() == 0
        assert await shape(adapter.primary) == await shape(adapter.fallback)  # type: ignore[arg-type]

    run(test)


# --- migration ---


@pytest.mark.parametrize("dry_run", [False, True])
def test_migration_tells_of_threads_that_it_cannot_copy(dry_run: bool) -> None:
    """In front of a store only sessions are told: a report of success would be read as leave to delete the source."""
    source, target = MemoryStorageBackend(), MemoryStorageBackend()
    source.sync.create_session("s", "u")
    source.sync.store_checkpoint("one", "c", {})
    source.sync.store_checkpoint("two", "c", {})

    async def test() -> None:
        for pair in ((CachedStorageBackend(source), target), (source, CachedStorageBackend(target))):
            told = await StorageMigrator(*pair).migrate_all(dry_run=dry_run, batch_size=1)
            assert (told.ok, told.failed, told.threads) == (False, 2, 0)
            assert [failure[:2] for failure in told.failures] == [("thread", "one"), ("thread", "two")]

    source.sync.run(test())


def test_migration_between_stores(records: RecordStore) -> None:
    source, target = SessionStore(records), MemoryStorageBackend()
    for number in range(7):
        source.sync.create_session(f"s{number}", f"u{number % 2}", {"n": (number,)})
        source.sync.append_messages(f"s{number}", [{"role": "user", "content": n} for n in range(150)])
        source.sync.store_task_context(f"s{number}", {"n": number})
    source.sync.end_session("s3", "failed")
    saver = GenroCheckpointSaver(source)
    parent = put(saver, "graph", {"big": "x" * 5000}, run_id="run-1")
    put(saver, "graph", {"big": "x" * 5000, "n": 1}, parent)
    source.sync.store_checkpoint("named", "c", {"x": 1})

    async def test() -> None:
        migrator = StorageMigrator(source, target)
        told = await migrator.migrate_all(dry_run=True)
        assert (told.sessions, told.threads) == (7, 2)
        assert await target.list_sessions() == []
        told = await migrator.migrate_all(batch_size=3)
        assert (told.sessions, told.threads, told.skipped, told.failed, told.verified) == (7, 2, 0, 0, 9)
        for number in range(7):
            assert await target.export_session(f"s{number}") == await source.export_session(f"s{number}")
        again = await migrator.migrate_all()
        assert (again.sessions, again.threads, again.skipped, again.ok) == (0, 0, 9, True)
        assert await migrator.migrate_sessions() == 0
        assert (await target.get_checkpoint("named"))["data"] == {"x": 1}
        listed = [one async for one in GenroCheckpointSaver(target).alist({"configurable": {"thread_id": "graph"}})]
        assert [one.checkpoint["channel_values"] for one in listed] == [
            {"big": "x" * 5000, "n": 1},
            {"big": "x" * 5000},
        ]
        await GenroCheckpointSaver(target).adelete_for_runs(["run-1"])
        listed = [one async for one in GenroCheckpointSaver(target).alist({"configurable": {"thread_id": "graph"}})]
        assert len(listed) == 1
        await target.add_conversation_message("s1", "user", "different")
        told = await migrator.migrate_all()
        assert [one[:2] for one in told.failures] == [("session", "s1"), ("thread", "graph")]
        with pytest.raises(SessionConflictError, match="'s1' is something different"):
            await migrator.migrate_sessions()
        assert (await migrator.migrate_all(resume=False)).failed == 9

    source.sync.run(test())


def test_sessions_of_a_foreign_store_that_differ_are_told() -> None:
    """Also where nothing was said in either."""

    async def test() -> None:
        source, target = MemoryStorageBackend(), MemoryStorageBackend()
        migrator = StorageMigrator(CachedStorageBackend(source), target)
        for name in ("same", "user", "metadata", "new"):
            await source.create_session(name, "u", {"a": 1})
        await target.create_session("same", "u", {"a": 1})
        await target.create_session("user", "other", {"a": 1})
        await target.create_session("metadata", "u", {"a": 2})
        told = await migrator.migrate_all()
        assert {one[1] for one in told.failures} == {"user", "metadata"}
        assert (told.sessions, told.verified) == (1, 2)
        with pytest.raises(SessionConflictError, match="something different"):
            await migrator.migrate_sessions()

    run(test)


# --- monitoring ---


def test_a_health_checker_believes_the_answer_not_only_the_absence_of_errors(records: RecordStore) -> None:
    async def test() -> None:
        fine = await StorageHealthChecker(MemoryStorageBackend()).check_health()
        assert fine["status"] == "healthy"
        assert fine["checks"]["connection"] == "ok"
        broken = await StorageHealthChecker(SessionStore(FaultyRecordStore(MemoryRecordStore(), DOWN))).check_health()
        assert broken["status"] == "unhealthy"
        assert "injected" in broken["checks"]["connection"]

    run(test)


def test_a_monitor_counts_in_constant_memory() -> None:
    async def test() -> None:
        monitor = StorageMonitor(MemoryStorageBackend())
        store = monitor.instrument()
        await store.create_session("s", "u")
        for _ in range(3):
            await store.get_session("s")
        with pytest.raises(SessionConflictError):
            await store.create_session("s", "v")
        assert len(await store.list_sessions()) == 1
        told = monitor.get_performance_report()
        assert told["get_session"]["total_operations"] == 3
        assert (told["create_session"]["error_count"], told["create_session"]["error_rate"]) == (1, 0.5)
        assert told["get_session"]["min_latency"] <= told["get_session"]["p50"] <= told["get_session"]["max_latency"]
        for number in range(5000):
            await monitor.record_operation("x", number / 1000, True)
        told = monitor.get_performance_report()["x"]
        assert (told["min_latency"], told["max_latency"]) == (0.0, 4.999)
        assert len(monitor._latencies["x"].recent) == 1024

    run(test)


def test_logs_do_not_tell_session_ids(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        logger = StorageLogger(MemoryStorageBackend())
        with caplog.at_level(logging.INFO):
            await logger.log_operation("get", "secret-id", True, 0.1)
            await logger.log_operation("get", "secret-id", False, 0.1, "no session secret-id")
            await logger.log_health_check({"status": "degraded"})
        assert "secret-id" not in caplog.text
        assert "Storage operation failed" in caplog.text
        assert "health issues" in caplog.text
        store = MemoryStorageBackend()
        for secret in ("user/secret@id", "secret\\id", "it's\tsecret-id\n", "secret\ud800"):
            with pytest.raises((SessionNotFoundError, ValueError)) as caught:
                await store.add_conversation_message(secret, "user", "x")
            await logger.log_operation("add", secret, False, 0.1, f"{caught.value}, record {quote(secret)!r}")
        await logger.log_operation("add", "", False, 0.1, "an id takes 1 to 512 bytes")
        assert "secret" not in caplog.text
        assert "an id takes 1 to 512 bytes" in caplog.text
        await StorageLogger(MemoryStorageBackend(), log_ids=True).log_operation("get", "secret-id", False, 0.1)
        assert "secret-id" in caplog.text

    run(test)


def test_diagnoses(tmp_path: Path) -> None:
    async def test() -> None:
        store = MemoryStorageBackend()
        assert (await diagnose_data_consistency(store))["consistent"] is True
        assert await store.list_sessions() == []
        assert (await diagnose_connection_issue(store))["advice"] == "nothing"
        down = SessionStore(FaultyRecordStore(MemoryRecordStore(), DOWN))
        assert (await diagnose_data_consistency(down))["consistent"] is False
        told = await diagnose_connection_issue(down)
        assert "injected fault" in told["error"]
        assert "server" in told["advice"]

    run(test)
