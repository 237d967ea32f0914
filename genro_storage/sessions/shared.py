"""What all calls of a session store share: its records, its options, its lanes, and how values become bytes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from ..exceptions import RecordTooLargeError, StorageError
from ..observe import Meter
from ..records.base import Change, RecordStore
from . import codec
from .drafts import Draft
from .garbage import SESSION, SPACE, collect, collect_spaces, left, told
from .lanes import Lanes
from .options import SessionOptions

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("genro_storage.sessions")

HEAVY = 64 << 10
"""Bytes from which a value is encoded in a thread, so that the event loop goes on."""
LIGHT = 1 << 20
"""Bytes up to which what is only copied, and not taken apart, is done at once: waking a thread takes longer."""
# Named here: to write `str | bytes` in a call makes that type anew each time.
_LONG = (str, bytes, bytearray)
_SHORT = (int, float, type(None))
_MANY = (list, tuple, set, frozenset, deque)


class Shared:
    """The ground under the calls of a store."""

    def __init__(self, records: RecordStore, options: SessionOptions) -> None:
        self.records = records
        self.options = options
        self.meter = Meter()
        self.lanes = Lanes(records, records.clock, conversation_limit=options.conversation_limit)

    def watch(self) -> None:
        """Something was stored that ends by itself: whoever removes such things may begin."""

    async def encoded(self, value: Any, name: str, most: int) -> bytes:
        """A value as tagged JSON of at most so many bytes; more → `RecordTooLargeError`."""
        return judged_size(await aside(heavy(value, HEAVY), codec.encode, value, name), name, most)

    async def collect(self, memory: Change | bytes) -> int:
        """Removes what something that is gone left (`left`, or its data); returns the records removed."""
        return await collect(self.records, memory)

    async def collected(self, *memories: Change) -> None:
        """As `collect`, for each; if it cannot be done now, a later sweep does it."""
        spaces = [one for one in memories if told(one)[0] == SPACE]
        try:
            if spaces:
                await collect_spaces(self.records, spaces)
            for memory in memories:
                if memory not in spaces:
                    await self.collect(memory)
        except StorageError as error:
            kind = told(memories[0])[0].decode()
            log.warning("Left to the next sweep: what belonged to a deleted %s (%s)", kind, error)

    async def _collected(self, name: str, kind: bytes = SESSION) -> None:
        """A session or thread is gone; what hung under it follows now, or with a later sweep."""
        await self.collected(left(name, kind))

    async def given_up(self, draft: Draft) -> None:
        """What was begun and not finished goes, now or with a later sweep; what was finished stays."""
        try:
            if await draft.disown():
                await self.collect(left(draft.name, draft.kind))
        except StorageError as error:
            log.warning("Left to a later sweep: what was begun of a %s (%s)", draft.kind.decode(), error)

    async def decoded(self, data: bytes) -> Any:
        """What `encoded` was given."""
        return await aside(len(data) > HEAVY, codec.decode_stored, data)


async def aside(large: bool, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call; one that is large work is done by a thread, so that the event loop goes on."""
    return await asyncio.to_thread(call, *args, **kwargs) if large else call(*args, **kwargs)


def judged_size(data: bytes, name: str, most: int) -> bytes:
    """`data`, if it is not too large."""
    if len(data) > most:
        raise RecordTooLargeError(f"{name} has {len(data)} bytes as JSON, at most {most} are allowed")
    return data


def heavy(value: Any, most: int) -> bool:
    """Whether a value holds more than about so many bytes, in objects and arrays too; looks no further than that."""
    waiting, size = [value], 0
    while waiting and size <= most:
        item = waiting.pop()
        if isinstance(item, _LONG):
            size += len(item)
        elif isinstance(item, _SHORT):
            continue
        elif isinstance(item, dict):
            size += 8 * len(item)
            waiting.extend(item.values())
        elif isinstance(item, _MANY):
            size += 8 * len(item)
            waiting.extend(item)
        else:
            told = getattr(item, "nbytes", 8)  # of an array, or a view of memory
            size += told if isinstance(told, int) else 8
            waiting.extend(_fields(item))
    return size > most


def _fields(item: object) -> Iterable[object]:
    """What an object is made of, as far as it can be seen without asking it for anything."""
    kept = getattr(item, "__dict__", None)
    slots = getattr(type(item), "__struct_fields__", None) or getattr(type(item), "__slots__", ())
    named = [getattr(item, name, None) for name in slots if name.isidentifier()] if isinstance(slots, tuple) else []
    return [*kept.values(), *named] if isinstance(kept, dict) else named


def judged_metadata(metadata: Mapping[str, Any] | None, name: str = "metadata") -> dict[str, Any]:
    """A dict of its own; None is an empty one, anything but a mapping → `TypeError`."""
    if metadata is None:
        return {}
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        raise TypeError(f"{name} is a mapping, not {type(metadata).__name__}")
    return dict(metadata)


def judged_limit(limit: int | None) -> int | None:
    """None is all, 0 none; a negative one → `ValueError`."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise TypeError(f"limit is a whole number or None, not {limit!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number from 0 up, or None for all, not {limit}")
    return limit
