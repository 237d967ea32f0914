"""Threads that serve one queue with connections of their own, a batch at a time, and answer each loop once a batch."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ..._bridge import Outcome

T = TypeVar("T")


class Job(Generic[T]):
    """One call for a lane: `call` gets what the lane's `serve` gives it; `value` or `error` comes back.

    `turn`: where somebody counts that it waits.
    """

    __slots__ = ("call", "error", "future", "loop", "turn", "value")

    def __init__(
        self,
        call: Callable[[Any], T],
        future: asyncio.Future[T],
        loop: asyncio.AbstractEventLoop,
        turn: Turn | None = None,
    ) -> None:
        self.call = call
        self.future = future
        self.loop = loop
        self.turn = turn
        self.value: T | None = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        """Hands the answer to whoever waits; in the job's own loop."""
        if self.turn is not None:
            self.turn.waiting -= 1
        if self.future.done():  # cancelled
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)  # type: ignore[arg-type]  # no error: it is a T


Serve = Callable[[sqlite3.Connection, Sequence[Job[Any]]], None]
"""Does a batch and leaves `value` or `error` in each job; raises only if none of it happened."""


class Seat:
    """One thread's place: its connection, and the lock that it holds while it uses it."""

    __slots__ = ("connection", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None

    def leave(self) -> None:
        """Closes the connection; the caller holds the lock."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class Turn:
    """What the tasks of one loop ask for in one turn of it: handed over together, unless only one task asks at all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, put: Callable[[Sequence[Job[Any]]], None]) -> None:
        self.loop = loop
        self.waiting = 0
        """Tasks that wait for an answer."""
        self._put = put
        self._jobs: list[Job[Any]] = []
        self._crowded = False

    def add(self, job: Job[Any]) -> None:
        self.waiting += 1
        self._crowded = self._crowded or self.waiting > 1
        if not self._crowded:
            self._put([job])  # a turn less to wait
            return
        if not self._jobs:
            self.loop.call_soon(self._hand_over)
        self._jobs.append(job)

    def _hand_over(self) -> None:
        jobs, self._jobs = self._jobs, []
        self._crowded = len(jobs) > 1 or self.waiting > 1
        self._put(jobs)


class Lane:
    """`count` threads, started with the first job; each takes what is queued, at most `most` jobs at once."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        serve: Serve,
        *,
        most: int,
        count: int,
        after: Callable[[sqlite3.Connection], object] = lambda connection: None,
        leave: Callable[[sqlite3.Connection], object] = lambda connection: None,
    ) -> None:
        """`after`: what a thread does when a batch is answered; `leave`: when it ends."""
        self.name = name
        self.after = after
        self.leave = leave
        self.seats = [Seat() for _ in range(count)]
        self._connect = connect
        self._serve = serve
        self._most = most
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return self._queue.qsize()

    async def run(self, call: Callable[[Any], T]) -> T:
        """The result of a call made by one of the threads; nobody waits for it if this is cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put([Job(call, future, loop)])
        return await future

    def settle(self, call: Callable[[Any], T]) -> Outcome[T]:
        """As `run`; whoever is cancelled while awaiting it waits for the end of the call, and then is.

        What several tasks of a loop ask for in one turn of it travels together.
        """
        loop = asyncio.get_running_loop()
        turn: Turn | None = getattr(self._local, "turn", None)
        if turn is None or turn.loop is not loop:
            turn = self._local.turn = Turn(loop, self._put)
        future: Outcome[T] = Outcome(loop=loop)
        turn.add(Job(call, future, loop, turn))
        return future

    def _put(self, jobs: Sequence[Job[Any]]) -> None:
        """In the loop of these jobs."""
        with self._lock:  # a job put behind the end of its threads would wait for ever
            try:
                if not self._threads:
                    self._start()
            except RuntimeError as error:  # the system gives no thread
                for job in jobs:
                    job.error = error
                    job.resolve()
                return
            for job in jobs:
                self._queue.put(job)

    def _start(self) -> None:
        for seat in self.seats:
            thread = threading.Thread(target=_work, args=[self, seat], name=self.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def dismiss(self) -> list[threading.Thread]:
        """Tells the threads to end after what is queued, and to close their connections; the next job starts others."""
        with self._lock:
            threads, self._threads = self._threads, []
            for _ in threads:
                self._queue.put(None)
        return threads

    def stop(self) -> None:
        """As `dismiss`, and waits for them."""
        for thread in self.dismiss():
            thread.join()

    def take(self) -> list[Job[Any]] | None:
        """The next batch; None: this thread ends."""
        first = self._queue.get()
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < self._most and not self._queue.empty():  # to be told so by an error costs more
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._queue.put(None)  # this batch first
                break
            jobs.append(job)
        return jobs

    def serve(self, seat: Seat, jobs: Sequence[Job[Any]]) -> None:
        """Does a batch; whatever happens, each job has its answer afterwards."""
        with seat.lock:
            try:
                if seat.connection is None:
                    seat.connection = self._connect()
                self._serve(seat.connection, jobs)
            except BaseException as error:  # noqa: BLE001 - the callers get it, the thread lives on
                for job in jobs:
                    job.error = error


def _work(lane: Lane, seat: Seat) -> None:
    while (jobs := lane.take()) is not None:
        lane.serve(seat, jobs)
        answer(jobs)
        del jobs  # while it waits it keeps nothing alive
        with seat.lock:
            if seat.connection is not None:
                lane.after(seat.connection)
    with seat.lock:
        if seat.connection is not None:
            lane.leave(seat.connection)
        seat.leave()


def answer(jobs: Sequence[Job[Any]]) -> None:
    """One wake-up for each loop that waits for some of these."""
    loops: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, theirs)
        except RuntimeError:  # closed meanwhile: nobody waits there any more
            pass


def _resolve(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.resolve()
