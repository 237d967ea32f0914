"""Sessions and contexts remembered for a few seconds in front of a store."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from .forwarding import Forwarding
from .interfaces import Facts


class _Cache:
    """The latest values of some keys, each for `ttl` seconds; what is absent is not remembered."""

    def __init__(self, size: int, ttl: float) -> None:
        self._size, self._ttl = size, ttl
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._epochs: Counter[str] = Counter()
        self._cleared = 0
        self._flights: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[Any]] = {}
        self.results: Counter[str] = Counter()

    async def get(self, key: str, fill: Callable[[], Awaitable[Any]]) -> Any:
        """A copy of the value; those who ask at once in one loop share one fill."""
        with self._lock:
            until, value = self._kept.get(key, (0.0, None))
            if until > time.monotonic():
                self._kept.move_to_end(key)
                self.results["hit"] += 1
                return copy.deepcopy(value)
            self.results["miss"] += 1
        flight_key = (asyncio.get_running_loop(), key)
        flight = self._flights.get(flight_key)
        if flight is None:
            flight = self._flights[flight_key] = asyncio.ensure_future(self._fill(key, fill))
            flight.add_done_callback(lambda done: self._landed(flight_key, done))
        return copy.deepcopy(await asyncio.shield(flight))

    async def _fill(self, key: str, fill: Callable[[], Awaitable[Any]]) -> Any:
        epoch = self._cleared, self._epochs[key]
        value = await fill()
        with self._lock:
            if (
                value is not None and (self._cleared, self._epochs[key]) == epoch
            ):  # else it is older than a write of ours
                self._kept[key] = (time.monotonic() + self._ttl, value)
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
        return value

    def _landed(self, flight_key: tuple[asyncio.AbstractEventLoop, str], done: asyncio.Task[Any]) -> None:
        if self._flights.get(flight_key) is done:  # else a later one is under way
            del self._flights[flight_key]
        if not done.cancelled():
            done.exception()  # whoever asked was told; nobody may be left

    def forget(self, key: str) -> None:
        """What is under way for this key is not kept either, nor shared with who asks from now on."""
        with self._lock:
            self._kept.pop(key, None)
            self._epochs[key] += 1
            for flight_key in [one for one in list(self._flights) if one[1] == key]:  # others begin some meanwhile
                self._flights.pop(flight_key, None)
            if len(self._epochs) > 4 * self._size and not self._flights:
                self._epochs.clear()
                self._cleared += 1  # a fill that was forgotten may still be under way

    def forget_all(self) -> None:
        """As `forget`, for all that is kept or under way."""
        with self._lock:
            keys = {*self._kept, *(key for _, key in list(self._flights))}
        for key in keys:
            self.forget(key)


class CachedStorageBackend(Forwarding):
    """Remembers up to `cache_size` sessions and contexts for `ttl` seconds.

    Writes through this object are seen at once; those of other processes after `ttl` at most. `expected_version` is
    judged by the store itself and stays safe.
    """

    def __init__(self, underlying_storage: Any, cache_size: int = 1000, *, ttl: float = 5.0) -> None:
        super().__init__(underlying_storage)
        if cache_size < 1 or ttl <= 0:
            raise ValueError(f"a cache has a size from 1 up and a ttl above 0, not {cache_size!r} and {ttl!r}")
        self._sessions, self._contexts = _Cache(cache_size, ttl), _Cache(cache_size, ttl)

    async def get_session(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._sessions.get(session_id, lambda: self.storage.get_session(session_id))
        return told

    async def get_task_context(self, session_id: str, **more: Any) -> Any | None:
        if more:
            return await super().get_task_context(session_id, **more)
        return await self._contexts.get(session_id, lambda: self.storage.get_task_context(session_id))

    async def create_session(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> Facts:
        told: Facts = await self._changed(session_id, super().create_session(session_id, user_id, metadata, **more))
        return told

    async def update_session(self, session_id: str, *args: Any, **kwargs: Any) -> bool:
        return bool(await self._changed(session_id, super().update_session(session_id, *args, **kwargs)))

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        return bool(await self._changed(session_id, super().end_session(session_id, status)))

    async def reopen_session(self, session_id: str) -> bool:
        return bool(await self._changed(session_id, super().reopen_session(session_id)))

    async def delete_session(self, session_id: str) -> bool:
        return bool(await self._changed(session_id, super().delete_session(session_id)))

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        call = super().add_conversation_message(session_id, role, content, metadata)
        return bool(await self._changed(session_id, call))

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        return int(await self._changed(session_id, super().append_messages(session_id, messages)))

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        return bool(await self._changed(session_id, super().store_task_context(session_id, context)))

    async def pop_message(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._changed(session_id, self.storage.pop_message(session_id))
        return told

    async def batch_create_sessions(self, sessions: Sequence[Mapping[str, Any]]) -> list[bool]:
        return list(await self._all_changed(self.storage.batch_create_sessions(sessions)))

    async def batch_end_sessions(self, session_ids: Sequence[str], status: str = "completed") -> list[bool]:
        return list(await self._all_changed(self.storage.batch_end_sessions(session_ids, status)))

    async def import_session(self, data: Mapping[str, Any]) -> bool:
        return bool(await self._all_changed(self.storage.import_session(data)))

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        return int(await self._all_changed(super().cleanup_expired_sessions(max_idle_hours)))

    async def sweep(self) -> Any:
        return await self._all_changed(self.storage.sweep())

    async def get_metrics(self) -> Facts:
        results = self._sessions.results + self._contexts.results
        return await super().get_metrics() | {"cache_hits": results["hit"], "cache_misses": results["miss"]}

    def metrics_text(self) -> str:
        """The metrics of the store behind, and how often it was not asked, as Prometheus text."""
        results = self._sessions.results + self._contexts.results
        lines = [f'genro_sessions_cache_requests_total{{result="{name}"}} {results[name]}' for name in ("hit", "miss")]
        own = "\n".join(["# TYPE genro_sessions_cache_requests_total counter", *lines, ""])
        return str(self.storage.metrics_text()) + own

    async def _changed(self, session_id: str, call: Awaitable[Any]) -> Any:
        self._forget(session_id)
        try:
            return await call
        finally:
            self._forget(session_id)

    async def _all_changed(self, call: Awaitable[Any]) -> Any:
        """A call that may change any session."""
        self._forget_all()
        try:
            return await call
        finally:
            self._forget_all()

    def _forget_all(self) -> None:
        for cache in (self._sessions, self._contexts):
            cache.forget_all()

    def _forget(self, session_id: str) -> None:
        self._sessions.forget(session_id)
        self._contexts.forget(session_id)
