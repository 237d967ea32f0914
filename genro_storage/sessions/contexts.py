"""The state of the task that a session works on, in its last few versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from ..exceptions import StorageCorruptedError
from ..records.base import Change, Delete, Put
from .conversations import Conversations
from .keys import HOT, contexts, judged_id, number, quoted
from .lanes import Edited, State
from .models import hot_of, shown_time

KEPT_TYPES = (bytes, date, datetime, time, timedelta, Decimal, UUID)

_REGISTERED: dict[str, type] = {}


def register_context_type(cls: type) -> type:
    """Makes contexts of this class come back as this class; usable as a decorator.

    Stored data only tells a name: what is not registered comes back as a dict, and nothing is ever imported for it.
    """
    _REGISTERED[_label(cls)] = cls
    return cls


class TaskContexts(Conversations):
    """Storing and reading task contexts."""

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        """Keeps a new version of the context; the last `context_versions` are kept.

        Args:
            context: a mapping, a dataclass, a pydantic model, a `msgspec.Struct`, or an object with ``to_dict()``.

        Raises:
            SessionNotFoundError: there is no such session, unless the store was opened with `auto_create`.
            RecordTooLargeError: above `max_context` bytes.
        """
        judged_id(session_id, "session_id")
        value = {"type": _label(type(context)), "value": as_dict(context), "at": self.records.clock()}
        data = await self.encoded(value, "context", self.options.max_context)

        def edit(state: State, now: int) -> Edited:
            hot, space = state.hot, contexts(state.hot.inc)
            seq = hot.context_seq + 1
            changes: list[Change] = [Put(space, number(seq), data)]
            gone = seq - self.options.context_versions
            if gone > 0:
                changes.append(Delete(space, number(gone)))
            return Edited(msgspec.structs.replace(hot, last_activity=now, context_seq=seq), changes, True)

        while await self.lanes.edit(session_id, edit) is None:
            await self._needed(session_id)
        return True

    async def get_task_context(self, session_id: str, *, version: int | None = None) -> Any | None:
        """The latest context or one of its kept versions; None where there is none.

        It comes back as its class only if that was given to `register_context_type`, otherwise as a dict.
        """
        record = await self.records.get(HOT, quoted(judged_id(session_id, "session_id")))
        if record is None:
            return None
        hot = hot_of(record.data)
        wanted = hot.context_seq if version is None else version
        if not 0 < wanted <= hot.context_seq:
            return None
        found = await self.records.get(contexts(hot.inc), number(wanted))
        return None if found is None else built(context_of(await self.decoded(found.data)))

    async def list_task_contexts(self, session_id: str) -> list[dict[str, Any]]:
        """The kept versions, newest first: ``{version, type, timestamp}``."""
        record = await self.records.get(HOT, quoted(judged_id(session_id, "session_id")))
        if record is None:
            return []
        found = await self.records.scan(contexts(hot_of(record.data).inc))
        told = [(int(one.key), context_of(await self.decoded(one.data))) for one in reversed(found)]
        return [{"version": at, "type": one["type"], "timestamp": shown_time(one["at"])} for at, one in told]


def as_dict(context: Any) -> dict[str, Any]:
    """The facts of a context; what has none → `TypeError`."""
    if isinstance(context, Mapping):
        return dict(context)
    if isinstance(context, msgspec.Struct) or (dataclasses.is_dataclass(context) and not isinstance(context, type)):
        facts: dict[str, Any] = msgspec.to_builtins(context, builtin_types=KEPT_TYPES)
        return facts
    for name in ("model_dump", "to_dict"):
        method: Callable[[], dict[str, Any]] | None = getattr(context, name, None)
        if callable(method) and not isinstance(context, type):
            return method()
    raise TypeError(
        f"a context is a mapping, a dataclass, a pydantic model, a msgspec.Struct or has to_dict(), "
        f"not {type(context).__qualname__}"
    )


def context_of(told: Any) -> dict[str, Any]:
    """What was decoded, if it is one version as it is kept: ``{type, value, at}``."""
    if not isinstance(told, dict) or not told.keys() >= {"type", "value", "at"}:
        raise StorageCorruptedError("a stored context is damaged")
    return told


def built(stored: Mapping[str, Any]) -> Any:
    """The context that these stored facts are."""
    cls = _REGISTERED.get(stored["type"])
    facts = stored["value"]
    if cls is None:
        return facts
    try:
        if dataclasses.is_dataclass(cls) or issubclass(cls, msgspec.Struct):
            return msgspec.convert(facts, cls, builtin_types=KEPT_TYPES)
        maker = getattr(cls, "model_validate", None) or getattr(cls, "from_dict", None)
        return maker(facts) if maker else cls(**facts)
    except (TypeError, ValueError) as error:
        raise StorageCorruptedError(f"the stored context does not fit {stored['type']}: {error}") from error


def _label(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
