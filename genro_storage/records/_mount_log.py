"""The protocol of the mount store: commits in a log of create-only objects, folded into one object per record."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..exceptions import (
    CommitOutcomeUnknownError,
    StorageConflictError,
    StorageExistsError,
    StorageNotFoundError,
    StorageUnavailableError,
)
from ._mount_objects import LOG, Held, LogEntry, Objects, encoded, entry_of, log_path, path_of, record_of, seq_of
from .base import MAX_CHANGES, Change, Check, Clock, Put, conflict
from .lease import Lease

KEPT = 16
"""Folded log entries that stay: whoever lists the log while it moves on must not miss its end."""
REPLAYED = 64
"""Log entries that are read at once when a log is opened."""
_STEP = MAX_CHANGES + 1
"""Versions of one log entry."""
Name = tuple[str, str]


class LostLeaseError(StorageConflictError):
    """Somebody else owns the records now; nothing of the call happened."""


class MountLog:
    """What one owner knows and does; its calls must not overlap, but for `read`.

    A commit is acknowledged when its object ``log/<number>`` is there, which only one can create. A new owner creates
    the next number as its own and never deletes it: an owner that was taken for dead finds its next number taken, for
    ever. `waiting` holds what is in the log and not yet folded; it hides the objects.

    An owner before may still be in the middle of folding. Each write of an object is on the condition of the etag just
    read; and the keys that it may be about to write are `sticky`: their objects are never removed, so that it finds a
    newer version wherever it looks.
    """

    def __init__(self, objects: Objects, lease: Lease | None, clock: Clock, owner: str) -> None:
        self.objects = objects
        self.lease = lease
        self.clock = clock
        self.owner = owner
        self.waiting: dict[Name, Held] = {}
        self.lost = False
        self.count: int | None = None
        """Objects of records, about: set by whoever listed them, kept up by folding."""
        self._next = 1
        self._log: list[int] = []  # numbers of entries with writes that are still there, in order
        self._unsettled: tuple[int, bytes, Sequence[Held]] | None = None

    # --- the beginning and the end ---

    async def open(self) -> None:
        """Takes the lease and the log; `StorageConflictError` if somebody else is alive."""
        in_order = await self.lease.take() if self.lease is not None else False
        while True:
            numbers = await self._numbers("")
            last = numbers[-1] if numbers else 0
            try:
                await self.objects.create(log_path(last + 1), encoded(LogEntry(self.owner, takes_over=True)))
            except StorageExistsError:
                continue
            if not await self._numbers(f"{last + 1:020}"):
                break  # an owner that still writes would have gone further
        self._next = last + 2
        await self._replay_all(numbers, sticky=not in_order)
        if in_order:  # nobody is left whose next number this is
            self._log.append(last + 1)

    async def _numbers(self, after: str) -> list[int]:
        return [number for name in await self.objects.names(LOG, after) if (number := seq_of(name))]

    async def _replay_all(self, numbers: Sequence[int], *, sticky: bool) -> None:
        for start in range(0, len(numbers), REPLAYED):
            part = numbers[start : start + REPLAYED]
            found = await self.objects.look([log_path(number) for number in part])
            for number, data in zip(part, found, strict=True):
                self._replay(number, data, sticky=sticky)

    def _replay(self, number: int, data: bytes | None, *, sticky: bool) -> None:
        if data is None:
            # The owner before folded it meanwhile, and all before it: what was read of those may be older than the
            # records, and must not come back.
            self.waiting.clear()
            self._log.clear()
            return
        entry = entry_of(data, log_path(number))
        if entry.takes_over:
            return
        self._log.append(number)
        for held in entry.writes:
            self.waiting[held.space, held.key] = _marked(held, sticky)

    async def close(self) -> None:
        """Folds all, and lets the next owner begin at once."""
        await self._settle()
        while self.waiting:
            await self.fold(len(self.waiting))
        await self._forget(keep=1)
        if self.lease is not None:
            await self.lease.release()

    async def renew(self) -> None:
        """Says that it lives; `LostLeaseError` if somebody else does."""
        if self.lease is not None and not self.lost and not await self.lease.renew():
            self._lose()

    # --- reading ---

    async def read(self, space: str, key: str) -> Held | None:
        """The record as of the last commit, expired or not; None where it is absent."""
        held = self.waiting.get((space, key))
        if held is None:
            path = path_of(space, key)
            try:
                data, _ = await self.objects.get(path)
            except StorageNotFoundError:
                held = self.waiting.get((space, key))  # committed meanwhile
            else:
                held = self.waiting.get((space, key)) or record_of(data, path)
        return None if held is None or held.data is None else held

    @property
    def in_doubt(self) -> bool:
        """Whether `ready` has something to do."""
        return self.lost or self._unsettled is not None or (self.lease is not None and self.lease.is_stale)

    async def ready(self) -> None:
        """Before a call: the last commit is decided, and the lease is not in doubt."""
        if self.lost:
            self._lose()
        await self._settle()
        if self.lease is not None and self.lease.is_stale:
            await self.renew()

    # --- writing ---

    async def commit(self, batch: Sequence[Sequence[Change]]) -> list[list[int] | Exception]:
        """For each of some commits its versions, or why it was refused; together at most 1000 changes."""
        await self.ready()
        number, view, writes = self._next, dict[Name, Held](), list[Held]()
        answers: list[list[int] | Exception] = []
        there = await self._look(batch)
        for changes in batch:
            try:
                self._judge(changes, view, there)
            except StorageConflictError as error:
                answers.append(error)
                continue
            answers.append([self._made(change, number, view, writes) for change in changes])
        if writes:
            await self._append(number, encoded(LogEntry(self.owner, writes)), writes)
        return answers

    async def _look(self, batch: Sequence[Sequence[Change]]) -> dict[Name, Held | None]:
        """What is at the names of which the changes expect something, in the log or beside it."""
        names = dict.fromkeys((one.space, one.key) for changes in batch for one in changes if one.expect is not None)
        there: dict[Name, Held | None] = {name: self.waiting.get(name) for name in names}
        paths = {name: path_of(*name) for name, held in there.items() if held is None}
        if paths:
            found = await self.objects.look(list(paths.values()))
            for (name, path), data in zip(paths.items(), found, strict=True):
                there[name] = None if data is None else record_of(data, path)
        return there

    def _judge(self, changes: Sequence[Change], view: dict[Name, Held], there: dict[Name, Held | None]) -> None:
        for index, change in enumerate(changes):
            if change.expect is None:
                continue
            held = view.get((change.space, change.key)) or there[change.space, change.key]
            living = held is not None and held.data is not None
            if held is not None and held.expires_at is not None and held.expires_at <= self.clock():
                living = False
            actual = held.version if held is not None and living else 0
            if actual != change.expect:
                raise conflict(changes, index, actual)

    def _made(self, change: Change, number: int, view: dict[Name, Held], writes: list[Held]) -> int:
        """The version of one change, which joins the writes of its entry."""
        if type(change) is Check:
            return change.expect
        version = number * _STEP + len(writes)
        data = change.data if type(change) is Put else None
        expires_at = change.expires_at if type(change) is Put else None
        held = Held(change.space, change.key, version, expires_at, data)
        view[change.space, change.key] = held
        writes.append(held)
        return version if type(change) is Put else 0

    async def _append(self, number: int, data: bytes, writes: Sequence[Held]) -> None:
        try:
            await self.objects.create(log_path(number), data)
        except StorageExistsError:
            self._lose()
        except StorageUnavailableError as error:
            self._unsettled = (number, data, writes)
            raise CommitOutcomeUnknownError(f"the answer to a commit was lost ({error})", operation="commit") from error
        self._apply(number, writes)

    async def _settle(self) -> None:
        """Decides a commit whose answer was lost: it happens now, unless it has happened; nothing else goes before."""
        if self._unsettled is None:
            return
        number, data, writes = self._unsettled
        try:
            await self.objects.create(log_path(number), data)
        except StorageExistsError:
            there, _ = await self.objects.get(log_path(number))
            if there != data:
                self._lose()
        self._unsettled = None
        self._apply(number, writes)

    def _apply(self, number: int, writes: Sequence[Held]) -> None:
        self._next = number + 1
        self._log.append(number)
        for held in writes:
            before = self.waiting.get((held.space, held.key))
            self.waiting[held.space, held.key] = _marked(held, before is not None and before.sticky)

    def _lose(self) -> None:
        self.lost = True
        raise LostLeaseError("somebody else took over these records")

    # --- folding ---

    async def fold(self, most: int) -> None:
        """Brings at most that many records up to date; entries of the log of which none waits go."""
        await self.ready()
        for name in list(self.waiting)[:most]:
            held = self.waiting[name]
            try:
                await self._fold(held)
            except (StorageConflictError, StorageExistsError):
                self._lose()
            if self.waiting.get(name) is held:
                del self.waiting[name]
        await self._forget(keep=KEPT)

    async def _fold(self, held: Held) -> None:
        path = path_of(held.space, held.key)
        try:
            data, etag = await self.objects.get(path)
        except StorageNotFoundError:
            if held.data is not None or held.sticky:
                await self.objects.create(path, encoded(_signed(held)))
                self._counted(1)
            return
        there = record_of(data, path)
        if there.version >= held.version and there.sticky >= held.sticky:
            return
        newer = held if held.version > there.version else there
        newer = _marked(newer, held.sticky or there.sticky)
        if newer.data is None and not newer.sticky:
            await self.objects.delete(path, etag)
            self._counted(-1)
        else:
            await self.objects.replace(path, encoded(_signed(newer)), etag)

    def _counted(self, more: int) -> None:
        if self.count is not None:
            self.count += more

    async def _forget(self, keep: int) -> None:
        """Removes folded entries, oldest first, so that what is left is always the end of the log."""
        needed = min((held.version for held in self.waiting.values()), default=self._next * _STEP) // _STEP
        while len(self._log) > keep and self._log[0] < needed:
            await self.objects.delete(log_path(self._log[0]))
            del self._log[0]


def _marked(held: Held, sticky: bool) -> Held:
    if held.sticky == sticky:
        return held
    return Held(held.space, held.key, held.version, held.expires_at, held.data, sticky, held.nonce)


def _signed(held: Held) -> Held:
    return Held(held.space, held.key, held.version, held.expires_at, held.data, held.sticky, os.urandom(8))
