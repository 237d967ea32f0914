"""The blocking face of a record store: the same calls, for threads without an event loop or with a running one."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .._bridge import LoopThread
from .base import Change, Record

if TYPE_CHECKING:
    from .base import RecordStore

T = TypeVar("T")


class BlockingRecords:
    """`RecordStore.sync`: names, parameters, results and errors of the store's own calls."""

    def __init__(self, store: RecordStore) -> None:
        self.store = store
        self._thread = LoopThread(f"genro-records-{store.name}")

    def get(self, space: str, key: str) -> Record | None:
        return self.run(self.store.get(space, key))

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        return self.run(self.store.get_many(keys))

    def scan(
        self, space: str, *, after: str = "", until: str | None = None, limit: int | None = None, reverse: bool = False
    ) -> list[Record]:
        return self.run(self.store.scan(space, after=after, until=until, limit=limit, reverse=reverse))

    def commit(self, changes: Sequence[Change]) -> list[int]:
        return self.run(self.store.commit(changes))

    def initialize(self) -> None:
        self.run(self.store.initialize())

    def close(self) -> None:
        """Closes the store, and the thread that served these calls."""
        try:
            self.run(self.store.close())
        finally:
            self._thread.close()

    def ping(self, timeout: float = 5.0) -> float:
        return self.run(self.store.ping(timeout))

    def sweep(self, limit: int = 500) -> int:
        return self.run(self.store.sweep(limit))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine of the store that has no blocking name, as `backup`."""
        return self._thread.run(call)
