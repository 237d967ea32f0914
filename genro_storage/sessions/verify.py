"""Whether what a session store holds fits together: indexes against records, messages without gaps, links to values."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from ..exceptions import StorageCorruptedError, VersionConflictError
from ..records.base import Change, Check, Put, RecordStore
from .keys import ACTIVE, COLD, THREAD, blobs, by_status, by_user, messages, quoted, timed
from .lanes import State, read_state
from .pruning import Pruning
from .threads import ThreadState
from .upkeep import Upkeep

PAGE = 200
MOST_FAULTS = 1000


class VerifyReport(Struct):
    """What was looked at and what did not fit: at most 1,000 faults in words, all are counted."""

    sessions: int = 0
    threads: int = 0
    faulty: int = 0
    repaired: int = 0
    faults: list[str] = []

    @property
    def ok(self) -> bool:
        """Nothing is wrong, or nothing any more."""
        return self.faulty == self.repaired

    def fault(self, text: str, repaired: bool = False) -> None:
        self.faulty += 1
        self.repaired += repaired
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(text)


class Verifying(Upkeep, Pruning):
    """`verify`."""

    async def verify(self, repair: bool = False) -> VerifyReport:
        """Looks at every session and thread; `repair` files missing index entries and removes lonely values."""
        report = VerifyReport()
        after = ""
        while entries := await self.records.scan(COLD, after=after, limit=PAGE):
            for entry in entries:
                try:
                    state = await read_state(self.records, entry.key)
                    if state is not None:
                        report.sessions += 1
                        await self._verify_session(state, report, repair)
                except StorageCorruptedError as error:
                    report.fault(f"session {entry.key!r}: {error}")
            after = entries[-1].key
            await asyncio.sleep(0)
        after = ""
        while entries := await self.records.scan(THREAD, after=after, limit=PAGE):
            for entry in entries:
                try:
                    (thread,) = await self.states([entry])
                    if thread is not None:
                        report.threads += 1
                        await self._verify_thread(thread, report, repair)
                except StorageCorruptedError as error:
                    report.fault(f"thread {entry.key!r}: {error}")
            after = entries[-1].key
        return report

    async def _verify_session(self, state: State, report: VerifyReport, repair: bool) -> None:
        cold, hot = state.cold, state.hot
        at, name = timed(cold.created_at, cold.session_id), cold.session_id
        wanted = [(by_user(cold.user_id), at), (by_status(cold.status), at)]
        found = await self.records.get_many(wanted)
        missing: list[Change] = [Put(*one, b"") for one, there in zip(wanted, found, strict=True) if there is None]
        if missing:
            missing.append(Check(COLD, quoted(name), expect=state.cold_version))
            missing.append(Put(ACTIVE, at, name.encode()))
            done = repair and await _committed(self.records, missing)
            report.fault(f"session {name!r}: not found by its user or status", done)
        kept, after = 0, ""
        while page := await self.records.scan(messages(hot.inc), after=after, limit=PAGE):
            kept, after = kept + len(page), page[-1].key
        if kept != hot.last_seq - hot.first_seq + 1 and await _still(self.records, state):
            report.fault(f"session {name!r}: {kept} messages where {hot.first_seq} to {hot.last_seq} should be")

    async def _verify_thread(self, state: ThreadState, report: VerifyReport, repair: bool) -> None:
        name, space = state.thread.thread_id, blobs(state.thread.inc)
        live = await self.live(state)
        there: set[str] = set()
        after = ""
        while page := await self.records.scan(space, after=after, limit=PAGE):
            there |= {one.key for one in page}
            after = page[-1].key
        now = await self.thread(name)
        if now is None or now.version != state.version:  # somebody put or pruned meanwhile
            return
        if live - there:
            report.fault(f"thread {name!r}: {len(live - there)} values are missing")
        if there - live:
            done = repair and await self.drop_orphans(name) > 0
            report.fault(f"thread {name!r}: {len(there - live)} values belong to no checkpoint", done)


async def _still(records: RecordStore, state: State) -> bool:
    now = await read_state(records, quoted(state.cold.session_id))
    return now is not None and now.hot_version == state.hot_version


async def _committed(records: RecordStore, changes: list[Change]) -> bool:
    try:
        await records.commit(changes)
    except VersionConflictError:
        return False
    return True
