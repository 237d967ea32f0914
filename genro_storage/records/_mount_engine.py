"""What runs a mount log inside one event loop: commits that wait travel together, folding and renewing go on beside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from .._bridge import settled
from ..exceptions import StorageError
from ._mount_log import LostLeaseError, MountLog
from ._mount_objects import Held
from .base import MAX_CHANGES, MAX_COMMIT, Change, Delete, Put

FULL = 8192
"""Records that wait to be folded before a commit has to."""
SLICE = 8
"""Records that are folded before others have their turn."""


class Engine:
    """One open log and the calls on it; everything here happens in one event loop."""

    def __init__(self, opened: Callable[[], Awaitable[MountLog]], period: float) -> None:
        self._open = opened
        self._period = period
        self._turn = asyncio.Lock()
        self._log: MountLog | None = None
        self._queue: list[tuple[Sequence[Change], asyncio.Future[list[int]]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._readying: asyncio.Task[None] | None = None
        self._busy = False
        self.trouble: str | None = None
        """Why folding does not go on, while it does not."""

    @property
    def depth(self) -> int:
        """Commits that wait."""
        return len(self._queue)

    # --- calls ---

    async def log(self) -> MountLog:
        """The log, open, ours as far as can be known, and with no commit undecided.

        A caller that is cancelled leaves the opening to go on: half an opening would hold the lease for nobody.
        """
        while (log := self._log) is None or log.in_doubt:
            if self._readying is None or self._readying.done():
                self._readying = asyncio.create_task(self._made_ready())
                self._readying.add_done_callback(_noted)
            await asyncio.shield(self._readying)
        return log

    async def _made_ready(self) -> None:
        async with self._turn:
            await self._ready()

    def waiting(self, names: Sequence[tuple[str, str]]) -> list[Held] | None:
        """What the log holds of these in memory, from any thread; None if it is not all, or not sure to be ours."""
        log = self._log
        if log is None or log.in_doubt:
            return None
        found = [held for name in names if (held := log.waiting.get(name)) is not None]
        return found if len(found) == len(names) else None

    async def read(self, space: str, key: str) -> Held | None:
        return await (await self.log()).read(space, key)

    async def commit(self, changes: Sequence[Change]) -> list[int]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._queue.append((changes, future))
        self._busy = True
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._serve())
        return await future

    async def remove_expired(self, names: Sequence[tuple[str, str]], moment: int) -> int:
        """How many of these are still expired, and gone now; nobody writes them meanwhile."""
        return await settled(self._remove(names, moment))

    async def _remove(self, names: Sequence[tuple[str, str]], moment: int) -> int:
        async with self._turn:
            log = await self._ready()
            held = [await log.read(space, key) for space, key in names]
            dead = [one for one in held if one and one.expires_at is not None and one.expires_at <= moment]
            if dead:
                await log.commit([[Delete(one.space, one.key) for one in dead]])
            return len(dead)

    async def close(self) -> None:
        """Folds all and lets the next owner begin; a log that is lost is left as it is."""
        for task in (self._pump, self._readying):
            if task is not None:
                await asyncio.wait([task])
        async with self._turn:  # so that the keeper is not in the middle of anything
            log, keeper = self._log, self._keeper
            self._log = self._keeper = None
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait([keeper])
            if log is not None and not log.lost:
                await log.close()

    # --- inside; the turn is held where it says so ---

    async def _ready(self) -> MountLog:
        """With the turn: opens the log if it must be, and asks it whether it may go on."""
        if self._log is None:
            self._log = await self._open()
            self._keeper = asyncio.create_task(self._keep(self._log))
        try:
            await self._log.ready()
        except LostLeaseError:
            self._log = None  # the next call tries to become the owner again
            raise
        return self._log

    async def _serve(self) -> None:
        while self._queue:
            async with self._turn:
                batch = self._taken()
                try:
                    log = await self._ready()
                    if (above := len(log.waiting) - FULL) > 0:
                        await log.fold(2 * above)  # sooner or later it is less, and nobody waits for all of it
                    answers = await log.commit([changes for changes, _ in batch])
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    if isinstance(error, LostLeaseError):
                        self._log = None
                    answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():  # cancelled with its loop
                    continue
                if isinstance(answer, list):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)

    def _taken(self) -> list[tuple[Sequence[Change], asyncio.Future[list[int]]]]:
        """The commits that go into the next entry: at most so many changes and so many bytes."""
        count, changes, size = 0, 0, 0
        for waiting, _ in self._queue:
            changes += len(waiting)
            size += sum(len(change.data) for change in waiting if type(change) is Put)
            if count and (changes > MAX_CHANGES or size > MAX_COMMIT):
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    async def _keep(self, log: MountLog) -> None:
        """Renews the lease and folds when nobody writes, until the log is lost."""
        while not log.lost:
            await asyncio.sleep(self._period)
            idle, self._busy = not self._busy, False
            try:
                if log.lease is not None and log.lease.is_due:
                    async with self._turn:
                        await log.renew()
                while log.waiting and ((idle and not self._busy) or len(log.waiting) > FULL // 2):
                    async with self._turn:
                        await log.fold(SLICE)
                self.trouble = None
            except LostLeaseError:
                return
            except StorageError as error:  # the log has it; folding is tried again
                self.trouble = str(error)


def _noted(task: asyncio.Task[None]) -> None:
    """Whoever waited has the error; if nobody did, the next call meets it again."""
    if not task.cancelled():
        task.exception()
