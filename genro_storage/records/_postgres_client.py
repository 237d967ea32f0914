"""What one event loop has of a database: a pool, a few connections at hand before it, the ways to travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .base import Change, Record
from .convoy import Carry, Convoy

LINES = 2
"""Batches of commits, and of reads, under way at once; more of them would be smaller."""
COMMIT_BYTES = 256 << 10
READ_KEYS = 256
"""What travels in one batch; what is larger goes by itself."""
AT_HAND = 1.0
"""Seconds without use after which a connection goes back to the pool, which closes it in its time."""

Keys = Sequence[tuple[str, str]]


class Client:
    """The pool takes a task, a timer and three turns of the loop to have a connection back; who asks next spares them.

    `gone`: what the driver raises of a connection that the pool took away; `patience`: seconds to wait for one.
    """

    def __init__(
        self,
        pool: Any,
        gone: type[Exception],
        patience: float,
        commit: Carry[Sequence[Change], list[int]],
        find: Carry[Keys, list[Record | None]],
    ) -> None:
        self.pool = pool
        self.commits = Convoy(commit, lines=LINES, most=COMMIT_BYTES)
        self.reads = Convoy(find, lines=LINES, most=READ_KEYS)
        self._gone = gone
        self._patience = patience
        self._idle: list[Any] = []
        self._unused = 0
        self._wanted = 0
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self) -> Any:
        """A connection that nobody else has until it is left or released."""
        while self._idle:
            connection = self._idle.pop()
            self._unused = min(self._unused, len(self._idle))
            with suppress(self._gone):
                if not connection.is_closed():
                    return connection
            await self.release(connection)
        self._wanted += 1
        try:
            # Where one is idle there is nothing to wait for, and a timer would cost more than taking it.
            return await self.pool.acquire(timeout=None if self.pool.get_idle_size() else self._patience)
        finally:
            self._wanted -= 1

    async def leave(self, connection: Any) -> None:
        """Gives one whose work is done to the next one, or to the pool where somebody waits for it."""
        if self._wanted or self._closed or len(self._idle) >= LINES:
            await self.release(connection)
            return
        self._idle.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AT_HAND, self._tidy)

    async def release(self, connection: Any, *, broken: bool = False) -> None:
        """Gives it to the pool; a `broken` one, whatever it is in the middle of, to nobody."""
        if broken:
            with suppress(self._gone):
                connection.terminate()
        await self.pool.release(connection, timeout=self._patience)

    def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in self._idle[: self._unused]:
            task = loop.create_task(self.release(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        del self._idle[: self._unused]
        self._unused = len(self._idle)
        self._timer = loop.call_later(AT_HAND, self._tidy) if self._idle else None

    async def close(self) -> None:
        """Closes all connections, those in use when they are done, for which it waits ten seconds."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            await self.release(self._idle.pop())
        try:
            await asyncio.wait_for(self.pool.close(), 10)
        except TimeoutError:
            self.pool.terminate()
