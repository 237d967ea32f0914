"""A record store that knows every space it was told to write, so that a test can look for what nobody finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from genro_storage.records.base import Change, Put, RecordStore
from genro_storage.sessions.keys import COLD, DRAFTS, GARBAGE, THREAD
from genro_storage.sessions.models import cold_of
from genro_storage.sessions.threads import thread_of
from genro_storage.testing import FaultyRecordStore, RecordFault


class NotingRecordStore(FaultyRecordStore):
    """As `FaultyRecordStore`; `spaces` holds the names, `before` is awaited with each call before it is made."""

    def __init__(self, inner: RecordStore, *faults: RecordFault, spaces: set[str] | None = None) -> None:
        super().__init__(inner, *faults)
        self.digest_key = inner.digest_key
        self.spaces = set() if spaces is None else spaces
        self.before: Callable[[str], Awaitable[object]] | None = None

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        self.spaces.update(one.space for one in changes if isinstance(one, Put))
        if self.before is not None:
            await self.before("commit")
        return await super()._commit(changes)

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool):  # type: ignore[no-untyped-def]
        if self.before is not None:
            await self.before("scan")
        return await super()._scan(space, after, until, limit, reverse)


def lonely(records: RecordStore, spaces: set[str]) -> dict[str, int]:
    """The spaces with records that hang under no living session or thread, or tell of something unfinished."""
    living = {thread_of(one.data).inc for one in records.sync.scan(THREAD)}
    living |= {cold_of(one.data).inc for one in records.sync.scan(COLD)}
    found: dict[str, int] = {}
    for space in spaces:
        kind, _, rest = space.partition("/")
        if kind in ("n", "k", "b", "w", "d", "di", "dw", "m", "c"):
            count = 0 if rest.partition("/")[0].rstrip("#") in living else len(records.sync.scan(space))
        elif kind == "r":
            count = sum(one.key.partition("/")[0] not in living for one in records.sync.scan(space))
        else:
            count = len(records.sync.scan(space)) if space in (GARBAGE, DRAFTS) else 0
        if count:
            found[space] = count
    return found
