"""Changes to one session: those of one event loop travel together, one commit at a time, each exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .._bridge import Outcome
from ..exceptions import CommitOutcomeUnknownError, StorageConflictError, StorageCorruptedError, VersionConflictError
from ..records.base import MAX_CHANGES, Change, Delete, Put, RecordStore
from .keys import COLD, HOT, messages, number, quoted
from .models import Cold, Hot, cold_of, hot_of, pack

WRITERS = 32
TRIES = 200
"""Commits of others that may come first, one after the other, before a change gives up."""
LOOKS = 8
"""Readings of a session that may each fall between an end and a beginning before it counts as damaged."""
BATCH, BATCH_BYTES = 400, 32 << 20
"""Messages, and bytes of them, in one commit; a store takes 1,000 changes and 128 MiB."""
REMEMBERED = 10_000
"""Sessions of which a loop remembers the hot record, so that a change is one round trip."""


class Delta(Struct, frozen=True):
    """What a use adds to a session; deltas add up."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    messages: tuple[bytes, ...] = ()


class State(NamedTuple):
    """A session as it is stored: its two records and their versions."""

    cold: Cold
    cold_version: int
    hot: Hot
    hot_version: int


class Edited(NamedTuple):
    """What an edit makes of a state: the new hot record (None: no more), changes beside it, the caller's result."""

    hot: Hot | None
    changes: Sequence[Change]
    result: Any


Edit: TypeAlias = Callable[[State, int], Edited | None]
"""Judges a state at a time (µs); None: nothing is to change. Called again when the state changed meanwhile."""


class _Known(Struct, frozen=True, gc=False):
    """Of thousands of sessions: the garbage collector, which stops everything meanwhile, need not look at them."""

    hot: Hot
    version: int


class _Wish(NamedTuple):
    what: Delta | Edit
    answer: Outcome[Any]


class _Plan(NamedTuple):
    changes: list[Change]
    hot: Hot | None
    results: list[Any]


