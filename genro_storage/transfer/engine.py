"""The engine: actions go through a few threads, results come back to the caller's, one after the other."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Protocol

from ..backends.base import BackendReader
from ..exceptions import StorageError, TransferCancelled
from ..mount import Mount
from .flow import Flow
from .job import Copied
from .options import CopyOptions
from .places import both_local
from .plan import SPECIAL, Action
from .report import TransferReport

AHEAD = 10_000
"""Actions planned before the first call of `progress`, so that its total is exact up to so many."""
NETWORK_THREADS = 8
LOCAL_THREADS = 4
DROPPED = "the target keeps no metadata: it was left behind"
SAME_PLACE = "same place"


class Outcome:
    """What came of one action: the copy, or the error after so many attempts."""

    __slots__ = ("attempts", "copied", "error", "reason")

    def __init__(
        self, copied: Copied | None = None, error: Exception | None = None, attempts: int = 1, reason: str = ""
    ) -> None:
        self.copied = copied
        self.error = error
        self.attempts = attempts
        self.reason = reason


class Work(Protocol):
    """Does one action, in any thread; an error of a storage is part of the outcome."""

    def __call__(self, action: Action, opened: BackendReader | None = None) -> Outcome: ...


def threads(source: Mount, target: Mount) -> int:
    """How many files at once: as many as answers can be waited for, or as the processor can do."""
    if both_local(source, target):
        return min(LOCAL_THREADS, os.cpu_count() or 1)
    return NETWORK_THREADS


class Engine:
    """Runs actions and fills the report; every callback is called in the thread that calls `run`."""

    def __init__(self, work: Work, options: CopyOptions, report: TransferReport, flow: Flow, workers: int) -> None:
        self._work = work
        self._options = options
        self._report = report
        self._flow = flow
        self._workers = workers
        self._todo: SimpleQueue[Action | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Action, Outcome]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        self._planned: deque[Action] = deque()
        self._files_planned = 0
        self.first_error: StorageError | None = None

    def run(self, actions: Iterator[Action]) -> None:
        """Does all of them; a failing callback, Ctrl-C, any error that is not an entry's own stops the rest."""
        try:
            plan = self._looked_at(actions)
            if self._options.progress is not None:
                self._planned.extend(islice(plan, AHEAD))
            while self._submit(plan) or self._under_way:
                if self._under_way:
                    action, outcome = self._done.get()
                    self._under_way -= 1
                    self._settle(action, outcome)
        except BaseException:
            self._flow.cancel()
            raise
        finally:
            self._stop_threads()

    def one(self, action: Action, opened: BackendReader | None = None) -> None:
        """Does the only action in the caller's thread."""
        self._files_planned = 1
        if action.kind == "skip":
            outcome = Outcome(reason=action.reason)
        else:
            outcome = self._work(action, opened)
        self._settle(action, outcome)

    def _looked_at(self, actions: Iterator[Action]) -> Iterator[Action]:
        """The plan; a listing that fails ends it, and what was planned before is still done."""
        try:
            for action in actions:
                self._files_planned += action.kind != "mkdir"
                yield action
        except StorageError as error:
            self._report.complete = False
            self.failed(error, "", "list")

    def _submit(self, plan: Iterator[Action]) -> bool:
        """Hands out work up to twice what the threads can do at once; False when there is nothing left to plan."""
        while self._under_way < 2 * self._workers and not self._flow.cancelled:
            action = self._planned.popleft() if self._planned else next(plan, None)
            if action is None:
                return False
            if action.kind in ("skip", "fail"):
                self._settle(action, Outcome(error=action.error, reason=action.reason))
                continue
            if self._under_way >= len(self._threads) < self._workers:
                self._start_thread()
            self._todo.put(action)
            self._under_way += 1
        return not self._flow.cancelled

    # --- in the caller's thread ---

    def _settle(self, action: Action, outcome: Outcome) -> None:
        """Counts what came of an action and tells `progress`."""
        report, stat, error = self._report, action.entry.stat, outcome.error
        report.retries += outcome.attempts - 1
        if isinstance(error, TransferCancelled):
            return
        if error is not None and not isinstance(error, StorageError):
            raise error
        if error is not None:
            report.complete = report.complete and not action.entry.unlisted
            self.failed(error, action.entry.relpath, action.kind, outcome.attempts, is_file=action.kind != "mkdir")
        elif action.kind == "mkdir":
            report.directories_created += 1
        elif outcome.copied is not None:
            self._copied(outcome.copied)
        else:
            report.skip(outcome.reason, stat.size)
            if outcome.reason == SPECIAL:
                report.warn(f"skipped, neither file nor directory: '{action.entry.relpath}'")
        if action.kind != "mkdir" and self._options.progress is not None:
            self._options.progress(report.files_total, self._files_planned)

    def _copied(self, copied: Copied) -> None:
        report = self._report
        if copied.same_place:
            report.skip(SAME_PLACE, copied.facts.size)
            return
        report.files_copied += 1
        report.bytes_copied += copied.size
        report.bytes_server_side += copied.size if copied.server_side else 0
        report.verified_checksum += copied.by_checksum
        report.verified_size += copied.by_size
        if copied.dropped_metadata:
            report.warn(DROPPED)

    def failed(self, error: StorageError, relpath: str, kind: str, attempts: int = 1, *, is_file: bool = False) -> None:
        """Counts a failure; under ``errors="stop"`` nothing new begins after it."""
        operation = self._report.operation if kind in ("copy", "fail") else kind
        self._report.fail(relpath, operation, error, attempts, is_file=is_file)
        self.first_error = self.first_error or error
        if self._options.errors == "stop":
            self._flow.cancel()

    # --- threads ---

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._loop, name=f"genro-transfer-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _loop(self) -> None:
        while (action := self._todo.get()) is not None:
            try:
                self._flow.tick()
                outcome = self._work(action)
            except Exception as error:  # noqa: BLE001 - the engine: whatever it is, the caller's thread must hear of it
                outcome = Outcome(error=error)
            self._done.put((action, outcome))

    def _stop_threads(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
