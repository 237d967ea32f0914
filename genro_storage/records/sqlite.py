"""Records in one SQLite file: shared by the processes of a host, and what is acknowledged survives a power loss."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ..exceptions import StorageConfigError, StorageError
from ._sqlite import statements, writing
from ._sqlite.file import DatabaseFile, SQLiteOptions
from ._sqlite.lane import Lane, Seat
from .base import Change, Clock, Record, RecordFeatures, RecordStore, now

BATCH = 256
"""Commits, or reads, that travel together."""

T = TypeVar("T")


class SQLiteRecordStore(RecordStore):
    """`path` and the options of `SQLiteOptions`.

    One thread owns the connection that writes: it takes all commits that wait, judges and applies each, and ends them
    with one COMMIT. Readers are threads too; what is few and small is read at once on the caller's thread. Before a
    fork all connections are closed, so that parent and child each open their own.
    """

    name = "sqlite"
    features = RecordFeatures(durable=True, shared=True, snapshot_scan=True)
    outlasts = True

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock = now, **options: Any) -> None:
        super().__init__(clock=clock)
        try:
            self.options = SQLiteOptions(path=os.fspath(path), **options)
        except (TypeError, ValueError) as error:
            raise StorageConfigError(f"sqlite: {error}") from None
        self.durability = "power loss" if self.options.synchronous in ("FULL", "EXTRA") else "process"
        self._begin()
        _STORES.add(self)

    def _begin(self) -> None:
        self.file = DatabaseFile(self.options)
        self.writing = writing.Writing(self.file.path, self.clock)
        reading = statements.Reading(self.file.path)
        self._writer = Lane(
            "genro-sqlite-writer",
            self.file.connect,
            self.writing,
            most=BATCH,
            count=1,
            after=self.writing.tidy,
            leave=statements.checkpoint,
        )
        self._readers = Lane("genro-sqlite-reader", self.file.connect, reading, most=BATCH, count=self.options.readers)
        self._inline = Seat()
        self._end = weakref.finalize(self, _abandon, self._writer, self._readers, self._inline)
        self._end.atexit = False

    @property
    def queue_depth(self) -> int:
        """Commits and reads that wait for a thread."""
        return self._writer.depth + self._readers.depth

    async def _get(self, space: str, key: str) -> Record | None:
        answered, record = self._look(lambda connection: statements.get_small(connection, space, key, self.clock()))
        if answered:
            return record
        return await self._readers.run(lambda connection: statements.get(connection, space, key, self.clock()))

    def _look(self, read: Callable[[sqlite3.Connection], tuple[bool, T]]) -> tuple[bool, T | None]:
        """Reads on the caller's own thread what is small, if nobody else does so now: (answered, what was found)."""
        seat = self._inline
        if not self.file.prepared or not seat.lock.acquire(blocking=False):
            return False, None
        try:
            if seat.connection is None:
                seat.connection = self.file.connect(busy_timeout=0)
            return read(seat.connection)
        except (sqlite3.Error, StorageError):  # a reader waits where this must not, and tells what is wrong
            return False, None
        finally:
            seat.lock.release()

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        if len(keys) <= statements.FEW:
            answered, found = self._look(lambda one: statements.get_many_small(one, keys, self.clock()))
            if answered and found is not None:
                return found

        def read(connection: sqlite3.Connection) -> list[Record | None]:
            moment = self.clock()
            return [statements.get(connection, space, key, moment) for space, key in keys]

        return await self._readers.run(read)

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        if limit is not None and limit <= statements.INLINE_ROWS:
            args = (self.clock(), space, after, until, limit, reverse)
            answered, found = self._look(lambda connection: statements.scan_small(connection, *args))
            if answered and found is not None:
                return found

        def read(connection: sqlite3.Connection) -> list[Record]:
            return statements.scan(connection, self.clock(), space, after, until, limit, reverse)

        return await self._readers.run(read)

    def _commit(self, changes: Sequence[Change]) -> Awaitable[list[int]]:
        return self._writer.settle(writing.Commit(changes))

    async def initialize(self) -> None:
        await self._readers.run(lambda connection: None)

    async def sweep(self, limit: int = 500) -> int:
        """As every store; also gives free pages back to the file system, so that the file shrinks."""
        return await self._writer.run(lambda transaction: transaction.sweep(limit))

    async def approximate_count(self) -> int:
        return await self._readers.run(statements.approximate_count)

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Puts a whole copy of the database at `path` in one step, while it is used; what is there is replaced."""
        target = os.fspath(path)
        await self._readers.run(lambda connection: statements.backup(connection, self.file.path, target))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._stop)

    def _stop(self) -> None:
        self._readers.stop()
        with self._inline.lock:
            self._inline.leave()
        self._writer.stop()
        # Somebody may put another file in its place before the next call, as a backup, or one of a newer release.
        self.file.prepared = False
        self.writing.fresh = writing.Fresh()

    # --- forks ---

    def before_fork(self) -> None:
        """Closes every connection and holds whoever wants one: SQLite's state must not be in two processes."""
        for seat in self._seats():
            seat.lock.acquire()
            seat.leave()

    def after_fork_in_parent(self) -> None:
        for seat in self._seats():
            seat.lock.release()

    def after_fork_in_child(self) -> None:
        """No thread of the parent is here, and nobody waits."""
        self._end.detach()
        self._begin()

    def _seats(self) -> list[Seat]:
        return [*self._writer.seats, *self._readers.seats, self._inline]


def _abandon(writer: Lane, readers: Lane, inline: Seat) -> None:
    """The store is gone: nobody reads any more, and its threads end by themselves."""
    inline.leave()
    readers.dismiss()
    writer.dismiss()


_STORES: weakref.WeakSet[SQLiteRecordStore] = weakref.WeakSet()
_held: list[SQLiteRecordStore] = []
_FORK = threading.Lock()


def _before_fork() -> None:
    _FORK.acquire()
    _held[:] = _STORES
    for store in _held:
        store.before_fork()


def _after_fork_in_parent() -> None:
    for store in _held:
        store.after_fork_in_parent()
    _held.clear()
    _FORK.release()


def _after_fork_in_child() -> None:
    for store in _held:
        store.after_fork_in_child()
    _held.clear()
    _FORK.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
