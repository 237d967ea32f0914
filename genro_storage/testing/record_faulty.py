"""A record store around another that fails, loses its answer or hangs at the call it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from ..exceptions import CommitOutcomeUnknownError, StorageUnavailableError
from ..records.base import Change, Record, RecordStore

T = TypeVar("T")


class RecordFault(NamedTuple):
    """What happens at call number `at` (from 1), for `times` calls; `on` counts only calls of that name.

    `before`: the call does not happen and `StorageUnavailableError` is raised. `after`: it happens and its answer is
    lost, a commit then raises `CommitOutcomeUnknownError`. `hang`: nothing happens until `.released` is
    True, then it fails; cancelled, a read ends at once and a commit, as every commit, with its outcome. `error` makes
    another error.
    """

    at: int
    kind: Literal["before", "after", "hang"] = "before"
    on: Literal["get", "get_many", "scan", "commit"] | None = None
    times: int = 1
    error: Callable[[], Exception] | None = None


class FaultyRecordStore(RecordStore):
    """`inner`, and the faults; `calls` holds the names of all calls in order. Features are those of `inner`."""

    name = "faulty"

    def __init__(self, inner: RecordStore, *faults: RecordFault) -> None:
        super().__init__(clock=inner.clock)
        self.inner = inner
        self.faults = list(faults)
        self.features = inner.features
        self.durability = inner.durability
        self.calls: list[str] = []
        self.released = False

    async def _get(self, space: str, key: str) -> Record | None:
        return await self._call("get", self.inner.get(space, key))

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        return await self._call("get_many", self.inner.get_many(keys))

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        call = self.inner.scan(space, after=after, until=until, limit=limit, reverse=reverse)
        return await self._call("scan", call)

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        return await self._call("commit", self.inner.commit(changes))

    async def initialize(self) -> None:
        await self.inner.initialize()

    async def close(self) -> None:
        await self.inner.close()

    async def sweep(self, limit: int = 500) -> int:
        return await self.inner.sweep(limit)

    async def _call(self, name: str, call: Coroutine[Any, Any, T]) -> T:
        fault = self._fault(name)
        if fault is None:
            return await call
        if fault.kind == "after":
            await call
        else:
            call.close()
        while fault.kind == "hang" and not self.released:  # noqa: ASYNC110 - released from any thread
            await asyncio.sleep(0.005)
        if fault.error is not None:
            raise fault.error()
        if fault.kind == "after" and name == "commit":
            raise CommitOutcomeUnknownError("injected fault: the answer was lost", operation=name)
        raise StorageUnavailableError("injected fault", operation=name)

    def _fault(self, name: str) -> RecordFault | None:
        self.calls.append(name)
        for fault in self.faults:
            number = len(self.calls) if fault.on is None else self.calls.count(name)
            if fault.on in (None, name) and fault.at <= number < fault.at + fault.times:
                return fault
        return None
