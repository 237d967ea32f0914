"""Records in a directory of any mount: one owner at a time, one object per record, commits in a redo log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .._bridge import LoopThread, Workers, outcome
from ..exceptions import StorageConfigError, StorageNotFoundError, UnsupportedOperation
from ..types import Place
from ._mount_engine import Engine
from ._mount_log import MountLog
from ._mount_objects import RECORDS, Held, folder_of, key_of, path_of, record_of
from ._mount_place import AtOnce, MountObjects
from .base import Change, Clock, Record, RecordFeatures, RecordStore, now
from .lease import Lease
from .owner import Owner

T = TypeVar("T")
THREADS = 8
NEAR = ("local", "memory")
"""Storages that are asked on the thread of the store's own loop."""
READ_AT_ONCE = 64
SWEPT = 1000
"""Objects that one sweep looks at."""


class MountRecordStore(RecordStore):
    """`place`: a directory (a node, or anything with `mount` and `path`); nothing else may be in it.

    `lease`: seconds after which an owner that says nothing is followed by another. The storage must create and replace
    under conditions; with `exclusive=True` it need not, and whoever configures it promises that one process uses it.
    """

    name = "mount"
    outlasts = True

    def __init__(self, place: Place, *, lease: float = 30, exclusive: bool = False, clock: Clock = now) -> None:
        super().__init__(clock=clock)
        if not hasattr(place, "mount"):
            raise StorageConfigError(f"a mount store stands on a directory node, not on {place!r}")
        if lease <= 0:
            raise StorageConfigError(f"lease is a number of seconds, not {lease!r}")
        self.mount, self.path = place.mount, place.path
        self.lease = lease
        self.exclusive = exclusive
        backend = self.mount.backend
        lasting = not (backend.features.temporary or backend.storage_id.startswith("memory:"))
        self.features = RecordFeatures(durable=lasting, reverse_scan=False)
        self.durability = f"as the mount {self.mount.name!r}"
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._thread = LoopThread("genro-records-mount")
        near = self.mount.backend.storage_id.partition(":")[0] in NEAR
        self._workers = AtOnce() if near else Workers(THREADS, "genro-records-mount")
        self._objects = MountObjects(self.mount, self.path, self._workers, conditions=not self.exclusive)
        self._engine: Engine | None = None
        self._unswept: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Why the log grows, while records cannot be folded."""
        trouble = None if self._engine is None else self._engine.trouble
        return () if trouble is None else (f"records stay in the log: {trouble}",)

    # --- calls ---

    async def _get(self, space: str, key: str) -> Record | None:
        held = self._waiting([(space, key)])
        if held is not None:
            return self._living(held[0])
        return await self._run(lambda engine: self._read(engine, space, key))

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        held = self._waiting(keys)
        if held is not None:
            return [self._living(one) for one in held]
        return await self._run(lambda engine: self._read_all(engine, keys))

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        return await self._run(lambda engine: self._range(engine, space, after, until, limit, reverse))

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        return await outcome(self._started(lambda engine: engine.commit(changes)))

    async def initialize(self) -> None:
        await self._run(lambda engine: engine.log())

    async def sweep(self, limit: int = 500) -> int:
        """Looks at 1000 objects further on with each call."""
        return await self._run(lambda engine: self._sweep(engine, limit))

    async def approximate_count(self) -> int | None:
        """What the last whole listing of a sweep told, kept up since; None before: a listing costs too much to ask."""
        if self._engine is None or self._pid != os.getpid():
            return None
        return await self._run(_count)

    async def close(self) -> None:
        if self._engine is None or self._pid != os.getpid():
            return
        try:
            await self._run(lambda engine: engine.close())
        finally:
            self._engine = None
            await asyncio.get_running_loop().run_in_executor(None, self._thread.close)
            await asyncio.get_running_loop().run_in_executor(None, self._workers.close)

    # --- inside the loop of its own, because owners, locks and turns belong to one loop ---

    async def _run(self, call: Callable[[Engine], Awaitable[T]]) -> T:
        return await self._started(call)

    def _started(self, call: Callable[[Engine], Awaitable[T]]) -> asyncio.Future[T]:
        if self._pid != os.getpid():  # a forked child is another owner
            self._begin()

        async def inside() -> T:
            if self._engine is None:
                self._engine = Engine(self._open_log, min(1.0, self.lease / 30))
            return await call(self._engine)

        return asyncio.wrap_future(self._thread.submit(inside()))

    async def _open_log(self) -> MountLog:
        features = self.mount.features
        if not self.exclusive and (features.if_absent != "atomic" or features.if_match == "none"):
            raise UnsupportedOperation(
                f"the mount {self.mount.name!r} cannot create and replace under conditions; "
                "with exclusive=True you promise that one process uses it"
            )
        me = Owner.me()
        lease = None if self.exclusive else Lease(self._objects, me, self.lease)
        log = MountLog(self._objects, lease, self.clock, me.turn)
        await log.open()
        return log

    async def _read(self, engine: Engine, space: str, key: str) -> Record | None:
        return self._living(await engine.read(space, key))

    def _living(self, held: Held | None) -> Record | None:
        if held is None or held.data is None or (held.expires_at is not None and held.expires_at <= self.clock()):
            return None
        return Record(held.space, held.key, held.data, held.version, held.expires_at)

    def _waiting(self, names: Sequence[tuple[str, str]]) -> list[Held] | None:
        """What was committed a moment ago is read without asking a thread."""
        engine = self._engine
        return None if engine is None or self._pid != os.getpid() else engine.waiting(names)

    async def _read_all(self, engine: Engine, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        found: list[Record | None] = []
        for start in range(0, len(keys), READ_AT_ONCE):
            found += await asyncio.gather(*(self._read(engine, *name) for name in keys[start : start + READ_AT_ONCE]))
        return found

    async def _range(
        self, engine: Engine, space: str, after: str, until: str | None, limit: int | None, reverse: bool
    ) -> list[Record]:
        keys = await self._keys(engine, space, after)
        wanted = sorted((key for key in keys if key > after and (until is None or key < until)), reverse=reverse)
        step = READ_AT_ONCE if limit is None else min(READ_AT_ONCE, limit)
        found: list[Record] = []
        for start in range(0, len(wanted), step):
            part = [(space, key) for key in wanted[start : start + step]]
            found += [record for record in await self._read_all(engine, part) if record is not None]
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def _keys(self, engine: Engine, space: str, after: str) -> set[str]:
        """The keys of a space that are there, or were while this asked."""
        log = await engine.log()
        folder, plain = folder_of(space), space.endswith("#")
        waiting = {key for where, key in log.waiting if where == space}  # before the listing: folding moves them there
        names = await self._objects.names(folder, after if plain else "")
        keys = set(names) if plain else set()
        cut = []
        for name in () if plain else names:
            key = key_of(name)
            keys.add(key) if key is not None else cut.append(f"{folder}/{name}")
        keys.update(held.key for held in await asyncio.gather(*map(self._held, cut)) if held is not None)
        return keys | waiting

    async def _held(self, path: str) -> Held | None:
        try:
            data, _ = await self._objects.get(path)
        except StorageNotFoundError:
            return None
        return record_of(data, path)

    async def _sweep(self, engine: Engine, limit: int) -> int:
        log = await engine.log()
        if not self._unswept:
            for folder in await self._objects.names(RECORDS):
                where = f"{RECORDS}/{folder}"
                self._unswept += [f"{where}/{name}" for name in await self._objects.names(where)]
            log.count = len(self._unswept)
        seen, self._unswept = self._unswept[:SWEPT], self._unswept[SWEPT:]
        moment, names = self.clock(), list[tuple[str, str]]()
        for start in range(0, len(seen), READ_AT_ONCE):
            for held in await asyncio.gather(*map(self._held, seen[start : start + READ_AT_ONCE])):
                if held is not None and held.expires_at is not None and held.expires_at <= moment:
                    names.append((held.space, held.key))
        self._unswept += [path_of(*name) for name in names[limit:]]
        return await engine.remove_expired(names[:limit], moment)


async def _count(engine: Engine) -> int | None:
    return (await engine.log()).count
