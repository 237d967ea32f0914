"""The engine: actions go through a bounded pool, results come back to the caller's thread, one after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..exceptions import StorageError, TransferCancelled
from .events import Teller
from .flow import POLL, Flow
from .job import Copied
from .options import CopyOptions
from .plan import SPECIAL, Action
from .pool import Note, Outcome, Pool, Result
from .report import TransferReport

if TYPE_CHECKING:
    from .resume import Resume

AHEAD = 10_000
"""Actions planned before the first callback that tells a total, so that it is exact up to so many."""
QUEUE = 1000
"""Actions planned ahead where nobody asks for a total."""
TURN = 0.02
"""Seconds of planning after which results are looked at."""
DROPPED = "the target keeps no metadata: it was left behind"
DROPPED_TAGS = "the target keeps no tags: they were left behind"
SAME_PLACE = "same place"


class Engine:
    """Runs actions and fills the report; every callback is called in the thread that calls `run`."""

    def __init__(self, pool: Pool, options: CopyOptions, report: TransferReport, flow: Flow, teller: Teller) -> None:
        self._pool = pool
        self._options = options
        self._report = report
        self._flow = flow
        self._teller = teller
        self._ahead = AHEAD if teller.counts else QUEUE
        self._quiet = teller.quiet
        self._planned = 0
        self._results: deque[Result] = deque()
        self.resume: Resume | None = None
        """What is asked before work is handed out, where a transfer is to be resumed."""
        self.first_error: StorageError | None = None

    def run(self, actions: Iterator[Action]) -> None:
        """Does all of them; a failing callback, Ctrl-C, any error that is not an entry's own stops the rest."""
        try:
            plan: Iterator[Action] | None = self._looked_at(actions)
            while plan is not None or self._pool.under_way or self._results:
                plan = None if plan is None else self._plan(plan)
                if plan is None or not self._teller.counts or self._planned >= AHEAD:
                    while self._results:
                        self._settle(*self._results.popleft())
                self._flow.poll()
                if self._flow.cancelled:  # the first failure under errors="stop"
                    return
                self._collect(planning=plan is not None)
                self._teller.pulse()
        except BaseException:
            self._flow.cancel()
            raise
        finally:
            self._pool.close()
            self._count_the_rest()

    def _looked_at(self, actions: Iterator[Action]) -> Iterator[Action]:
        """The plan; a listing that fails ends it, and what was planned before is still done."""
        try:
            yield from actions
        except StorageError as error:
            self._report.complete = False
            if self._flow.cancelled:
                if self._flow.cause is not None:
                    raise
                return
            self.failed(error, "", "list")
            self._teller.failed_at("", error)

    def _plan(self, plan: Iterator[Action]) -> Iterator[Action] | None:
        """Hands out more work, for a moment or until there is enough; None when there is nothing left to plan."""
        room, turn = self._ahead - self._pool.waiting, time.monotonic() + TURN
        work: list[Action] = []
        try:
            while room > 0 and time.monotonic() < turn:
                action = next(plan, None)
                if action is None:
                    self._teller.planned_all()
                    return None
                self._planned += 1
                if not self._quiet:
                    self._teller.planned(action)
                if action.kind in ("skip", "fail"):
                    self._results.append((action, Outcome(error=action.error, reason=action.reason)))
                    continue
                work.append(action)
                room -= 1
            return plan
        finally:
            if work and self.resume is not None:
                self.resume.begin(work)
            if work:
                self._pool.give(work)

    def _collect(self, planning: bool) -> None:
        """Takes results from the pool; waits for some unless there is something else to do."""
        if not self._pool.under_way:
            return
        busy = self._results or (planning and self._pool.waiting < self._ahead)
        watching = self._flow.watched or self._teller.listens
        self._results += self._pool.results(0 if busy else POLL if watching else None)

    # --- what came of it ---

    def _settle(self, action: Action, outcome: Outcome | Note, told: bool = True) -> None:
        """Counts what came of an action and tells the callbacks, if they are to be `told`."""
        if isinstance(outcome, Note):
            if told:
                self._note(action, outcome)
            return
        error = outcome.error
        if isinstance(error, TransferCancelled) and self._flow.cancelled:
            return
        if error is not None and not isinstance(error, StorageError):
            raise error
        reason = self._count(action, outcome, error)
        if self._quiet:
            return
        self._teller.settled(action)
        if told:
            self._tell(action, outcome, error, reason)

    def _count(self, action: Action, outcome: Outcome, error: StorageError | None) -> str:
        """Enters it into the report; returns why a file was skipped."""
        report, copied = self._report, outcome.copied
        report.retries += outcome.attempts - 1
        report.bytes_hashed += outcome.hashed
        if report.dry_run:
            reason = outcome.reason if error is None else str(error)
            kind = "fail" if error is not None else "skip" if reason else action.kind
            report.note(kind, action.entry.relpath, reason, action.entry.stat.size)
        if error is not None:
            report.complete = report.complete and not action.entry.unlisted
            self.failed(error, action.entry.relpath, action.kind, outcome.attempts, is_file=action.kind != "mkdir")
        elif action.kind == "mkdir":
            report.directories_created += 1
        elif copied is not None and not copied.same_place:
            self._copied(copied)
        else:
            reason = outcome.reason if copied is None else SAME_PLACE
            report.skip(reason, action.entry.stat.size if copied is None else copied.facts.size)
            if reason == SPECIAL:
                report.warn(f"skipped, neither file nor directory: '{action.entry.relpath}'")
            return reason
        return ""

    def _copied(self, copied: Copied) -> None:
        report = self._report
        report.files_copied += 1
        report.bytes_copied += copied.size
        report.bytes_server_side += copied.size if copied.server_side else 0
        report.verified_checksum += copied.by_checksum
        report.verified_size += copied.by_size
        report.retries += copied.retries
        report.bytes_resumed += copied.resumed
        if copied.dropped_metadata:
            report.warn(DROPPED)
        if copied.dropped_tags:
            report.warn(DROPPED_TAGS)

    def failed(self, error: StorageError, relpath: str, kind: str, attempts: int = 1, *, is_file: bool = False) -> None:
        """Counts a failure; under ``errors="stop"`` nothing new begins after it."""
        operation = self._report.operation if kind in ("copy", "fail") else kind
        self._report.fail(relpath, operation, error, attempts, is_file=is_file)
        self.first_error = self.first_error or error
        if self._options.errors == "stop":
            self._flow.cancel()

    def _tell(self, action: Action, outcome: Outcome, error: StorageError | None, reason: str) -> None:
        teller = self._teller
        if error is not None:
            teller.failed(action, error, outcome.attempts)
        elif action.kind == "mkdir":
            teller.made(action)
        elif reason:
            teller.skipped(action, reason)
        else:
            teller.copied(action)
        if action.kind != "mkdir":
            teller.progress()

    def _note(self, action: Action, note: Note) -> None:
        if note.kind == "retry":
            self._teller.retried(action, note.error, note.attempts)
        else:
            self._teller.started(action)

    def _count_the_rest(self) -> None:
        """What ended after nobody is to be told any more: it belongs into the report all the same."""
        self._results += self._pool.results(0)
        while self._results:
            action, outcome = self._results.popleft()
            if isinstance(outcome, Outcome) and (outcome.error is None or isinstance(outcome.error, StorageError)):
                self._settle(action, outcome, told=False)
