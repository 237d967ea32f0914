"""Sessions under encryption: what a file holds, what is refused, and how keys are changed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageConfigError, StorageCorruptedError, StorageManager
from genro_storage.records.base import Put, RecordStore
from genro_storage.records.encrypted import EncryptedRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.sessions import SessionStore, SQLiteStorageBackend, StorageFactory, StorageMigrator
from genro_storage.sessions.langgraph import GenroCheckpointSaver

from .test_langgraph import counter

KEYS = {"k1": "11" * 32, "k2": "22" * 32}
SECRET = "the secret that is nowhere"


def keys(*names: str, **more: Any) -> dict[str, Any]:
    """The option `encryption` with these keys, the first one seals."""
    return {"keys": [{"id": name, "key": KEYS[name]} for name in names], **more}


def opened(path: Path, *names: str, **more: Any) -> SessionStore:
    return SQLiteStorageBackend(path, encryption=keys(*names, **more))


def filled(store: SessionStore) -> None:
    """A session and threads of every kind, with the secret wherever users put data."""
    store.sync.create_session("s-1", "user-1", {"note": SECRET})
    store.sync.append_messages("s-1", [{"role": "user", "content": SECRET, "metadata": {"m": SECRET}}] * 3)
    store.sync.store_task_context("s-1", {"step": SECRET})
    store.sync.store_checkpoint("t-1", "c-1", {"x": SECRET * 100}, {"m": SECRET})
    store.sync.put_writes("t-1", "c-1", "task", [("channel", SECRET)])
    app = counter().compile(checkpointer=GenroCheckpointSaver(store))
    config: Any = {"configurable": {"thread_id": "g-1"}, "run_id": "5" * 8 + "-0000-4000-8000-" + "0" * 12}
    app.invoke({"count": 0, "log": [SECRET * 100]}, config)
    store.sync.end_session("s-1", "done")


def told(store: SessionStore) -> list[Any]:
    """Everything that `filled` made, read again."""
    saver = GenroCheckpointSaver(store)
    graphs = [(one.checkpoint, one.metadata) for one in saver.list({"configurable": {"thread_id": "g-1"}})]
    return [
        store.sync.export_session("s-1"),
        [one["session_id"] for one in store.sync.list_sessions(user_id="user-1")],
        [one["session_id"] for one in store.sync.list_sessions(status="done")],
        store.sync.get_checkpoint("t-1"),
        store.sync.get_writes("t-1", "c-1"),
        graphs,
    ]


def under(path: Path) -> dict[bytes, int]:
    """How many records of a file are under which key; b"" is no key."""
    found: dict[bytes, int] = {}
    with sqlite3.connect(path) as connection:
        for (data,) in connection.execute("SELECT data FROM records"):
            name = bytes(data[5 : 5 + data[4]]) if data[:4] == b"GSE1" else b""
            found[name] = found.get(name, 0) + 1
    connection.close()
    return found


def test_nothing_of_it_is_in_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db", "k1")
    filled(store)
    assert store.sync.get_session("s-1")["metadata"] == {"note": SECRET}
    assert store.sync.health_check()["backend"] == "sqlite"
    assert store.sync.health_check()["durability"] == "power loss"
    store.sync.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in written
    assert b"s-1" in written  # ids are in clear
    assert set(under(tmp_path / "s.db")) == {b"k1"}


def test_a_value_cannot_be_guessed_by_its_digest(tmp_path: Path) -> None:
    """The same value has another name under another key, and the one that has no key tells nothing."""
    names = []
    for encryption in (None, keys("k1"), keys("k1"), keys("k2")):
        more = {} if encryption is None else {"encryption": encryption}
        store = StorageFactory.create_storage_backend("memory", more)
        app = counter().compile(checkpointer=GenroCheckpointSaver(store))
        app.invoke({"count": 0, "log": [SECRET * 100]}, {"configurable": {"thread_id": "t"}})
        thread = store.sync.run(store.thread("t"))
        assert thread is not None
        names.append({one.key for one in store.records.sync.scan(f"b/{thread.thread.inc}#")})
        store.sync.close()
    plain, one, again, other = names
    assert one == again
    assert not plain & one
    assert not one & other


def test_the_first_key_writes_all_read_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    first = opened(path, "k1")
    filled(first)
    before = told(first)
    missed = Put("mirror", "s:s-1:writer", b"s-1")  # of the journal of a failover store whose fallback this is
    first.sync.run(first.records.commit([missed]))
    first.sync.close()
    second = opened(path, "k2", "k1")
    assert told(second) == before
    second.sync.create_session("s-2", "user-2")
    assert under(path)[b"k1"] > 10
    count = under(path)[b"k1"]
    assert second.sync.rotate() == count
    assert second.sync.rotate() == 0
    assert set(under(path)) == {b"k2"}
    assert second.sync.append_messages("s-1", [{"role": "user", "content": 1}]) == 4
    second.sync.close()
    alone = opened(path, "k2")
    assert told(alone)[1:] == before[1:]
    assert alone.sync.verify().ok
    alone.sync.close()


def test_what_was_written_without_is_refused_or_read_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    plain = SQLiteStorageBackend(path)
    filled(plain)
    before = told(plain)
    plain.sync.close()
    strict = opened(path, "k1")
    with pytest.raises(StorageCorruptedError, match="not sealed"):
        strict.sync.get_session("s-1")
    strict.sync.close()
    lenient = opened(path, "k1", allow_plaintext_read=True)
    assert told(lenient) == before
    lenient.sync.rotate()
    lenient.sync.close()
    assert set(under(path)) == {b"k1"}
    strict = opened(path, "k1")
    assert told(strict) == before
    strict.sync.close()


def test_a_wrong_key_and_a_moved_record(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = opened(path, "k1")
    store.sync.create_session("mine", "u", {"rights": "few"})
    store.sync.create_session("other", "u", {"rights": "all"})
    store.sync.close()
    wrong = opened(path, "k2")
    with pytest.raises(StorageCorruptedError):
        wrong.sync.get_session("mine")
    wrong.sync.close()
    raw = SQLiteRecordStore(path)
    moved = [Put(space, "mine", raw.sync.get(space, "other").data) for space in ("s", "h")]  # type: ignore[union-attr]
    raw.sync.commit(moved)
    raw.sync.close()
    store = opened(path, "k1")
    with pytest.raises(StorageCorruptedError, match="another place"):
        store.sync.get_session("mine")
    store.sync.close()


def test_into_an_encrypted_store_and_out_of_it(tmp_path: Path) -> None:
    plain, sealed, again = (
        SQLiteStorageBackend(tmp_path / "a.db"),
        opened(tmp_path / "b.db", "k1"),
        SQLiteStorageBackend(tmp_path / "c.db"),
    )
    filled(plain)
    for source, target in ((plain, sealed), (sealed, again)):
        report = sealed.sync.run(StorageMigrator(source, target).migrate_all())
        assert (report.ok, report.sessions, report.threads) == (True, 1, 2)
    assert told(again) == told(sealed) == told(plain)
    for store in (plain, sealed, again):
        store.sync.close()


def test_only_an_encrypted_store_rotates() -> None:
    with pytest.raises(StorageConfigError, match="not encrypted"):
        StorageFactory.create_storage_backend("memory", {}).sync.rotate()


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageManager]:
    monkeypatch.setenv("SESSIONS_KEY", KEYS["k1"])
    encryption = {"keys": [{"id": "k1", "key_env": "SESSIONS_KEY"}, {"id": "k2", "key": KEYS["k2"]}]}
    entry = {"name": "sessions", "type": "sessions", "path": str(tmp_path / "s.db"), "encryption": encryption}
    with StorageManager([entry]) as manager:
        yield manager


def test_a_mount(mounted: StorageManager, tmp_path: Path) -> None:
    filled(mounted.sessions())
    assert SECRET in mounted.node("sessions:s-1/messages.ndjson").read_text()
    assert set(under(tmp_path / "s.db")) == {b"k1"}


def test_keys_are_shown_nowhere(mounted: StorageManager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = mounted.sessions()
    filled(store)
    backend = mounted.get_backend("sessions")
    shown: Sequence[Any] = (
        backend.options,
        backend,
        store,
        store.records,
        mounted.mounts,
        store.sync.health_check(),
        store.sync.get_metrics(),
        store.metrics_text(),
        caplog.text,
        vars(store.options) if hasattr(store.options, "__dict__") else store.options,
    )
    assert isinstance(store.records, EncryptedRecordStore)
    for one in shown:
        for hidden in (KEYS["k1"], KEYS["k2"], bytes.fromhex(KEYS["k1"]).decode("latin-1")):
            assert hidden not in repr(one)
            assert hidden not in str(one)


@pytest.mark.parametrize(
    "encryption",
    [
        "k1",
        {},
        {"keys": []},
        {"keys": ["k1"]},
        {"keys": "k1"},
        {"keys": [{"id": "k1", "key": KEYS["k1"][:-2]}]},
        {"keys": [{"id": "k1", "key": KEYS["k1"]}], "allow_plain": True},
        {"keys": [{"id": "k1", "key": KEYS["k1"]}], "allow_plaintext_read": "yes"},
        {"keys": [{"id": "k1", "key_env": "NOT_SET_ANYWHERE"}]},
    ],
)
def test_bad_keys(encryption: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageConfigError) as caught:
        SQLiteStorageBackend(tmp_path / "s.db", encryption=encryption)
    assert KEYS["k1"][:-2] not in str(caught.value)
    with pytest.raises(StorageConfigError) as caught:
        StorageManager([{"name": "s", "type": "sessions", "backend": "memory", "encryption": encryption}])
    assert KEYS["k1"][:-2] not in str(caught.value)


def test_damage_is_told_by_place_and_not_by_content(records: RecordStore) -> None:
    """Over every kind of store a changed byte is found, and the error names the record."""
    store = EncryptedRecordStore(records, opened(Path("unused"), "k1").records.keys)  # type: ignore[attr-defined]
    sessions = SessionStore(store)
    sessions.sync.create_session("s", "u", {"note": SECRET})
    raw = records.sync.get("s", "s")
    assert raw is not None
    records.sync.commit([Put("s", "s", raw.data[:-1] + bytes([raw.data[-1] ^ 1]))])
    with pytest.raises(StorageCorruptedError, match="record 's' of 's'") as caught:
        sessions.sync.get_session("s")
    assert SECRET not in str(caught.value)
