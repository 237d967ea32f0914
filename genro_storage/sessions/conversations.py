"""The messages of a session: appended in the order of their acknowledgement, none lost, none twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ..exceptions import RecordTooLargeError, SessionNotFoundError, StorageConflictError
from ..records.base import MAX_CHANGES, MAX_COMMIT, Delete
from . import codec
from .keys import HOT, judged_id, messages, number, quoted
from .lanes import TRIES, Delta, Edited, State, pause
from .lifecycle import Lifecycle
from .models import hot_of, packed_message, shown_messages
from .shared import HEAVY, judged_limit, judged_metadata

ATOMIC = 500
"""Messages of one `append_messages` that are stored together or not at all."""
_ROOM = 1 << 20
"""Bytes of a commit that are not messages."""
_ROLE = 64
_NOTHING = codec.encode({})
_FIELDS = frozenset({"role", "content", "metadata"})


class Conversations(Lifecycle):
    """Appending and reading messages."""

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Appends one message; True once it is stored.

        Args:
            role: 1 to 64 characters.
            content: text or any value of the codec; it comes back as it was given.

        Raises:
            SessionNotFoundError: there is no such session, unless the store was opened with `auto_create`.
            RecordTooLargeError: above `max_message` bytes.
        """
        judged_id(session_id, "session_id")
        await self._appended(session_id, [await self._message(role, content, metadata, "")])
        return True

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """Appends dicts ``{role, content, metadata?}``; returns the number of the last one.

        All are judged before the first is stored; each 500 are stored together or not at all.

        Raises:
            RecordTooLargeError: a message above `max_message` bytes, or 500 above 127 MiB together.
        """
        judged_id(session_id, "session_id")
        judged = [await self._message(**_fields(given), name=f"messages[{at}].") for at, given in enumerate(messages)]
        last, batches = 0, [judged[start : start + ATOMIC] for start in range(0, len(judged), ATOMIC)]
        for batch in batches:
            if sum(map(len, batch)) > MAX_COMMIT - _ROOM:
                raise RecordTooLargeError(
                    f"{len(batch)} messages to be stored together have {sum(map(len, batch))} bytes"
                )
        for batch in batches:
            last = await self._appended(session_id, batch) + len(batch) - 1
        return last if judged else await self._last(session_id)

    async def get_conversation_history(
        self, session_id: str, limit: int | None = 50, *, before_seq: int | None = None
    ) -> list[dict[str, Any]]:
        """The latest `limit` messages (None: all), oldest first, as ``{seq, role, content, timestamp, metadata}``.

        `before_seq`: only those with a smaller number, to page back. Nothing where there is no session.
        """
        judged_limit(limit)
        record = await self.records.get(HOT, quoted(judged_id(session_id, "session_id")))
        if record is None or limit == 0:
            return []
        hot = hot_of(record.data)
        end = hot.last_seq + 1 if before_seq is None else min(before_seq, hot.last_seq + 1)
        kept = self.options.conversation_limit
        oldest = hot.first_seq if kept is None else max(hot.first_seq, hot.last_seq - kept + 1)
        first = oldest if limit is None else max(oldest, end - limit)
        if first >= end:
            return []
        space, after, until = messages(hot.inc), number(first - 1), number(end)
        found = await self.records.scan(space, after=after, until=until, limit=end - first)
        if sum(len(record.data) for record in found) > HEAVY:
            return await asyncio.to_thread(shown_messages, found)
        return shown_messages(found)

    async def pop_message(self, session_id: str) -> dict[str, Any] | None:
        """Takes the latest message away and returns it; its number goes to the next one. None where there is none."""
        key = quoted(judged_id(session_id, "session_id"))
        for attempt in range(TRIES):
            record = await self.records.get(HOT, key)
            hot = None if record is None else hot_of(record.data)
            if record is None or hot is None or hot.last_seq < hot.first_seq:
                return None
            latest = messages(hot.inc), number(hot.last_seq)
            found, version = await self.records.get(*latest), record.version

            def edit(state: State, now: int, latest: tuple[str, str] = latest, version: int = version) -> Edited | None:
                if state.hot_version != version:
                    return None
                less = replace(state.hot, last_seq=state.hot.last_seq - 1, last_activity=now)
                return Edited(less, [Delete(*latest)], True)

            if found is not None and await self.lanes.edit(session_id, edit):
                return shown_messages([found])[0]
            await pause(attempt)
        raise StorageConflictError(f"the session {session_id!r} changed {TRIES} times in a row", operation="pop")

    # --- how ---

    async def _message(
        self, role: str, content: Any, metadata: Mapping[str, Any] | None = None, name: str = ""
    ) -> bytes:
        judged_role(role, name)
        most = self.options.max_message
        told = _NOTHING if not metadata else await self.encoded(judged_metadata(metadata), f"{name}metadata", most)
        if type(content) is str and len(content) <= HEAVY:  # what messages are made of
            data = codec.encode(content, f"{name}content")
        else:
            data = await self.encoded(content, f"{name}content", most)
        if len(data) + len(told) > most:
            raise RecordTooLargeError(f"{name}content and metadata have {len(data) + len(told)} bytes, at most {most}")
        return packed_message(role, data, self.records.clock(), told)

    async def _appended(self, session_id: str, packed: Sequence[bytes]) -> int:
        """The number of the first of these messages."""
        first = await self.lanes.add(session_id, Delta(messages=tuple(packed)))
        while first is None:
            await self._needed(session_id)
            first = await self.lanes.add(session_id, Delta(messages=tuple(packed)))
        if self.options.conversation_limit is not None and 2 * len(packed) >= MAX_CHANGES:
            await self.lanes.add(session_id, Delta())  # the oldest did not fit into the commit with so many new ones
        self.meter.count("genro_sessions_messages_total", len(packed))
        return first

    async def _needed(self, session_id: str) -> None:
        """Makes the session if the store may; raises otherwise."""
        if not self.options.auto_create:
            raise SessionNotFoundError(f"there is no session {session_id!r}", operation="append")
        await self.create_session(session_id, self.AUTO_USER)

    AUTO_USER = "auto"
    """The user of sessions that `auto_create` makes."""

    async def _last(self, session_id: str) -> int:
        record = await self.records.get(HOT, quoted(session_id))
        if record is None:
            await self._needed(session_id)
            return 0
        return hot_of(record.data).last_seq


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not {"role", "content"} <= given.keys() <= _FIELDS:
        raise ValueError(f"a message is a dict of role, content and metadata, not {given!r:.200}")
    return dict(given)


def judged_role(role: str, name: str = "") -> None:
    """Raises unless this can be the role of a message."""
    if not isinstance(role, str):
        raise TypeError(f"{name}role is a str, not {type(role).__name__}")
    if not 1 <= len(role) <= _ROLE:
        raise ValueError(f"{name}role takes 1 to {_ROLE} characters, not {role!r}")


def judged_message(role: str, content: Any, metadata: Mapping[str, Any] | None) -> int:
    """How many bytes these are as a message; raises unless they can be one of some size."""
    judged_role(role)
    return len(codec.encode(content, "content")) + len(codec.encode(judged_metadata(metadata), "metadata"))
