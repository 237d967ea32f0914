"""What the interfaces promise, over every store: the same assertions for all."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from genro_storage import (
    RecordTooLargeError,
    SessionConflictError,
    SessionNotFoundError,
    StaleSessionError,
    StorageConfigError,
    StorageUnavailableError,
)
from genro_storage.records.base import RecordStore
from genro_storage.sessions.contexts import register_context_type
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing import FaultyRecordStore, RecordFault
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened

# --- sessions ---


def test_create_returns_what_get_returns(sessions: BlockingSessions) -> None:
    made = sessions.create_session("s", "u", {"a": 1, "b": (1, 2)})
    assert made == sessions.get_session("s")
    assert made == sessions.create_session("s", "u", {"a": 2})
    assert made.keys() == {
        *("session_id", "user_id", "status", "metadata", "version"),
        *("created_at", "updated_at", "last_activity", "ended_at", "expires_at"),
        *("request_count", "error_count", "total_processing_time"),
    }
    assert made["metadata"] == {"a": 1, "b": (1, 2)}
    assert datetime.fromisoformat(made["created_at"]).tzinfo == UTC
    assert (made["status"], made["ended_at"], made["expires_at"], made["request_count"]) == ("active", None, None, 0)


def test_r_create_over_another_users_session(sessions: BlockingSessions) -> None:
    made = sessions.create_session("s", "u")
    with pytest.raises(SessionConflictError, match="another user"):
        sessions.create_session("s", "thief", {"x": 1})
    assert sessions.get_session("s") == made


def test_get_gives_a_dict_of_its_own(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u", {"a": [1]})
    sessions.get_session("s")["metadata"]["a"].append(2)
    assert sessions.get_session("s")["metadata"] == {"a": [1]}


def test_absent_sessions(sessions: BlockingSessions) -> None:
    assert sessions.get_session("no") is None
    assert sessions.update_session("no", {"status": "x"}) is False
    assert sessions.update_session("no", increment_requests=True) is False
    assert sessions.end_session("no") is False
    assert sessions.reopen_session("no") is False
    assert sessions.delete_session("no") is False
    assert sessions.get_conversation_history("no") == []
    assert sessions.get_task_context("no") is None
    assert sessions.export_session("no") is None
    with pytest.raises(SessionNotFoundError, match="'no'"):
        sessions.add_conversation_message("no", "user", "hi")
    with pytest.raises(SessionNotFoundError, match="'no'"):
        sessions.store_task_context("no", {})
    assert sessions.list_sessions() == []


def test_r_an_update_or_save_after_delete_never_resurrects(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u")
    sessions.add_conversation_message("s", "user", "hi")
    assert sessions.delete_session("s") is True
    assert sessions.update_session("s", {"metadata": {"a": 1}}, increment_requests=True) is False
    with pytest.raises(SessionNotFoundError):
        sessions.add_conversation_message("s", "user", "late")
    assert sessions.get_session("s") is None
    sessions.create_session("s", "other")
    assert sessions.get_conversation_history("s") == []


def test_r_fifty_concurrent_increments_count_fifty(opened: Opened) -> None:
    store, other = opened(), opened()

    async def use() -> dict[str, Any] | None:
        await store.create_session("s", "u")
        await asyncio.gather(
            *(one.update_session("s", increment_requests=True, add_processing_time=0.5, mark_error=n % 2 == 0)
              for n in range(25) for one in (store, other))
        )  # fmt: skip
        return await store.get_session("s")

    facts = store.sync._thread.run(use())
    assert facts is not None
    assert (facts["request_count"], facts["error_count"], facts["total_processing_time"]) == (50, 26, 25.0)
    assert facts["version"] == 1


def test_updates_merge_and_remove_keys(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u", {"a": 1, "b": {"x": 1}})
    assert sessions.update_session("s", {"metadata": {"a": None, "b": {"y": 2}, "c": 3}}) is True
    facts = sessions.get_session("s")
    assert facts["metadata"] == {"b": {"y": 2}, "c": 3}
    assert facts["version"] == 2
    assert sessions.update_session("s", {"status": "waiting"}, increment_requests=True) is True
    facts = sessions.get_session("s")
    assert (facts["status"], facts["request_count"], facts["version"]) == ("waiting", 1, 3)


def test_a_touch_moves_only_the_last_activity(sessions: BlockingSessions, clock: FakeClock) -> None:
    made = sessions.create_session("s", "u")
    clock.advance(5)
    assert sessions.update_session("s") is True
    facts = sessions.get_session("s")
    assert facts["last_activity"] > made["last_activity"]
    assert {**facts, "last_activity": None} == {**made, "last_activity": None}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"updates": {"user_id": "x"}}, "user_id.*nearest"),
        ({"updates": {"statuss": "x"}}, "statuss.*'status'"),
        ({"updates": {"status": ""}}, "1 to 64"),
        ({"add_processing_time": -1.0}, "0 up"),
        ({"add_processing_time": float("nan")}, "finite"),
        ({"updates": {"metadata": {"x": float("inf")}}}, r"metadata\.x"),
    ],
)
def test_bad_updates(sessions: BlockingSessions, call: dict[str, Any], told: str) -> None:
    made = sessions.create_session("s", "u")
    with pytest.raises(ValueError, match=told):
        sessions.update_session("s", **call)
    assert sessions.get_session("s") == made


def test_expected_version(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u")
    assert sessions.update_session("s", {"metadata": {"a": 1}}, expected_version=1) is True
    sessions.add_conversation_message("s", "user", "counters and messages are no change")
    with pytest.raises(StaleSessionError) as caught:
        sessions.update_session("s", {"metadata": {"a": 2}}, expected_version=1)
    assert caught.value.current == 2
    assert sessions.update_session("s", {"metadata": {"a": 2}}, expected_version=2) is True


def test_the_end_and_after(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u")
    assert sessions.end_session("s", "failed") is True
    ended = sessions.get_session("s")
    assert (ended["status"], ended["version"]) == ("failed", 2)
    assert ended["ended_at"] is not None
    assert sessions.end_session("s", "failed") is True
    assert sessions.get_session("s")["ended_at"] == ended["ended_at"]
    assert sessions.update_session("s", {"metadata": {"late": 1}}, increment_requests=True) is True
    assert sessions.add_conversation_message("s", "user", "late") is True
    with pytest.raises(SessionConflictError, match="reopen_session"):
        sessions.update_session("s", {"status": "active"})
    assert sessions.reopen_session("s") is True
    assert (sessions.get_session("s")["status"], sessions.get_session("s")["ended_at"]) == ("active", None)
    for bad in ("active", ""):
        with pytest.raises(ValueError, match=r"end as|1 to 64"):
            sessions.end_session("s", bad)


@pytest.mark.parametrize("odd", ["a/b", "..", "a:b", "%2e", "🙂", "x" * 512])
def test_r_identifiers_never_collide_or_escape(sessions: BlockingSessions, odd: str) -> None:
    sessions.create_session(odd, odd)
    sessions.create_session("a", "b:c")
    sessions.create_session("a:b", "c") if odd != "a:b" else None
    sessions.add_conversation_message(odd, "user", odd)
    assert sessions.get_session(odd)["session_id"] == odd
    assert [one["session_id"] for one in sessions.list_sessions(user_id=odd)] == [odd]
    assert sessions.get_conversation_history("a") == []


def test_too_large(opened: Opened) -> None:
    store = opened(max_metadata=100, max_message=200, max_context=300).sync
    store.create_session("s", "u", {"a": "x" * 50})
    with pytest.raises(RecordTooLargeError, match="metadata"):
        store.create_session("t", "u", {"a": "x" * 100})
    with pytest.raises(RecordTooLargeError, match="metadata"):
        store.update_session("s", {"metadata": {"b": "x" * 50}})
    with pytest.raises(RecordTooLargeError, match="content"):
        store.add_conversation_message("s", "user", "x" * 200)
    with pytest.raises(RecordTooLargeError, match="context"):
        store.store_task_context("s", {"a": "x" * 300})
    assert store.get_session("s")["metadata"] == {"a": "x" * 50}


# --- conversations ---


def test_r_history_is_the_latest_oldest_first(sessions: BlockingSessions) -> None:
    sessions.create_session("s", "u")
    for number in range(120):
        sessions.add_conversation_message("s", "user", f"m{number}", {"n": number} if number % 2 else None)
    history = sessions.get_conversation_history("s")
    assert [one["content"] for one in history] == [f"m{number}" for number in range(70, 120)]
    assert [one["seq"] for one in history] == list(range(71, 121))
    assert list(history[0]) == ["seq", "role", "content", "timestamp", "metadata"]
    assert (history[0]["metadata"], history[1]["metadata"]) == ({}, {"n": 71})
    assert len(sessions.get_conversation_history("s", None)) == 120
    assert sessions.get_conversation_history("s", 0) == []
    assert [one["seq"] for one in sessions.get_conversation_history("s", 2, before_seq=50)] == [48, 49]
    with pytest.raises(ValueError, match="limit"):
        sessions.get_conversation_history("s", -1)


def test_content_comes_back_as_it_was_given(sessions: BlockingSessions) -> None:
    given = ["text", {"parts": [{"type": "text", "text": "hi"}], "at": datetime(2026, 1, 1, tzinfo=UTC)}, [1], None]
    sessions.create_session("s", "u")
    assert sessions.append_messages("s", [{"role": "user", "content": one} for one in given]) == 4
    assert [one["content"] for one in sessions.get_conversation_history("s")] == given


@pytest.mark.parametrize("role", ["", "x" * 65])
def test_bad_roles(sessions: BlockingSessions, role: str) -> None:
    sessions.create_session("s", "u")
    with pytest.raises(ValueError, match="role"):
        sessions.add_conversation_message("s", role, "x")
    with pytest.raises(ValueError, match=r"messages\[1\]\.role"):
        sessions.append_messages("s", [{"role": "a", "content": 1}, {"role": role, "content": 2}])
    assert sessions.get_conversation_history("s") == []


def test_five_hundred_messages_are_stored_together(records: RecordStore) -> None:
    """Whatever call fails, 1,001 of them are there as 0, 500, 1,000 or all."""
    messages = [{"role": "user", "content": n} for n in range(1001)]
    plain = SessionStore(records).sync
    for at in range(1, 6):
        name = f"s{at}"
        plain.create_session(name, "u")
        store = SessionStore(FaultyRecordStore(records, RecordFault(at, times=10**9))).sync
        with suppress(StorageUnavailableError):
            store.append_messages(name, messages)
        stored = [message["content"] for message in plain.get_conversation_history(name, None)]
        assert stored == list(range(len(stored)))
        assert len(stored) in (0, 500, 1000, 1001)
    assert len(stored) == 1001


def test_a_limit_is_kept_by_five_hundred_messages_at_a_time(opened: Opened) -> None:
    store = opened(conversation_limit=600)
    store.sync.create_session("s", "u")
    for _ in range(5):
        store.sync.append_messages("s", [{"role": "user", "content": n} for n in range(500)])
    assert [one["seq"] for one in store.sync.get_conversation_history("s", None)] == list(range(1901, 2501))
    exported = store.sync.export_session("s")
    assert exported is not None
    assert len(exported["messages"]) == 600
    assert store.sync.verify().faults == []


def test_messages_too_large_together_are_refused_before_any_is_stored(
    sessions: BlockingSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genro_storage.sessions.conversations.MAX_COMMIT", 2 << 20)
    sessions.create_session("s", "u")
    large = {"role": "user", "content": "x" * 3000}
    with pytest.raises(RecordTooLargeError, match="500 messages"):
        sessions.append_messages("s", [*[{"role": "user", "content": "first"}] * 500, *[large] * 500])
    assert sessions.get_conversation_history("s") == []


def test_r_no_message_is_lost_unless_a_limit_says_so(opened: Opened) -> None:
    free, bound = opened().sync, opened(conversation_limit=10).sync
    for store, name in ((free, "free"), (bound, "bound")):
        store.create_session(name, "u")
        store.append_messages(name, [{"role": "user", "content": n} for n in range(1000)])
    assert [one["content"] for one in free.get_conversation_history("free", None)] == list(range(1000))
    assert [one["seq"] for one in bound.get_conversation_history("bound", None)] == list(range(991, 1001))


def test_messages_of_many_tasks_are_numbered_without_gaps(opened: Opened) -> None:
    stores = [opened() for _ in range(3)]

    async def talk() -> None:
        await stores[0].create_session("s", "u")
        await asyncio.gather(
            *(one.add_conversation_message("s", f"w{at}", n) for n in range(40) for at, one in enumerate(stores))
        )

    stores[0].sync._thread.run(talk())
    history = stores[1].sync.get_conversation_history("s", None)
    assert [one["seq"] for one in history] == list(range(1, 121))
    for at in range(3):
        assert [one["content"] for one in history if one["role"] == f"w{at}"] == list(range(40))


def test_auto_create(opened: Opened) -> None:
    store = opened(auto_create=True).sync
    assert store.add_conversation_message("new", "user", "hi") is True
    assert store.store_task_context("newer", {"a": 1}) is True
    assert store.get_session("new")["user_id"] == "auto"


# --- contexts ---


@register_context_type
@dataclasses.dataclass
class Task:
    name: str
    due: datetime


@dataclasses.dataclass
class Unregistered:
    name: str


class Telling:
    def to_dict(self) -> dict[str, Any]:
        return {"told": True}


class Compact(msgspec.Struct):
    raw: bytes


def test_r_task_contexts_are_stored_and_come_back(opened: Opened) -> None:
    store = opened(context_versions=3).sync
    store.create_session("s", "u")
    task = Task("t", datetime(2026, 1, 1, tzinfo=UTC))
    assert store.store_task_context("s", task) is True
    assert store.get_task_context("s") == task
    store.store_task_context("s", Unregistered("x"))
    assert store.get_task_context("s") == {"name": "x"}
    store.store_task_context("s", Telling())
    assert store.get_task_context("s") == {"told": True}
    store.store_task_context("s", Compact(b"\0"))
    assert store.get_task_context("s") == {"raw": b"\0"}
    assert [one["version"] for one in store.list_task_contexts("s")] == [4, 3, 2]
    assert store.get_task_context("s", version=2) == {"name": "x"}
    assert store.get_task_context("s", version=1) is None
    with pytest.raises(TypeError, match="to_dict"):
        store.store_task_context("s", 7)


# --- expiry ---


def test_r_each_session_has_a_ttl_of_its_own(opened: Opened, clock: FakeClock) -> None:
    store = opened(session_ttl=10).sync
    store.create_session("short", "u")
    store.create_session("long", "u", ttl=100)
    clock.advance(6)
    store.update_session("short")
    clock.advance(6)
    assert store.get_session("short")["expires_at"] is not None
    clock.advance(10)
    assert store.get_session("short") is None
    assert store.get_session("long") is not None
    assert store.update_session("short", increment_requests=True) is False
    assert store.sweep().sessions == 1
    assert [one["session_id"] for one in store.list_sessions()] == ["long"]


def test_an_id_is_free_after_it_expired(opened: Opened, clock: FakeClock) -> None:
    store = opened(session_ttl=10).sync
    store.create_session("s", "u", {"old": 1})
    store.add_conversation_message("s", "user", "old")
    clock.advance(11)
    assert store.create_session("s", "other")["metadata"] == {}
    assert store.get_conversation_history("s") == []
    assert [one["session_id"] for one in store.list_sessions(user_id="u")] == []


def test_cleanup_takes_the_idle_and_all_they_have(opened: Opened, records: RecordStore, clock: FakeClock) -> None:
    store = opened().sync
    for name in ("idle", "used", "ended"):
        store.create_session(name, "u")
        store.add_conversation_message(name, "user", "hi")
        store.store_task_context(name, {"a": 1})
    clock.advance(3600 * 23)
    store.update_session("used")
    clock.advance(3600 * 2)
    assert store.cleanup_expired_sessions(24) == 2
    assert [one["session_id"] for one in store.list_sessions()] == ["used"]
    assert store.cleanup_expired_sessions(24) == 0
    clock.advance(3600 * 30)
    assert store.cleanup_expired_sessions() == 1
    for space in ("s", "h", "x/active", "x/expiry", "x/user/u", "x/status/active", "gc"):
        assert records.sync.scan(space) == [], space
    with pytest.raises(ValueError, match="above 0"):
        store.cleanup_expired_sessions(0)


# --- many ---


def test_batches(sessions: BlockingSessions) -> None:
    wanted = [{"session_id": f"s{n}", "user_id": "u", "metadata": {"n": n}} for n in range(70)]
    assert sessions.batch_create_sessions(wanted) == [True] * 70
    assert sessions.batch_create_sessions([*wanted[:2], {"session_id": "x", "user_id": "v"}]) == [False, False, True]
    assert [one and one["metadata"] for one in sessions.batch_get_sessions(["s3", "no", "s9"])] == [
        {"n": 3},
        None,
        {"n": 9},
    ]
    assert sessions.batch_end_sessions(["s3", "no"], "failed") == [True, False]
    with pytest.raises(ValueError, match="session_id"):
        sessions.batch_create_sessions([{"session_id": "fine", "user_id": "u"}, {"session_id": "", "user_id": "u"}])
    assert sessions.get_session("fine") is None


def test_listing_pages(sessions: BlockingSessions, clock: FakeClock) -> None:
    for number in range(250):
        clock.advance(0.001)
        sessions.create_session(f"s{(number * 7) % 250:03}", f"u{number % 2}")
    seen, cursor = [], None
    while True:
        page = sessions.list_sessions("u1", limit=30, after=cursor)
        seen += [one["session_id"] for one in page]
        if page.next is None:
            break
        cursor = page.next
        if len(seen) == 60:
            sessions.delete_session(seen[-1])
    assert seen == [f"s{(number * 7) % 250:03}" for number in range(1, 250, 2)]
    assert [one["session_id"] for one in sessions.list_sessions(limit=3)] == ["s000", "s001", "s002"]
    newest = sessions.list_sessions("u0", limit=2, newest_first=True)
    assert [one["session_id"] for one in newest] == [f"s{(n * 7) % 250:03}" for n in (248, 246)]
    sessions.end_session("s000")
    assert [one["session_id"] for one in sessions.list_sessions(status="completed")] == ["s000"]
    assert [one["session_id"] for one in sessions.list_sessions("u0", "completed")] == ["s000"]
    assert len(sessions.list_sessions(status="active", limit=None)) == 248


# --- export ---


def test_export_and_import(opened: Opened) -> None:
    store = opened().sync
    store.create_session("s", "u", {"a": (1,)}, ttl=1000)
    store.append_messages("s", [{"role": "user", "content": n} for n in range(5)])
    store.store_task_context("s", {"x": 1})
    store.end_session("s")
    told = store.export_session("s")
    assert store.import_session(told) is False
    store.delete_session("s")
    assert store.import_session(told) is True
    assert store.export_session("s") == told
    assert [one["session_id"] for one in store.list_sessions(status="completed")] == ["s"]
    store.add_conversation_message("s", "user", "more")
    assert store.get_conversation_history("s", 1)[0]["seq"] == 6
    with pytest.raises(SessionConflictError, match="different"):
        store.import_session(told)


# --- faults ---


def test_r_an_outage_is_an_error_not_silent_memory(records: RecordStore) -> None:
    faulty = FaultyRecordStore(records, RecordFault(1, times=10**9))
    store = SessionStore(faulty).sync
    with pytest.raises(StorageUnavailableError):
        store.create_session("s", "u")
    with pytest.raises(StorageUnavailableError):
        store.get_session("s")
    faulty.faults.clear()
    assert store.get_session("s") is None


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("kind", ["before", "after"])
def test_an_append_is_never_lost_and_never_doubled(records: RecordStore, kind: Any, at: int) -> None:
    store = SessionStore(records).sync
    store.create_session("s", "u")
    faulty = SessionStore(FaultyRecordStore(records, RecordFault(at, kind))).sync
    acknowledged = []
    for number in range(4):
        try:
            faulty.add_conversation_message("s", "user", number)
        except StorageUnavailableError:
            continue
        acknowledged.append(number)
    assert len(acknowledged) >= 3
    kept = [one["content"] for one in store.get_conversation_history("s")]
    assert kept == acknowledged


def test_a_lost_answer_is_settled_by_reading(records: RecordStore) -> None:
    faulty = FaultyRecordStore(records, *(RecordFault(at, "after", on="commit") for at in (1, 2, 3, 4, 5)))
    store = SessionStore(faulty).sync
    store.create_session("s", "u")
    store.add_conversation_message("s", "user", "once")
    store.update_session("s", {"metadata": {"a": 1}})
    store.store_task_context("s", {"a": 1})
    assert store.delete_session("s") is True
    assert faulty.calls.count("commit") >= 5
    store.create_session("s", "u")


def test_a_cancelled_append_still_has_an_outcome(records: RecordStore) -> None:
    faulty = FaultyRecordStore(records)
    store = SessionStore(faulty)

    async def talk() -> list[Any]:
        await store.create_session("s", "u")
        task = asyncio.create_task(store.add_conversation_message("s", "user", "kept"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await store.get_conversation_history("s")

    assert [one["content"] for one in asyncio.run(talk())] == ["kept"]


def test_any_loop_and_thread(opened: Opened) -> None:
    store = opened()
    store.sync.create_session("s", "u")

    def work() -> None:
        async def use() -> None:
            await asyncio.gather(*(store.update_session("s", increment_requests=True) for _ in range(20)))

        asyncio.run(use())

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.sync.get_session("s")["request_count"] == 100


def test_unknown_options_are_refused_with_a_suggestion(records: RecordStore) -> None:
    with pytest.raises(StorageConfigError, match="session_ttl"):
        SessionStore(records, sesion_ttl=3)
    with pytest.raises(StorageConfigError, match="above 0"):
        SessionStore(records, session_ttl=0)