class Lanes:
    """All lanes of one process over one record store; callable from any event loop and thread."""

    def __init__(
        self, records: RecordStore, clock: Callable[[], int], *, conversation_limit: int | None = None
    ) -> None:
        self.records = records
        self.clock = clock
        self.conversation_limit = conversation_limit
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = weakref.WeakKeyDictionary()
        self._latest: _OfLoop | None = None
        self._lock = threading.Lock()

    def add(self, session_id: str, delta: Delta) -> Coroutine[Any, Any, int | None]:
        """Adds to a session; the number of the first of its messages (of any: of the next), None: no session."""
        return self._lane(session_id).ask(delta)

    def edit(self, session_id: str, edit: Edit) -> Coroutine[Any, Any, Any]:
        """Changes a session by a function of its state; its result, None where there is no session."""
        return self._lane(session_id).ask(edit)

    def remember(self, session_id: str, hot: Hot, version: int) -> None:
        """Tells what was just stored by other means."""
        self._lane(session_id).known = _Known(hot, version)

    def forget(self, session_id: str) -> None:
        """Tells that a session is gone, so that those that live are remembered longer."""
        self._here().forget(session_id)

    def _lane(self, session_id: str) -> _Lane:
        return self._here().lane(self, session_id)

    def _here(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        of_loop = self._latest
        if of_loop is None or of_loop.loop() is not loop or of_loop.pid != os.getpid():
            with self._lock:
                of_loop = self._loops.get(loop)
                if of_loop is None or of_loop.pid != os.getpid():
                    of_loop = self._loops[loop] = _OfLoop(loop)
            self._latest = of_loop
        return of_loop


class _OfLoop:
    """The lanes of one event loop, and the name under which its commits are known."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self.pid = os.getpid()
        self.writer = os.urandom(6).hex()
        self.numbers = count(1)
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()

    def lane(self, lanes: Lanes, session_id: str) -> _Lane:
        lane = self._lanes.get(session_id)
        if lane is None:
            lane = self._lanes[session_id] = _Lane(lanes, self, session_id)
            self._forget_idle()
        else:
            self._lanes.move_to_end(session_id)
        return lane

    def forget(self, session_id: str) -> None:
        lane = self._lanes.get(session_id)
        if lane is not None and not lane.busy:
            del self._lanes[session_id]

    def _forget_idle(self) -> None:
        while len(self._lanes) > REMEMBERED:
            oldest = next(iter(self._lanes.values()))
            if oldest.busy:  # it is at work: more than we want to remember for a while
                return
            self._lanes.popitem(last=False)


class _Lane:
    """The changes of one loop to one session, in order."""

    __slots__ = ("_driver", "_key", "_lanes", "_of_loop", "_waiting", "busy", "known")

    def __init__(self, lanes: Lanes, of_loop: _OfLoop, session_id: str) -> None:
        self._lanes = lanes
        self._of_loop = of_loop
        self._key = quoted(session_id)
        self._waiting: deque[_Wish] | None = None  # most lanes never see two at once
        self.known: _Known | None = None
        self.busy = False
        self._driver: asyncio.Task[None] | None = None  # kept: a loop forgets tasks that nobody holds

    async def ask(self, what: Delta | Edit) -> Any:
        """Waits for the commit that carries `what`; a cancelled caller still waits for its outcome."""
        if self.busy:
            return await self._queued(what)
        self.busy = True  # alone: without a task in between
        try:
            (result,) = await self._committed([what])
        except BaseException:
            self.known = None
            raise
        finally:
            self.busy = False
            if self._waiting:
                self._start()
        return result

    async def _queued(self, what: Delta | Edit) -> Any:
        wish = _Wish(what, Outcome(loop=asyncio.get_running_loop()))
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(wish)
        return await wish.answer

    def _start(self) -> None:
        self.busy = True
        self._driver = asyncio.get_running_loop().create_task(self._drive())
        self._driver.add_done_callback(self._driven)

    async def _drive(self) -> None:
        while self._waiting:
            await self._carry(_together(self._waiting))

    def _driven(self, driver: asyncio.Task[None]) -> None:
        # Not in the task itself: cancelled before its first step, it would never tell.
        self.busy = False
        if driver.cancelled() or driver.exception() is not None:  # the loop goes down
            while self._waiting:
                self._waiting.popleft().answer.end()
        elif self._waiting:
            self._start()

    async def _carry(self, batch: list[_Wish]) -> None:
        try:
            results = await self._committed([wish.what for wish in batch])
        except BaseException as error:
            for wish in batch:
                if not wish.answer.done():
                    wish.answer.set_exception(error)
                    wish.answer.exception()  # a caller that was cancelled does not ask for it
            if not isinstance(error, Exception):
                raise
            return
        for wish, result in zip(batch, results, strict=True):
            if not wish.answer.done():
                wish.answer.set_result(result)

    async def _committed(self, wishes: list[Delta | Edit]) -> list[Any]:
        """Stores the wishes in one commit, again after a conflict, never twice after a lost answer."""
        number_of_commit = next(self._of_loop.numbers)
        doubtful: _Plan | None = None
        lost: CommitOutcomeUnknownError | None = None
        for attempt in range(TRIES):
            state = self._remembered(wishes[0]) or await self._state(wishes, lost)
            if doubtful is not None and _applied(state, doubtful, self._of_loop.writer, number_of_commit):
                return doubtful.results
            if state is None:
                return [None] * len(wishes)
            plan = self._plan(wishes, state, number_of_commit)
            if not plan.changes:
                return plan.results
            try:
                versions = await self._lanes.records.commit(plan.changes)
            except VersionConflictError:
                self.known = None
                await pause(attempt)
            except CommitOutcomeUnknownError as error:
                self.known, doubtful, lost = None, plan, error
                await pause(attempt)
            else:
                self.known = None if plan.hot is None else _Known(plan.hot, versions[0])
                return plan.results
        raise lost or StorageConflictError(f"session changed by others {TRIES} times in a row", operation="update")

    def _remembered(self, wish: Delta | Edit) -> _Known | None:
        """The hot record as it was last stored from here: enough to add to it."""
        known = self.known
        if known is None or not isinstance(wish, Delta):
            return None
        ends = known.hot.expires_at
        return known if ends is None or ends > self._lanes.clock() else None

    async def _state(self, wishes: list[Delta | Edit], lost: CommitOutcomeUnknownError | None) -> State | _Known | None:
        """What is stored now, as far as the wishes need it; None: no session, or no more."""
        records = self._lanes.records
        try:
            if isinstance(wishes[0], Delta):
                record = await records.get(HOT, self._key)
                return None if record is None else _Known(hot_of(record.data), record.version)
            return await read_state(records, self._key)
        except Exception as error:
            if lost is not None:  # nobody can tell what became of the commit
                raise lost from error
            raise

    def _plan(self, wishes: list[Delta | Edit], state: State | _Known, number_of_commit: int) -> _Plan:
        now = max(self._lanes.clock(), state.hot.last_activity)
        version = state.version if isinstance(state, _Known) else state.hot_version
        if isinstance(state, State):
            edit = wishes[0]
            assert not isinstance(edit, Delta)
            edited = edit(state, now)
            if edited is None:
                return _Plan([], state.hot, [None])
            changes, hot, results = list(edited.changes), edited.hot, [edited.result]
            if hot is None:
                return _Plan([Delete(HOT, self._key, expect=version), *changes], None, results)
            hot = replace(hot, writers=self._signed(hot.writers, number_of_commit))
        else:
            changes, hot, results = self._added(wishes, state.hot, now, number_of_commit)
        put = Put(HOT, self._key, pack(hot), expect=version, expires_at=hot.expires_at)
        return _Plan([put, *changes], hot, results)

    def _added(
        self, wishes: Sequence[Any], hot: Hot, now: int, number_of_commit: int
    ) -> tuple[list[Change], Hot, list[Any]]:
        space, seq, results = messages(hot.inc), hot.last_seq, []
        new: list[bytes] = []
        requests, errors, seconds = hot.request_count, hot.error_count, hot.total_processing_time
        for delta in wishes:
            results.append(seq + len(new) + 1)
            new += delta.messages
            requests, errors, seconds = requests + delta.requests, errors + delta.errors, seconds + delta.seconds
        first = self._first_kept(hot, len(new))
        changes: list[Change] = [
            Put(space, number(at), message, expect=0) for at, message in enumerate(new, seq + 1) if at >= first
        ]
        if first > hot.first_seq:
            changes += [Delete(space, number(gone)) for gone in range(hot.first_seq, min(first, seq + 1))]
        used = replace(
            hot,
            last_activity=now,
            first_seq=first,
            last_seq=seq + len(new),
            request_count=requests,
            error_count=errors,
            total_processing_time=seconds,
            writers=self._signed(hot.writers, number_of_commit),
        )
        return changes, used, results

    def _first_kept(self, hot: Hot, new: int) -> int:
        """The number of the oldest message that stays; a commit can remove only so many."""
        limit = self._lanes.conversation_limit
        if limit is None:
            return hot.first_seq
        first = max(hot.first_seq, hot.last_seq + new - limit + 1)
        most = MAX_CHANGES - 1 - new
        return first if min(first, hot.last_seq + 1) - hot.first_seq <= most else hot.first_seq + most

    def _signed(self, writers: dict[str, int], number_of_commit: int) -> dict[str, int]:
        """Who wrote last comes last; the longest silent of many is forgotten."""
        signed = writers.copy()
        signed.pop(self._of_loop.writer, None)
        while len(signed) >= WRITERS:
            del signed[next(iter(signed))]
        signed[self._of_loop.writer] = number_of_commit
        return signed


def _together(waiting: deque[_Wish]) -> list[_Wish]:
    """What travels together: deltas that stand in a row, or one edit."""
    batch = [waiting.popleft()]
    first = batch[0].what
    if not isinstance(first, Delta):
        return batch
    carried, size = len(first.messages), sum(map(len, first.messages))
    while waiting and isinstance(delta := waiting[0].what, Delta):
        carried, size = carried + len(delta.messages), size + sum(map(len, delta.messages))
        if carried > BATCH or size > BATCH_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


async def read_state(records: RecordStore, key: str) -> State | None:
    """Both records of a session; None where there is none, or it has expired."""
    for attempt in range(LOOKS):
        cold, hot = await records.get_many([(COLD, key), (HOT, key)])
        if cold is None or hot is None:
            return None
        state = State(cold_of(cold.data), cold.version, hot_of(hot.data), hot.version)
        if state.cold.inc == state.hot.inc:  # else it was made anew between the two reads
            return state
        await pause(attempt)
    raise StorageCorruptedError(f"the two records of the session {key!r} do not belong together", operation="read")


def _applied(state: State | _Known | None, plan: _Plan, writer: str, number_of_commit: int) -> bool:
    """Whether a commit whose answer was lost was done after all."""
    if state is None:
        return plan.hot is None
    return state.hot.writers.get(writer) == number_of_commit


async def pause(attempt: int) -> None:
    """Waits a little before a change that met a conflict is tried again, longer each time."""
    if attempt:
        await asyncio.sleep(random.random() * min(0.05, 0.001 * 2**attempt))
