"""The session store: sessions, conversations, task contexts and checkpoints over one record store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cached_property, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from .._bridge import LoopThread
from ..records.base import RecordStore
from .checkpoints import Checkpoints
from .exports import Exports
from .interfaces import ICheckpointerBackend, IStorageBackend
from .options import session_options
from .rotation import Rotating
from .sweeper import Sweeper

T = TypeVar("T")


class SessionStore(Exports, Rotating, Checkpoints, IStorageBackend, ICheckpointerBackend):
    """Sessions and all that hangs under them, over any `RecordStore`; may be called from any event loop and thread.

    Every call is awaited; `sync` is the same face for blocking callers. Opened by the first call. The options are those
    of `SessionOptions`; an unknown one → `StorageConfigError`.
    """

    def __init__(self, records: RecordStore, **options: Any) -> None:
        super().__init__(records, session_options(options))
        self.sweeper = Sweeper(self, self.options.sweep_interval)

    @cached_property
    def sync(self) -> BlockingSessions:
        """The same calls, blocking, from any thread, also one whose event loop is running."""
        return BlockingSessions(self)

    async def initialize(self) -> bool:
        """Connects and prepares the records; idempotent.

        Raises:
            StorageConnectionError: the store cannot be reached; nothing else is used in its place.
            StorageSchemaError: it was written by a newer release.
        """
        await self.records.initialize()
        await self.judge_layout()
        if self.options.session_ttl is not None or self.options.checkpoint_ttl is not None:
            self.watch()
        return True

    def watch(self) -> None:
        """Starts the sweeper; who never calls `initialize` has one too, once something is there to end."""
        self.sweeper.start()

    async def close(self) -> None:
        """Releases the record store; idempotent."""
        self.sweeper.stop()
        await self.records.close()


class BlockingSessions:
    """`SessionStore.sync`: names, parameters, results and errors of the store's own calls, on a loop of its own."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self._thread = LoopThread("genro-sessions")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, name)
        if name.startswith("_") or not iscoroutinefunction(method):
            raise AttributeError(f"{type(self).__name__} has no call {name!r}")

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._thread.run(method(*args, **kwargs))

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self.store)) if iscoroutinefunction(getattr(type(self.store), name))]

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine of this store, or of what is built on it."""
        return self._thread.run(call)

    def close(self) -> None:
        """Closes the store, and the thread that served these calls."""
        try:
            self._thread.run(self.store.close())
        finally:
            self._thread.close()
