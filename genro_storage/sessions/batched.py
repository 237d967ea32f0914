"""Messages that travel in batches in front of a store."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .conversations import ATOMIC, judged_message
from .forwarding import Forwarding
from .interfaces import Facts
from .keys import judged_id
from .shared import judged_metadata

log = logging.getLogger("genro_storage.sessions")


MOST_BYTES = 32 << 20
"""Of the messages of one batch: together they must not be refused for what each alone may be."""


class _Waiting(NamedTuple):
    session_id: str
    size: int
    message: dict[str, Any]
    landed: asyncio.Future[bool]


class BatchOptimizedStorageBackend(Forwarding):
    """Collects messages while an earlier batch is on its way; used from one event loop.

    A batch leaves with `batch_size` messages, or as soon as the one before landed: a lone caller never waits. With
    ``ack="durable"`` a message is acknowledged once it is stored. With ``ack="buffered"`` at once: up to `batch_size`
    messages, or those of `batch_timeout` seconds, are lost with the process, and what a store refused is only logged
    and told by `health_check`.
    """

    def __init__(
        self,
        underlying_storage: Any,
        *,
        batch_size: int = 100,
        batch_timeout: float = 1.0,
        ack: Literal["durable", "buffered"] = "durable",
    ) -> None:
        super().__init__(underlying_storage)
        if batch_size < 1 or batch_timeout < 0:
            raise ValueError("batch_size is a number from 1 up, batch_timeout seconds from 0 up")
        if ack not in ("durable", "buffered"):
            raise ValueError(f"ack is 'durable' or 'buffered', not {ack!r}")
        self._size, self._timeout, self._buffered = batch_size, batch_timeout, ack == "buffered"
        self._waiting: deque[_Waiting] = deque()
        self._driver: asyncio.Task[None] | None = None
        self._full = asyncio.Event()
        self._flushing = 0
        self.lost = 0
        """Buffered messages that the store refused after they were acknowledged."""

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        size = judged_message(role, content, metadata)
        # A copy: by the time it is stored the caller may have changed its own.
        message = copy.deepcopy({"role": role, "content": content, "metadata": judged_metadata(metadata)})
        landed = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(judged_id(session_id, "session_id"), size, message, landed))
        if len(self._waiting) >= self._size:
            self._full.set()
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
        if self._buffered:
            landed.add_done_callback(self._told)
            return True
        return await asyncio.shield(landed)

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        await self.flush()
        return await super().append_messages(session_id, messages)

    async def pop_message(self, session_id: str) -> Facts | None:
        await self._in_order()
        told: Facts | None = await self.storage.pop_message(session_id)
        return told

    async def delete_session(self, session_id: str) -> bool:
        await self._in_order()
        return await super().delete_session(session_id)

    async def export_session(self, session_id: str) -> Facts | None:
        await self._in_order()
        told: Facts | None = await self.storage.export_session(session_id)
        return told

    async def get_conversation_history(self, session_id: str, limit: int | None = 50, **more: Any) -> list[Facts]:
        await self._in_order()
        return await super().get_conversation_history(session_id, limit, **more)

    async def flush(self) -> None:
        """Waits until every message given before is stored or refused."""
        pending = [one.landed for one in self._waiting]
        self._flushing += 1
        self._full.set()
        try:
            if pending:
                await asyncio.wait(pending)
            if self._driver is not None:
                await asyncio.shield(self._driver)
        finally:
            self._flushing -= 1

    async def close(self) -> None:
        await self.flush()
        await super().close()

    async def health_check(self) -> Facts:
        told = await super().health_check()
        if self._buffered:
            promise = f"may lose {self._size} messages or {self._timeout:g} s of them in a crash"
            told["warnings"] = [*told.get("warnings", []), f"buffered: {promise}"]
            told["buffered"], told["lost"] = len(self._waiting), self.lost
            if self.lost and told["status"] == "healthy":
                told["status"] = "degraded"
        return told

    # --- how ---

    async def _in_order(self) -> None:
        """What was acknowledged before is stored first: else it would come too late, or into another session."""
        if self._buffered:
            await self.flush()

    async def _drive(self) -> None:
        try:
            while self._waiting:
                if self._buffered and not self._flushing and len(self._waiting) < self._size:
                    self._full.clear()
                    try:
                        await asyncio.wait_for(self._full.wait(), self._timeout)
                    except TimeoutError:
                        pass
                sessions: dict[str, list[_Waiting]] = {}
                for one in self._taken():
                    sessions.setdefault(one.session_id, []).append(one)
                await asyncio.gather(*(self._store(name, ones) for name, ones in sessions.items()))
        finally:
            self._driver = None

    def _taken(self) -> list[_Waiting]:
        """The next batch: one message at least."""
        batch, size = list[_Waiting](), 0
        while self._waiting and len(batch) < min(self._size, ATOMIC):
            size += self._waiting[0].size
            if batch and size > MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _store(self, session_id: str, ones: list[_Waiting]) -> None:
        try:
            await self.storage.append_messages(session_id, [one.message for one in ones])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            for one in ones:
                if not one.landed.done():
                    one.landed.set_exception(error)
            return
        for one in ones:
            if not one.landed.done():
                one.landed.set_result(True)

    def _told(self, landed: asyncio.Future[bool]) -> None:
        if landed.cancelled() or landed.exception() is None:
            return
        self.lost += 1
        log.error("A buffered message was refused: %s", landed.exception())
