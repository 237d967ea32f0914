"""Threads of work: what checkpoints hang under, written by every put so that nothing is collected behind its back."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ..exceptions import (
    CommitOutcomeUnknownError,
    SessionConflictError,
    StorageConflictError,
    StorageError,
    VersionConflictError,
)
from ..records.base import Change, Check, Delete, Put, Record, RecordStore
from .drafts import Draft, copied
from .garbage import THREAD as OF_THREAD
from .garbage import left
from .keys import BUMP, THREAD, THREADS, incarnation, judged_id, quoted, timed
from .lanes import TRIES, pause
from .listing import Page
from .models import pack, reader, shown_time
from .options import MICRO, SessionOptions, micros
from .shared import Shared, judged_limit

_REMEMBERED = 10_000
PATIENCE = 3
"""Conflicts after which a change asks the others to wait."""
HOLD, LONGEST_HOLD = 2.0, 10.0
"""Seconds for which they do, more with each try; who died while holding keeps nobody for longer."""


class Thread(Struct, frozen=True, array_like=True):
    """What of a thread never changes."""

    thread_id: str
    inc: str
    created_at: int


class Bump(Struct, frozen=True, array_like=True):
    """What every put changes; the record expires with the thread. `highest`: the greatest id of each namespace.

    `held`: until then (µs) somebody whose change takes long asks all others to wait with theirs.
    """

    inc: str
    last_put: int
    last_seq: int = 0
    highest: dict[str, str] = {}
    held: int = 0


class Done(NamedTuple):
    """A committed put: the thread as it is now, and the version of each record written."""

    state: ThreadState
    versions: dict[tuple[str, str], int]


class ThreadState(NamedTuple):
    """A thread as it is stored; `version` of its bump, `born` that of its own record, 0 before the first commit."""

    thread: Thread
    bump: Bump
    version: int
    born: int = 0


Planned = tuple[Bump, Sequence[Change]]
Plan = Callable[[ThreadState, bool], Awaitable[Planned | None]]
"""What a put makes of a thread; told whether an earlier try met a conflict. None: nothing is to be done."""


def values_of(state: ThreadState) -> str:
    """By which the lonely values of a thread are remembered."""
    return f"{state.thread.inc}/{state.thread.thread_id}"


thread_of = reader(Thread)
_bump_of = reader(Bump)


class Threads(Shared):
    """Threads and what all kinds of checkpoints share."""

    def __init__(self, records: RecordStore, options: SessionOptions) -> None:
        super().__init__(records, options)
        self._known: OrderedDict[str, ThreadState] = OrderedDict()
        self._known_lock = threading.Lock()

    async def delete_thread(self, thread_id: str) -> bool:
        """Removes a thread with all its checkpoints and writes; False when there is none."""
        key = quoted(thread_id)
        doubtful: set[str] = set()
        for attempt in range(TRIES):
            state = await self.thread(thread_id)
            if doubtful and (state is None or state.thread.inc not in doubtful):
                return True  # the answer was lost, the deletion was not; a sweep finishes it
            if state is None:
                return False
            gone = [Delete(THREAD, key), Delete(BUMP, key, expect=state.version), left(state.thread.inc, OF_THREAD)]
            try:
                await self.records.commit(gone)
            except (VersionConflictError, CommitOutcomeUnknownError) as error:
                if isinstance(error, CommitOutcomeUnknownError):
                    doubtful.add(state.thread.inc)
                await pause(attempt)
                continue
            self._forget(thread_id)
            await self._collected(state.thread.inc, OF_THREAD)
            return True
        raise _restless(thread_id)

    async def list_threads(self, limit: int | None = 100, after: str | None = None) -> Page:
        """Threads in the order of their ids: ``{thread_id, created_at, last_put}``.

        Args:
            after: the `.next` of the page before.
        """
        judged_limit(limit)
        page, cursor = Page(), after or ""
        while limit is None or len(page) < limit:
            entries = await self.records.scan(THREAD, after=cursor, limit=100)
            for entry, state in zip(entries, await self.states(entries), strict=True):
                cursor = entry.key
                if state is not None:
                    page.append(shown_thread(state))
                    if len(page) == limit:
                        page.next = cursor
                        return page
            if len(entries) < 100:
                return page
        page.next = cursor
        return page

    async def copy_thread(self, source: str, target: str) -> bool:
        """Copies a thread with all its checkpoints and writes; False when there is none.

        The copy appears in one step, as the source was at that moment.

        Raises:
            SessionConflictError: the target is there already.
        """
        judged_id(source, "source")
        judged_id(target, "target")
        mine: set[str] = set()
        conflicts = 0
        for attempt in range(TRIES):
            there = await self.thread(target)
            if there is not None and there.thread.inc in mine:  # the answer was lost, the copy was not
                return True
            state = await (self.thread(source) if there is not None else self._turn(source, conflicts))
            if state is None:
                return False
            if there is not None:
                raise SessionConflictError(f"the thread {target!r} is there already", operation="copy")
            made, born, old = await self._new(target)
            draft = Draft(self.records, OF_THREAD, made.thread.inc)
            mine.add(draft.name)
            try:
                await self._copied(state, made, born, draft)
            except asyncio.CancelledError:
                await self._let_go(state)
                raise
            except StorageError as error:
                conflicts += isinstance(error, VersionConflictError)
                await self.given_up(draft)
                await self._let_go(state)
                if not isinstance(error, VersionConflictError | CommitOutcomeUnknownError):
                    raise
                await pause(attempt)
            else:
                if old:
                    await self._collected(old, OF_THREAD)
                return True
        raise _restless(source)

    async def _copied(self, state: ThreadState, made: ThreadState, born: Sequence[Change], draft: Draft) -> None:
        """Under an incarnation that nobody knows, the copy is invisible until its thread is made."""
        await copied(self.records, state.thread.inc, draft)
        await self.index_runs(made.thread, draft)
        bump, key = replace(state.bump, inc=made.thread.inc, held=0), quoted(made.thread.thread_id)
        whole = Put(BUMP, key, pack(bump), expect=0, expires_at=self.thread_expiry(bump))
        await self.records.commit([whole, *born, self._unchanged(state), *draft.finished()])

    def _unchanged(self, state: ThreadState) -> Change:
        """Asserts that nothing was put since, and lets go of a thread that is held."""
        key = quoted(state.thread.thread_id)
        if not state.bump.held:
            return Check(BUMP, key, expect=state.version)
        free = replace(state.bump, held=0)
        return Put(BUMP, key, pack(free), expect=state.version, expires_at=self.thread_expiry(free))

    async def index_runs(self, thread: Thread, draft: Draft) -> None:
        """Files what was copied into a new thread where the store's own indexes look for it."""

    def thread_expiry(self, bump: Bump) -> int | None:
        """When a thread ends by itself, µs."""
        ttl = micros(self.options.checkpoint_ttl)
        return None if ttl is None else bump.last_put + ttl

    async def bury_thread(self, thread_id: str) -> bool:
        """Removes what is left of a thread whose time has run out; False where nothing is, or it lives."""
        key = quoted(thread_id)
        record = await self.records.get(THREAD, key)
        if record is None:
            return False
        inc = thread_of(record.data).inc
        gone: list[Change] = [Delete(THREAD, key, expect=record.version), Check(BUMP, key, expect=0)]
        gone.append(left(inc, OF_THREAD))
        try:
            await self.records.commit(gone)
        except VersionConflictError:
            return False
        await self._collected(inc, OF_THREAD)
        return True

    # --- how ---

    async def thread(self, thread_id: str) -> ThreadState | None:
        """The thread as it is stored now; None where there is none, or no more."""
        key = quoted(thread_id)
        record, bump = await self.records.get_many([(THREAD, key), (BUMP, key)])
        return None if record is None else state_of(record, bump)

    async def states(self, entries: Sequence[Record]) -> list[ThreadState | None]:
        """The threads of these records as they are now; None for what is no more."""
        bumps = await self.records.get_many([(BUMP, entry.key) for entry in entries]) if entries else []
        return [state_of(entry, bump) for entry, bump in zip(entries, bumps, strict=True)]

    async def put_in_thread(self, thread_id: str, plan: Plan, *, create: bool = True) -> Done | None:
        """Commits what `plan` makes of a thread, which is made if it is missing; again after a conflict.

        What is planned must be safe to do twice: after a lost answer it is. None where nothing was to be done.
        """
        conflicts = 0
        for attempt in range(TRIES):
            state = None if attempt else self._remembered(thread_id)
            state = state or await self._turn(thread_id, conflicts)
            if state is None and not create:
                return None
            state, born, old = (state, [], "") if state else await self._new(thread_id)
            try:
                done = await self._put(state, born, plan, attempt > 0)
            except (VersionConflictError, CommitOutcomeUnknownError) as error:
                conflicts += isinstance(error, VersionConflictError)
                self._forget(thread_id)
                await self._let_go(state)
                await pause(attempt)
                continue
            except (Exception, asyncio.CancelledError):
                await self._let_go(state)
                raise
            if done is None:
                await self._let_go(state)
            elif old:
                await self._collected(old, OF_THREAD)
            return done
        raise _restless(thread_id)

    async def _put(self, state: ThreadState, born: Sequence[Change], plan: Plan, conflicted: bool) -> Done | None:
        planned = await plan(state, conflicted)
        if planned is None:
            return None
        thread_id = state.thread.thread_id
        now = max(self.records.clock(), state.bump.last_put)
        bump = replace(planned[0], last_put=now, held=0)
        put = Put(BUMP, quoted(thread_id), pack(bump), expect=state.version, expires_at=self.thread_expiry(bump))
        changes = [put, *born, *planned[1]]
        versions = await self.records.commit(changes)
        told = {(one.space, one.key): at for one, at in zip(changes, versions, strict=True)}
        state = ThreadState(state.thread, bump, versions[0], told.get((THREAD, quoted(thread_id)), state.born))
        self._remember(thread_id, state)
        return Done(state, told)

    # --- turns: what takes long would meet a put at each try ---

    async def _turn(self, thread_id: str, conflicts: int) -> ThreadState | None:
        """The thread as it is stored, once nobody holds it; after some conflicts held by the caller."""
        end = time.monotonic() + LONGEST_HOLD
        while True:
            state = await self.thread(thread_id)
            if state is None or time.monotonic() >= end:
                return state
            if state.bump.held > self.records.clock():
                await asyncio.sleep(random.uniform(0.002, 0.02))
            elif conflicts < PATIENCE:
                return state
            else:
                try:
                    return await self._hold(state, min(LONGEST_HOLD, HOLD * (conflicts - PATIENCE + 1)))
                except VersionConflictError:
                    await pause(1)
                except CommitOutcomeUnknownError:  # the next commit tells
                    return state

    async def _hold(self, state: ThreadState, seconds: float) -> ThreadState:
        """Whoever remembers the thread meets a conflict, looks, and waits; the others only look."""
        bump = replace(state.bump, held=self.records.clock() + round(seconds * MICRO))
        key, until = quoted(state.thread.thread_id), self.thread_expiry(bump)
        (version,) = await self.records.commit([Put(BUMP, key, pack(bump), expect=state.version, expires_at=until)])
        return state._replace(bump=bump, version=version)

    async def _let_go(self, state: ThreadState) -> None:
        """Whoever waits may go on; a hold that cannot be taken back lapses."""
        if state.bump.held:
            with suppress(StorageError):
                await self.records.commit([self._unchanged(state)])

    async def _new(self, thread_id: str) -> tuple[ThreadState, list[Change], str]:
        """A thread to be made, the changes that make it, and the incarnation of an expired one in its place."""
        thread = Thread(thread_id, incarnation(), self.records.clock())
        born, old = await self._births(thread, thread.created_at)
        return ThreadState(thread, Bump(thread.inc, thread.created_at), 0), born, old

    async def _births(self, thread: Thread, last_put: int) -> tuple[list[Change], str]:
        key = quoted(thread.thread_id)
        record = await self.records.get(THREAD, key)
        expect, old = (0, "") if record is None else (record.version, thread_of(record.data).inc)
        born: list[Change] = [Put(THREAD, key, pack(thread), expect=expect)]
        if old:
            born.append(left(old, OF_THREAD))
        if self.options.checkpoint_ttl is not None:
            self.watch()
            born.append(Put(THREADS, timed(last_put, thread.thread_id), thread.thread_id.encode()))
        return born, old

    async def adoption(self, thread: Thread, bump: Bump) -> list[Change]:
        """The changes that make a thread of another store one of this, with what it keeps of its own time."""
        whole = Put(BUMP, quoted(thread.thread_id), pack(bump), expect=0, expires_at=self.thread_expiry(bump))
        born, _ = await self._births(thread, bump.last_put)
        return [whole, *born]

    def _remembered(self, thread_id: str) -> ThreadState | None:
        with self._known_lock:
            state = self._known.get(thread_id)
        until = None if state is None else self.thread_expiry(state.bump)
        return None if until is not None and until <= self.records.clock() else state

    def _remember(self, thread_id: str, state: ThreadState) -> None:
        with self._known_lock:
            self._known[thread_id] = state
            self._known.move_to_end(thread_id)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _forget(self, thread_id: str) -> None:
        with self._known_lock:
            self._known.pop(thread_id, None)


def state_of(record: Record, bump: Record | None) -> ThreadState | None:
    """The thread of these records; None where it is no more."""
    if bump is None:
        return None
    state = ThreadState(thread_of(record.data), _bump_of(bump.data), bump.version, record.version)
    return state if state.thread.inc == state.bump.inc else None


def shown_thread(state: ThreadState) -> dict[str, Any]:
    """What `list_threads` tells of one."""
    return {
        "thread_id": state.thread.thread_id,
        "created_at": shown_time(state.thread.created_at),
        "last_put": shown_time(state.bump.last_put),
    }


def _restless(thread_id: str) -> StorageConflictError:
    return StorageConflictError(f"the thread {thread_id!r} changed {TRIES} times in a row", operation="put")
