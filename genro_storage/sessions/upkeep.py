"""What has ended goes: sweeping in slices, in any number of processes, without touching what is in use."""

from __future__ import annotations

import asyncio
import math

from msgspec import Struct

from ..exceptions import VersionConflictError
from ..records.base import Change, Delete, Put, Record
from .drafts import disown_old
from .keys import ACTIVE, EXPIRY, GARBAGE, HOT, META, SWEEP, THREADS, number, quoted, timed
from .lifecycle import in_turns
from .listing import Listing
from .models import hot_of
from .options import MICRO
from .threads import Threads

SLICE = 500
LEASE = 600_000_000
"""µs for which one sweeper keeps the others away, should it die."""


class SweepReport(Struct):
    """What a sweep removed: sessions and threads past their time, remains of deleted ones, records of the store."""

    sessions: int = 0
    threads: int = 0
    remains: int = 0
    records: int = 0


class Upkeep(Listing, Threads):
    """Expiry and cleaning."""

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """Deletes sessions idle for longer or past their time to live, with all they have; returns how many.

        May run in any number of processes at once; a session that is used meanwhile stays.
        """
        if not isinstance(max_idle_hours, int | float) or isinstance(max_idle_hours, bool):
            raise TypeError(f"max_idle_hours is a number of hours, not {max_idle_hours!r}")
        if not math.isfinite(max_idle_hours) or max_idle_hours <= 0:
            raise ValueError(f"max_idle_hours takes hours above 0, not {max_idle_hours!r}")
        since = self.records.clock() - round(max_idle_hours * 3600 * MICRO)
        return await self._swept(EXPIRY, self.records.clock()) + await self._swept(ACTIVE, since)

    async def sweep(self) -> SweepReport:
        """Removes what has expired and finishes what deletions left; safe at any time."""
        report = SweepReport(sessions=await self._swept(EXPIRY, self.records.clock()))
        report.threads = await self._swept_threads(self.records.clock())
        await disown_old(self.records)
        after = ""
        while entries := await self.records.scan(GARBAGE, after=after, limit=SLICE):
            report.remains += sum(await in_turns(self.collect(entry.data) for entry in entries))
            after = entries[-1].key
        while removed := await self.records.sweep(SLICE):
            report.records += removed
            await asyncio.sleep(0)
        return report

    async def sweep_alone(self) -> SweepReport | None:
        """As `sweep`, unless another process does so now: then None."""
        lease = Put(META, SWEEP, b"", expect=0, expires_at=self.records.clock() + LEASE)
        try:
            (version,) = await self.records.commit([lease])
        except VersionConflictError:
            return None
        try:
            return await self.sweep()
        finally:
            await self._filed([Delete(META, SWEEP, expect=version)])

    async def _swept_threads(self, now: int) -> int:
        removed, after = 0, ""
        while entries := await self.records.scan(THREADS, after=after, until=number(now + 1), limit=SLICE):
            after = entries[-1].key
            removed += sum(await in_turns(map(self._judged_thread, entries)))
        return removed

    async def _judged_thread(self, entry: Record) -> int:
        """As `_judged`, for a thread."""
        name = entry.data.decode()
        state = await self.thread(name)
        due = None if state is None else self.thread_expiry(state.bump)
        gone = await self.bury_thread(name) if state is None else 0
        await self._moved(entry, due, name)
        return int(gone)

    async def _swept(self, space: str, until: int) -> int:
        """Removes the sessions whose entry in a time index is due and true; re-files the others."""
        removed, after = 0, ""
        while entries := await self.records.scan(space, after=after, until=number(until + 1), limit=SLICE):
            after = entries[-1].key
            keys = [quoted(entry.data.decode()) for entry in entries]
            hots = await self.records.get_many([(HOT, key) for key in keys])
            met = zip(entries, hots, strict=True)
            removed += sum(await in_turns(self._judged(space, until, entry, found) for entry, found in met))
        return removed

    async def _judged(self, space: str, until: int, entry: Record, found: Record | None) -> int:
        """1 if the session of this entry was removed, else 0; the entry goes, or moves to where it belongs."""
        session_id = entry.data.decode()
        hot = None if found is None else hot_of(found.data)
        if hot is None or (space == ACTIVE and hot.last_activity <= until):
            gone = await self._removed(session_id, idle_since=until)
            if gone:
                self.meter.count("genro_sessions_expired_total")
            if gone or hot is None:  # else it was used meanwhile: the entry is still a lower bound
                await self._moved(entry, None, session_id)
            return int(gone)
        await self._moved(entry, hot.last_activity if space == ACTIVE else hot.expires_at, session_id)
        return 0

    async def _moved(self, entry: Record, due: int | None, name: str) -> None:
        """Files an entry of a time index where it belongs; None: nowhere."""
        changes: list[Change] = [Delete(entry.space, entry.key, expect=entry.version)]
        if due is not None:
            if timed(due, name) == entry.key:  # the clock went back since it was due
                return
            changes.append(Put(entry.space, timed(due, name), entry.data))
        await self._filed(changes)

    async def _filed(self, changes: list[Change]) -> None:
        try:
            await self.records.commit(changes)
        except VersionConflictError:
            pass  # another sweeper was here
