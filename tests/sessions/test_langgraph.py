"""The LangGraph checkpointer beyond the conformance suite: values stored once, nothing dangling, nothing revived."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph
from msgspec.structs import replace

import genro_storage
from genro_storage import StorageConfigError, StorageCorruptedError
from genro_storage.records.base import Delete, Put, RecordStore
from genro_storage.sessions.graphs import header_of
from genro_storage.sessions.keys import blobs, graph
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.models import pack
from genro_storage.sessions.store import SessionStore

from .conftest import Opened
from .noting import NotingRecordStore


@dataclasses.dataclass
class Secret:
    value: int


class State(TypedDict):
    count: int
    log: list[str]


def counter() -> Any:
    graph = StateGraph(State)
    graph.add_node("step", lambda state: {"count": state["count"] + 1, "log": [*state["log"], f"n{state['count']}"]})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["count"] % 5 == 0 else "step")
    return graph


def put(
    saver: GenroCheckpointSaver, thread: str, values: dict[str, Any], parent: str | None = None, **told: Any
) -> str:
    """Stores a checkpoint in which every channel is new; returns its id."""
    checkpoint = empty_checkpoint() | {"id": str(uuid6()), "channel_values": values}
    checkpoint["channel_versions"] = dict.fromkeys(values, "1")
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}}
    made = saver.put(config, checkpoint, {"source": "loop", "step": 1, **told}, checkpoint["channel_versions"])
    name: str = made["configurable"]["checkpoint_id"]
    return name


def got(saver: GenroCheckpointSaver, thread: str, checkpoint_id: str | None = None) -> CheckpointTuple:
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}
    found = saver.get_tuple(config)
    assert found is not None
    return found


def blob_count(records: RecordStore, saver: GenroCheckpointSaver, thread: str) -> int:
    state = saver.store.sync.thread(thread)
    return len(records.sync.scan(blobs(state.thread.inc)))


@pytest.fixture
def saver(opened: Opened) -> GenroCheckpointSaver:
    return GenroCheckpointSaver(opened())


def test_a_graph_runs_resumes_and_travels_in_time(saver: GenroCheckpointSaver) -> None:
    app = counter().compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}}
    assert app.invoke({"count": 0, "log": []}, config)["count"] == 5
    assert app.invoke({"count": 6, "log": ["again"]}, config)["count"] == 10
    history = list(app.get_state_history(config))
    assert history[0].values["log"] == ["again", "n6", "n7", "n8", "n9"]
    third = next(state for state in history if state.values.get("count") == 3)
    assert app.invoke(None, third.config)["log"] == ["n0", "n1", "n2", "n3", "n4"]


def test_a_graph_runs_async(opened: Opened) -> None:
    async def run() -> Any:
        async with GenroCheckpointSaver(opened()) as saver:
            app = counter().compile(checkpointer=saver)
            config = {"configurable": {"thread_id": "t"}}
            await app.ainvoke({"count": 0, "log": []}, config)
            return await app.aget_state(config)

    assert asyncio.run(run()).values["count"] == 5


def test_r_a_sync_put_under_a_running_loop(saver: GenroCheckpointSaver) -> None:
    async def notebook() -> str:
        return put(saver, "t", {"a": 1})

    name = asyncio.run(notebook())
    assert got(saver, "t").checkpoint["id"] == name


def test_r_listing_blocks_no_writer(opened: Opened) -> None:
    saver = GenroCheckpointSaver(opened())

    async def run() -> int:
        for _ in range(3):
            await asyncio.to_thread(put, saver, "t", {"a": 1})
        seen = 0
        async for _ in saver.alist({"configurable": {"thread_id": "t"}}):
            await asyncio.wait_for(asyncio.to_thread(put, saver, "t", {"a": 2}), 10)
            seen += 1
        return seen

    assert asyncio.run(run()) == 3


def test_a_value_is_stored_once_per_thread(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    static, parent = {"text": "x" * 100_000}, None
    for number in range(20):
        parent = put(saver, "t", {"static": static, "count": number}, parent)
    assert blob_count(records, saver, "t") == 1
    assert got(saver, "t").checkpoint["channel_values"] == {"static": static, "count": 19}


def test_a_growing_list_is_stored_in_segments(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    messages, parent, ids = [], None, []
    for number in range(100):
        messages = [*messages, f"{number:04}" * 500]
        parent = put(saver, "t", {"messages": messages}, parent)
        ids.append(parent)
    # 32 while it is one piece, then a whole segment once and its growing tail with every step.
    assert blob_count(records, saver, "t") <= 32 + 68 + 3
    assert got(saver, "t", ids[70]).checkpoint["channel_values"]["messages"] == messages[:71]
    stored = sum(len(one.data) for one in records.sync.scan(blobs(saver.store.sync.thread("t").thread.inc)))
    assert stored < 0.4 * sum(2000 * (n + 1) for n in range(100))


def test_an_unchanged_channel_is_not_serialised(opened: Opened) -> None:
    class Counting(GenroCheckpointSaver):
        def _told(self, value: Any) -> Any:
            serialised.append(value)
            return super()._told(value)

    serialised: list[Any] = []
    saver = Counting(opened())
    first = put(saver, "t", {"a": "x" * 5000, "b": 1})
    serialised.clear()
    checkpoint = empty_checkpoint() | {"id": str(uuid6()), "channel_values": {"a": "x" * 5000, "b": 2}}
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": first}}
    saver.put(config, checkpoint, {"source": "loop"}, {"b": "2"})
    assert serialised == [2]
    assert got(saver, "t").checkpoint["channel_values"] == {"a": "x" * 5000, "b": 2}


def test_what_is_known_is_read_in_one_go(
    saver: GenroCheckpointSaver, records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading for the thread, the checkpoint and its values, and one for its writes."""
    values = {"a": "x" * 5000, "b": "y" * 5000, "n": 1}
    put(saver, "t", values)
    asked: list[str] = []

    def counted(name: str, call: Any) -> Any:
        return lambda *args, **more: asked.append(name) or call(*args, **more)

    for name in ("get", "get_many", "scan"):
        monkeypatch.setattr(records, name, counted(name, getattr(records, name)))
    found = saver.get_tuple({"configurable": {"thread_id": "t"}})
    assert asked == ["get_many", "scan"]
    assert found is not None
    assert found.checkpoint["channel_values"] == values


