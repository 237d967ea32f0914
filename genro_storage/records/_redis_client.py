"""What one event loop has of a Redis server: connections, the way to travel together, and what errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..exceptions import (
    CommitOutcomeUnknownError,
    StorageDriverError,
    StorageError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from . import _redis_wire as wire
from ._redis_wire import Refusal
from .convoy import Convoy

LINES = 2
"""Batches under way at once; more of them would be smaller."""
BATCH = 256 << 10
"""Weight of one batch, bytes."""


class Asked(NamedTuple):
    """Commands as they are sent, and how many answers they have; `sent`: they are a commit."""

    pieces: Sequence[bytes]
    replies: int
    sent: bool


class Client:
    """What one event loop has of the server: a pool, a few idle connections before it, and the way to travel together.

    The pool takes three times as long to hand out a connection as the server to answer.
    """

    def __init__(self, pool: Any, carried: Callable[..., Coroutine[Any, Any, list[list[Any] | BaseException]]]) -> None:
        self.pool = pool
        self.convoy: Convoy[Asked, list[Any]] = Convoy(partial(carried, self), lines=LINES, most=BATCH)
        self._idle: list[Any] = []
        self._wanted = 0

    async def take(self) -> Any:
        """A connection that works, or the reason why there is none; nothing was sent yet."""
        try:
            connection = self._idle.pop() if self._idle else await self._from_pool()
            reader = connection._reader
            if reader is not None and not reader.at_eof():  # the pool looks for answers left over, not for an end
                return connection
            try:
                await connection.disconnect(nowait=True)
                await connection.connect()
                return connection
            except BaseException:
                await self.pool.release(connection)
                raise
        except Exception as error:
            known = translated(error)
            if known is None:
                raise
            raise known from error

    async def _from_pool(self) -> Any:
        self._wanted += 1
        try:
            return await self.pool.get_connection()
        finally:
            self._wanted -= 1

    async def leave(self, connection: Any) -> None:
        """Gives it to the next one, or to the pool where somebody waits for it."""
        if connection.is_connected and not self._wanted and len(self._idle) < LINES:
            self._idle.append(connection)
        else:
            await self.pool.release(connection)

    async def renounce(self) -> None:
        """Ends the connections that nobody uses now: the name of the server may lead to another one meanwhile."""
        for connection in [*self._idle]:
            await connection.disconnect(nowait=True)
        await self.pool.disconnect(inuse_connections=False)


async def exchange(connection: Any, pieces: Sequence[bytes], count: int, seconds: float) -> list[Any]:
    """The answers to commands. The driver would await each line of them: half of its time."""
    return await wire.exchange(connection._reader, connection._writer, pieces, count, seconds)


def driver() -> Any:
    try:
        import redis.asyncio
        import redis.asyncio.retry
        import redis.backoff
    except ImportError as error:
        raise StorageDriverError("redis needs redis-py: pip install 'genro-storage[redis]'") from error
    return redis


def translated(error: BaseException) -> StorageError | None:
    """Our error for one of the driver's; None for what is no answer of a server."""
    kinds = driver().exceptions
    if type(error) is Refusal:
        return _refused(error)
    known: tuple[tuple[Any, type[StorageError], str], ...] = (
        ((kinds.AuthenticationError, kinds.NoPermissionError), StoragePermissionError, "Redis refuses the user"),
        (kinds.OutOfMemoryError, StorageQuotaError, "Redis is out of memory"),
        (
            (kinds.BusyLoadingError, kinds.ReadOnlyError, kinds.TryAgainError),
            StorageUnavailableError,
            "Redis is not ready",
        ),
        ((kinds.TimeoutError, asyncio.TimeoutError), StorageTimeoutError, "Redis did not answer in time"),
        ((kinds.ConnectionError, OSError), StorageUnavailableError, "Redis cannot be reached"),
        (kinds.ResponseError, StorageError, "Redis refuses"),
    )
    for kind, ours, meaning in known:
        if isinstance(error, kind):
            return ours(f"{meaning} ({type(error).__name__}: {error})")
    return None


_REFUSALS: Mapping[str, tuple[type[StorageError], str]] = {
    **dict.fromkeys(("NOAUTH", "WRONGPASS", "NOPERM"), (StoragePermissionError, "Redis refuses the user")),
    "OOM": (StorageQuotaError, "Redis is out of memory"),
    **dict.fromkeys(("LOADING", "READONLY", "TRYAGAIN", "MASTERDOWN"), (StorageUnavailableError, "Redis is not ready")),
}


DEMOTED = frozenset({"READONLY", "MASTERDOWN"})
"""Codes of a server that was the primary and is a replica now."""


def _refused(refusal: Refusal) -> StorageError | None:
    """Our error for an answer; None for a script that the server does not know, and that is sent in full then."""
    if refusal.code == "NOSCRIPT":
        return None
    kind, meaning = _REFUSALS.get(refusal.code, (StorageError, "Redis refuses"))
    return kind(f"{meaning} ({refusal})")


def lost(error: StorageError) -> StorageError:
    """What a caller hears whose commit was sent, and its answer did not come."""
    if type(error) not in (StorageUnavailableError, StorageTimeoutError):
        return error
    cause = type(error.__cause__).__name__
    lost = CommitOutcomeUnknownError(
        f"the connection was lost while a commit was under way ({cause})", operation="commit"
    )
    lost.__cause__ = error.__cause__
    return lost
