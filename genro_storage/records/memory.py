"""Records in this process: gone with it, alone in it, and the measure of what every other store must do."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from .base import Change, Check, Clock, Put, Record, RecordFeatures, RecordStore, conflict, now

BREATH = 0.005
"""Seconds after which other tasks get a turn: whoever awaits only what is there at once would give them none."""

NOTED = 1024
"""Times of expiry that are kept at least before those of records that were written again are sorted out."""


class MemoryRecordStore(RecordStore):
    """A dict and a sorted list of keys per space, under one lock. A forked child has a copy of its own."""

    name = "memory"
    features = RecordFeatures(snapshot_scan=True)
    outlasts = True  # it waits for nothing

    def __init__(self, *, clock: Clock = now) -> None:
        super().__init__(clock=clock)
        self._lock = threading.Lock()
        self._breathed = 0.0
        self._version = 0
        self._spaces: dict[str, _Space] = {}
        self._expiring: list[tuple[int, str, str, int]] = []
        self._most_noted = NOTED

    async def _breathe(self) -> None:
        if time.perf_counter() - self._breathed > BREATH:
            await asyncio.sleep(0)
            self._breathed = time.perf_counter()

    async def _get(self, space: str, key: str) -> Record | None:
        await self._breathe()
        with self._lock:
            return self._living(space, key)

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        await self._breathe()
        with self._lock:
            return [self._living(space, key) for space, key in keys]

    def _living(self, space: str, key: str) -> Record | None:
        held = self._spaces.get(space)
        record = held.records.get(key) if held is not None else None
        if record is None or (record.expires_at is not None and record.expires_at <= self.clock()):
            return None
        return record

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        await self._breathe()
        found: list[Record] = []
        with self._lock:
            held = self._spaces.get(space)
            if held is None:
                return found
            moment = self.clock()
            first = bisect_right(held.keys, after)  # code points order as their UTF-8 does
            end = len(held.keys) if until is None else bisect_left(held.keys, until)
            for place in range(end - 1, first - 1, -1) if reverse else range(first, end):
                record = held.records[held.keys[place]]
                if record.expires_at is None or record.expires_at > moment:
                    found.append(record)
                    if len(found) == limit:
                        break
        return found

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        await self._breathe()
        with self._lock:
            for index, change in enumerate(changes):
                if change.expect is not None:
                    record = self._living(change.space, change.key)
                    actual = record.version if record is not None else 0
                    if actual != change.expect:
                        raise conflict(changes, index, actual)
            return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> int:
        if type(change) is Check:
            return change.expect
        if type(change) is Put:
            self._version += 1
            record = Record(change.space, change.key, change.data, self._version, change.expires_at)
            self._spaces.setdefault(change.space, _Space()).put(record)
            if record.expires_at is not None:
                self._note_expiry(record.expires_at, record)
            return self._version
        self._remove(change.space, change.key)
        return 0

    def _note_expiry(self, at: int, record: Record) -> None:
        """For the sweep; of records that were written again since, no more is kept than of those that are there."""
        heapq.heappush(self._expiring, (at, record.space, record.key, record.version))
        if len(self._expiring) > self._most_noted:
            self._expiring = [one for one in self._expiring if self._is_there(*one[1:])]
            heapq.heapify(self._expiring)
            self._most_noted = max(NOTED, 2 * len(self._expiring))

    def _is_there(self, space: str, key: str, version: int) -> bool:
        held = self._spaces.get(space)
        return held is not None and key in held.records and held.records[key].version == version

    def _remove(self, space: str, key: str) -> None:
        held = self._spaces.get(space)
        if held is not None and held.remove(key) and not held.keys:
            del self._spaces[space]

    async def approximate_count(self) -> int:
        with self._lock:
            return sum(len(held.keys) for held in self._spaces.values())

    async def sweep(self, limit: int = 500) -> int:
        removed = 0
        with self._lock:
            moment = self.clock()
            while self._expiring and self._expiring[0][0] <= moment and removed < limit:
                _, space, key, version = heapq.heappop(self._expiring)
                if self._is_there(space, key, version):
                    self._remove(space, key)
                    removed += 1
        return removed


class _Space:
    """The records of one space, and their keys in order."""

    __slots__ = ("keys", "records")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.keys: list[str] = []

    def put(self, record: Record) -> None:
        if record.key not in self.records:
            insort(self.keys, record.key)
        self.records[record.key] = record

    def remove(self, key: str) -> bool:
        if self.records.pop(key, None) is None:
            return False
        del self.keys[bisect_left(self.keys, key)]
        return True