def test_what_others_did_meanwhile_is_seen(opened: Opened) -> None:
    """What a saver remembers is a guess, never an answer."""
    mine, other = GenroCheckpointSaver(opened()), GenroCheckpointSaver(opened())
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    first = put(mine, "t", {"a": "1" * 5000})
    second = put(other, "t", {"a": "2" * 5000, "b": 1}, first)
    assert got(mine, "t").checkpoint["id"] == second
    again = empty_checkpoint() | {"id": second, "channel_values": {"a": "3" * 5000}}
    other.put(config, again, {"source": "fork"}, {"a": "2"})
    assert got(mine, "t").checkpoint["channel_values"] == {"a": "3" * 5000}
    assert got(mine, "t").metadata["source"] == "fork"
    other.put_writes({"configurable": {**config["configurable"], "checkpoint_id": second}}, [("a", "w")], "task")
    assert got(mine, "t").pending_writes == [("task", "a", "w")]
    other.prune(["t"])
    assert mine.get_tuple({"configurable": {**config["configurable"], "checkpoint_id": first}}) is None
    assert got(mine, "t").parent_config is None
    other.delete_thread("t")
    assert mine.get_tuple(config) is None
    other.put(config, again, {"source": "loop"}, {"a": "3"})
    assert got(mine, "t").metadata["source"] == "loop"
    assert put(mine, "t", {"a": "4"}, second) == got(other, "t").checkpoint["id"]


