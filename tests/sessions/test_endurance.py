"""For long: threads raced over, an event loop that never stands still, memory that does not grow."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from genro_storage import SessionConflictError
from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.sessions import MemoryStorageBackend, SQLiteStorageBackend
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.shared import heavy
from genro_storage.sessions.store import SessionStore
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened
from .noting import NotingRecordStore, lonely

ROOT = Path(__file__).parents[2]


# --- put, prune, delete and copy at once ---


@pytest.mark.timeout(3600)
def test_put_prune_delete_and_copy_raced(records: RecordStore, soak: Callable[[int], int]) -> None:
    """By two stores: nobody starves, no link dangles, and after one sweep nothing is lonely."""
    spaces: set[str] = set()
    savers = [GenroCheckpointSaver(SessionStore(NotingRecordStore(records, spaces=spaces))) for _ in range(2)]
    threads = ["t0", "t1", "t2"]
    rounds = max(3, soak(150))
    done = dict.fromkeys(("put", "prune", "delete", "copy"), 0)
    working, tried = [True, True], [0, 0]

    async def putting(saver: GenroCheckpointSaver, thread: str) -> None:
        parent, number = None, 0
        while any(working):
            if done["put"] > 20 * (
                1 + sum(tried)
            ):  # on a slow machine the others' work would grow faster than it is done
                await asyncio.sleep(0.001)
                continue
            number += 1
            values = {"a": f"{number % 7}" * 3000, "b": "s" * 3000, "c": [f"{n}" * 50 for n in range(number % 50)]}
            checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": values}
            config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}}
            changed: Any = dict.fromkeys(random.sample(sorted(values), 2) if parent else values, "1")
            made = await saver.aput(config, checkpoint, {"step": number, "run_id": f"run{number % 3}"}, changed)  # type: ignore[typeddict-unknown-key]
            await saver.aput_writes(made, [("a", "w" * 2000)], "task")
            parent = made["configurable"]["checkpoint_id"]
            done["put"] += 1
            await asyncio.sleep(random.random() * 0.05)

    async def others(at: int) -> None:
        """Each of these some times, in any order; whoever could not do one in 200 tries says so."""
        saver = savers[at]
        for what in random.sample(["prune", "prune", "copy", "copy", "delete"] * rounds, 5 * rounds):
            thread = random.choice(threads)
            if what == "prune":
                await saver.aprune([thread])
                done[what] += 1
            elif what == "delete":
                done[what] += await saver.store.delete_thread(random.choice([*threads, "copy0", "copy1"]))
            else:
                with suppress(SessionConflictError):  # it is there already
                    done[what] += await saver.store.copy_thread(thread, random.choice(["copy0", "copy1"]))
            tried[at] += 1
            await asyncio.sleep(random.random() * 0.01)
        working[at] = False

    async def race() -> None:
        puts = [putting(savers[n % 2], thread) for n, thread in enumerate(threads)]
        await asyncio.gather(*puts, *map(others, range(2)))

    savers[0].store.sync.run(race())
    assert done["prune"] == 4 * rounds
    assert min(done.values()) >= 1
    fresh = SessionStore(records)
    fresh.sync.sweep()
    assert fresh.sync.verify().faults == []
    for one in GenroCheckpointSaver(fresh).list(None):
        assert one.checkpoint["channel_values"]["b"] == "s" * 3000
    assert lonely(records, spaces) == {}


# --- the event loop ---


class Watch:
    """How long an event loop stood still because of us: what its thread waited for a processor does not count."""

    PAUSE = 0.005

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        waited, at = self._waited(), time.monotonic()
        while True:
            await asyncio.sleep(self.PAUSE)
            now, since = time.monotonic(), self._waited()
            self.longest = max(self.longest, now - at - self.PAUSE - (since - waited))
            waited, at = since, now

    @staticmethod
    def _waited() -> float:
        """Seconds that this thread was ready to run and did not."""
        text = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
        return int(text.split()[1]) / 1e9


async def watched(work: Callable[[], Any]) -> float:
    watch = Watch()
    watching = asyncio.ensure_future(watch.run())
    await asyncio.sleep(0.02)
    await work()
    await asyncio.sleep(0.02)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return watch.longest


CALM = 0.05
"""Seconds that a loop may stand still: what is due every 50 ms is still done."""


async def nothing() -> None: ...


async def million() -> None:
    for _ in range(1_000_000):
        pass


async def calm_of() -> float:
    """`CALM`, or as long as this machine takes now for what took a quiet one so long."""
    return max(CALM, await watched(million))


async def stands_still(work: Callable[[], Any], tries: int = 10, before: Callable[[], Any] = nothing) -> float:
    """How long, in parts of what is allowed: the best of some tries, each after `before`.

    The machine is not ours alone, and what blocks blocks each time.
    """
    longest = math.inf
    for _ in range(tries):
        await before()
        longest = min(longest, await watched(work) / await calm_of())
        if longest < 1:
            break
    return longest


def test_the_watch_sees_what_blocks() -> None:
    async def block() -> None:
        time.sleep(0.12)  # noqa: ASYNC251 - that is the fault to see

    async def wait() -> None:
        await asyncio.sleep(0.2)

    assert asyncio.run(watched(block)) > 0.1
    assert asyncio.run(stands_still(wait)) < 1


def test_large_messages_hold_nobody(opened: Opened) -> None:
    """1 MiB each, written and read by several tasks."""
    store = opened()
    content = "é" * ((1 << 19) - 100)

    async def talk() -> None:
        await asyncio.gather(*(store.add_conversation_message("s", "user", content) for _ in range(4)))
        await store.get_conversation_history("s", 4)
        await store.store_task_context("s", {"text": content})
        await store.get_task_context("s")

    async def all_of_it() -> float:
        await store.create_session("s", "u")
        return await stands_still(talk)

    assert asyncio.run(all_of_it()) < 1


@contextmanager
def no_collections() -> Iterator[None]:
    """Whatever else a process holds is looked through now and then by the thread that happens to run."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def only_ours() -> Iterator[None]:
    """The collector looks through what is made from here on, not through all that the tests' process holds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def longest_turn(work: Callable[[], Any]) -> float:
    """Seconds of its own time that the loop's thread spent before others had their turn again, at the most."""
    turns, loop, going = [time.thread_time()], asyncio.get_running_loop(), True

    def turn() -> None:
        turns.append(time.thread_time())
        if going:
            loop.call_later(0.001, turn)

    loop.call_soon(turn)
    await work()
    going = False
    turns.append(time.thread_time())
    return max(after - before for before, after in itertools.pairwise(turns))


