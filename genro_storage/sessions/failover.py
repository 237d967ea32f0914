"""Two stores as one: the primary decides, the fallback follows, and what it missed is remembered and made up for."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..exceptions import StorageError, StorageUnavailableError
from ..records.base import RecordStore
from .forwarding import Forwarding
from .graphs import Graph, Header, Told, Write
from .interfaces import Facts
from .keys import by_run
from .listing import Page
from .mirror import SESSION, THREAD, Mirror, Named
from .pruning import Chosen, Found, run_of
from .store import SessionStore
from .threads import ThreadState
from .upkeep import SweepReport

log = logging.getLogger("genro_storage.sessions")

T = TypeVar("T")
MIRROR_TIMEOUT = 2.0


class StorageAdapter(Forwarding):
    """`primary` for everything; `fallback` is written after it, and read only while the primary cannot be reached.

    Writes fail while the primary is down. A write that the fallback missed stays in `journal` (a durable record store;
    by default the fallback's own: what is missed while that is down too, only this process remembers), and the present
    state of that session or thread is copied once both sides answer.
    `last_source` says who answered last, `stale_reads` how often it was the fallback. `GenroCheckpointSaver` takes it
    for a store. `verify` and `rotate` are those of the primary.
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
        self._mirror = None
        if fallback is not None:
            self._mirror = Mirror(primary, fallback, journal or fallback.records, mirror_timeout)
        self.last_source = "primary"
        self.stale_reads = 0

    @property
    def pending(self) -> int:
        """How many entries waited when somebody last looked, up to 500."""
        return 0 if self._mirror is None else self._mirror.pending

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
        if self._mirror is not None:
            self._mirror.close()
        try:
            await self.primary.close()
        finally:
            if self.fallback is not None:
                await self.fallback.close()

    async def health_check(self) -> Facts:
        told = await self.primary.health_check()
        told["pending_reconcile"] = 0
        told["last_source"], told["stale_reads"] = self.last_source, self.stale_reads
        if self.fallback is not None and self._mirror is not None:
            waiting = await self._mirror.waiting()
            unsaid = len(self._mirror.unsaid)
            told["pending_reconcile"] = None if waiting is None else len(waiting) + unsaid
            self._mirror.pending = len(waiting or []) + unsaid
            side = await self.fallback.health_check()
            told["fallback"] = side["status"]
            if told["status"] == "healthy" and (waiting is None or waiting or unsaid or side["status"] != "healthy"):
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
        return 0 if self._mirror is None else await self._mirror.settle()

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

    async def batch_get_sessions(self, session_ids: Sequence[str]) -> list[Facts | None]:
        told: list[Facts | None] = await self._read("batch_get_sessions", session_ids)
        return told

    async def list_sessions(self, *args: Any, **more: Any) -> Page:
        told: Page = await self._read("list_sessions", *args, **more)
        return told

    async def list_task_contexts(self, session_id: str) -> list[Facts]:
        told: list[Facts] = await self._read("list_task_contexts", session_id)
        return told

    async def list_threads(self, *args: Any, **more: Any) -> Page:
        told: Page = await self._read("list_threads", *args, **more)
        return told

    async def export_session(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._read("export_session", session_id)
        return told

    async def get_graph(self, thread_id: str, ns: str, checkpoint_id: str | None = None) -> Graph | None:
        told: Graph | None = await self._read("get_graph", thread_id, ns, checkpoint_id)
        return told

    async def list_graphs(self, thread_id: str | None, ns: str | None, **more: Any) -> list[Found]:
        told: list[Found] = await self._read("list_graphs", thread_id, ns, **more)
        return told

    async def hydrated(self, state: ThreadState, ns: str, checkpoint_id: str) -> Graph | None:
        """By the name of the thread: what was listed by one side may be read from the other."""
        return await self.get_graph(state.thread.thread_id, ns, checkpoint_id)

    # --- writes ---

    async def create_session(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> Facts:
        told: Facts = await self._write(SESSION, session_id, "create_session", user_id, metadata, **more)
        return told

    async def update_session(self, session_id: str, *args: Any, **kwargs: Any) -> bool:
        return bool(await self._write(SESSION, session_id, "update_session", *args, **kwargs))

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        return bool(await self._write(SESSION, session_id, "end_session", status))

    async def reopen_session(self, session_id: str) -> bool:
        return bool(await self._write(SESSION, session_id, "reopen_session"))

    async def delete_session(self, session_id: str) -> bool:
        return bool(await self._write(SESSION, session_id, "delete_session"))

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        return bool(await self._write(SESSION, session_id, "add_conversation_message", role, content, metadata))

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        return int(await self._write(SESSION, session_id, "append_messages", messages))

    async def pop_message(self, session_id: str) -> Facts | None:
        told: Facts | None = await self._write(SESSION, session_id, "pop_message")
        return told

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        return bool(await self._write(SESSION, session_id, "store_task_context", context))

    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        return bool(await self._write(THREAD, thread_id, "store_checkpoint", checkpoint_id, checkpoint_data, metadata))

    async def delete_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        return bool(await self._write(THREAD, thread_id, "delete_checkpoint", checkpoint_id))

    async def delete_thread(self, thread_id: str) -> bool:
        return bool(await self._write(THREAD, thread_id, "delete_thread"))

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[tuple[Any, ...]]
    ) -> bool:
        return bool(await self._write(THREAD, thread_id, "put_writes", checkpoint_id, task_id, writes_data))

    # --- writes of many ---

    async def batch_create_sessions(self, sessions: Sequence[Mapping[str, Any]]) -> list[bool]:
        names = [str(one.get("session_id")) for one in sessions if isinstance(one, Mapping)]
        told: list[bool] = await self._write_all(SESSION, names, "batch_create_sessions", sessions)
        return told

    async def batch_end_sessions(self, session_ids: Sequence[str], status: str = "completed") -> list[bool]:
        told: list[bool] = await self._write_all(SESSION, session_ids, "batch_end_sessions", session_ids, status)
        return told

    async def import_session(self, data: Mapping[str, Any]) -> bool:
        session = data.get("session") if isinstance(data, Mapping) else None
        names = [str(session["session_id"])] if isinstance(session, Mapping) and "session_id" in session else []
        return bool(await self._write_all(SESSION, names, "import_session", data))

    async def copy_thread(self, source: str, target: str) -> bool:
        """As `SessionStore.copy_thread`; the fallback gets the primary's copy, for its own source may be behind."""
        if self._mirror is None:
            return await self.primary.copy_thread(source, target)
        mirror = self._mirror
        made: list[bool] = []

        async def call(side: SessionStore) -> bool:
            made.append(await side.copy_thread(source, target))
            return made[0]

        async def follow(side: SessionStore) -> bool:
            if made[0]:
                await mirror.copy_thread(target)
            return made[0]

        return await self._did(mirror.write([Named(THREAD, target)], call, follow))

    async def prune(self, thread_ids: Sequence[str], **more: Any) -> int:
        """As `SessionStore.prune`, a thread at a time."""
        return sum([int(await self._write_all(THREAD, [one], "prune", [one], **more)) for one in thread_ids])

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """That of the primary; the fallback cleans by its own times, now if it answers."""
        count = await self.primary.cleanup_expired_sessions(max_idle_hours)
        await self._beside("cleanup_expired_sessions", max_idle_hours)
        return count

    async def sweep(self) -> SweepReport:
        """That of the primary; the fallback is swept too, if it answers."""
        report = await self.primary.sweep()
        await self._beside("sweep")
        return report

    # --- checkpoints of graphs ---

    async def put_graph(
        self, thread_id: str, header: Header, values: Mapping[str, Any], changed: Iterable[str], told: Told
    ) -> None:
        await self._write_all(THREAD, [thread_id], "put_graph", thread_id, header, values, list(changed), told)

    async def put_graph_writes(self, thread_id: str, ns: str, checkpoint_id: str, writes: Sequence[Write]) -> None:
        await self._write_all(THREAD, [thread_id], "put_graph_writes", thread_id, ns, checkpoint_id, writes)

    async def drop_graphs(self, thread_id: str, chosen: Chosen) -> int:
        return int(await self._write_all(THREAD, [thread_id], "drop_graphs", thread_id, chosen))

    async def drop_runs(self, run_ids: Sequence[str]) -> int:
        threads: dict[str, None] = {}
        for run_id in run_ids:
            threads |= dict.fromkeys(run_of(one)[0] for one in await self.primary.records.scan(by_run(run_id)))
        return int(await self._write_all(THREAD, list(threads), "drop_runs", run_ids))

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
        if self._mirror is not None:
            self._mirror.settle_soon()
        return told

    async def _write(self, kind: str, name: str, call: str, *args: Any, **kwargs: Any) -> Any:
        return await self._write_all(kind, [name], call, name, *args, **kwargs)

    async def _write_all(self, kind: str, names: Sequence[str], call: str, *args: Any, **kwargs: Any) -> Any:
        """A write that changes all of these; the fallback gets the same call."""
        if self._mirror is None:
            return await getattr(self.primary, call)(*args, **kwargs)
        named = [Named(kind, one) for one in names]
        return await self._did(self._mirror.write(named, lambda side: getattr(side, call)(*args, **kwargs)))

    async def _did(self, write: Coroutine[Any, Any, T]) -> T:
        told = await write
        self.last_source = "primary"
        return told

    async def _beside(self, call: str, *args: Any) -> None:
        if self.fallback is None:
            return
        try:
            await getattr(self.fallback, call)(*args)
        except StorageError as error:
            log.warning("The fallback store did without %s: %s", call, error)
