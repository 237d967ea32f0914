"""What hung under something that is gone: removed in batches, finished by whoever comes later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

from ..exceptions import StorageSchemaError
from ..records.base import Change, Delete, Put, Record, RecordStore
from .keys import GARBAGE, contexts, messages

BATCH = 500
SESSION, THREAD, SPACE = b"session", b"thread", b"space"

Spaces = Callable[[RecordStore, str], Awaitable[Sequence[str]]]
"""The spaces that belong to something, by its name, in the order in which they are emptied."""


async def _of_session(records: RecordStore, inc: str) -> Sequence[str]:
    return [messages(inc), contexts(inc)]


async def _itself(records: RecordStore, space: str) -> Sequence[str]:
    return [space]


KINDS: dict[bytes, Spaces] = {SESSION: _of_session, SPACE: _itself}
"""What is deleted as a whole: sessions and threads by their incarnation, and single spaces."""

BESIDE: dict[bytes, Callable[[str, str, Record], Sequence[Change]]] = {}
"""What goes with a record of something (its name, the space): at most one entry of an index elsewhere."""


def left(name: str, kind: bytes = SESSION) -> Change:
    """The change that, in the commit that ends something, remembers what is still to be removed."""
    key = blake2b(kind + name.encode(), digest_size=20).hexdigest()
    return Put(GARBAGE, key, kind + b":" + name.encode())


async def collect(records: RecordStore, memory: Change | bytes) -> int:
    """Removes what a memory (`left`, or its data) tells of, then the memory; returns the records removed."""
    data = memory if isinstance(memory, bytes) else getattr(memory, "data", b"")
    kind, _, name = data.partition(b":")
    spaces = KINDS.get(kind)
    if spaces is None:
        raise StorageSchemaError(f"deleted by a newer release, which left something of kind {kind.decode()!r}")
    removed = 0
    for space in await spaces(records, name.decode()):
        while found := await records.scan(space, limit=BATCH):
            changes: list[Change] = [Delete(space, record.key) for record in found]
            if kind in BESIDE:
                entries = {
                    (one.space, one.key): one for record in found for one in BESIDE[kind](name.decode(), space, record)
                }
                changes += entries.values()
            await records.commit(changes)
            removed += len(found)
    await records.commit([Delete(GARBAGE, left(name.decode(), kind).key)])
    return removed