MOST = 3000
"""Checkpoints of one thread."""


def test_pruning_many_checkpoints_holds_nobody() -> None:
    """A store in memory answers at once: an await of it would never give others their turn."""
    store = SessionStore(MemoryRecordStore())
    saver = GenroCheckpointSaver(store)

    async def all_of_it() -> list[float]:
        """In parts of what is allowed."""
        config: Any = {"configurable": {"thread_id": "graph", "checkpoint_ns": ""}}
        for number in range(MOST):
            await store.store_checkpoint("named", f"c{number}", {"n": number})
            checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": {"n": number}}
            config = await saver.aput(config, checkpoint, {"source": "loop"}, {"n": str(number + 1)})
        with no_collections():
            calm = max(CALM, await longest_turn(million))
            return [
                await longest_turn(work) / calm
                for work in (
                    lambda: store.list_checkpoints("named", None),
                    lambda: store.prune(["named"]),
                    lambda: saver.aprune(["graph"]),
                )
            ]

    turns = asyncio.run(all_of_it())
    assert len(store.sync.list_checkpoints("named", None)) == len(list(saver.list(None))) == 1
    assert max(turns) < 1, turns
    store.sync.close()


class WhereSerde(JsonPlusSerializer):
    """Notes which threads have worked for it."""

    def __init__(self) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)
        self.threads: set[int] = set()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        self.threads.add(threading.get_ident())
        return super().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        self.threads.add(threading.get_ident())
        return super().loads_typed(data)


class Note:
    """A large value that is not a container."""

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.mark.parametrize("encryption", [False, True])
def test_large_checkpoints_hold_nobody(encryption: bool, tmp_path: Path) -> None:
    """32 MB are serialised, digested, sealed and read back; the loop does none of it."""
    keys = {"keys": [{"id": "k", "key": "5a" * 32}]} if encryption else None
    saver = GenroCheckpointSaver(SQLiteStorageBackend(tmp_path / "s.db", synchronous="OFF", encryption=keys))
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    put, got = [""], [""]

    async def another() -> None:
        put[0] = os.urandom(8).hex() * (2 << 20)  # another one each time, or nothing is written

    async def work() -> None:
        checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": {"text": put[0]}}
        await saver.aput(config, checkpoint, {"source": "loop"}, {"text": "1"})
        found = await saver.aget_tuple(config)
        assert found is not None
        got[0] = found.checkpoint["channel_values"]["text"]

    async def all_of_it() -> float:
        longest = await stands_still(work, before=another)
        await saver.store.close()
        return longest

    assert asyncio.run(all_of_it()) < 1
    assert got == put


