"""Sessions from birth to end: created once, changed exactly, never brought back by accident."""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec.structs import replace

from ..exceptions import (
    CommitOutcomeUnknownError,
    SessionConflictError,
    StaleSessionError,
    StorageConflictError,
    VersionConflictError,
)
from ..records.base import Change, Check, Delete, Put
from . import codec
from .garbage import left
from .health import Health
from .keys import ACTIVE, COLD, EXPIRY, HOT, by_status, by_user, incarnation, judged_id, quoted, timed
from .lanes import TRIES, Delta, Edited, State, read_state
from .models import ACTIVE as OPEN
from .models import Cold, Hot, cold_of, pack, shown_session
from .options import is_duration, micros
from .shared import judged_metadata, judged_size

_UPDATES = ("status", "metadata")
_AT_ONCE = 32
STATUSES = 8
"""Different labels of a metric."""


class Lifecycle(Health):
    """`create get update end reopen delete` of one session, and of many."""

    async def create_session(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, *, ttl: float | None = None
    ) -> dict[str, Any]:
        """Makes a session and returns what `get_session` will; the same user's existing one comes back unchanged.

        Args:
            ttl: seconds after its last use at which it ends; None: as the store's `session_ttl` says.

        Raises:
            SessionConflictError: the id belongs to another user.
            RecordTooLargeError: metadata above `max_metadata` bytes.
        """
        state, _ = await self._made(*await self._judged_new(session_id, user_id, metadata, ttl))
        if state.cold.user_id != user_id:
            raise SessionConflictError(f"the session {session_id!r} belongs to another user", operation="create")
        return shown_session(state.cold, state.hot)

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """The session as a fresh dict; None when it is absent, deleted or expired."""
        state = await read_state(self.records, quoted(judged_id(session_id, "session_id")))
        return None if state is None else shown_session(state.cold, state.hot)

    async def update_session(
        self,
        session_id: str,
        updates: Mapping[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
        *,
        expected_version: int | None = None,
    ) -> bool:
        """Changes status or metadata and adds to the counters; False when there is no session, never a new one.

        Counters are exact under any concurrency. Without arguments it only marks the session as used.

        Args:
            updates: ``status``, and ``metadata``, merged one level; a None value removes its key.
            add_processing_time: seconds.
            expected_version: the `version` that the session must still have.

        Raises:
            StaleSessionError: it has another version, told by `.current`.
            SessionConflictError: `updates` would open an ended session; see `reopen_session`.
        """
        judged_id(session_id, "session_id")
        delta = Delta(int(bool(increment_requests)), int(bool(mark_error)), _judged_time(add_processing_time))
        wanted = _judged_updates(updates)
        if not wanted and expected_version is None:
            return await self.lanes.add(session_id, delta) is not None

        def edit(state: State, now: int) -> Edited:
            if expected_version is not None and state.cold.version != expected_version:
                raise _stale(session_id, expected_version, state.cold.version)
            cold = self._updated(state.cold, wanted, now)
            return _edited(state, cold, now, delta, True)

        return await self.lanes.edit(session_id, edit) is not None

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """Sets a final status and `ended_at`; the same status again changes nothing. False when there is no session."""
        judged_id(session_id, "session_id")
        if judged_status(status) == OPEN:
            raise ValueError(f"a session does not end as {OPEN!r}")

        def edit(state: State, now: int) -> Edited:
            cold = state.cold
            if cold.status != status or cold.ended_at is None:
                cold = replace(cold, status=status, ended_at=now, updated_at=now, version=cold.version + 1)
            return _edited(state, cold, now, Delta(), cold is not state.cold)

        ended = await self.lanes.edit(session_id, edit)
        if ended:
            self.meter.count("genro_sessions_ended_total", status=self._status_label(status))
        return ended is not None

    async def reopen_session(self, session_id: str) -> bool:
        """Makes an ended session active again; False when there is no session."""
        judged_id(session_id, "session_id")

        def edit(state: State, now: int) -> Edited:
            cold = state.cold
            if cold.ended_at is not None or cold.status != OPEN:
                cold = replace(cold, status=OPEN, ended_at=None, updated_at=now, version=cold.version + 1)
            return _edited(state, cold, now, Delta(), True)

        return await self.lanes.edit(session_id, edit) is not None

    async def delete_session(self, session_id: str) -> bool:
        """Removes a session with its messages and contexts; its id is free at once. False when there is no session."""
        return await self._removed(judged_id(session_id, "session_id"))

    # --- many ---

    async def batch_create_sessions(self, sessions: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Makes sessions from dicts ``{session_id, user_id, metadata?, ttl?}``: True created, False the id is taken.

        All are judged before any is made; each is whole, the batch is not.
        """
        judged = [await self._judged_new(**_judged_fields(session)) for session in sessions]
        return await in_turns((self._made(*one) for one in judged), lambda made: made[1])

    async def batch_get_sessions(self, session_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """As `get_session`, for each id."""
        for session_id in session_ids:
            judged_id(session_id, "session_id")
        return await in_turns(self.get_session(session_id) for session_id in session_ids)

    async def batch_end_sessions(self, session_ids: Sequence[str], status: str = "completed") -> list[bool]:
        """As `end_session`, for each id."""
        for session_id in session_ids:
            judged_id(session_id, "session_id")
        judged_status(status)
        return await in_turns(self.end_session(session_id, status) for session_id in session_ids)

    # --- how ---

    async def _judged_new(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, ttl: float | None = None
    ) -> tuple[str, str, bytes, int | None]:
        judged_id(session_id, "session_id")
        judged_id(user_id, "user_id")
        if ttl is not None and not is_duration(ttl):
            raise ValueError(f"ttl takes seconds above 0, at most 1000 years, not {ttl!r}")
        data = await self.encoded(judged_metadata(metadata), "metadata", self.options.max_metadata)
        return session_id, user_id, data, micros(self.options.session_ttl if ttl is None else ttl)

    async def _made(self, session_id: str, user_id: str, metadata: bytes, ttl: int | None) -> tuple[State, bool]:
        """The session of this id, and whether this call made it."""
        key, inc = quoted(session_id), incarnation()
        now = self.records.clock()
        cold = Cold(session_id, user_id, OPEN, metadata, now, now, inc)
        hot = Hot(inc, now, ttl)
        buried: list[Change] = []
        expect, old = 0, ""
        for _ in range(TRIES):
            try:
                versions = await self.records.commit(birth(key, cold, hot, expect, buried))
            except (VersionConflictError, CommitOutcomeUnknownError):
                state = await read_state(self.records, key)
                if state is not None:
                    return state, state.cold.inc == inc
                expect, old, buried = await self._expired(key)
            else:
                self.lanes.remember(session_id, hot, versions[1])
                self.meter.count("genro_sessions_created_total")
                if ttl is not None:
                    self.watch()
                if old:
                    await self._collected(old)
                return State(cold, versions[0], hot, versions[1]), True
        raise StorageConflictError(f"the session {session_id!r} changed {TRIES} times in a row", operation="create")

    async def _expired(self, key: str) -> tuple[int, str, list[Change]]:
        """What an expired session leaves in the way of a new one: its version, its incarnation, what buries it."""
        record = await self.records.get(COLD, key)
        if record is None:
            return 0, "", []
        cold = cold_of(record.data)
        return record.version, cold.inc, [*_unindexed(cold), left(cold.inc)]

    async def _removed(self, session_id: str, idle_since: int | None = None) -> bool:
        """Deletes a session; with `idle_since` only one that was not used after that time (µs)."""
        key = quoted(session_id)
        gone: list[str] = []

        def edit(state: State, now: int) -> Edited | None:
            if idle_since is not None and state.hot.last_activity > idle_since:
                return None
            gone[:] = [state.cold.inc]
            changes = [Delete(COLD, key, expect=state.cold_version), *_unindexed(state.cold), left(state.cold.inc)]
            return Edited(None, changes, True)

        done: bool | None = await self.lanes.edit(session_id, edit)
        self.lanes.forget(session_id)
        if done is None:
            return idle_since is not None and await self._buried(key)
        await self._collected(gone[0])
        return True

    async def _buried(self, key: str) -> bool:
        """Removes what is left of a session whose time has run out; False where nothing is, or it lives."""
        version, inc, buried = await self._expired(key)
        if not version or await self.records.get(HOT, key) is not None:
            return False
        try:
            await self.records.commit([Delete(COLD, key, expect=version), Check(HOT, key, expect=0), *buried])
        except VersionConflictError:
            return False
        await self._collected(inc)
        return True

    def _status_label(self, status: str) -> str:
        """The status, or "other" once eight others were seen: labels come from users and must stay few."""
        if len(self._statuses) < STATUSES:
            self._statuses.add(status)
        return status if status in self._statuses else "other"

    def _updated(self, cold: Cold, wanted: Mapping[str, Any], now: int) -> Cold:
        status = wanted.get("status", cold.status)
        if status == OPEN and cold.ended_at is not None:
            raise SessionConflictError(
                f"the session {cold.session_id!r} has ended; reopen_session opens it again", operation="update"
            )
        metadata = cold.metadata
        if "metadata" in wanted:
            changed = wanted["metadata"]
            merged = codec.decode_stored(metadata) | changed
            kept = {key: value for key, value in merged.items() if value is not None or key not in changed}
            metadata = judged_size(codec.encode(kept, "metadata"), "metadata", self.options.max_metadata)
        if status == cold.status and metadata == cold.metadata:
            return cold
        return replace(cold, status=status, metadata=metadata, updated_at=now, version=cold.version + 1)


def birth(key: str, cold: Cold, hot: Hot, expect: int, buried: list[Change]) -> list[Change]:
    """The commit that makes a session, in the place of an expired one if `buried` says what that leaves."""
    name, at = cold.session_id, timed(cold.created_at, cold.session_id)
    changes: list[Change] = [
        Put(COLD, key, pack(cold), expect=expect),
        Put(HOT, key, pack(hot), expect=0, expires_at=hot.expires_at),
        Put(by_user(cold.user_id), at, b""),
        Put(by_status(cold.status), at, b""),
        Put(ACTIVE, at, name.encode()),
    ]
    if hot.expires_at is not None:
        changes.append(Put(EXPIRY, timed(hot.expires_at, name), name.encode()))
    if not buried:
        return changes
    made = {(change.space, change.key) for change in changes}
    return changes + [change for change in buried if (change.space, change.key) not in made]


def _unindexed(cold: Cold) -> list[Change]:
    """Takes a session out of the indexes; the sweeper's are lower bounds and drop it when they meet it."""
    at = timed(cold.created_at, cold.session_id)
    return [Delete(by_user(cold.user_id), at), Delete(by_status(cold.status), at), Delete(ACTIVE, at)]


def _edited(state: State, cold: Cold, now: int, delta: Delta, result: Any) -> Edited:
    """The edit that stores a changed cold record, moves its index entries and counts a use."""
    hot, key = state.hot, quoted(cold.session_id)
    hot = replace(
        hot,
        last_activity=now,
        request_count=hot.request_count + delta.requests,
        error_count=hot.error_count + delta.errors,
        total_processing_time=hot.total_processing_time + delta.seconds,
    )
    changes: list[Change] = []
    if cold is not state.cold:
        changes.append(Put(COLD, key, pack(cold), expect=state.cold_version))
    if cold.status != state.cold.status:
        at = timed(cold.created_at, cold.session_id)
        changes += [Delete(by_status(state.cold.status), at), Put(by_status(cold.status), at, b"")]
    return Edited(hot, changes, result)


def _stale(session_id: str, expected: int, current: int) -> StaleSessionError:
    error = StaleSessionError(f"the session {session_id!r} is at version {current}, not {expected}", operation="update")
    error.current = current
    return error


# --- what may be given ---


def _judged_time(seconds: float) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"add_processing_time is a number of seconds, not {seconds!r}")
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"add_processing_time takes finite seconds from 0 up, not {seconds!r}")
    return float(seconds)


