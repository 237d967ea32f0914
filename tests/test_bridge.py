"""The bridges between blocking and awaited code: loops, cancellation, threads, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType, SimpleNamespace

import pytest

from genro_storage import _bridge
from genro_storage._bridge import LoopThread, Outcome, PerLoop, Workers, settled


def in_child(work: Callable[[], object]) -> bool:
    """Whether `work` was done within a minute in a forked child."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child only says that it failed
            os._exit(1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


@contextmanager
def without_threads(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Iterator[None]:
    """The system gives this module no more threads."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(module, "threading", SimpleNamespace(**{**vars(threading), "Thread": Refused}))
        yield


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_loop_thread_runs() -> None:
    thread = LoopThread()
    assert thread.run(answer()) == 42
    thread.close()
    thread.close()
    assert thread.run(answer()) == 42
    thread.close()


def test_loop_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoopThread()
    with without_threads(monkeypatch, _bridge):
        for _ in range(2):
            call = answer()
            with pytest.raises(RuntimeError, match="can't start new thread"):
                thread.run(call)
            assert call.cr_frame is None  # closed, and not left to a warning
    assert thread.run(answer()) == 42
    thread.close()


def test_loop_thread_under_a_running_loop() -> None:
    thread = LoopThread()

    async def inside() -> int:
        return thread.run(answer())

    assert asyncio.run(inside()) == 42
    thread.close()


def test_loop_thread_refuses_to_wait_for_itself() -> None:
    thread = LoopThread("mine")

    async def nested() -> int:
        return thread.run(answer())

    with pytest.raises(RuntimeError, match=r"mine.*wait for itself"):
        thread.run(nested())
    thread.close()


def test_loop_thread_ends_with_its_owner() -> None:
    thread = LoopThread("forgotten")
    thread.run(answer())
    del thread
    gc.collect()
    deadline = time.monotonic() + 60
    while any(one.name == "forgotten" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_loop_thread_closes_generators() -> None:
    ended = threading.Event()

    async def numbers() -> None:
        async def endless():  # type: ignore[no-untyped-def]
            try:
                while True:
                    yield 1
            finally:
                ended.set()

        kept.append(endless())
        await anext(kept[0])

    kept: list[object] = []
    thread = LoopThread()
    thread.run(numbers())
    thread.close()
    assert ended.is_set()


def test_loop_thread_in_a_forked_child() -> None:
    thread = LoopThread()
    thread.run(answer())
    assert in_child(lambda: thread.run(answer()))
    assert thread.run(answer()) == 42
    thread.close()


@pytest.mark.parametrize("fails", [False, True])
def test_an_outcome_is_awaited_however_often_its_waiter_is_cancelled(fails: bool) -> None:
    async def main() -> None:
        future = Outcome[int](loop=asyncio.get_running_loop())
        ended = []

        async def waits() -> None:
            try:
                await future
            finally:
                ended.append(future.done())

        task = asyncio.ensure_future(waits())
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        assert not ended
        future.set_exception(OSError()) if fails else future.set_result(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(main())


def test_who_waits_for_an_outcome_that_never_comes_is_cancelled() -> None:
    async def main() -> None:
        future = Outcome[int](loop=asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(future.end)
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(main())


def test_settled_waits_for_the_outcome() -> None:
    done: list[int] = []

    async def cancelled_thrice() -> None:
        cancelled = asyncio.Event()

        async def slow() -> None:
            await cancelled.wait()
            done.append(1)

        task = asyncio.ensure_future(settled(slow()))
        for _ in range(3):
            await asyncio.sleep(0.005)
            task.cancel()
        await asyncio.sleep(0.005)
        assert not task.done()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [1]

    asyncio.run(cancelled_thrice())


def test_workers_run() -> None:
    workers = Workers(2, "mine")

    async def use() -> list[str]:
        return await asyncio.gather(*(workers.run(lambda: threading.current_thread().name) for _ in range(10)))

    assert all(name.startswith("mine") for name in asyncio.run(use()))
    workers.close()
    assert asyncio.run(workers.run(max, 1, 2)) == 2
    workers.close()


def test_workers_see_the_context_of_their_caller() -> None:
    workers, tenant = Workers(1), ContextVar("tenant", default="nobody")

    async def asked(name: str) -> str:
        tenant.set(name)
        return await workers.run(tenant.get)

    async def both() -> list[str]:
        return await asyncio.gather(asked("a"), asked("b"))

    assert asyncio.run(both()) == ["a", "b"]
    workers.close()


def test_workers_wait_for_what_was_begun() -> None:
    workers = Workers(1)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)
        ended.set()

    async def use() -> None:
        task = asyncio.ensure_future(workers.run(work))
        waiting = asyncio.ensure_future(workers.run(begun.clear))
        while not begun.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)
        waiting.cancel()
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(use())
    workers.close()
    assert begun.is_set()  # what waited never ran


def test_workers_ask_to_stop() -> None:
    workers = Workers(1)
    stop, begun = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return stop.wait(60)

    async def use() -> float:
        start = time.monotonic()
        task = asyncio.ensure_future(workers.stoppable(stop.set, work))
        while not begun.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - start

    assert asyncio.run(use()) < 50
    workers.close()


def test_workers_in_a_forked_child() -> None:
    workers = Workers(1)
    asyncio.run(workers.run(int))
    assert in_child(lambda: asyncio.run(workers.run(int)))
    workers.close()


class Connection:
    """Opened, and perhaps closed."""

    def __init__(self) -> None:
        self.closed = False


def connections() -> tuple[PerLoop[Connection], list[Connection]]:
    made: list[Connection] = []

    async def opened() -> Connection:
        await asyncio.sleep(0.001)
        made.append(Connection())
        return made[-1]

    async def closed(connection: Connection) -> None:
        await asyncio.sleep(0)
        connection.closed = True

    return PerLoop(opened, closed), made


def test_one_for_each_loop_closed_with_it() -> None:
    per_loop, made = connections()

    async def use() -> None:
        found = await asyncio.gather(*(per_loop.get() for _ in range(5)))
        assert len(set(map(id, found))) == 1
        assert not found[0].closed

    for count in range(1, 4):
        asyncio.run(use())
        assert [one.closed for one in made] == [True] * count


def test_closed_and_opened_again_in_one_loop() -> None:
    per_loop, made = connections()

    async def use() -> None:
        first = await per_loop.get()
        await per_loop.close()
        assert first.closed
        await per_loop.close()
        assert not (await per_loop.get()).closed

    asyncio.run(use())
    assert [one.closed for one in made] == [True, True]


def test_a_failed_opening_is_tried_again() -> None:
    tries: list[int] = []

    async def opened() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not yet")
        return 7

    async def closed(number: int) -> None:
        pass

    async def use() -> None:
        per_loop = PerLoop(opened, closed)
        with pytest.raises(ConnectionError):
            await per_loop.get()
        await per_loop.close()
        assert await per_loop.get() == 7

    asyncio.run(use())
