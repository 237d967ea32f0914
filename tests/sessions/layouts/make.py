"""Writes layout-<n>.db with something of every kind: ``python -m tests.sessions.layouts.make``, once per layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genro_storage.sessions import SQLiteStorageBackend
from genro_storage.sessions.health import LAYOUT
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from tests.sessions.test_langgraph import counter

HERE = Path(__file__).parent


def fill(path: Path) -> None:
    """What `test_layouts.py` looks for."""
    store = SQLiteStorageBackend(path)
    calls = store.sync
    calls.initialize()
    calls.create_session("plain", "ada", {"tags": ("a", "b"), "n": 1})
    calls.create_session("a/b:c..%🙂", "grace", ttl=10 * 365 * 86400)
    calls.append_messages("plain", [{"role": "user", "content": f"message {n}"} for n in range(60)])
    calls.add_conversation_message("plain", "assistant", {"data": b"\x00\xff"}, {"model": "small"})
    calls.update_session("plain", {"status": "busy"}, increment_requests=True, add_processing_time=2.5)
    for step in range(12):
        calls.store_task_context("plain", {"step": step})
    calls.end_session("a/b:c..%🙂", "completed")
    for number in range(5):
        calls.store_checkpoint("named", f"c{number}", {"n": number}, {"by": "test"})
        calls.put_writes("named", f"c{number}", "task", [("channel", number)])
    app = counter().compile(checkpointer=GenroCheckpointSaver(store))
    config: Any = {"configurable": {"thread_id": "graph"}, "run_id": "55555555-0000-4000-8000-000000000000"}
    app.invoke({"count": 0, "log": [f"{number} " + "x" * 40 for number in range(40)]}, config)
    calls.close()


if __name__ == "__main__":
    target = HERE / f"layout-{LAYOUT}.db"
    target.unlink(missing_ok=True)
    fill(target)
