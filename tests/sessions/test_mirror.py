"""A fallback is told everything in the end: whatever failed, hung or overlapped meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from genro_storage.exceptions import StorageUnavailableError
from genro_storage.records.base import Change, Delete, Put
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import MemoryStorageBackend, SessionStore, StorageAdapter
from genro_storage.testing import FaultyRecordStore, RecordFault

DOWN = RecordFault(1, times=10**9)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def told(store: Any, name: str = "s") -> list[Any]:
    return [one["content"] for one in await store.get_conversation_history(name, None)]


async def caught_up(adapter: StorageAdapter) -> None:
    """Until it says that nothing waits; `run` ends what never ends."""
    while (await adapter.health_check())["pending_reconcile"] != 0 or adapter._mirror.missed:  # type: ignore[union-attr]
        await adapter.get_session("s")
        await asyncio.sleep(0.01)


def test_what_was_missed_with_the_journal_is_made_up_for() -> None:
    """By default the journal is in the fallback, and down with it."""

    async def test() -> None:
        behind = FaultyRecordStore(MemoryRecordStore())
        adapter = StorageAdapter(MemoryStorageBackend(), SessionStore(behind))
        await adapter.create_session("s", "u")
        await caught_up(adapter)
        behind.faults = [DOWN]
        await adapter.add_conversation_message("s", "user", "missed")
        behind.faults = []
        assert (await adapter.health_check())["status"] == "degraded"
        await caught_up(adapter)
        assert await told(SessionStore(behind)) == ["missed"]
        assert (await adapter.health_check())["status"] == "healthy"

    run(test)


class Gated(MemoryRecordStore):
    """Whose commits wait while `gate` is closed; `arrived`: one does."""

    outlasts = False

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.arrived = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        if not self.gate.is_set():
            self.arrived.set()
            await self.gate.wait()
        return await super()._commit(changes)


@pytest.mark.parametrize("who", ["this process", "another"])
def test_a_write_that_is_under_way_while_others_are_settled_is_not_forgotten(who: str) -> None:
    """What is copied is older than the write: its entry must not go with that."""

    async def test() -> None:
        before, behind, journal = Gated(), FaultyRecordStore(MemoryRecordStore()), MemoryRecordStore()
        primary, fallback = SessionStore(before), SessionStore(behind)
        adapter, other = (StorageAdapter(primary, fallback, journal=journal) for _ in range(2))
        await adapter.create_session("s", "u")
        await caught_up(adapter)
        adapter._mirror.missed = who == "this process"  # type: ignore[union-attr]
        before.gate.clear()
        write = asyncio.create_task(adapter.add_conversation_message("s", "user", "late"))
        await before.arrived.wait()
        await (adapter if who == "this process" else other).settle()
        behind.faults = [DOWN]
        before.gate.set()
        await write
        behind.faults = []
        await adapter.add_conversation_message("s", "user", "later")
        await caught_up(adapter)
        assert await told(fallback) == await told(primary) == ["late", "later"]

    run(test)


def test_another_ones_entry_is_our_own_while_it_is_settled() -> None:
    """Its owner takes it away, and we end halfway: what was removed to be copied is still remembered."""

    async def test() -> None:
        behind, journal = Gated(), MemoryRecordStore()
        primary, fallback = MemoryStorageBackend(), SessionStore(behind)
        for store in (primary, fallback):
            await store.create_session("s", "u")
        await journal.commit([Put("mirror", "s:s:other", b"s")])
        adapter = StorageAdapter(primary, fallback, journal=journal)
        behind.gate.clear()
        settling = asyncio.create_task(adapter.settle())
        await behind.arrived.wait()
        await journal.commit([Delete("mirror", "s:s:other")])
        settling.cancel()
        behind.gate.set()
        await asyncio.wait([settling])
        assert settling.cancelled()
        assert await StorageAdapter(primary, fallback, journal=journal).settle() == 0
        assert await fallback.export_session("s") == await primary.export_session("s")

    run(test)


def test_writes_that_overlap_keep_their_order() -> None:
    """The fallback gets them as the primary was done with them, also where it is quicker with the last."""

    async def test() -> None:
        class Uneven(Gated):
            def __init__(self) -> None:
                super().__init__()
                self.delays = [0.05]

            async def _commit(self, changes: Sequence[Change]) -> list[int]:
                if any(one.space.startswith("m/") for one in changes):
                    await asyncio.sleep(self.delays.pop(0) if self.delays else 0)
                return await super()._commit(changes)

        primary, fallback = MemoryStorageBackend(), SessionStore(Uneven())
        adapter = StorageAdapter(primary, fallback, journal=MemoryRecordStore())
        await adapter.create_session("s", "u")
        await caught_up(adapter)
        large = "x" * 300_000
        await asyncio.gather(*(adapter.add_conversation_message("s", "user", one) for one in (large, "1", large, "2")))
        assert await told(fallback) == await told(primary)
        assert (await adapter.health_check())["pending_reconcile"] == 0

    run(test)


def test_nobody_waits_for_a_fallback_that_hangs_and_its_late_write_is_no_second_one() -> None:
    async def test() -> None:
        behind = Gated()
        primary, fallback = MemoryStorageBackend(), SessionStore(behind)
        adapter = StorageAdapter(primary, fallback, journal=MemoryRecordStore(), mirror_timeout=0.05)
        await adapter.create_session("s", "u")
        await caught_up(adapter)
        behind.gate.clear()
        await adapter.add_conversation_message("s", "user", "1")
        assert await told(primary) == ["1"]
        assert behind.arrived.is_set()
        assert (await adapter.settle()) == 1  # not while the write may still arrive
        behind.gate.set()
        await caught_up(adapter)
        assert await told(fallback) == ["1"]

    run(test)


def test_the_fallback_is_closed_whatever_the_primary_says() -> None:
    closed: list[str] = []

    class Store(MemoryRecordStore):
        def __init__(self, name: str, error: Exception | None = None) -> None:
            super().__init__()
            self.called, self.error = name, error

        async def close(self) -> None:
            closed.append(self.called)
            if self.error is not None:
                raise self.error

    async def test() -> None:
        gone = SessionStore(Store("primary", StorageUnavailableError("gone")))
        with pytest.raises(StorageUnavailableError):
            await StorageAdapter(gone, SessionStore(Store("fallback"))).close()
        assert closed == ["primary", "fallback"]

    run(test)
