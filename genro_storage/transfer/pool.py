"""The threads of a transfer: they take actions, small ones many at a time, and are left alone when they hang."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from msgspec import Struct

from .flow import Flow, thread
from .job import SMALL, Copied
from .pace import Width
from .plan import Action

BATCH = 128
FLUSH = 0.02
"""Seconds after which a thread hands over what it has, in the middle of a batch."""


class Outcome(Struct):
    """What came of one action: the copy, or the error after so many attempts; `hashed`: bytes read to compare."""

    copied: Copied | None = None
    error: BaseException | None = None
    attempts: int = 1
    reason: str = ""
    hashed: int = 0


class Note(NamedTuple):
    """What happens to an action before its outcome: it begins, or is tried again after so many attempts."""

    kind: str
    error: Exception | None = None
    attempts: int = 0


Result = tuple[Action, Outcome | Note]
Work = Callable[[Sequence[Action]], Generator[Outcome, None, None]]
"""What comes of each of some actions, in order; each is begun when its outcome is asked for."""


class Pool(Protocol):
    """Does actions somewhere else; used by one thread only."""

    @property
    def under_way(self) -> int:
        """Actions given and not yet returned."""

    @property
    def waiting(self) -> int:
        """Those of them that nobody has begun."""

    def give(self, actions: Sequence[Action]) -> None:
        """Hands over some more."""

    def results(self, timeout: float | None) -> list[Result]:
        """What came of some of them, in the order they ended; [] after `timeout` seconds without any."""

    def note(self, action: Action, note: Note) -> None:
        """Tells of an action that is under way; from any thread."""

    def close(self) -> None:
        """Ends all work; where the transfer was cancelled, what hangs is left alone."""


class Threads:
    """Up to `width` daemon threads."""

    def __init__(self, work: Work, flow: Flow, width: Width, *, notes: bool = False) -> None:
        """`notes`: results also tell when an action begins or is tried again."""
        self._work = work
        self._flow = flow
        self._width = width
        self._notes = notes
        self._todo: deque[Action] = deque()
        self._ready = threading.Condition()
        self._busy = self._idle = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._done: SimpleQueue[list[Result]] = SimpleQueue()
        self.under_way = 0

    # --- for the caller's thread ---

    @property
    def waiting(self) -> int:
        return len(self._todo)

    def give(self, actions: Sequence[Action]) -> None:
        with self._ready:
            before = len(self._todo)
            self._todo.extend(actions)
            self.under_way += len(self._todo) - before
            self._ready.notify(len(self._todo))
            self._grow()

    def _grow(self) -> None:
        """Starts threads as long as there is more to do than are idle."""
        while not self._closed and len(self._threads) < self._width.now and len(self._todo) > self._idle:
            another = thread(str(len(self._threads)), self._loop)
            self._threads.append(another)
            self._idle += 1
            another.start()

    def results(self, timeout: float | None) -> list[Result]:
        try:
            found = self._done.get(timeout=timeout)
            while not self._done.empty():
                found += self._done.get()
        except Empty:
            return []
        files = size = 0
        for _, outcome in found:
            if isinstance(outcome, Outcome):
                files += 1
                size += outcome.copied.size if outcome.copied is not None else 0
        self.under_way -= files
        width = self._width.now
        self._width.done(files, size)
        if self._width.now > width:
            with self._ready:
                self._ready.notify()
                self._grow()
        return found

    def note(self, action: Action, note: Note) -> None:
        if self._notes:
            self._done.put([(action, note)])

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        last = time.monotonic()
        waiting = [one for one in self._threads if one.is_alive()]
        while waiting:
            waiting[0].join(0.02 if self._flow.cancelled else None)
            alive = [one for one in waiting if one.is_alive()]
            now = time.monotonic()
            if len(alive) < len(waiting):
                last = now
            elif now - last > self._flow.patience:
                self._flow.abandoned = True
                return
            waiting = alive

    # --- in the threads ---

    def _loop(self) -> None:
        while batch := self._taken():
            self._do(batch)
            with self._ready:
                self._busy -= 1
                self._idle += 1

    def _taken(self) -> list[Action]:
        """Some work: one file, or so many small ones that the other threads have as many; [] at the end."""
        with self._ready:
            while not self._closed and (not self._todo or self._busy >= self._width.now):
                self._ready.wait()
            self._idle -= 1
            if self._closed:
                return []
            self._busy += 1
            most = min(BATCH, len(self._todo) // (2 * self._width.now))
            batch = [self._todo.popleft()]
            while len(batch) < most and is_small(self._todo[0]) and is_small(batch[0]):
                batch.append(self._todo.popleft())
            return batch

    def _do(self, batch: list[Action]) -> None:
        results: list[Result] = []
        flush = time.monotonic() + FLUSH
        with closing(self._work(batch)) as outcomes:
            for action in batch:
                if self._notes:
                    self._done.put([(action, Note("start"))])
                try:
                    self._flow.tick()
                    outcome = next(outcomes)
                except BaseException as error:  # noqa: BLE001 - the engine: whatever it is, the caller must hear of it
                    outcome = Outcome(error=error)
                results.append((action, outcome))
                if (now := time.monotonic()) >= flush:
                    self._done.put(results)
                    results, flush = [], now + FLUSH
        if results:
            self._done.put(results)


def is_small(action: Action) -> bool:
    """Whether one get and one put may do it."""
    size = action.entry.stat.size
    return size is not None and size <= SMALL


class Here:
    """The caller's own thread, for one file that nothing else needs to interrupt."""

    waiting = under_way = 0

    def __init__(self, work: Work) -> None:
        self._work = work
        self._done: list[Result] = []

    def give(self, actions: Sequence[Action]) -> None:
        self._done += zip(actions, self._work(actions), strict=True)
        self.under_way = len(self._done)

    def results(self, timeout: float | None) -> list[Result]:
        done, self._done, self.under_way = self._done, [], 0
        return done

    def note(self, action: Action, note: Note) -> None:
        """Nobody listens."""

    def close(self) -> None:
        pass