@pytest.mark.parametrize("value", ["x" * (1 << 20), [b"x" * 100] * 2000, {"a": {"b": bytearray(1 << 20)}}], ids=type)
def test_large_values_are_serialised_in_a_thread_and_small_ones_are_not(value: Any) -> None:
    saver = GenroCheckpointSaver(MemoryStorageBackend(), serde=(serde := WhereSerde()))
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

    async def put(**values: Any) -> Any:
        checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": values}
        return await saver.aput(config, checkpoint, {"source": "loop"}, dict.fromkeys(values, "1"))

    async def all_of_it() -> None:
        here = threading.get_ident()
        made = await put(small=1)
        await saver.aput_writes(made, [("small", 1)], "task")
        await saver.aget_tuple(made)
        assert serde.threads == {here}
        made = await put(large=value)
        assert len(serde.threads) > 1  # the header is small: it may be made here
        serde.threads.clear()
        await saver.aput_writes(made, [("large", value)], "task")
        found = await saver.aget_tuple(made)
        assert here not in serde.threads
        assert found is not None
        assert found.checkpoint["channel_values"]["large"] == value
        assert [one[2] for one in found.pending_writes or ()] == [value]

    asyncio.run(all_of_it())


@pytest.mark.parametrize(
    ("value", "here"),
    [
        ("é" * 200_000, True),
        (bytes(500_000), True),
        (["x" * 50_000] * 2, False),  # what has parts is taken apart in a thread
        ({"text": "x" * 100_000}, False),
        ("x" * (2 << 20), False),
    ],
    ids=["text", "bytes", "list", "dict", "very long"],
)
def test_what_is_only_copied_is_read_back_at_once(value: Any, here: bool) -> None:
    saver = GenroCheckpointSaver(MemoryStorageBackend(), serde=(serde := WhereSerde()))
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

    async def put_and_get() -> Any:
        checkpoint: Any = empty_checkpoint() | {"id": str(uuid6()), "channel_values": {"value": value}}
        await saver.aput(config, checkpoint, {"source": "loop"}, {"value": "1"})
        serde.threads.clear()
        found = await saver.aget_tuple(config)
        assert found is not None
        assert (threading.get_ident() in serde.threads) == here
        return found.checkpoint["channel_values"]["value"]

    assert asyncio.run(put_and_get()) == value


def test_what_is_heavy_is_seen_in_objects_too() -> None:
    assert heavy([Note("x" * 100)], 64)
    assert heavy(SimpleNamespace(deep={"a": [Note("x" * 100)]}), 64)
    assert heavy(memoryview(bytes(100)), 64)
    assert not heavy([Note("x"), 1, 2.0, None, {"a": "b"}], 64)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_sweeping_many_sessions_holds_nobody(
    kind: str, tmp_path: Path, clock: FakeClock, soak: Callable[[int], int]
) -> None:
    count = soak(100_000)
    turns = itertools.count()
    records = MemoryRecordStore(clock=clock) if kind == "memory" else SQLiteRecordStore(tmp_path / "s.db", clock=clock)
    store = SessionStore(records, session_ttl=60)

    async def create() -> None:
        turn = next(turns)
        for start in range(0, count, 1000):
            names = [f"s{turn}-{n}" for n in range(start, min(start + 1000, count))]
            await store.batch_create_sessions([{"session_id": name, "user_id": "u"} for name in names])
        clock.advance(61)

    async def sweep() -> None:
        assert (await store.sweep()).sessions == count

    async def all_of_it() -> float:
        return await stands_still(sweep, before=create)

    with only_ours():
        longest = asyncio.run(all_of_it())
    assert store.sync.list_sessions() == []
    store.sync.close()
    assert longest < 1


# --- memory ---

MANY = """
import asyncio, gc, json, sys
import psutil
from genro_storage.sessions import StorageFactory

kind, config, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
process = psutil.Process()

async def rounds(store, count):
    for number in range(count // 10):
        name = f"s{number % 20}"
        await store.create_session(name, "u", {"n": number})
        await store.update_session(name, {"metadata": {"m": number}}, increment_requests=True)
        await store.append_messages(name, [{"role": "user", "content": "x" * 200}])
        await store.get_conversation_history(name, 5)
        await store.store_task_context(name, {"n": number})
        await store.store_checkpoint(f"t{number % 20}", f"c{number}", {"n": number})
        await store.get_checkpoint(f"t{number % 20}")
        await store.prune([f"t{number % 20}"], keep_last=2)
        await store.list_sessions(user_id="u", limit=5)
        if number % 7 == 0:
            await store.delete_session(name)

async def main():
    store = StorageFactory.create_storage_backend(kind, config | {"conversation_limit": 20})
    sizes = []
    for _ in range(4):
        await rounds(store, count // 4)
        gc.collect()
        sizes.append(process.memory_info().rss)
    await store.close()
    print(json.dumps(sizes))

asyncio.run(main())
"""


@pytest.mark.soak
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_memory_is_flat(kind: str, tmp_path: Path, soak: Callable[[int], int]) -> None:
    """A million operations at full scale: the last quarter ends where the first one did, give or take 8 MiB."""
    config = {"path": str(tmp_path / "s.db"), "synchronous": "OFF"} if kind == "sqlite" else {}
    words = [sys.executable, "-c", MANY, kind, json.dumps(config), str(max(8000, soak(1_000_000)))]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    sizes = json.loads(told.stdout)
    assert max(sizes[1:]) - sizes[0] < 8 << 20
