"""Sealing what an encrypted session store holds under the first of its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..exceptions import StorageConfigError
from ..records.encrypted import EncryptedRecordStore
from .garbage import KINDS, SESSION
from .garbage import THREAD as OF_THREAD
from .graphs import header_of
from .keys import (
    ACTIVE,
    BUMP,
    COLD,
    DRAFTS,
    EXPIRY,
    GARBAGE,
    HOT,
    META,
    MIRROR,
    THREAD,
    THREADS,
    by_run,
    by_status,
    by_user,
    graph,
    namespaces,
)
from .models import cold_of
from .threads import thread_of
from .verify import PAGE, Verifying

SHARED = (ACTIVE, EXPIRY, THREADS, GARBAGE, DRAFTS, MIRROR, META, HOT, BUMP, COLD, THREAD)
"""Spaces of the whole store; those that tell where others are come last."""


class Rotating(Verifying):
    """`rotate`."""

    async def rotate(self) -> int:
        """Seals every record that is not under the first key anew; returns how many. May be run again, and while used.

        First let every process know the new key, then let it be the first everywhere, then rotate, then drop the old.

        Raises:
            StorageConfigError: the store was opened without `encryption`.
        """
        records = self.records
        if not isinstance(records, EncryptedRecordStore):
            raise StorageConfigError("these sessions are not encrypted: open the store with 'encryption'")
        await self.sweep()  # what is deleted is not worth it, and nobody would find it afterwards
        count = 0
        done: set[str] = set()
        async for space in self._spaces():
            if space not in done:
                count += await records.rotate(space)
            if space.startswith(("x/", "r/")):  # many sessions, or threads, are in one index
                done.add(space)
        return count

    async def _spaces(self) -> AsyncIterator[str]:
        """Every space that this store uses."""
        after = ""
        while entries := await self.records.scan(COLD, after=after, limit=PAGE):
            for entry in entries:
                cold = cold_of(entry.data)
                for space in (*await KINDS[SESSION](self.records, cold.inc), by_user(cold.user_id)):
                    yield space
                yield by_status(cold.status)
            after = entries[-1].key
        after = ""
        while entries := await self.records.scan(THREAD, after=after, limit=PAGE):
            for entry in entries:
                inc = thread_of(entry.data).inc
                async for run in self._runs(inc):
                    yield by_run(run)
                for space in await KINDS[OF_THREAD](self.records, inc):
                    yield space
            after = entries[-1].key
        for space in SHARED:
            yield space

    async def _runs(self, inc: str) -> AsyncIterator[str]:
        for ns in [one.data.decode() for one in await self.records.scan(namespaces(inc))]:
            after = ""
            while found := await self.records.scan(graph(inc, ns), after=after, limit=PAGE):
                for record in found:
                    run = header_of(record.data).run
                    if run is not None:
                        yield run
                after = found[-1].key
