"""The record suite passes a store behind its faulty wrapper and catches stores that are wrong in one way each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from genro_storage.exceptions import CommitOutcomeUnknownError, StorageUnavailableError
from genro_storage.records.base import Change, Delete, Put, Record
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.testing import FaultyRecordStore, RecordFault, RecordSuite
from genro_storage.testing.record_model import check_against_model
from genro_storage.testing.record_words import SPACES, FakeClock


class TestFaultyWithoutFaults(RecordSuite):
    lacks = frozenset({"durable", "shared"})
    examples = 10

    @pytest.fixture
    def store(self, clock: FakeClock) -> FaultyRecordStore:
        return FaultyRecordStore(MemoryRecordStore(clock=clock))


class ReusesVersions(MemoryRecordStore):
    def _apply(self, change: Change) -> int:
        self._version = 0 if self._living(change.space, change.key) is None else self._version
        return super()._apply(change)


class AppliesBeforeItJudges(MemoryRecordStore):
    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        return [(await super(AppliesBeforeItJudges, self)._commit([change]))[0] for change in changes]


class ShowsTheExpired(MemoryRecordStore):
    def _living(self, space: str, key: str) -> Record | None:
        held = self._spaces.get(space)
        return held.records.get(key) if held is not None else None


class BoundsAreInclusive(MemoryRecordStore):
    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        return await super()._scan(space, after, None if until is None else until + "!", limit, reverse)


class LimitsBeforeItReverses(MemoryRecordStore):
    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        found = await super()._scan(space, after, until, limit, False)
        return found[::-1] if reverse else found


class IgnoresExpectOfDeletes(MemoryRecordStore):
    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        return await super()._commit([Delete(c.space, c.key) if type(c) is Delete else c for c in changes])


WRONG = [
    ReusesVersions,
    AppliesBeforeItJudges,
    ShowsTheExpired,
    BoundsAreInclusive,
    LimitsBeforeItReverses,
    IgnoresExpectOfDeletes,
]


@pytest.mark.parametrize("store", WRONG)
def test_the_model_catches(store: type[MemoryRecordStore]) -> None:
    clock = FakeClock()
    with pytest.raises((AssertionError, pytest.fail.Exception, Exception)) as caught:
        check_against_model(store(clock=clock), clock, 300, lambda: next(SPACES), shrink=False)
    assert not isinstance(caught.value, TypeError | AttributeError | NameError)


def test_a_fault_before_changes_nothing() -> None:
    store = FaultyRecordStore(MemoryRecordStore(), RecordFault(2, "before"))
    store.sync.commit([Put("s", "1", b"")])
    with pytest.raises(StorageUnavailableError):
        store.sync.commit([Put("s", "2", b"")])
    assert [record.key for record in store.sync.scan("s")] == ["1"]
    assert store.calls == ["commit", "commit", "scan"]
    store.sync.close()


def test_a_fault_after_leaves_the_outcome_unknown() -> None:
    store = FaultyRecordStore(
        MemoryRecordStore(), RecordFault(1, "after", on="commit"), RecordFault(1, "after", on="get")
    )
    with pytest.raises(CommitOutcomeUnknownError) as caught:
        store.sync.commit([Put("s", "1", b"")])
    assert not caught.value.retryable
    with pytest.raises(StorageUnavailableError):
        store.sync.get("s", "1")
    assert store.sync.get("s", "1") is not None
    store.sync.close()


def test_a_hanging_call_ends_when_it_is_released() -> None:
    async def hang() -> None:
        store = FaultyRecordStore(MemoryRecordStore(), RecordFault(1, "hang"))
        task = asyncio.ensure_future(store.get("s", "1"))
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        store.released = True
        with pytest.raises(StorageUnavailableError):
            await task

    asyncio.run(hang())
