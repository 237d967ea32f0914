"""Databases of every released layout are opened, read and written on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from genro_storage.sessions import SQLiteStorageBackend
from genro_storage.sessions.health import LAYOUT
from genro_storage.sessions.langgraph import GenroCheckpointSaver

from .layouts.make import HERE
from .test_langgraph import counter


@pytest.mark.parametrize("layout", range(1, LAYOUT + 1))
def test_a_released_layout(layout: int, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    shutil.copy(HERE / f"layout-{layout}.db", path)
    store = SQLiteStorageBackend(path)
    calls = store.sync
    calls.initialize()
    assert calls.verify().faults == []
    plain = calls.get_session("plain")
    assert (plain["user_id"], plain["status"], plain["request_count"], plain["version"]) == ("ada", "busy", 1, 2)
    assert plain["metadata"] == {"tags": ("a", "b"), "n": 1}
    history = calls.get_conversation_history("plain", None)
    assert [one["content"] for one in history[:60]] == [f"message {n}" for n in range(60)]
    assert (history[60]["content"], history[60]["metadata"]) == ({"data": b"\x00\xff"}, {"model": "small"})
    assert [one["session_id"] for one in calls.list_sessions(status="completed")] == ["a/b:c..%🙂"]
    assert calls.get_task_context("plain") == {"step": 11}
    assert len(calls.list_task_contexts("plain")) == 10
    assert [one["checkpoint_id"] for one in calls.list_checkpoints("named")] == [f"c{n}" for n in (4, 3, 2, 1, 0)]
    assert calls.get_writes("named", "c2") == [("channel", 2)]
    app = counter().compile(checkpointer=GenroCheckpointSaver(store))
    config: Any = {"configurable": {"thread_id": "graph"}}
    values = app.get_state(config).values
    assert (values["count"], len(values["log"])) == (5, 45)
    assert app.invoke({"count": 6}, config)["count"] == 10
    assert calls.append_messages("plain", [{"role": "user", "content": "goes on"}]) == 62
    assert calls.delete_thread("graph") is True
    assert calls.verify().ok
    calls.close()
