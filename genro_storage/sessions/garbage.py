"""What hung under a session or thread that is gone: removed in batches, finished by whoever comes later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..exceptions import StorageNotFoundError
from ..records.base import Change, Delete, Put, RecordStore
from .keys import GARBAGE, contexts, messages

BATCH = 500

Spaces = Callable[[RecordStore, str], Awaitable[Sequence[str]]]
"""The spaces that belong to an incarnation, in the order in which they are emptied."""


async def _of_session(records: RecordStore, inc: str) -> Sequence[str]:
    return [messages(inc), contexts(inc)]


KINDS: dict[str, Spaces] = {"session": _of_session}
SESSION = b"session"
"""Other kinds register themselves."""


def left(inc: str, kind: bytes = SESSION) -> Change:
    """The change that, in the commit that ends an incarnation, remembers what is still to be removed."""
    return Put(GARBAGE, inc, kind)


async def collect(records: RecordStore, inc: str, kind: bytes = SESSION) -> int:
    """Removes all that hung under an incarnation, then the memory of it; returns the records removed."""
    spaces = KINDS.get(kind.decode())
    if spaces is None:
        raise StorageNotFoundError(f"nobody knows what a deleted {kind!r} leaves: written by a newer release?")
    removed = 0
    for space in await spaces(records, inc):
        while found := await records.scan(space, limit=BATCH):
            await records.commit([Delete(space, record.key) for record in found])
            removed += len(found)
    await records.commit([Delete(GARBAGE, inc)])
    return removed
