"""Small local files in the caller's thread, in turns with the plan: no thread waits for another one's interpreter."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from resource import RUSAGE_THREAD, getrusage
from threading import get_ident

from .flow import Flow
from .pace import Width
from .plan import Action
from .pool import FLUSH, Note, Outcome, Result, Threads, Work, is_small

RUN = 1000
"""Files at most that share what a run shares."""
DOUBTS = 3
"""Turns waited through, one after the other: fewer may be another thread that has the interpreter for a while."""


class Turns(Threads):
    """Does small files itself when results are asked for, a moment at a time; threads do large ones.

    Two threads that pass the interpreter on at each system call take twice the time of one. Where the disk is what is
    waited for, threads take all that comes.
    """

    def __init__(self, work: Work, flow: Flow, width: Width, *, notes: bool = False) -> None:
        super().__init__(work, flow, width, notes=notes)
        self._mine: deque[Action] = deque()
        self._ended: list[Result] = []
        self._caller = get_ident()
        self._waits = 0

    @property
    def waiting(self) -> int:
        return len(self._todo) + len(self._mine)

    def give(self, actions: Sequence[Action]) -> None:
        if self._waits >= DOUBTS:
            super().give(actions)
            return
        large = [action for action in actions if not is_brief(action)]
        before = len(self._mine)
        self._mine += [action for action in actions if is_brief(action)] if large else actions
        self.under_way += len(self._mine) - before
        if large:
            super().give(large)

    def results(self, timeout: float | None) -> list[Result]:
        if self._mine and not (self._closed or self._flow.cancelled):
            self._turn()
        found, self._ended = self._ended, []
        self.under_way -= sum(isinstance(outcome, Outcome) for _, outcome in found)
        mine = bool(found or self._mine)
        return found + (super().results(0 if mine else timeout) if self._threads else [])

    def _turn(self) -> None:
        """Some of them, for a moment; what ended before an interrupt is not forgotten."""
        mine, ended, flow = self._mine, self._ended, self._flow
        batch, before = tuple(islice(mine, RUN)), len(mine)
        watch, until = Watch(), time.monotonic() + FLUSH
        with closing(self._work(batch)) as outcomes:
            for action in batch:
                if self._notes:
                    ended.append((action, Note("start")))
                outcome = next(outcomes)
                mine.popleft()
                ended.append((action, outcome))
                if flow.cancelled or time.monotonic() >= until:
                    break
        self._waits = self._waits + 1 if watch.waited(before - len(mine)) else 0
        if self._waits >= DOUBTS:
            self.under_way -= len(mine)
            rest, self._mine = tuple(mine), deque()
            super().give(rest)

    def note(self, action: Action, note: Note) -> None:
        if self._notes and get_ident() == self._caller:
            self._ended.append((action, note))
        else:
            super().note(action, note)


def is_brief(action: Action) -> bool:
    """Whether it is done in a moment, large files being what is not."""
    return action.kind != "copy" or is_small(action)


class Watch:
    """Since when this thread works: tells whether it was storage that it spent its time on, and not its own work."""

    def __init__(self) -> None:
        self._begun, self._usage = time.monotonic(), getrusage(RUSAGE_THREAD)

    def waited(self, files: int) -> bool:
        """Whether it slept most of the time, and so for every other file; a thread that is only kept waiting for a
        processor does not.
        """
        now, then = getrusage(RUSAGE_THREAD), self._usage
        worked = now.ru_utime + now.ru_stime - then.ru_utime - then.ru_stime
        return 2 * worked < time.monotonic() - self._begun and 2 * (now.ru_nvcsw - then.ru_nvcsw) > files
