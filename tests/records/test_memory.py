"""Records in this process."""

from __future__ import annotations

import pytest

from genro_storage.records.base import Put
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock, at_once


class TestMemory(RecordSuite):
    lacks = frozenset({"durable", "shared"})

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryRecordStore:
        return MemoryRecordStore(clock=clock)


def test_the_swept_take_no_room() -> None:
    clock = FakeClock()
    store = MemoryRecordStore(clock=clock)
    for number in range(3):
        store.sync.commit([Put("s", f"{number}-{n}", b"", expires_at=clock() + 1) for n in range(500)])
    clock.advance(1)
    assert store.sync.sweep(limit=1000) == 1000
    assert store.sync.sweep() == 500
    assert store.sync.sweep() == 0
    assert store._spaces == {}
    store.sync.close()


def test_one_blocking_face_for_all_threads() -> None:
    for _ in range(20):
        store = MemoryRecordStore()
        assert len(set(map(id, at_once(lambda number: store.sync, 8)))) == 1  # noqa: B023 - used in this round only
