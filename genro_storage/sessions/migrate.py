"""Sessions and threads copied from one store to another, record by record where both are ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..exceptions import CommitOutcomeUnknownError, SessionConflictError, StorageError, VersionConflictError
from ..records.base import Change
from .drafts import Draft, copied
from .garbage import KINDS, SESSION, left
from .garbage import THREAD as OF_THREAD
from .interfaces import IStorageBackend
from .keys import COLD, incarnation, quoted
from .lanes import TRIES, State, pause, read_state
from .lifecycle import birth
from .models import cold_of
from .store import SessionStore
from .threads import Thread, ThreadState

PAGE = 100
MOST_FAILURES = 1000


class MigrationReport(Struct):
    """What a migration did; `failures`: kind, id and reason, at most 1,000 of them, all are counted in `failed`."""

    dry_run: bool = False
    sessions: int = 0
    threads: int = 0
    skipped: int = 0
    failed: int = 0
    verified: int = 0
    failures: list[tuple[str, str, str]] = []

    @property
    def ok(self) -> bool:
        return not self.failed

    def fail(self, kind: str, name: str, reason: str) -> None:
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append((kind, name, reason))


class StorageMigrator:
    """Copies what is in one store into another; what is there already, the very same, is left alone.

    Between two `SessionStore` records are copied as they are, threads of LangGraph included; from any other
    `IStorageBackend` that lists its sessions, sessions with their messages and latest contexts. So it is with a store
    in front of another, as a cache: its threads are reported as failed, because only the store behind it has their
    records.
    """

    def __init__(self, source_storage: IStorageBackend, target_storage: IStorageBackend) -> None:
        self.source: Any = source_storage
        self.target: Any = target_storage

    async def migrate_sessions(self, batch_size: int = 100) -> int:
        """Copies all sessions, each read again and compared; returns how many were copied.

        Raises:
            SessionConflictError: some were not copied, as where the target has a session of that id that is something
                different; all others were. `migrate_all` tells of each.
        """
        report = MigrationReport()
        await self._sessions(report, batch_size, verify=True)
        if report.failed:
            raise SessionConflictError(f"{report.failed} sessions were not copied; the first: {report.failures[0]}")
        return report.sessions

    async def migrate_all(
        self, *, dry_run: bool = False, verify: bool = True, resume: bool = True, batch_size: int = 100
    ) -> MigrationReport:
        """Copies all sessions and threads; run again it goes on where it stopped.

        Args:
            dry_run: only tell what would be copied.
            verify: read every copy again, and what is in the target already, and compare.
            resume: what is in the target already is no fault where it is the same; False: any is.
        """
        report = MigrationReport(dry_run=dry_run)
        await self._sessions(report, batch_size, verify=verify, resume=resume)
        if isinstance(self.source, SessionStore) and isinstance(self.target, SessionStore):
            await self._threads(report, batch_size, verify=verify, resume=resume)
        else:
            await self._refuse_threads(report, batch_size)
        return report

    # --- sessions ---

    async def _sessions(self, report: MigrationReport, batch: int, *, verify: bool, resume: bool = True) -> None:
        after: str | None = None
        while True:
            page = await self.source.list_sessions(limit=batch, after=after)
            for facts in page:
                await self._counted(
                    report, "session", facts["session_id"], self._session(facts, report, verify, resume)
                )
            after = page.next
            if after is None:
                return

    async def _session(self, facts: dict[str, Any], report: MigrationReport, verify: bool, resume: bool) -> None:
        name = facts["session_id"]
        if report.dry_run:
            there = await self.target.get_session(name)
            report.sessions += there is None
            report.skipped += there is not None
            return
        if isinstance(self.source, SessionStore) and isinstance(self.target, SessionStore):
            copied = await copy_session(self.source, self.target, name)
        else:
            copied = await _retell(self.source, self.target, facts)
        report.sessions += copied
        report.skipped += not copied
        if not copied and not resume:
            raise SessionConflictError(f"the session {name!r} is in the target already")
        if verify and not await _same_session(self.source, self.target, name):
            raise SessionConflictError(f"the session {name!r} is something different in the target")
        report.verified += verify

    # --- threads ---

    async def _threads(self, report: MigrationReport, batch: int, *, verify: bool, resume: bool) -> None:
        after: str | None = None
        while True:
            page = await self.source.list_threads(limit=batch, after=after)
            for facts in page:
                await self._counted(
                    report, "thread", facts["thread_id"], self._thread(facts["thread_id"], report, verify, resume)
                )
            after = page.next
            if after is None:
                return

    async def _thread(self, name: str, report: MigrationReport, verify: bool, resume: bool) -> None:
        if report.dry_run:
            there = await self.target.thread(name)
            report.threads += there is None
            report.skipped += there is not None
            return
        copied = await copy_thread(self.source, self.target, name)
        report.threads += copied
        report.skipped += not copied
        if not copied and not resume:
            raise SessionConflictError(f"the thread {name!r} is in the target already")
        if verify:
            if not await _same_thread(self.source, self.target, name):
                raise SessionConflictError(f"the thread {name!r} is something different in the target")
            report.verified += 1

    async def _refuse_threads(self, report: MigrationReport, batch: int) -> None:
        """Who reads that all was copied may delete the source."""
        listed, after = getattr(self.source, "list_threads", None), None
        while listed is not None:
            page = await listed(limit=batch, after=after)
            for facts in page:
                report.fail("thread", facts["thread_id"], "not copied: migrate the stores behind, not those in front")
            after = page.next
            if after is None:
                return

    @staticmethod
    async def _counted(report: MigrationReport, kind: str, name: str, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except StorageError as error:
            report.fail(kind, name, str(error))


# --- between two stores of ours ---


async def copy_session(source: SessionStore, target: SessionStore, session_id: str) -> bool:
    """Copies the records of a session; False where the target has one of this id, or there is none.

    It hangs under an incarnation of its own: what a deletion in the target still has to remove is not this.
    """
    key = quoted(session_id)
    for attempt in range(TRIES):
        state, there = await read_state(source.records, key), await read_state(target.records, key)
        if state is None or there is not None:
            return False
        draft = Draft(target.records, SESSION, incarnation())
        record = await target.records.get(COLD, key)  # of an expired one
        buried = [] if record is None else [left(cold_of(record.data).inc)]
        cold, hot = replace(state.cold, inc=draft.name), replace(state.hot, inc=draft.name, writers={})
        whole = birth(key, cold, hot, 0 if record is None else record.version, buried)

        async def filled(state: State = state, draft: Draft = draft) -> bool:
            await copied(source.records, state.hot.inc, draft)
            now = await read_state(source.records, key)
            return now is not None and (now.cold_version, now.hot_version) == (state.cold_version, state.hot_version)

        if await _moved(target, draft, filled, whole):
            return True
        now = await read_state(target.records, key)
        if now is not None and now.hot.inc == draft.name:  # the answer was lost, the copy was not
            return True
        await pause(attempt)
    raise SessionConflictError(f"the session {session_id!r} changed {TRIES} times while it was copied")


async def copy_thread(source: SessionStore, target: SessionStore, thread_id: str) -> bool:
    """As `copy_session`, for a thread with all its checkpoints."""
    for attempt in range(TRIES):
        state, there = await source.thread(thread_id), await target.thread(thread_id)
        if state is None or there is not None:
            return False
        draft = Draft(target.records, OF_THREAD, incarnation())
        thread = replace(state.thread, inc=draft.name)
        whole = await target.adoption(thread, replace(state.bump, inc=draft.name, held=0))

        async def filled(state: ThreadState = state, thread: Thread = thread, draft: Draft = draft) -> bool:
            await copied(source.records, state.thread.inc, draft)
            await target.index_runs(thread, draft)
            now = await source.thread(thread_id)
            return now is not None and now.version == state.version

        if await _moved(target, draft, filled, whole):
            return True
        now = await target.thread(thread_id)
        if now is not None and now.thread.inc == draft.name:
            return True
        await pause(attempt)
    raise SessionConflictError(f"the thread {thread_id!r} changed {TRIES} times while it was copied")


async def _moved(
    target: SessionStore, draft: Draft, filled: Callable[[], Awaitable[bool]], whole: Sequence[Change]
) -> bool:
    """Fills a draft, then commits what makes it visible, unless the source changed meanwhile."""
    try:
        if await filled():
            await target.records.commit([*whole, *draft.finished()])
            return True
    except (VersionConflictError, CommitOutcomeUnknownError):
        pass
    except StorageError:
        await target.given_up(draft)
        raise
    await target.given_up(draft)
    return False


async def _same_session(source: Any, target: Any, session_id: str) -> bool:
    if isinstance(source, SessionStore) and isinstance(target, SessionStore):
        return await source.export_session(session_id) == await target.export_session(session_id)
    one, other = [await _retold(store, session_id) for store in (source, target)]
    return one == other


async def _retold(store: Any, session_id: str) -> tuple[Any, ...]:
    """What the interfaces tell of a session that does not change by being told again."""
    facts = await store.get_session(session_id)
    history = await store.get_conversation_history(session_id, None)
    whose = None if facts is None else (facts["user_id"], facts.get("metadata") or {})
    return whose, [(message["role"], message["content"]) for message in history]


async def _same_thread(source: SessionStore, target: SessionStore, thread_id: str) -> bool:
    one, other = await source.thread(thread_id), await target.thread(thread_id)
    if one is None or other is None or replace(one.bump, inc="", held=0) != replace(other.bump, inc="", held=0):
        return False
    for space in await KINDS[OF_THREAD](source.records, one.thread.inc):
        after = ""
        while True:
            page = await source.records.scan(space, after=after, limit=PAGE)
            copy = await target.records.scan(
                space.replace(one.thread.inc, other.thread.inc, 1), after=after, limit=PAGE
            )
            if [(record.key, record.data) for record in page] != [(record.key, record.data) for record in copy]:
                return False
            if not page:
                break
            after = page[-1].key
    return True


# --- from any other store ---


async def _retell(source: Any, target: Any, facts: dict[str, Any]) -> bool:
    """Makes a session anew from what the interfaces tell of it; False where the target has it."""
    name = facts["session_id"]
    if await target.get_session(name) is not None:
        return False
    await target.create_session(name, facts["user_id"], facts.get("metadata"))
    for message in await source.get_conversation_history(name, None):
        await target.add_conversation_message(name, message["role"], message["content"], message.get("metadata"))
    context = await source.get_task_context(name)
    if context is not None:
        await target.store_task_context(name, context)
    if facts.get("status", "active") != "active":
        await target.end_session(name, facts["status"])
    return True
