"""What a second store follows the first one with: a journal of what it may have missed, and how that is made up for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ..exceptions import StaleSessionError, StorageError
from ..records.base import Delete, Put, Record, RecordStore
from .keys import quoted
from .lanes import TRIES, pause, read_state
from .migrate import copy_session, copy_thread
from .store import SessionStore

log = logging.getLogger("genro_storage.sessions")

T = TypeVar("T")
SPACE = "mirror"
"""Where the journal remembers sessions and threads that the fallback may have missed."""
SESSION, THREAD = "s", "t"
PAGE = 500
REFUSED = (ValueError, TypeError, LookupError, StaleSessionError)
"""Errors after which nothing was written, where one session or thread was to be."""


class Named(NamedTuple):
    """A session or thread that a write changes."""

    kind: str
    name: str


class Mirror:
    """Writes to `primary`, then to `fallback`; what that missed waits in `journal` and is copied whole.

    An entry is of one process: another one's must not be taken for done because this one's write was mirrored.
    """

    def __init__(self, primary: SessionStore, fallback: SessionStore, journal: RecordStore, timeout: float) -> None:
        self.primary, self.fallback, self.journal = primary, fallback, journal
        self._timeout = timeout
        self._writer = os.urandom(6).hex()
        self._settling: asyncio.Task[int] | None = None
        self.missed = True  # an earlier process may have left entries
        self.pending = 0

    async def write(
        self,
        names: Sequence[Named],
        call: Callable[[SessionStore], Awaitable[T]],
        follow: Callable[[SessionStore], Awaitable[Any]] | None = None,
    ) -> T:
        """What `call` makes of the primary; the fallback gets the same, or `follow`, before this returns or later."""
        entries = await self._journaled(names)
        try:
            told = await call(self.primary)
        except BaseException as error:
            if isinstance(error, REFUSED) and len(names) == 1:
                await self._forgotten(entries)
            else:
                self.missed = True  # nobody knows how much of it was done
            raise
        if await self._mirrored(follow or call, told) and entries is not None:
            await self._forgotten(entries)
        else:
            self.missed = True
        self.settle_soon()
        return told

    async def waiting(self) -> list[Record] | None:
        """Some entries of the journal; None where it cannot be read."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self.journal.scan(SPACE, limit=PAGE)
        except (StorageError, TimeoutError):
            return None

    async def settle(self) -> int:
        """Copies what the fallback missed from the primary; returns how much still waits."""
        settled: set[str] = set()
        while entries := [one for one in await self.waiting() or [] if one.key not in settled]:
            for entry in entries:
                await self._settle(entry)
                settled.add(entry.key)
        rest = await self.waiting()
        self.pending = len(rest or [])
        self.missed = rest is None or bool(rest)
        return self.pending

    def settle_soon(self) -> None:
        """In the background, when the primary just answered and something was missed."""
        if self.missed and self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self.settle())
            self._settling.add_done_callback(self._settled)

    def close(self) -> None:
        if self._settling is not None:
            self._settling.cancel()

    # --- how ---

    def _settled(self, task: asyncio.Task[int]) -> None:
        self._settling = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("The fallback store is still behind: %s", task.exception())

    async def _mirrored(self, call: Callable[[SessionStore], Awaitable[Any]], told: Any) -> bool:
        """Whether the fallback did the same, soon enough, with the same outcome."""
        if self.missed:  # it may lack what this write stands on: the copy of the whole makes up for both
            return False
        try:
            async with asyncio.timeout(self._timeout):
                same = await call(self.fallback)
        except (StorageError, TimeoutError) as error:
            log.warning("The fallback store missed a write: %s", error)
            return False
        return isinstance(told, dict) or same == told

    async def _journaled(self, names: Sequence[Named]) -> list[Record] | None:
        """The entries that outlive a crash of this process; None where the journal cannot be reached."""
        entries: list[Record] = []
        wanted = {f"{kind}:{quoted(name)}:{self._writer}": name.encode() for kind, name in names}
        puts = [Put(SPACE, key, name) for key, name in wanted.items()]
        try:
            for start in range(0, len(puts), PAGE):
                batch = puts[start : start + PAGE]
                versions = await self.journal.commit(batch)
                entries += [
                    Record(SPACE, one.key, one.data, version) for one, version in zip(batch, versions, strict=True)
                ]
        except StorageError as error:
            log.warning("A write could not be remembered for the fallback: %s", error)
            return None
        return entries

    async def _forgotten(self, entries: Sequence[Record] | None) -> None:
        for entry in entries or ():
            try:
                await self.journal.commit([Delete(SPACE, entry.key, expect=entry.version)])
            except StorageError:
                self.missed = True  # another write of this session came between, or the journal is gone

    async def _settle(self, entry: Record) -> None:
        """The present state of one session or thread of the primary, in the fallback."""
        name = entry.data.decode()
        copy = self.copy_session if entry.key.startswith(f"{SESSION}:") else self.copy_thread
        await copy(name)
        await self._forgotten([entry])

    async def copy_session(self, name: str) -> None:
        """The fallback's session of this name, as the primary has it now."""
        for attempt in range(TRIES):
            await self.fallback.delete_session(name)
            copied = await copy_session(self.primary, self.fallback, name)
            if copied or await read_state(self.primary.records, quoted(name)) is None:
                return
            await pause(attempt)  # somebody else wrote it there meanwhile

    async def copy_thread(self, name: str) -> None:
        """The fallback's thread of this name, as the primary has it now."""
        for attempt in range(TRIES):
            await self.fallback.delete_thread(name)
            if await copy_thread(self.primary, self.fallback, name) or await self.primary.thread(name) is None:
                return
            await pause(attempt)
