"""Two stores as one: the primary decides, the fallback follows, and what it missed is remembered and made up for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ..exceptions import StorageError, StorageUnavailableError
from ..records.base import Delete, Put, Record, RecordStore
from .forwarding import Forwarding
from .interfaces import Facts
from .keys import quoted
from .migrate import copy_session, copy_thread
from .store import SessionStore

log = logging.getLogger("genro_storage.sessions")

MIRROR_TIMEOUT = 2.0
SPACE = "mirror"
"""Where the journal remembers sessions and threads that the fallback may have missed."""
_PAGE = 500


class StorageAdapter(Forwarding):
    """`primary` for everything; `fallback` is written after it, and read only while the primary cannot be reached.

    Writes fail while the primary is down. A write that the fallback missed stays in `journal` (a durable record store;
    by default the fallback's own), and the present state of that session or thread is copied once both sides answer.
    `last_source` says who answered last, `stale_reads` how often it was the fallback.
    """

    def __init__(
        self,
        primary: SessionStore,
        fallback: SessionStore | None = None,
        *,
        journal: RecordStore | None = None,
        mirror_timeout: float = MIRROR_TIMEOUT,
    ) -> None:
        super().__init__(primary)
        self.primary, self.fallback = primary, fallback
        self._journal = journal or (None if fallback is None else fallback.records)
        self._timeout = mirror_timeout
        self._missed = True  # an earlier process may have left entries
        self._settling: asyncio.Task[int] | None = None
        self.last_source = "primary"
        self.stale_reads = 0
        self.pending = 0

    async def initialize(self) -> bool:
        """Opens both; the primary must answer, the fallback may be late."""
        await self.primary.initialize()
        if self.fallback is not None:
            try:
                await self.fallback.initialize()
            except StorageUnavailableError as error:
                log.warning("The fallback store cannot be reached: %s", error)
        return True

    async def close(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
        await self.primary.close()
        if self.fallback is not None:
            await self.fallback.close()

    async def health_check(self) -> Facts:
        told = await self.primary.health_check()
        pending = await self._pending(_PAGE)
        told["pending_reconcile"] = None if pending is None else len(pending)
        self.pending = len(pending or [])
        told["last_source"], told["stale_reads"] = self.last_source, self.stale_reads
        if self.fallback is not None:
            side = await self.fallback.health_check()
            told["fallback"] = side["status"]
            if told["status"] == "healthy" and (pending is None or pending or side["status"] != "healthy"):
                told["status"] = "degraded"
                told["warnings"] = [
                    *told["warnings"],
                    f"fallback {side['status']}, {told['pending_reconcile']} pending",
                ]
        return told

    def metrics_text(self) -> str:
        """That of the primary, and how many entries waited when health was last asked."""
        own = f"# TYPE genro_sessions_pending_reconcile gauge\ngenro_sessions_pending_reconcile {self.pending}\n"
        return self.primary.metrics_text() + own

    async def settle(self) -> int:
        """Copies what the fallback missed from the primary; returns how much still waits."""
        settled: set[str] = set()
        while entries := [one for one in await self._pending(_PAGE) or [] if one.key not in settled]:
            for entry in entries:
                await self._settle(entry)
                settled.add(entry.key)
        rest = await self._pending(_PAGE)
        self.pending = len(rest or [])
        self._missed = rest is None or bool(rest)
        return len(rest or [])

    # --- reads: fail over only where the primary cannot be reached ---

    async def get_session(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._read("get_session", session_id)
        return told

    async def get_conversation_history(self, session_id: str, limit: int | None = 50, **more: Any) -> list[Facts]:
        told: list[Facts] = await self._read("get_conversation_history", session_id, limit, **more)
        return told

    async def get_task_context(self, session_id: str, **more: Any) -> Any | None:
        return await self._read("get_task_context", session_id, **more)

    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> Facts | None:
        told: Facts | None = await self._read("get_checkpoint", thread_id, checkpoint_id)
        return told

    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[Facts]:
        told: list[Facts] = await self._read("list_checkpoints", thread_id, limit)
        return told

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        told: list[tuple[Any, ...]] = await self._read("get_writes", thread_id, checkpoint_id)
        return told

    # --- writes ---

    async def create_session(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> Facts:
        told: Facts = await self._write("s", session_id, "create_session", user_id, metadata, **more)
        return told

    async def update_session(self, session_id: str, *args: Any, **kwargs: Any) -> bool:
        return bool(await self._write("s", session_id, "update_session", *args, **kwargs))

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        return bool(await self._write("s", session_id, "end_session", status))

    async def reopen_session(self, session_id: str) -> bool:
        return bool(await self._write("s", session_id, "reopen_session"))

    async def delete_session(self, session_id: str) -> bool:
        return bool(await self._write("s", session_id, "delete_session"))

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        return bool(await self._write("s", session_id, "add_conversation_message", role, content, metadata))

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        return int(await self._write("s", session_id, "append_messages", messages))

    async def pop_message(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._write("s", session_id, "pop_message")
        return told

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        return bool(await self._write("s", session_id, "store_task_context", context))

    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        return bool(await self._write("t", thread_id, "store_checkpoint", checkpoint_id, checkpoint_data, metadata))

    async def delete_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        return bool(await self._write("t", thread_id, "delete_checkpoint", checkpoint_id))

    async def delete_thread(self, thread_id: str) -> bool:
        return bool(await self._write("t", thread_id, "delete_thread"))

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[tuple[Any, ...]]
    ) -> bool:
        return bool(await self._write("t", thread_id, "put_writes", checkpoint_id, task_id, writes_data))

    # --- how ---

    async def _read(self, call: str, *args: Any, **kwargs: Any) -> Any:
        try:
            told = await getattr(self.primary, call)(*args, **kwargs)
        except StorageUnavailableError:
            if self.fallback is None:
                raise
            told = await getattr(self.fallback, call)(*args, **kwargs)
            self.last_source = "fallback"
            self.stale_reads += 1
            return told
        self.last_source = "primary"
        self._settle_soon()
        return told

    async def _write(self, kind: str, name: str, call: str, *args: Any, **kwargs: Any) -> Any:
        if self.fallback is None:
            return await getattr(self.primary, call)(name, *args, **kwargs)
        entry = await self._journaled(kind, name)
        told = await getattr(self.primary, call)(name, *args, **kwargs)
        self.last_source = "primary"
        mirrored = await self._mirrored(lambda side: getattr(side, call)(name, *args, **kwargs), told)
        if mirrored and entry is not None:
            await self._forgotten(entry)
        else:
            self._missed = True
        self._settle_soon()
        return told

    async def _mirrored(self, call: Callable[[SessionStore], Awaitable[Any]], told: Any) -> bool:
        """Whether the fallback did the same, soon enough, with the same outcome."""
        assert self.fallback is not None
        if self._missed:  # it may lack what this write stands on: the copy of the whole makes up for both
            return False
        try:
            async with asyncio.timeout(self._timeout):
                same = await call(self.fallback)
        except (StorageError, TimeoutError) as error:
            log.warning("The fallback store missed a write: %s", error)
            return False
        return isinstance(told, dict) or same == told

    async def _journaled(self, kind: str, name: str) -> Record | None:
        """The entry that outlives a crash of this process; None where the journal cannot be reached."""
        assert self._journal is not None
        key = f"{kind}:{quoted(name)}"
        try:
            (version,) = await self._journal.commit([Put(SPACE, key, name.encode())])
        except StorageError as error:
            log.warning("A write could not be remembered for the fallback: %s", error)
            return None
        return Record(SPACE, key, name.encode(), version)

    async def _forgotten(self, entry: Record) -> None:
        assert self._journal is not None
        try:
            await self._journal.commit([Delete(SPACE, entry.key, expect=entry.version)])
        except StorageError:
            self._missed = True  # another write of this session came between, or the journal is gone: settled later

    async def _pending(self, limit: int) -> list[Record] | None:
        """Entries of the journal; None where it cannot be read."""
        if self._journal is None:
            return []
        try:
            async with asyncio.timeout(self._timeout):
                return await self._journal.scan(SPACE, limit=limit)
        except (StorageError, TimeoutError):
            return None

    def _settle_soon(self) -> None:
        """In the background, when the primary just answered and something was missed."""
        if self._missed and self.fallback is not None and self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self.settle())
            self._settling.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[int]) -> None:
        self._settling = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("The fallback store is still behind: %s", task.exception())

    async def _settle(self, entry: Record) -> None:
        """The present state of one session or thread of the primary, in the fallback."""
        assert self.fallback is not None
        name = entry.data.decode()
        if entry.key.startswith("s:"):
            await self.fallback.delete_session(name)
            await copy_session(self.primary, self.fallback, name)
        else:
            await self.fallback.delete_thread(name)
            await copy_thread(self.primary, self.fallback, name)
        await self._forgotten(entry)
