"""The sessions mount: a store among the mounts, and its read-only files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import genro_storage
from genro_storage import StorageConfigError, StorageManager, StorageNotFoundError, StoragePermissionError
from genro_storage.sessions import codec

from .test_langgraph import counter


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    with StorageManager(
        [
            {"name": "sessions", "type": "sessions", "path": str(tmp_path / "s.db")},
            {"name": "deleting", "type": "sessions", "backend": "memory", "allow_delete": True},
            {"name": "out", "type": "local", "path": str(tmp_path)},
        ]
    ) as manager:
        yield manager


def filled(storage: StorageManager, name: str = "sessions") -> None:
    store = storage.sessions(name).sync
    for session_id in ("plain", "..", ".threads", "a/b:c", "🙂"):
        store.create_session(session_id, "u", {"at": (1, 2)})
        store.append_messages(session_id, [{"role": "user", "content": f"{session_id} {n}"} for n in range(3)])
    store.store_task_context("plain", {"step": 1})
    store.store_task_context("plain", {"step": 2})
    store.store_checkpoint("plain", "cp/1", {"x": 1})


def test_one_store_per_mount(storage: StorageManager) -> None:
    assert storage.sessions() is storage.sessions("sessions")
    assert storage.checkpointer().store is storage.sessions()
    with pytest.raises(StorageConfigError, match="not of type sessions"):
        storage.sessions("out")


def test_it_says_beforehand_that_nothing_can_be_written(storage: StorageManager) -> None:
    for name, deletes in (("sessions", False), ("deleting", True)):
        told = storage.node(f"{name}:").capabilities
        assert (told.write, told.mkdir, told.append_mode, told.readonly, told.delete) == (*[False] * 3, True, deletes)
    assert storage.node("out:").capabilities.write


def test_files_of_sessions(storage: StorageManager) -> None:
    filled(storage)
    names = [node.basename for node in storage.node("sessions:").children()]
    assert sorted(names) == sorted([".threads", "plain", "%2E.", "%2Ethreads", "a%2Fb%3Ac", "%F0%9F%99%82"])
    session = storage.node("sessions:a%2Fb%3Ac/session.json")
    assert json.loads(session.read_text())["session_id"] == "a/b:c"
    assert session.size == len(session.read_bytes())
    assert storage.node("sessions:%2E./session.json").exists
    lines = storage.node("sessions:plain/messages.ndjson").read_text().splitlines()
    assert [codec.decode(line.encode())["content"] for line in lines] == ["plain 0", "plain 1", "plain 2"]
    below = sorted(node.path for node in storage.node("sessions:plain").rglob("*"))
    assert below == [
        "plain",
        "plain/checkpoints",
        "plain/checkpoints/cp%2F1.json",
        "plain/context.json",
        "plain/contexts",
        "plain/contexts/1.json",
        "plain/contexts/2.json",
        "plain/messages.ndjson",
        "plain/session.json",
    ]
    assert json.loads(storage.node("sessions:plain/contexts/1.json").read_text())["value"] == {"step": 1}
    assert json.loads(storage.node("sessions:plain/checkpoints/cp%2F1.json").read_text())["data"] == {"x": 1}
    assert json.loads(storage.node("sessions:.threads/plain/thread.json").read_text())["thread_id"] == "plain"
    for missing in ("no", "no/session.json", "plain/no.json", "plain/contexts/9.json", ".threads/no/thread.json"):
        assert not storage.node(f"sessions:{missing}").exists
        with pytest.raises(StorageNotFoundError):
            storage.node(f"sessions:{missing}").read_bytes()


def test_long_conversations_are_whole(storage: StorageManager) -> None:
    store = storage.sessions().sync
    store.create_session("s", "u")
    store.append_messages("s", [{"role": "user", "content": n} for n in range(1234)])
    lines = storage.node("sessions:s/messages.ndjson").read_text().splitlines()
    assert [json.loads(line)["content"] for line in lines] == list(range(1234))


def test_files_of_graphs(storage: StorageManager) -> None:
    app = counter().compile(checkpointer=storage.checkpointer())
    app.invoke({"count": 0, "log": []}, {"configurable": {"thread_id": "t"}})
    directory = storage.node("sessions:.threads/t/checkpoints/ns/=")
    files = sorted(directory.children(), key=lambda node: node.basename)
    told = json.loads(files[-1].read_text())
    assert told["channel_values"]["count"] == 5
    assert told["channel_values"]["log"] == ["n0", "n1", "n2", "n3", "n4"]
    assert told["parent_id"] == json.loads(files[-2].read_text())["checkpoint_id"]


def test_nothing_can_be_written(storage: StorageManager) -> None:
    filled(storage)
    node = storage.node("sessions:plain/session.json")
    before = node.read_bytes()
    for change in (
        lambda: node.write_bytes(b""),
        lambda: storage.node("sessions:new").mkdir(),
        lambda: node.delete(),
        lambda: node.move_to("out:x"),
        lambda: storage.node("sessions:plain").delete(recursive=True),
    ):
        with pytest.raises(StoragePermissionError):
            change()
    assert node.read_bytes() == before
    assert storage.sessions().sync.get_session("plain") is not None


def test_a_sessions_directory_may_be_deleted_if_that_is_said(storage: StorageManager) -> None:
    filled(storage, "deleting")
    with pytest.raises(StoragePermissionError):
        storage.node("deleting:plain/session.json").delete()
    storage.node("deleting:plain").delete(recursive=True)
    assert storage.sessions("deleting").sync.get_session("plain") is None
    assert storage.sessions("deleting").sync.get_session("..") is not None


def test_copying_the_tree_is_an_export(storage: StorageManager, tmp_path: Path) -> None:
    filled(storage)
    storage.node("sessions:").copy_to("out:export")
    assert json.loads((tmp_path / "export/plain/session.json").read_text())["user_id"] == "u"
    assert (tmp_path / "export/%2E./messages.ndjson").read_text().count("\n") == 3


def test_the_store_may_stand_on_a_relative_path(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps([{"name": "sessions", "type": "sessions", "path": "x/s.db"}]))
    (tmp_path / "x").mkdir()
    with StorageManager(str(tmp_path / "c.json")) as manager:
        manager.sessions().sync.create_session("s", "u")
    assert (tmp_path / "x/s.db").exists()


def test_the_store_may_stand_on_another_mount(tmp_path: Path) -> None:
    """Its records are one directory there, and nothing of it is opened before it is used."""
    entries = [
        {"name": "sessions", "type": "sessions", "backend": "mount", "storage": "files:deep/records", "lease": "5s"},
        {"name": "files", "type": "local", "path": str(tmp_path)},
    ]
    for number in range(2):  # closed by its manager, it is free for the next
        with StorageManager(entries) as manager:
            assert manager.checkpointer().store is manager.sessions()
            assert (tmp_path / "deep").exists() == (number > 0)
            manager.sessions().sync.create_session("s", "u")
            manager.sessions().sync.append_messages("s", [{"role": "user", "content": number}])
            assert manager.node("sessions:s/messages.ndjson").read_text().count("\n") == number + 1
    assert sorted(path.name for path in (tmp_path / "deep/records/r").iterdir()) != []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"backend": "mongo"}, "'backend' is one of memory"),
        ({}, "needs 'path'"),
        ({"path": "x", "redis_url": "y"}, "redis_url"),
        ({"path": "x", "pool_size": 3}, "no key 'pool_size'"),
        ({"path": "x", "sesion_ttl": 3}, "session_ttl"),
        ({"backend": "mount", "storage": "nowhere"}, "mount:path"),
        ({"backend": "mount"}, "needs 'storage'"),
        ({"backend": "mount", "storage": "gone:x"}, "gone"),
    ],
)
def test_bad_keys(keys: dict[str, object], told: str) -> None:
    with pytest.raises(StorageConfigError, match=told):
        StorageManager([{"name": "sessions", "type": "sessions", **keys}])


def test_secrets_are_redacted(tmp_path: Path) -> None:
    entry = {"name": "s", "type": "sessions", "backend": "postgresql", "url": "postgresql://u:hidden@127.0.0.1:1/db"}
    with genro_storage.StorageManager([entry]) as manager:
        assert "hidden" not in repr(manager.get_backend("s").options)
        assert "hidden" not in str(manager.mounts)