def test_pruning_leaves_no_lonely_value_and_no_dangling_link(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    parent = None
    for number in range(30):
        parent = put(saver, "t", {"big": f"{number}" * 2000, "kept": "k" * 2000}, parent)
    assert blob_count(records, saver, "t") == 31
    saver.prune(["t"])
    newest = got(saver, "t")
    assert newest.parent_config is None
    assert newest.checkpoint["channel_values"] == {"big": "29" * 2000, "kept": "k" * 2000}
    assert blob_count(records, saver, "t") == 2
    assert records.sync.scan("gc") == []


def test_a_copy_takes_few_commits(records: RecordStore) -> None:
    """Writes of each checkpoint have a space of their own, not a commit of their own."""
    noting = NotingRecordStore(records)
    saver = GenroCheckpointSaver(SessionStore(noting))
    parent = None
    for number in range(20):
        parent = put(saver, "t", {"a": number}, parent)
        saver.put_writes(got(saver, "t").config, [("a", number)], "task")
    noting.calls.clear()
    assert saver.store.sync.copy_thread("t", "copy")
    assert noting.calls.count("commit") < 10
    told = [
        [(one.checkpoint["id"], one.pending_writes) for one in saver.list(config_of(name))] for name in ("t", "copy")
    ]
    assert len(told[0]) == 20
    assert told[0] == told[1]


def config_of(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def test_delta_channels_keep_their_chain(saver: GenroCheckpointSaver) -> None:
    parent, ids = None, []
    for number in range(6):
        values = {"log": ["snapshot"]} if number == 2 else {}
        parent = put(saver, "t", values, parent, counters_since_delta_snapshot={"log": [number, number]})
        ids.append(parent)
    saver.prune(["t"])
    left = [one.checkpoint["id"] for one in saver.list({"configurable": {"thread_id": "t"}})]
    assert left == ids[:1:-1]


def test_ids_of_threads_never_collide(saver: GenroCheckpointSaver) -> None:
    for name in ("a", "a/b", "a:b", "..", "🙂"):
        put(saver, name, {"name": name})
    for name in ("a", "a/b", "a:b", "..", "🙂"):
        assert got(saver, name).checkpoint["channel_values"] == {"name": name}
    assert len(list(saver.list(None))) == 5


def test_the_filter_compares_values_and_never_becomes_a_path(saver: GenroCheckpointSaver) -> None:
    put(saver, "t", {}, score=42)
    put(saver, "t", {}, score=43, **{"a'b": "x"})
    listed = list(saver.list({"configurable": {"thread_id": "t"}}, filter={"score": 42}))
    assert [one.metadata["score"] for one in listed] == [42]
    assert len(list(saver.list(None, filter={"a'b": "x"}))) == 1
    assert list(saver.list(None, filter={"x') OR 1=1 --": 1})) == []


def test_stored_types_are_not_revived(opened: Opened) -> None:
    store = opened()
    strict = GenroCheckpointSaver(store)
    put(strict, "t", {"secret": Secret(7)})
    found = got(strict, "t").checkpoint["channel_values"]["secret"]
    assert not isinstance(found, Secret)
    with pytest.raises(StorageCorruptedError, match="Secret"):
        got(GenroCheckpointSaver(store, strict="raise"), "t")
    with pytest.raises(ValueError, match="strict"):
        GenroCheckpointSaver(store, strict="no")  # type: ignore[arg-type]
    trusting = GenroCheckpointSaver(store, allowed_types=[Secret])
    assert got(trusting, "t").checkpoint["channel_values"]["secret"] == Secret(7)
    clone = strict.with_allowlist([(Secret.__module__, "Secret")])
    assert isinstance(clone, GenroCheckpointSaver)
    assert clone.store is store
    assert got(clone, "t").checkpoint["channel_values"]["secret"] == Secret(7)


def test_unknown_serialisation_is_an_error(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    put(saver, "t", {"a": 1})
    space = graph(saver.store.sync.thread("t").thread.inc, "")
    (record,) = records.sync.scan(space)
    damaged = replace(header_of(record.data), body=("pickled-by-nobody", b"x"))
    records.sync.commit([Put(space, record.key, pack(damaged))])
    with pytest.raises(StorageCorruptedError):
        got(saver, "t")


def test_a_missing_value_is_corruption_and_never_none(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    put(saver, "t", {"a": "x" * 5000})
    space = blobs(saver.store.sync.thread("t").thread.inc)
    records.sync.commit([Delete(space, one.key) for one in records.sync.scan(space)])
    with pytest.raises(StorageCorruptedError, match="missing"):
        got(saver, "t")


def test_writes_before_their_checkpoint_are_found_and_removed(
    saver: GenroCheckpointSaver, records: RecordStore
) -> None:
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "later"}}
    saver.put_writes(config, [("a", 1)], "task")
    assert saver.get_tuple(config) is None
    assert saver.store.sync.delete_thread("t") is True
    for space in ("t", "tb", "gc"):
        assert records.sync.scan(space) == []


def test_put_prune_and_copy_raced(saver: GenroCheckpointSaver, records: RecordStore) -> None:
    """No dangling link whoever comes first, and nothing lonely left."""
    other = GenroCheckpointSaver(SessionStore(records))

    async def race() -> None:
        async def putting() -> None:
            parent = None
            for number in range(40):
                parent = await asyncio.to_thread(
                    put, saver, "t", {"a": f"{number % 7}" * 3000, "b": "s" * 3000}, parent
                )

        async def pruning() -> None:
            for _ in range(25):
                await other.aprune(["t"])
                await asyncio.sleep(0.002)

        async def copying() -> None:
            for number in range(5):
                await other.acopy_thread("t", f"copy{number}")
                await asyncio.sleep(0.01)

        await asyncio.gather(putting(), pruning(), copying())

    asyncio.run(race())
    for one in list(saver.list(None)):
        assert one.checkpoint["channel_values"]["b"] == "s" * 3000
    for thread in saver.store.sync.list_threads():
        assert saver.store.sync.drop_orphans(thread["thread_id"]) == 0


def test_savers_by_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a store of its own; what is kept outside the process is there for the next."""
    manager = genro_storage.StorageManager([{"name": "savers", "type": "local", "path": str(tmp_path)}])
    monkeypatch.setattr("genro_storage.default._default", manager)
    for url in ("memory://", f"sqlite:///{tmp_path}/s.db", "genro://savers/records"):
        for number in range(2):
            with GenroCheckpointSaver.from_conn_string(url) as saver:
                put(saver, "t", {"n": number})
                count = len(list(saver.list({"configurable": {"thread_id": "t"}})))
                assert count == (1 if url == "memory://" else number + 1)
    assert GenroCheckpointSaver.from_conn_string("postgresql://u@h/db").store.records.name == "postgresql"
    assert GenroCheckpointSaver.from_conn_string("redis://h", prefix="p").store.records.name == "redis"
    with pytest.raises(StorageConfigError, match="mongodb"):
        GenroCheckpointSaver.from_conn_string("mongodb://u:hidden@h")
