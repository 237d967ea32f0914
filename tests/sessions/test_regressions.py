"""Each fault of such software that the specification names (§12) has a test; those that were missing are here."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

from genro_storage.records.base import Record, RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions.keys import messages
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened
from .test_langgraph import put

ROOT = Path(__file__).parents[2]
HERE, INTERFACES, CHECKPOINTS, GRAPHS = (
    f"tests/sessions/test_{name}.py" for name in ("regressions", "interfaces", "checkpoints", "langgraph")
)
SQLITE, POSTGRES, REDIS = (f"tests/records/test_{name}.py" for name in ("sqlite", "postgres", "redis"))

REGRESSIONS: dict[str, list[tuple[str, str]]] = {
    "create over another user's session": [(INTERFACES, "test_r_create_over_another_users_session")],
    "history newest-first or the oldest N": [(INTERFACES, "test_r_history_is_the_latest_oldest_first")],
    "messages beyond a cap lost": [(INTERFACES, "test_r_no_message_is_lost_unless_a_limit_says_so")],
    "history as objects or bytes keys": [(HERE, "test_r_history_is_plain_dicts")],
    "get_session without metadata": [(INTERFACES, "test_create_returns_what_get_returns")],
    "store_task_context always False": [(INTERFACES, "test_r_task_contexts_are_stored_and_come_back")],
    "writes returned as lists": [(CHECKPOINTS, "test_r_writes_are_tuples_by_task_and_in_their_order")],
    "50 concurrent increments counting 2": [(INTERFACES, "test_r_fifty_concurrent_increments_count_fifty")],
    "one TTL shared by all sessions": [(INTERFACES, "test_r_each_session_has_a_ttl_of_its_own")],
    "hset of {} raising": [(HERE, "test_r_empty_values_are_values")],
    "cleanup leaving writes": [
        (HERE, "test_r_cleanup_leaves_nothing"),
        (CHECKPOINTS, "test_r_deleting_takes_the_writes_along"),
    ],
    "outage turning into silent memory mode": [(INTERFACES, "test_r_an_outage_is_an_error_not_silent_memory")],
    "latest checkpoint by reading all of them": [(HERE, "test_r_the_latest_is_found_without_reading_all")],
    "save after delete resurrecting": [
        (INTERFACES, "test_r_an_update_or_save_after_delete_never_resurrects"),
        ("tests/sessions/test_starlette.py", "test_a_save_after_logout_never_resurrects"),
    ],
    "alist deadlocking a writer": [(GRAPHS, "test_r_listing_blocks_no_writer")],
    "sync put under a running loop deadlocking": [(GRAPHS, "test_r_a_sync_put_under_a_running_loop")],
    "1000-task burst raising MaxConnectionsError": [
        (HERE, "test_r_a_burst_of_a_thousand_tasks"),
        (POSTGRES, "test_a_burst_larger_than_the_pool"),
        (REDIS, "test_a_burst_larger_than_the_pool"),
    ],
    "WAL start race of 8 processes": [(SQLITE, "test_processes_open_a_fresh_file")],
    "unindexed TTL growth, file not shrinking after deletes": [
        (SQLITE, "test_how_the_file_is_made"),
        (SQLITE, "test_the_file_shrinks"),
    ],
    "identifiers with / : .. % colliding or escaping": [
        (INTERFACES, "test_r_identifiers_never_collide_or_escape"),
        (GRAPHS, "test_ids_of_threads_never_collide"),
    ],
    "encrypted store reading plaintext rows": [
        ("tests/sessions/test_encryption.py", "test_what_was_written_without_is_refused_or_read_and_rotated"),
        ("tests/records/test_encrypted.py", "test_plain_records_are_refused"),
    ],
    "pool waiting for ever": [
        (POSTGRES, "test_a_full_pool_is_waited_for_no_longer_than_told"),
        (REDIS, "test_a_full_pool_is_waited_for_no_longer_than_told"),
    ],
    "closed event loop killing the writer thread": [(SQLITE, "test_a_closed_loop_does_not_stop_the_writer")],
    "read-then-write in deferred transactions losing updates": [(SQLITE, "test_processes_count_together")],
    "pooled client used after fork": [
        (SQLITE, "test_a_forked_child_works_on"),
        (POSTGRES, "test_a_forked_child_connects_by_itself"),
        (REDIS, "test_a_forked_child_connects_by_itself"),
    ],
}


def test_every_regression_has_its_test() -> None:
    named = {(file, name) for tests in REGRESSIONS.values() for file, name in tests}
    for file in {file for file, _ in named}:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert {name for where, name in named if where == file} - there == set(), file
    assert len(REGRESSIONS) == 25


def test_r_history_is_plain_dicts(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u", {"é": 1})
    sessions.add_conversation_message("s", "user", "text", {"k": "v"})
    (message,) = sessions.get_conversation_history("s")
    assert type(message) is dict
    assert {key: type(value) for key, value in message.items()} == {
        "seq": int,
        "role": str,
        "content": str,
        "timestamp": str,
        "metadata": dict,
    }
    session = sessions.get_session("s")
    assert all(type(key) is str for key in (*session, *session["metadata"]))
    assert session["metadata"] == {"é": 1}


@pytest.mark.parametrize("empty", [{}, [], "", None, b"", (), set()])
def test_r_empty_values_are_values(sessions: BlockingSessions, empty: Any) -> None:
    sessions.create_session("s", "u", {})
    sessions.add_conversation_message("s", "user", empty, {})
    sessions.store_checkpoint("t", "c", {"value": empty}, {})
    sessions.put_writes("t", "c", "task", [("channel", empty)])
    sessions.store_task_context("s", {"value": empty})
    assert sessions.get_session("s")["metadata"] == {}
    assert sessions.get_conversation_history("s")[0]["content"] == empty
    assert sessions.get_checkpoint("t")["data"] == {"value": empty}
    assert sessions.get_writes("t", "c") == [("channel", empty)]
    assert sessions.get_task_context("s") == {"value": empty}
    assert sessions.update_session("s", {"metadata": {}}) is True
    sessions.store_checkpoint("t", "nothing", {})
    sessions.store_task_context("s", {})
    assert sessions.get_checkpoint("t")["data"] == {}
    assert sessions.get_task_context("s") == {}


def test_r_cleanup_leaves_nothing(clock: FakeClock) -> None:
    """Sessions and threads past their time go with messages, contexts, writes, values, and every index entry."""
    records = MemoryRecordStore(clock=clock)
    store = SessionStore(records, session_ttl=3600, checkpoint_ttl=3600)
    saver = GenroCheckpointSaver(store)
    for number in range(5):
        name = f"s{number}"
        store.sync.create_session(name, "u", {"n": number})
        store.sync.append_messages(name, [{"role": "user", "content": "x"}] * 3)
        store.sync.store_task_context(name, {"n": number})
        store.sync.store_checkpoint(name, "c", {"n": number})
        store.sync.put_writes(name, "c", "task", [("channel", number)])
        store.sync.put_writes(name, "never stored", "task", [("channel", number)])
        made = put(saver, f"g{number}", {"a": "x" * 5000}, run_id=f"run{number}")
        config: Any = {"configurable": {"thread_id": f"g{number}", "checkpoint_ns": "", "checkpoint_id": made}}
        saver.put_writes(config, [("channel", "y")], "task")
    assert len(records._spaces) > 40
    clock.advance(4000)
    assert store.sync.cleanup_expired_sessions(24) == 5
    assert store.sync.sweep().threads == 10
    store.sync.sweep()
    assert {space: list(held.records) for space, held in records._spaces.items()} == {}


class Counting(MemoryRecordStore):
    """Counts the records that it gives."""

    given = 0

    async def _get(self, space: str, key: str) -> Record | None:
        self.given += 1
        return await super()._get(space, key)

    async def _scan(self, *args: Any) -> list[Record]:
        found = await super()._scan(*args)
        self.given += len(found)
        return found


def test_r_the_latest_is_found_without_reading_all() -> None:
    records = Counting()
    store = SessionStore(records)
    saver = GenroCheckpointSaver(store)
    for number in range(300):
        store.sync.store_checkpoint("t", f"c{number}", {"n": number})
        put(saver, "t", {"n": number})
    store.sync.create_session("s", "u")
    for _ in range(3):
        store.sync.append_messages("s", [{"role": "user", "content": n} for n in range(100)])
    fresh = SessionStore(records)
    for call, most in (
        (lambda: fresh.sync.get_checkpoint("t")["data"]["n"] == 299, 10),
        (lambda: len(fresh.sync.list_checkpoints("t", 5)) == 5, 15),
        (lambda: GenroCheckpointSaver(fresh).get_tuple({"configurable": {"thread_id": "t"}}) is not None, 10),
        (lambda: len(fresh.sync.get_conversation_history("s", 5)) == 5, 10),
    ):
        records.given = 0
        assert call()
        assert records.given <= most


def test_r_a_burst_of_a_thousand_tasks(opened: Opened, records: RecordStore) -> None:
    """More tasks than any pool has connections: all are served, none is lost."""
    store = opened()

    async def burst() -> None:
        await asyncio.gather(*(store.create_session(f"s{n}", "u") for n in range(20)))
        await asyncio.gather(*(store.update_session(f"s{n % 20}", increment_requests=True) for n in range(1000)))
        found = await asyncio.gather(*(store.get_session(f"s{n % 20}") for n in range(1000)))
        assert {one["request_count"] for one in found if one is not None} == {50}

    store.sync.run(burst())
    assert records.sync.scan(messages("none")) == []
