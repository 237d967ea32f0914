"""What hung under something that is gone: removed in batches, finished by whoever comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

from ..exceptions import StorageSchemaError
from ..records.base import Change, Delete, Put, Record, RecordStore
from .keys import GARBAGE, contexts, messages

BATCH = 500
SESSION, THREAD, SPACE, VALUES = b"session", b"thread", b"space", b"values"

Spaces = Callable[[RecordStore, str], Awaitable[Sequence[str]]]
"""The spaces that belong to something, by its name, in the order in which they are emptied."""


async def _of_session(records: RecordStore, inc: str) -> Sequence[str]:
    return [messages(inc), contexts(inc)]


async def _itself(records: RecordStore, space: str) -> Sequence[str]:
    return [space]


KINDS: dict[bytes, Spaces] = {SESSION: _of_session, SPACE: _itself}
"""What is deleted as a whole: sessions and threads by their incarnation, and single spaces.

`VALUES` of a thread, of which some may be needed, are its store's affair.
"""

BESIDE: dict[bytes, Callable[[str, str, Record], Sequence[Change]]] = {}
"""What goes with a record of something (its name, the space): at most one entry of an index elsewhere."""


def left(name: str, kind: bytes = SESSION) -> Change:
    """The change that, in the commit that ends something, remembers what is still to be removed."""
    key = blake2b(kind + name.encode(), digest_size=20).hexdigest()
    return Put(GARBAGE, key, kind + b":" + name.encode())


async def collect(records: RecordStore, memory: Change | bytes) -> int:
    """Removes what a memory (`left`, or its data) tells of, then the memory; returns the records removed."""
    kind, name = told(memory)
    spaces = KINDS.get(kind)
    if spaces is None:
        raise StorageSchemaError(f"deleted by a newer release, which left something of kind {kind.decode()!r}")
    return await emptied(records, await spaces(records, name), [memory], kind, name)


async def collect_spaces(records: RecordStore, memories: Sequence[Change]) -> int:
    """As `collect`, for many memories of single spaces at once."""
    return await emptied(records, [told(memory)[1] for memory in memories], memories)


async def emptied(
    records: RecordStore,
    spaces: Sequence[str],
    memories: Sequence[Change | bytes] = (),
    kind: bytes = SPACE,
    name: str = "",
) -> int:
    """Removes all records of these spaces, in this order, with what is beside them, then memories; returns how many."""
    removed, waiting = 0, list[Change]()
    for space in spaces:
        after = ""
        while found := await records.scan(space, after=after, limit=BATCH):
            after = found[-1].key
            removed += len(found)
            waiting += [Delete(space, record.key) for record in found]
            if kind in BESIDE:
                beside = {(one.space, one.key): one for record in found for one in BESIDE[kind](name, space, record)}
                waiting += beside.values()
            while len(waiting) >= BATCH:
                await records.commit(waiting[:BATCH])
                del waiting[:BATCH]
            if len(found) < BATCH:
                break
        await asyncio.sleep(0)  # there may be many, and a store may answer at once
    waiting += [Delete(GARBAGE, left(name, kind).key) for kind, name in map(told, memories)]
    while waiting:
        await records.commit(waiting[:BATCH])
        del waiting[:BATCH]
    return removed


def told(memory: Change | bytes) -> tuple[bytes, str]:
    """Kind and name of what a memory (`left`, or its data) tells of."""
    data = memory if isinstance(memory, bytes) else getattr(memory, "data", b"")
    kind, _, name = data.partition(b":")
    return kind, name.decode()