def judged_status(status: str) -> str:
    if not isinstance(status, str):
        raise TypeError(f"status is a str, not {type(status).__name__}")
    if not 1 <= len(status) <= 64:
        raise ValueError(f"status takes 1 to 64 characters, not {status!r}")
    return status


def _judged_updates(updates: Mapping[str, Any] | None) -> dict[str, Any]:
    wanted = judged_metadata(updates, "updates")
    for name in wanted:
        if name not in _UPDATES:
            near = difflib.get_close_matches(str(name), _UPDATES, 1, cutoff=0.0)[0]
            raise ValueError(f"updates cannot change {name!r}, only status and metadata; the nearest is {near!r}")
    if "status" in wanted:
        judged_status(wanted["status"])
    if "metadata" in wanted:
        wanted["metadata"] = judged_metadata(wanted["metadata"])
        codec.encode(wanted["metadata"], "metadata")
    return wanted


def _judged_fields(session: Mapping[str, Any]) -> dict[str, Any]:
    known = {"session_id", "user_id", "metadata", "ttl"}
    if not isinstance(session, Mapping) or not {"session_id", "user_id"} <= session.keys() <= known:
        raise ValueError(f"a session to create is a dict of {', '.join(sorted(known))}, not {session!r}")
    return dict(session)


async def in_turns(calls: Iterable[Awaitable[Any]], told: Any = None) -> list[Any]:
    """The results of all calls, a few at a time; every call ends before an error is raised."""
    results: list[Any] = []
    todo = iter(calls)
    while some := list(islice(todo, _AT_ONCE)):
        results += await asyncio.gather(*some, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [told(result) for result in results] if told else results
