"""A session as one dict and back: what moves it to another store, or keeps it in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..exceptions import (
    CommitOutcomeUnknownError,
    SessionConflictError,
    StorageCorruptedError,
    StorageError,
    VersionConflictError,
)
from ..records.base import Put
from .contexts import as_dict, context_of
from .conversations import judged_role
from .drafts import Draft
from .garbage import SESSION
from .keys import contexts, incarnation, judged_id, messages, number, quoted
from .lanes import TRIES, pause, read_state
from .lifecycle import birth, judged_status
from .models import Cold, Hot, cold_of, hot_of, pack, packed_message, shown_messages, shown_session
from .options import is_duration
from .shared import judged_metadata
from .upkeep import Upkeep

FORMAT = "genro-session/1"


class Exports(Upkeep):
    """`export_session` and `import_session`."""

    async def export_session(self, session_id: str) -> dict[str, Any] | None:
        """All of a session: ``{format, session, messages, contexts}``; None where there is none."""
        key = quoted(judged_id(session_id, "session_id"))
        state = await read_state(self.records, key)
        while state is not None:
            inc = state.hot.inc
            told = await self.records.scan(messages(inc))
            kept = await self.records.scan(contexts(inc))
            now = await read_state(self.records, key)
            if now is not None and now.hot.inc == inc:
                return {
                    "format": FORMAT,
                    "session": shown_session(state.cold, state.hot) | {"ttl": state.hot.ttl and state.hot.ttl / 1e6},
                    "messages": shown_messages(told),
                    "contexts": [{"version": int(one.key), **context_of(await self.decoded(one.data))} for one in kept],
                }
            state = now  # it was removed meanwhile: of what hung under it some may be missing
        return None

    async def import_session(self, data: Mapping[str, Any]) -> bool:
        """Stores what `export_session` gave: True made, False it is here already, the very same.

        Raises:
            SessionConflictError: a session of this id is here and is something different.
            StorageCorruptedError: this is no export.
        """
        for attempt in range(TRIES):
            try:
                cold, hot, children = await self._read(data)
            except (KeyError, TypeError, AttributeError, OverflowError) as error:
                raise StorageCorruptedError(f"this is no exported session: {error!r}") from error
            existing = await self.export_session(cold.session_id)
            if existing is not None:
                return self._same(existing, data)
            draft = Draft(self.records, SESSION, hot.inc)
            try:
                await self._born(cold, hot, children, draft)
            except StorageError as error:
                await self.given_up(draft)
                if not isinstance(error, VersionConflictError | CommitOutcomeUnknownError):
                    raise
                state = await read_state(self.records, quoted(cold.session_id))
                if state is not None and state.hot.inc == hot.inc:  # the answer was lost, the session was not
                    return True
                await pause(attempt)
            else:
                return True
        name = data["session"]["session_id"]
        raise SessionConflictError(f"the session {name!r} changed {TRIES} times in a row", operation="import")

    async def _born(self, cold: Cold, hot: Hot, children: Sequence[Put], draft: Draft) -> None:
        """Under an incarnation that nobody knows yet the children are invisible until the session itself is there."""
        await draft.add_all(children)
        expect, old, buried = await self._expired(quoted(cold.session_id))
        born = birth(quoted(cold.session_id), cold, hot, expect, buried)
        await self.records.commit([*born, *draft.finished()])
        if old:
            await self._collected(old)

    @staticmethod
    def _same(existing: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        if dict(existing) != dict(data):
            raise SessionConflictError(
                f"a session {data['session']['session_id']!r} that is something different is here", operation="import"
            )
        return False

    async def _read(self, data: Mapping[str, Any]) -> tuple[Cold, Hot, list[Put]]:
        if data["format"] != FORMAT:
            raise StorageCorruptedError(f"this is no exported session of format {FORMAT}: {data['format']!r}")
        told, inc = data["session"], incarnation()
        metadata = await self.encoded(judged_metadata(told["metadata"]), "metadata", self.options.max_metadata)
        cold = Cold(
            judged_id(told["session_id"], "session_id"),
            judged_id(told["user_id"], "user_id"),
            judged_status(told["status"]),
            metadata,
            _micro(told["created_at"]),
            _micro(told["updated_at"]),
            inc,
            told["version"],
            None if told["ended_at"] is None else _micro(told["ended_at"]),
        )
        if told["ttl"] is not None and not is_duration(told["ttl"]):
            raise StorageCorruptedError(f"no session lasts for {told['ttl']!r} seconds")
        seqs = [message["seq"] for message in data["messages"]]
        if seqs and (seqs[0] < 1 or seqs != list(range(seqs[0], seqs[0] + len(seqs)))):
            raise StorageCorruptedError("the messages of this exported session are not numbered one after the other")
        versions = [context["version"] for context in data["contexts"]]
        hot = Hot(
            inc,
            _micro(told["last_activity"]),
            None if told["ttl"] is None else round(told["ttl"] * 1e6),
            min(seqs, default=1),
            max(seqs, default=0),
            told["request_count"],
            told["error_count"],
            told["total_processing_time"],
            max(versions, default=0),
        )
        # Read back as it would be from the store: what is of no right kind must not get there.
        return cold_of(pack(cold)), hot_of(pack(hot)), await self._children(inc, data)

    async def _children(self, inc: str, data: Mapping[str, Any]) -> list[Put]:
        changes: list[Put] = []
        for told in data["messages"]:
            judged_role(told["role"])
            content = await self.encoded(told["content"], "content", self.options.max_message)
            metadata = await self.encoded(told["metadata"], "metadata", self.options.max_message)
            packed = packed_message(told["role"], content, _micro(told["timestamp"]), metadata)
            changes.append(Put(messages(inc), number(told["seq"]), packed))
        for told in data["contexts"]:
            value = {"type": told["type"], "value": as_dict(told["value"]), "at": told["at"]}
            packed = await self.encoded(value, "context", self.options.max_context)
            changes.append(Put(contexts(inc), number(told["version"]), packed))
        return changes


def _micro(text: str) -> int:
    at = datetime.fromisoformat(text)
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
