"""LangGraph's conformance suite, counted, over every store, async and sync."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate

from genro_storage.records.base import RecordStore
from genro_storage.sessions.langgraph import GenroCheckpointSaver
from genro_storage.sessions.store import SessionStore

COUNTS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


class Blocking(BaseCheckpointSaver[str]):
    """The sync face of a saver behind the async one that the suite drives."""

    def __init__(self, saver: GenroCheckpointSaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.saver.get_next_version(current, channel)

    async def aput(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        return self.saver.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.saver.put_writes(*args, **kwargs)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.saver.get_tuple(config)

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[CheckpointTuple]:
        for found in self.saver.list(*args, **kwargs):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        self.saver.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self.saver.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.saver.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, *args: Any, **kwargs: Any) -> None:
        self.saver.prune(*args, **kwargs)


@pytest.mark.parametrize("face", ["async", "sync"])
def test_conformance(records: RecordStore, face: str) -> None:
    store = SessionStore(records)
    saver = GenroCheckpointSaver(store)

    @checkpointer_test(name=f"{records.name}-{face}")
    async def registered() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        yield saver if face == "async" else Blocking(saver)

    driver = SessionStore(records)
    report = driver.sync.run(validate(registered))
    results = report.results
    failures = [failure for result in results.values() for failure in result.failures or []]
    assert failures == []
    assert {str(getattr(name, "value", name)): result.tests_passed for name, result in results.items()} == COUNTS
    assert sum(result.tests_passed for result in results.values()) == 81
    assert sum(result.tests_failed + getattr(result, "tests_skipped", 0) for result in results.values()) == 0
