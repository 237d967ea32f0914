"""Cases of record stores: expiry, event loops and threads, cancellation."""

from __future__ import annotations

import asyncio

from ..records.base import Check, Put, Record, RecordStore
from .record_words import FakeClock, RecordCases, at_once


class LifeCases(RecordCases):
    """How records end, and who may call from where."""

    # --- expiry ---

    def test_expiry(self, store: RecordStore, space: str, clock: FakeClock) -> None:
        moment = clock() + 10_000_000
        (version,) = store.sync.commit([Put(space, "k", b"1", expires_at=moment)])
        assert store.sync.get(space, "k") == Record(space, "k", b"1", version, moment)
        clock.advance(9.999999)
        assert store.sync.get(space, "k") is not None
        clock.advance(0.000001)
        assert store.sync.get(space, "k") is None
        assert store.sync.get_many([(space, "k")]) == [None]
        assert store.sync.scan(space) == []
        self.conflicts(store, [Check(space, "k", expect=version)], 0, 0)
        (later,) = store.sync.commit([Put(space, "k", b"2", expect=0)])
        assert later != version
        assert store.sync.get(space, "k") == Record(space, "k", b"2", later, None)

    def test_expiry_is_moved_and_taken_away(self, store: RecordStore, space: str, clock: FakeClock) -> None:
        store.sync.commit([Put(space, key, b"", expires_at=clock() + 1_000_000) for key in ("gone", "later", "ever")])
        store.sync.commit([Put(space, "later", b"", expires_at=clock() + 60_000_000), Put(space, "ever", b"")])
        clock.advance(2)
        assert [record.key for record in store.sync.scan(space)] == ["ever", "later"]
        store.sync.sweep()
        assert [record.key for record in store.sync.scan(space)] == ["ever", "later"]
        clock.advance(60)
        assert [record.key for record in store.sync.scan(space)] == ["ever"]

    def test_limits_do_not_count_the_expired(self, store: RecordStore, space: str, clock: FakeClock) -> None:
        soon = clock() + 1_000_000
        store.sync.commit([Put(space, f"{n:03}", b"", expires_at=soon if n % 3 else None) for n in range(300)])
        clock.advance(2)
        keys = [f"{n:03}" for n in range(0, 300, 3)]
        assert [record.key for record in store.sync.scan(space, limit=40)] == keys[:40]
        assert [record.key for record in store.sync.scan(space, limit=40, reverse=True)] == keys[:-41:-1]
        while store.sync.sweep(limit=50):
            pass
        assert [record.key for record in store.sync.scan(space)] == keys

    # --- loops, threads, cancellation ---

    def test_from_any_loop(self, store: RecordStore, space: str) -> None:
        """Loops that come and go, several at once, and the blocking face under a running loop."""

        async def use(number: int) -> list[Record]:
            await store.commit([Put(space, f"{number}", b"")])
            assert store.sync.get(space, f"{number}") is not None
            return await store.scan(space, after=f"{number}", limit=0)

        for number in range(3):
            asyncio.run(use(number))
        at_once(lambda number: asyncio.run(use(10 + number)), 4)
        assert len(store.sync.scan(space)) == 7

    def test_many_at_once_in_one_loop(self, store: RecordStore, space: str) -> None:
        async def burst() -> list[list[int]]:
            return await asyncio.gather(*(store.commit([Put(space, f"{n:04}", b"%d" % n)]) for n in range(500)))

        versions = [version for (version,) in asyncio.run(burst())]
        assert [record.version for record in store.sync.scan(space)] == versions
        assert len(set(versions)) == 500

    def test_a_cancelled_commit_is_whole(self, store: RecordStore, space: str) -> None:
        """Cancelled at many moments: when CancelledError comes out, the outcome is final, all or nothing."""

        async def cancelled(number: int, steps: int) -> tuple[int, int]:
            changes = [Put(f"{space}/{number}", f"{n}", b"") for n in range(20)]
            task = asyncio.ensure_future(store.commit(changes))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            count = len(await store.scan(f"{space}/{number}"))
            await asyncio.sleep(0.01)
            return count, len(await store.scan(f"{space}/{number}"))

        for number in range(20):
            then, later = asyncio.run(cancelled(number, number))
            assert then == later
            assert then in (0, 20)

    def test_close_and_open(self, store: RecordStore, space: str) -> None:
        store.sync.initialize()
        store.sync.initialize()
        assert store.sync.ping() < 5
        store.sync.close()
        store.sync.close()
        store.sync.commit([Put(space, "k", b"again")])
        assert store.sync.ping(10) < 10
