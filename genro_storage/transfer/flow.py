"""What all files of one transfer share: the wish to stop, the time they have, the memory and the bytes per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from copy import copy
from queue import Empty, Full, Queue
from typing import Generic, NoReturn, Protocol, TypeVar

from ..exceptions import StorageError, StorageTimeoutError, TransferCancelled
from .pace import Bandwidth

T = TypeVar("T")

BUFFER = 32 << 20
POLL = 0.1
"""Seconds between two looks at what may stop a transfer."""
GRACE = 1.0
"""Seconds that a stopped transfer waits for threads of which nothing is heard."""
PATIENCE = 10.0
"""The longest such wait, where bytes are known to come slowly."""
PAGES, PAGE = 8, 250
"""How far a listing may run ahead: two pages of an object store."""


def thread(name: str, work: Callable[[], object]) -> threading.Thread:
    """A daemon that does `work` in the context of who makes it: a mount may choose its folder by a ContextVar."""
    return threading.Thread(target=copy_context().run, args=(work,), name=f"genro-transfer-{name}", daemon=True)


class Cancel(Protocol):
    """What `cancel=` takes, for example a `threading.Event`."""

    def is_set(self) -> bool: ...


class Flow:
    """Stopping, a deadline, a byte budget, a rate; thread-safe."""

    def __init__(
        self,
        buffer: int = BUFFER,
        *,
        bandwidth: float | None = None,
        cancel: Cancel | None = None,
        deadline: float | None = None,
    ) -> None:
        """`bandwidth` in bytes per second, `deadline` in seconds from now."""
        self._stop = threading.Event()
        self._budget = _Budget(buffer, self._stop)
        self._bandwidth = None if bandwidth is None else Bandwidth(bandwidth)
        self._wish = cancel
        self._begun = time.monotonic()
        self._end = None if deadline is None else self._begun + deadline
        self._deadline = deadline
        self._moved = _Moved()
        self.cause: StorageError | None = None
        """Why it stopped, where somebody wished it or the time was over."""
        self.slow: Callable[[], object] = lambda: None
        """Called from any thread when a storage does not keep up."""
        self.retried: Callable[[Exception, int], object] = lambda error, attempt: None
        """Called from any thread when a part of a file is tried again after so many attempts."""
        self.abandoned = False
        """Threads were left behind that may still hold what they opened."""

    # --- stopping ---

    def cancel(self) -> None:
        """Makes every `tick` and `wait` raise from now on."""
        self._stop.set()
        self._budget.wake()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    @property
    def watched(self) -> bool:
        """Whether something else than the caller's own thread may stop it."""
        return self._wish is not None or self._end is not None

    def poll(self) -> None:
        """Looks at `cancel` and the deadline, in the caller's thread; raises `TransferCancelled` or a timeout."""
        if self._wish is not None and self._wish.is_set():
            self._stopped(TransferCancelled("the transfer was cancelled"))
        if self._end is not None and time.monotonic() >= self._end:
            self._stopped(StorageTimeoutError(f"the transfer did not end within {self._deadline:g} s", retryable=False))

    def _stopped(self, cause: StorageError) -> NoReturn:
        self.cause = self.cause or cause
        self.cancel()
        raise self.cause

    def waited(self, call: Callable[[], T], release: Callable[[T], object] = lambda value: None) -> T:
        """`call()`, left alone where a cancel or the deadline comes first: what never answers holds nobody up.

        What it returns after all is given to `release`.
        """
        return self.apart(call, release) if self.watched else call()

    def apart(self, call: Callable[[], T], release: Callable[[T], object] = lambda value: None) -> T:
        """As `waited`, for a call that Ctrl-C shall leave alone too: a driver may not hear it, or tidy up for long."""
        self.poll()
        return Away(call, release).result(self.poll)

    def ahead(self, values: Iterator[T]) -> Iterator[T]:
        """The same values, read by a thread of its own a little ahead: one that hangs does not hold up the caller."""
        queue: Queue[list[T] | BaseException | None] = Queue(maxsize=PAGES)
        left = threading.Event()

        def put(item: list[T] | BaseException | None) -> bool:
            while not (left.is_set() or self.cancelled):
                try:
                    queue.put(item, timeout=POLL)
                    return True
                except Full:
                    continue
            return False

        def read() -> None:
            page: list[T] = []
            end: BaseException | None = None
            turn = time.monotonic() + POLL
            try:
                for value in values:
                    page.append(value)
                    if len(page) >= PAGE or time.monotonic() >= turn:
                        if not put(page):
                            return
                        page, turn = [], time.monotonic() + POLL
            except BaseException as error:  # noqa: BLE001 - the engine: it is raised where the values are used
                end = error
            put(page)
            put(end)

        thread("list", read).start()
        try:
            while (found := self._taken(queue)) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield from found
        finally:
            left.set()

    def _taken(self, queue: Queue[T]) -> T:
        while True:
            try:
                return queue.get(timeout=POLL)
            except Empty:
                self.poll()
                self.tick()

    @property
    def patience(self) -> float:
        """Seconds that a thread may need to come to its next tick, judged by those that came."""
        return min(PATIENCE, max(GRACE, 2 * self._moved.gap))

    # --- on the way ---

    def tick(self, count: int = 0) -> None:
        """Called with bytes written, at least once per chunk; waits for the bandwidth, raises after `cancel`."""
        if self._stop.is_set():
            raise TransferCancelled("the transfer was cancelled")
        if count:
            self._moved.add(count)
            if self._bandwidth is not None and count > 0 and (seconds := self._bandwidth.owed(count)):
                self.wait(seconds)

    def untick(self, count: int) -> None:
        """Bytes that were counted have to go again."""
        self._moved.add(-count)

    def tick_aside(self, count: int = 0) -> None:
        """As `tick`, for bytes that a server moves: they take no bandwidth of ours."""
        self.tick()
        self._moved.add(count)

    def limit(self, bandwidth: float) -> None:
        """From now on so many bytes per second, if there was a bandwidth at all."""
        if self._bandwidth is not None:
            self._bandwidth.rate = bandwidth

    def wait(self, seconds: float) -> None:
        """Waits, unless cancelled."""
        self._stop.wait(seconds)
        self.tick()

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Holds `size` bytes of the budget, as soon as they are free."""
        size = self._budget.take(size)
        try:
            self.tick()
            yield
        finally:
            self._budget.give(size)

    # --- how far it is ---

    @contextmanager
    def file(self) -> Iterator[Flow]:
        """The flow of one file: what passes is known to be under way until it ends."""
        part = copy(self)
        part._moved = _Moved(self._moved)
        self._moved.parts.add(part._moved)
        try:
            yield part
        finally:
            self._moved.parts.discard(part._moved)

    @property
    def under_way(self) -> int:
        """Bytes of the files that are being copied now."""
        return sum(part.whole for part in tuple(self._moved.parts))


class _Moved:
    """Counts bytes, for itself and for what it is a part of."""

    def __init__(self, above: _Moved | None = None) -> None:
        self._above = above
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self.whole = 0
        self.parts: set[_Moved] = set()
        self.gap = 0.0
        """The longest time between two steps of one part."""

    def add(self, count: int) -> None:
        with self._lock:
            self.whole += count
        if self._above is not None:
            now = time.monotonic()
            self._above.gap = max(self._above.gap, now - self._last)
            self._last = now
            self._above.add(count)


class _Budget:
    """Bytes that may be held at once; when all is to stop, nobody waits for them any more."""

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._size = self._left = size
        self._stop = stop
        self._room = threading.Condition()

    def take(self, size: int) -> int:
        size = min(size, self._size)
        with self._room:
            self._room.wait_for(lambda: self._left >= size or self._stop.is_set())
            self._left -= size
        return size

    def give(self, size: int) -> None:
        with self._room:
            self._left += size
            self._room.notify_all()

    def wake(self) -> None:
        with self._room:
            self._room.notify_all()


class Away(Generic[T]):
    """A call in a daemon thread of its own, of which one may give up waiting; its value then goes to `release`."""

    def __init__(self, call: Callable[[], T], release: Callable[[T], object]) -> None:
        self._call = call
        self._release = release
        self._lock = threading.Lock()
        self._left = False
        self._ended = threading.Event()
        self._value: T
        self._error: BaseException | None = None
        thread("away", self._run).start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - the engine: it is raised where the result is asked for
            self._error = error
        with self._lock:
            self._ended.set()
            left = self._left
        if left and self._error is None:
            self._release(self._value)

    def result(self, poll: Callable[[], object]) -> T:
        """What the call returned or raised; `poll` is called meanwhile and may raise."""
        try:
            while not self._ended.wait(POLL):
                poll()
        finally:
            with self._lock:
                self._left = not self._ended.is_set()
        if self._error is not None:
            raise self._error
        return self._value
