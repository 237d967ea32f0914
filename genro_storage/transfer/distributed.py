"""Copies by the workers of a `concurrent.futures.Executor`: threads, processes, a Dask cluster, other machines."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from ..backends.switched import Switched
from ..exceptions import StorageConfigError, StorageError, StorageUnavailableError
from ..mount import Mount
from ..types import Stat
from .files import Worker
from .flow import PATIENCE, Flow
from .job import Copied
from .moving import Removal
from .options import CopyOptions
from .places import At
from .plan import Action, Entry
from .pool import Note, Outcome, Result

if TYPE_CHECKING:
    from .resume import Resume

BATCH_FILES = 64
BATCH_BYTES = 256 << 20
PER_WORKER = 2
"""Batches under way for each worker: one that runs, one that waits for it."""
WORKERS = 8
"""Where neither the executor nor `concurrency` tells how many there are."""

_LOCAL = (
    "progress",
    "on_event",
    "on_file",
    "on_skip",
    "on_error",
    "on_delete",
    "filter",
    "skip_fn",
    "cancel",
    "journal",
)
"""Options that stay with the caller."""


class Errand(Struct, frozen=True):
    """What a worker must know to copy files of one transfer, `call`; `bandwidth`: its own share."""

    call: str
    source: At
    target: At
    options: CopyOptions
    bandwidth: float | None
    single: bool
    moving: bool


class _Kept:
    """Stands for the `Removal` of a move, which the caller does: a worker may be lost, and its batch run again."""

    def proven(self, entry: Entry, copied: Stat) -> None:
        """Stays for now."""

    def made(self, entry: Entry) -> None:
        """Goes with the others."""


# --- in the worker ---


class _Post:
    """One transfer in this process: its worker, whose mounts stay connected, and how many batches it does at once."""

    def __init__(self, errand: bytes) -> None:
        told: Errand = pickle.loads(errand)
        options = told.options
        removal: Any = _Kept() if told.moving else None
        self._share = told.bandwidth
        self._flow = Flow(options.buffer, bandwidth=told.bandwidth)
        self._worker = Worker(told.source, told.target, options, self._flow, removal, single=told.single)
        self._busy = 0
        self._lock = threading.Lock()

    @contextmanager
    def batch(self) -> Iterator[Worker]:
        """Every batch under way adds its share of the bandwidth to what the threads of this process have together."""
        self._count(1)
        try:
            yield self._worker
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self._busy += more
            if self._share is not None and self._busy:
                self._flow.limit(self._share * self._busy)


_post = lru_cache(maxsize=4)(_Post)


def do_batch(errand: bytes, batch: bytes, again: bool) -> bytes:
    """Does some actions, one after the other; `again`: another worker may have done some of them."""
    actions: list[Action] = pickle.loads(batch)
    with _post(errand).batch() as worker:
        return pickle.dumps([_done(worker, action, again) for action in actions])


def _done(worker: Worker, action: Action, again: bool) -> Outcome:
    try:
        outcome = worker.settled_before(action) if again else None
        if outcome is None:
            (outcome,) = worker((action,))
    except Exception as error:  # noqa: BLE001 - the engine: whatever it is, the caller must hear of it
        outcome = Outcome(error=error)
    if outcome.error is not None and not isinstance(outcome.error, StorageError):
        outcome.error = RuntimeError(f"in a worker: {type(outcome.error).__name__}: {outcome.error}")
    return outcome


# --- in the caller ---


class Remote:
    """A `Pool` whose work is done by an executor, in batches; what is lost with a worker is done by another one."""

    def __init__(
        self, errand: Errand, executor: Any, flow: Flow, *, removal: Removal | None = None, notes: bool = False
    ) -> None:
        workers, batches = _workers(executor, errand.options.concurrency)
        share = None if errand.bandwidth is None else errand.bandwidth / workers
        self._errand = packed(replace(errand, bandwidth=share))
        self._executor = executor
        self._flow = flow
        self._removal = removal
        self._notes = notes
        self._most = batches
        self._tries = errand.options.retries + 1
        self._todo: deque[Action] = deque()
        self._running: dict[Future[bytes], tuple[list[Action], int]] = {}
        self._done: SimpleQueue[Future[bytes]] = SimpleQueue()
        self._ready: list[Result] = []
        self.resume: Resume | None = None
        self.under_way = 0

    @property
    def waiting(self) -> int:
        return len(self._todo)

    def give(self, actions: Sequence[Action]) -> None:
        for action in actions:
            copied = None if self.resume is None else self.resume.settled(action)
            if copied is None:
                self._todo.append(action)
            else:
                self._ready.append((action, self._removed(action, Outcome(copied))))
            self.under_way += 1
        self._submit_more()

    def results(self, timeout: float | None) -> list[Result]:
        try:
            while not self._ready or not self._done.empty():
                self._end(self._done.get(timeout=0 if self._ready else timeout))
        except Empty:
            pass
        found, self._ready = self._ready, []
        self.under_way -= sum(isinstance(outcome, Outcome) for _, outcome in found)
        self._submit_more()
        return found

    def note(self, action: Action, note: Note) -> None:
        """A worker far away tells what became of its files, and no more."""

    def close(self) -> None:
        """Submits nothing more; batches that run come to their end, those that wait are taken back."""
        self._todo.clear()
        for future in list(self._running):
            future.cancel()
        end = time.monotonic() + PATIENCE
        while any(not future.done() for future in self._running) and time.monotonic() < end:
            try:
                self._end(self._done.get(timeout=0.1), retried=False)
                end = time.monotonic() + PATIENCE
            except Empty:
                continue

    # --- batches ---

    def _submit_more(self) -> None:
        while self._todo and len(self._running) < self._most and not self._flow.cancelled:
            self._submit(self._batch(), 1)

    def _batch(self) -> list[Action]:
        most = min(BATCH_FILES, max(1, len(self._todo) // self._most))
        batch = [self._todo.popleft()]
        size = _size(batch[0])
        while self._todo and len(batch) < most and size + _size(self._todo[0]) <= BATCH_BYTES:
            batch.append(self._todo.popleft())
            size += _size(batch[-1])
        return batch

    def _submit(self, batch: list[Action], attempt: int) -> None:
        try:
            future = self._executor.submit(do_batch, self._errand, pickle.dumps(batch), attempt > 1)
        except RuntimeError as error:  # the executor itself is gone, or broken
            self._lost(batch, self._tries, error)
            return
        self._running[future] = batch, attempt
        if self._notes and attempt == 1:
            self._ready += [(action, Note("start")) for action in batch]
        future.add_done_callback(self._done.put)

    def _end(self, future: Future[bytes], retried: bool = True) -> None:
        batch, attempt = self._running.pop(future)
        try:
            outcomes: list[Outcome] = pickle.loads(future.result())
        except Exception as error:  # noqa: BLE001 - foreign code: each executor has its own way to say it
            self._lost(batch, attempt if retried and not self._flow.cancelled else self._tries, error)
            return
        for action, outcome in zip(batch, outcomes, strict=True):
            if self.resume is not None and outcome.copied is not None:
                self.resume.committed(action, outcome.copied)
            self._ready.append((action, self._removed(action, outcome)))

    def _lost(self, batch: list[Action], attempt: int, error: Exception) -> None:
        """A batch that did not come back: its worker died, or never saw it."""
        if attempt < self._tries:
            if self._notes:
                self._ready += [(action, Note("retry", error, attempt)) for action in batch]
            self._submit(batch, attempt + 1)
            return
        if isinstance(error, CancelledError) and self._flow.cancelled:
            return
        for action in batch:
            failure = StorageUnavailableError(f"its worker was lost: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._ready.append((action, Outcome(error=failure, attempts=attempt)))

    def _removed(self, action: Action, outcome: Outcome) -> Outcome:
        """For a move: the outcome once the source has gone, too."""
        copied: Copied | None = outcome.copied
        if self._removal is None or outcome.error is not None or self._flow.cancelled:
            return outcome
        if action.kind == "mkdir":
            self._removal.made(action.entry)
        elif copied is not None and not copied.same_place:
            stays = self._removal.proven(action.entry, copied.facts)
            return outcome if stays is None else Outcome(error=stays, attempts=outcome.attempts)
        return outcome


def errand_of(source: At, target: At, options: CopyOptions, *, single: bool, moving: bool) -> Errand:
    """What workers are told; `StorageConfigError` for a mount that means nothing to another process."""
    for mount in (source.mount, target.mount):
        _judge(mount)
    kept = dict.fromkeys((*_LOCAL, "executor"))
    rate = options.bandwidth
    assert not isinstance(rate, str)  # judged and made a number with the options
    skip = None if options.skip_fn is not None else options.skip
    return Errand(uuid4().hex, source, target, replace(options, skip=skip, **kept), rate, single, moving)


def packed(errand: Errand) -> bytes:
    """The errand as bytes; one that means nothing to another process → `StorageConfigError`."""
    try:
        return pickle.dumps(errand)
    except Exception as error:  # foreign code: anything may be unpicklable in its own way
        raise StorageConfigError(f"this cannot be sent to the workers of an executor: {error}") from error


def _judge(mount: Mount) -> None:
    """Raises `StorageConfigError` for a mount that only this process has."""
    reason = "its path is told by a function of this process" if isinstance(mount.backend, Switched) else ""
    try:
        pickle.dumps(mount)
    except Exception as error:  # noqa: BLE001 - foreign code: anything may be unpicklable in its own way
        reason = reason or f"it lives in this process ({error})"
    if reason:
        raise StorageConfigError(f"mount '{mount.name}' cannot be used by the workers of an executor: {reason}")


def _workers(executor: Any, concurrency: int | str) -> tuple[int, int]:
    """How many work at once, and how many batches are under way at most."""
    told = getattr(executor, "_max_workers", None)
    has = told if isinstance(told, int) and told > 0 else None
    asked = concurrency if isinstance(concurrency, int) else None
    workers = min((count for count in (has, asked) if count is not None), default=WORKERS)
    # Where more stand idle, a batch that is to wait for its worker would find another one.
    return workers, workers if has is not None and has > workers else PER_WORKER * workers


def _size(action: Action) -> int:
    return action.entry.stat.size or 0
