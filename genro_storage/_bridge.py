"""The two bridges between blocking and awaited code: `LoopThread` and `Workers`, and what outlives a cancellation."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def settled(call: Awaitable[T]) -> T:
    """Awaits a call to its end even if this task is cancelled meanwhile; then the cancellation goes on."""
    return await outcome(asyncio.ensure_future(call))


async def outcome(future: asyncio.Future[T]) -> T:
    """As `settled`, of what is under way elsewhere."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await outlast(future)
        raise


class Outcome(asyncio.Future[T]):
    """What comes of something that goes on whoever waits: a task that is cancelled while it awaits this ends with it.

    It does in one turn of the loop what `outcome` does in three.
    """

    def cancel(self, msg: object = None) -> bool:
        """Refused; the loop then cancels the waiting task as soon as the outcome is known."""
        return False

    def end(self) -> None:
        """Cancels whoever waits, because there will be no outcome."""
        super().cancel()


async def outlast(task: asyncio.Future[Any]) -> None:
    """Waits until a future is done, however often this task is cancelled; takes note of its error."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    if not task.cancelled():
        task.exception()


class LoopThread:
    """An event loop in a thread of its own, started on first use: awaitables for blocking callers.

    Any thread may call, also one whose own loop runs, but not the loop's own thread: that would wait for itself. A
    forked child gets a loop of its own. `close` ends it, and the next call starts another.
    """

    def __init__(self, name: str = "genro-loop") -> None:
        self.name = name
        self._reset()
        _FORKED.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: weakref.finalize[Any, Any] | None = None

    def after_fork(self) -> None:
        """In the child there is no such thread; the parent's end must not be ours."""
        if self._end is not None:
            self._end.detach()
        self._reset()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; interrupted (Ctrl-C) it asks the coroutine to end, and does not wait for that."""
        if threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError(f"{self.name}: a blocking call on the loop's own thread would wait for itself")
        future = self.submit(call)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
            raise

    def submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine and returns its future; cancelling that cancels the coroutine."""
        with self._lock:
            if self._loop is None:
                try:
                    self._start()
                except BaseException:
                    call.close()
                    raise
            assert self._loop is not None
            return asyncio.run_coroutine_threadsafe(call, self._loop)

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_serve, args=[loop], name=self.name, daemon=True)
        try:
            thread.start()
        except BaseException:  # the system gives none: the next call asks again
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        self._end = weakref.finalize(self, _stop, loop, thread)

    def close(self) -> None:
        """Cancels what runs and ends the thread. Idempotent."""
        with self._lock:
            end, self._loop, self._thread, self._end = self._end, None, None, None
        if end is not None:
            end()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:  # it closed meanwhile
            pass
    if thread is not threading.current_thread():
        thread.join(timeout=10)


class Workers:
    """Threads of our own that run blocking calls for awaiting ones; started on first use, anew in a forked child."""

    def __init__(self, count: int, name: str = "genro-worker") -> None:
        self.count = count
        self.name = name
        self._reset()
        _FORKED.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def after_fork(self) -> None:
        """In the child the pool has no threads."""
        self._reset()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a blocking call, which sees the context variables of its caller.

        Cancelled before a thread took it, it never runs; afterwards its end is awaited and the cancellation goes on, so
        that nothing works on behind the caller's back. `stoppable` also asks it to stop.
        """
        return await self.stoppable(lambda: None, partial(call, *args, **kwargs))

    async def stoppable(self, stop: Callable[[], object], call: Callable[[], T]) -> T:
        """As `run`; `stop` is called when the caller is cancelled, and makes the blocking call end early."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix=self.name)
            future = self._pool.submit(copy_context().run, call)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if not future.cancel():
                stop()
                await outlast(waiter)
            raise

    def close(self) -> None:
        """Waits for what runs and ends the threads; the next call starts others. Idempotent."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)


class PerLoop(Generic[T]):
    """One resource for each event loop, closed when that loop shuts down, and opened anew in a forked child."""

    def __init__(self, opened: Callable[[], Awaitable[T]], closed: Callable[[T], Awaitable[object]]) -> None:
        self._opened = opened
        self._closed = closed
        self._reset()
        _FORKED.add(self)

    def _reset(self) -> None:
        self._kept: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[tuple[T, AsyncIterator[T]]]]
        self._kept = weakref.WeakKeyDictionary()

    def after_fork(self) -> None:
        """The parent's connections are not ours: they are left as they are, never used and never closed."""
        _ABANDONED.append(self._kept)
        self._reset()

    async def get(self) -> T:
        """The resource of the running loop; opened by whoever asks first, the others wait."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None or (kept.done() and (kept.cancelled() or kept.exception() is not None)):
            kept = self._kept[loop] = asyncio.ensure_future(self._open(loop))
        return (await asyncio.shield(kept))[0]

    async def _open(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncIterator[T]]:
        keeper = self._keep(loop)
        return await anext(keeper), keeper

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[T]:
        """Begun in a loop, an asynchronous generator is closed by that loop's shutdown (PEP 525)."""
        resource = await self._opened()
        try:
            yield resource
        finally:
            self._kept.pop(loop, None)
            await self._closed(resource)

    async def close(self) -> None:
        """Closes the resource of the running loop; those of other loops go with them."""
        kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is None:
            return
        await asyncio.wait([kept])
        if not kept.cancelled() and kept.exception() is None:
            _, keeper = kept.result()
            await keeper.aclose()  # type: ignore[attr-defined]  # it is a generator


_FORKED: weakref.WeakSet[LoopThread | Workers | PerLoop[Any]] = weakref.WeakSet()
_ABANDONED: list[object] = []


def _after_fork() -> None:
    for one in list(_FORKED):
        one.after_fork()


os.register_at_fork(after_in_child=_after_fork)
