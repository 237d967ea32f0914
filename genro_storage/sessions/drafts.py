"""What is filled before any record names it: marked with its first value, so that a sweep finds what nobody ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from ..exceptions import VersionConflictError
from ..records.base import MAX_CHANGES, Change, Delete, Put, Record, RecordStore
from .garbage import KINDS, left
from .keys import DRAFTS, incarnation
from .models import pack, reader

LEASE = 600_000_000
"""µs after its last step from which a draft counts as abandoned."""
SLICE = 100
"""Records read at once to be copied; each may be as large as a checkpoint."""
_MOST_BYTES = 32 << 20
"""In one commit; a value that is larger goes alone."""


class Mark(Struct, frozen=True, array_like=True):
    """What is being filled, as a sweep would have to remove it, and until when (µs) its writer is believed alive."""

    kind: bytes
    name: str
    until: int


_mark_of = reader(Mark)


class Draft:
    """Values stored under a name that no record has yet; they become visible with the commit that has `finished`.

    Every step renews the mark on the condition that it is as this writer left it. A sweep that believes the writer dead
    takes the mark away first: from then on no step succeeds, and nothing can come to lie where it has swept.
    """

    def __init__(self, records: RecordStore, kind: bytes, name: str) -> None:
        self.records = records
        self.kind = kind
        self.name = name
        self._key = incarnation()
        self._version = 0

    async def add(self, changes: Sequence[Change]) -> None:
        """Commits changes, at most 999.

        Raises:
            VersionConflictError: a sweep took the draft away; begin another one.
        """
        mark = pack(Mark(self.kind, self.name, self.records.clock() + LEASE))
        self._version, *_ = await self.records.commit([Put(DRAFTS, self._key, mark, expect=self._version), *changes])

    async def add_all(self, puts: Sequence[Put]) -> None:
        """As `add`, in as many commits as it takes."""
        start = 0
        while start < len(puts):
            end, size = start, 0
            while end < len(puts) and end - start < MAX_CHANGES - 1:
                size += len(puts[end].data)
                if size > _MOST_BYTES and end > start:
                    break
                end += 1
            await self.add(puts[start:end])
            start = end

    def finished(self) -> list[Change]:
        """What takes the mark away, for the commit that makes all visible; it conflicts if a sweep came first."""
        return [Delete(DRAFTS, self._key, expect=self._version)] if self._version else []

    async def disown(self) -> bool:
        """Makes garbage of what was filled; False where nothing was, or it was finished, or a sweep came first.

        Afterwards no step of this draft whose answer was lost can succeed any more.
        """
        found = await self.records.get(DRAFTS, self._key)
        return found is not None and await _disowned(self.records, found)


async def copied(source: RecordStore, inc: str, draft: Draft) -> None:
    """Copies all that hangs under an incarnation of the source under the one that the draft is named after.

    What tells the names of other spaces comes first and is believed as it was copied, not as it is in the source by
    then: whoever removes the copy finds all of it, although the source changed meanwhile.
    """
    done: set[str] = set()
    while named := [one for one in await KINDS[draft.kind](draft.records, draft.name) if one not in done]:
        waiting, size = list[Put](), 0  # most spaces have few records
        for space in reversed(named):
            after = ""
            while found := await source.scan(space.replace(draft.name, inc, 1), after=after, limit=SLICE):
                waiting += [Put(space, one.key, one.data, expires_at=one.expires_at) for one in found]
                size += sum(len(one.data) for one in found)
                if len(waiting) > MAX_CHANGES - SLICE or size > _MOST_BYTES:
                    await draft.add_all(waiting)
                    waiting, size = [], 0
                after = found[-1].key
            done.add(space)
            await asyncio.sleep(0)  # a thread may have many, and a store may answer at once
        await draft.add_all(waiting)


async def disown_old(records: RecordStore) -> int:
    """Makes garbage of all drafts whose writers said nothing for long; returns how many."""
    count, after, now = 0, "", records.clock()
    while found := await records.scan(DRAFTS, after=after, limit=SLICE):
        after = found[-1].key
        for one in found:
            if _mark_of(one.data).until <= now:
                count += await _disowned(records, one)
    return count


async def _disowned(records: RecordStore, found: Record) -> bool:
    mark = _mark_of(found.data)
    try:
        await records.commit([Delete(DRAFTS, found.key, expect=found.version), left(mark.name, mark.kind)])
    except VersionConflictError:  # it lives after all, or somebody else was here
        return False
    return True
