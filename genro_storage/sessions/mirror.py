"""What a second store follows the first one with: a journal of what it may have missed, and how that is made up for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, NamedTuple, TypeVar

from .._bridge import outlast
from ..exceptions import StaleSessionError, StorageError, VersionConflictError
from ..records.base import Change, Delete, Put, Record, RecordStore
from .keys import MIRROR, quoted
from .lanes import TRIES, pause, read_state
from .migrate import copy_session, copy_thread
from .store import SessionStore

log = logging.getLogger("genro_storage.sessions")

T = TypeVar("T")
SESSION, THREAD = "s", "t"
PAGE = 500
REFUSED = (ValueError, TypeError, LookupError, StaleSessionError)
"""Errors after which nothing was written, where one session or thread was to be."""


class Named(NamedTuple):
    """A session or thread that a write changes."""

    kind: str
    name: str


class _Open:
    """The writes to one session or thread that are under way in one loop; they leave one entry together."""

    def __init__(self, named: Named, key: str) -> None:
        self.named = named
        self.key = key
        self.writes = 0
        self.missed = False
        self.version = 0
        """Of the entry, as the latest of them left it."""
        self.turn = asyncio.Lock()
        """Who is done in the primary goes to the fallback in that order."""


class Mirror:
    """Writes to `primary`, then to `fallback`; what that missed waits in `journal` and is copied whole.

    An entry is of one process: another one's must not be taken for done because this one's write was mirrored. One of
    which a write is under way here is not settled: what would be copied may be older than that write.
    """

    def __init__(self, primary: SessionStore, fallback: SessionStore, journal: RecordStore, timeout: float) -> None:
        self.primary, self.fallback, self.journal = primary, fallback, journal
        self._timeout = timeout
        self._writer = os.urandom(6).hex()
        self._settling: asyncio.Task[int] | None = None
        self._open: dict[tuple[asyncio.AbstractEventLoop, Named], _Open] = {}
        self._late: set[asyncio.Task[None]] = set()
        self.unsaid: set[Named] = set()
        """What was missed while the journal could not be reached either."""
        self._misses = 0
        self.missed = True  # an earlier process may have left entries
        self.pending = 0

    async def write(
        self,
        names: Sequence[Named],
        call: Callable[[SessionStore], Awaitable[T]],
        follow: Callable[[SessionStore], Awaitable[Any]] | None = None,
    ) -> T:
        """What `call` makes of the primary; the fallback gets the same, or `follow`, before this returns or later."""
        opened = self._begun(names)
        followed: asyncio.Task[bool] | None = None
        fine = False
        try:
            known = await self._journaled(opened)
            try:
                told = await call(self.primary)
            except REFUSED:
                fine = known and len(names) == 1  # else nobody knows how much of it was done
                raise
            if not self.missed:  # else it may lack what this stands on: the copy of the whole makes up for both
                followed = asyncio.ensure_future(self._followed(follow or call, told, opened))
                await asyncio.wait([followed], timeout=self._timeout)
                fine = known and followed.done() and followed.result()
        finally:
            if followed is None or followed.done():
                await self._ended(opened, fine)
            else:
                self._follow_late(followed, opened)
        self.settle_soon()
        return told

    async def waiting(self) -> list[Record] | None:
        """Some entries of the journal; None where it cannot be read."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self.journal.scan(MIRROR, limit=PAGE)
        except (StorageError, TimeoutError):
            return None

    async def settle(self) -> int:
        """Copies what the fallback missed from the primary; returns how much still waits."""
        self.missed = True  # what is written from now on is not mirrored into what is copied meanwhile
        unsaid = [_Open(one, self._key(one)) for one in self.unsaid]
        if await self._journaled(unsaid):
            self.unsaid.difference_update(one.named for one in unsaid)
        settled: set[str] = set()
        while entries := [one for one in await self.waiting() or [] if one.key not in settled]:
            for entry in entries:
                settled.add(entry.key)
                named = Named(entry.key[0], entry.data.decode())
                if all(one.named != named for one in list(self._open.values())):
                    await self._settle(entry, named)
        misses = self._misses
        rest = await self.waiting()
        self.pending = len(rest or []) + len(self.unsaid)
        self.missed = rest is None or self.pending > 0 or self._misses != misses
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

    def _begun(self, names: Sequence[Named]) -> list[_Open]:
        """Names in one order, so that two writes of many never wait for each other."""
        loop = asyncio.get_running_loop()
        keys = {one: self._key(one) for one in sorted(set(names))}
        opened = [self._open.setdefault((loop, one), _Open(one, key)) for one, key in keys.items()]
        for one in opened:
            one.writes += 1
        return opened

    async def _followed(
        self, call: Callable[[SessionStore], Awaitable[Any]], told: Any, opened: Sequence[_Open]
    ) -> bool:
        """Whether the fallback did the same, with the same outcome."""
        async with AsyncExitStack() as turns:
            for one in opened:
                await turns.enter_async_context(one.turn)
            if self.missed:  # by who had the turn before
                return False
            try:
                same = await call(self.fallback)
            except (StorageError, TimeoutError) as error:
                log.warning("The fallback store missed a write: %s", error)
                self._miss()
                return False
        return isinstance(told, dict) or same == told

    def _follow_late(self, followed: asyncio.Task[bool], opened: Sequence[_Open]) -> None:
        """Nobody waits any more for a fallback that takes so long; its write stays under way until its end."""
        log.warning("The fallback store missed a write: no answer within %s s", self._timeout)
        self._miss()
        followed.cancel()

        async def end() -> None:
            await outlast(followed)
            await self._ended(opened, fine=False)
            self.settle_soon()

        task = asyncio.ensure_future(end())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _miss(self) -> None:
        self._misses += 1
        self.missed = True

    async def _ended(self, opened: Sequence[_Open], fine: bool) -> None:
        """The last of some writes takes their entry away if none was missed; else it stands as after the last."""
        loop, last = asyncio.get_running_loop(), list[_Open]()
        for one in opened:
            one.writes -= 1
            one.missed = one.missed or not fine
            if not one.writes:
                del self._open[loop, one.named]
                last.append(one)
        if not fine:
            self._miss()
        for one in last:
            one.missed = one.missed or not await self._forgotten(one)
        missed = [one for one in last if one.missed]
        if missed and not await self._journaled(missed):  # anew: somebody may have settled it before this was written
            self.unsaid.update(one.named for one in missed)

    def _key(self, named: Named) -> str:
        return f"{named.kind}:{quoted(named.name)}:{self._writer}"

    async def _journaled(self, opened: Sequence[_Open]) -> bool:
        """Makes the entries that outlive a crash of this process; False where the journal cannot be reached."""
        try:
            for start in range(0, len(opened), PAGE):
                batch = opened[start : start + PAGE]
                puts = [Put(MIRROR, one.key, one.named.name.encode()) for one in batch]
                for one, version in zip(batch, await self.journal.commit(puts), strict=True):
                    one.version = max(one.version, version)
        except StorageError as error:
            log.warning("A write could not be remembered for the fallback: %s", error)
            return False
        return True

    async def _forgotten(self, one: _Open) -> bool:
        """Whether the entry is gone, or the next write's."""
        try:
            await self.journal.commit([Delete(MIRROR, one.key, expect=one.version)])
        except VersionConflictError:  # of another loop, or another process settled it while this was written
            return (asyncio.get_running_loop(), one.named) in self._open
        except StorageError:
            return False
        return True

    async def _settle(self, entry: Record, named: Named) -> None:
        """The present state of one session or thread of the primary, in the fallback.

        Another's entry becomes our own first: who left it may take it away, and we may end halfway.
        """
        own, version = self._key(named), entry.version
        if entry.key != own:
            adopted: list[Change] = [Put(MIRROR, own, entry.data), Delete(MIRROR, entry.key, expect=entry.version)]
            try:
                version, _ = await self.journal.commit(adopted)
            except VersionConflictError:  # it waits again, or not any more
                return
        await (self.copy_session if named.kind == SESSION else self.copy_thread)(named.name)
        with suppress(StorageError):  # it was written meanwhile, and waits again
            await self.journal.commit([Delete(MIRROR, own, expect=version)])

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
