"""The progress of a transfer, on a terminal: one line that is redrawn and goes away at the end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .console import escaped, human_size

if TYPE_CHECKING:
    from ..transfer import TransferEvent

WIDTH, LEAST_BAR = 20, 6
EVERY = 0.2
PATIENCE = 0.5
"""Seconds before the first drawing: what is quick needs no bar."""
WINDOW = 10.0
"""Seconds of which an event's rate is the average: without news for so long it is nothing."""
FILE_COST = 64 << 10
"""What a file counts beside its bytes, in the share that is done: small ones cost their requests."""
LEAST_NAME = 8


class Progress:
    """A context manager; `update` takes each event of the transfer, a clock keeps the line alive.

    `place`: which of several sources this is, as ``2/5``.
    """

    def __init__(self, verb: str, place: str = "") -> None:
        self._head = f"{verb} {place}" if place else verb
        self._began = time.monotonic()
        self._event: TransferEvent | None = None
        self._told = self._began
        self._name = ""
        self._drawn = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="genro-progress", daemon=True)

    def __enter__(self) -> Progress:
        self._clock.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._clock.join()
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The line is away while something else is printed, which the terminal may show in its place."""
        with self._lock:
            if self._drawn:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
            yield
            sys.stdout.flush()

    def update(self, event: TransferEvent) -> None:
        """What happened last."""
        if event.relpath:
            self._name = event.relpath
        self._event, self._told = event, time.monotonic()

    def _tick(self) -> None:
        wait = PATIENCE
        while not self._ended.wait(wait):
            wait = EVERY
            now = time.monotonic()
            line = self.text(now - self._began, columns() - 1, now - self._told)
            with self._lock:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
                self._drawn = True

    def text(self, elapsed: float, width: int, quiet: float = 0.0) -> str:
        """The line after so many seconds, of which the last `quiet` brought no news, in at most `width` columns."""
        event = self._event
        if event is None or not event.files_total:
            return f"{self._head}  {clock(elapsed)}"[:width]
        forms = self._forms(event, elapsed, quiet)
        line = "  ".join([self._head, *forms[0]])
        if len(line) > width:
            narrow = [" ".join([self._head, *(fact.strip() for fact in form)]) for form in forms[1:]]
            return next((line for line in narrow if len(line) <= width), narrow[-1][:width])
        bar = min(WIDTH, width - len(line) - 2)
        share = share_of(event)
        if share is not None and bar >= LEAST_BAR:
            filled = round(share * bar)
            line = "  ".join([self._head, "━" * filled + "─" * (bar - filled), *forms[0]])
        room = width - len(line) - 2
        return f"{line}  {fitted(escaped(self._name), room)}" if self._name and room >= LEAST_NAME else line

    def _forms(self, event: TransferEvent, elapsed: float, quiet: float) -> list[list[str]]:
        """What is told, all of it first and then less and less."""
        share, more = share_of(event), "" if event.total_known else "+"
        head = [] if share is None else [f"{share:4.0%}"]
        files, time_ = f"{event.files_done}/{event.files_total}{more}", clock(elapsed)
        if not event.bytes_total:
            return [[*head, f"{files} files", time_], [*head, files, time_], [*head, time_]]
        rate = event.rate * max(0.0, 1 - quiet / WINDOW)
        done, whole = human_size(event.bytes_done), human_size(event.bytes_total)
        speed, left, short = f"{human_size(round(rate))}/s", time_, time_
        if event.eta is not None and rate:
            rest = clock(event.eta * event.rate / rate)
            left, short = f"{rest} left", f"-{rest}"
            time_ = f"{time_}, {left}"
        return [
            [*head, f"{files} files", f"{done}/{whole}{more}", speed, time_],
            [*head, files, f"{done}/{whole}{more}", speed, left],
            [*head, files, done, speed, left],
            [*head, files, done, speed, short],
            [*head, done, speed, short],
            [*head, speed, short],
            [*head, short],
        ]


def share_of(event: TransferEvent) -> float | None:
    """The part that is done, from 0 to 1, by bytes and files; None as long as nobody knows the whole."""
    if not event.total_known:
        return None
    whole = event.bytes_total + event.files_total * FILE_COST
    done = event.bytes_done + event.files_done * FILE_COST
    return min(1.0, done / whole) if whole else None


def columns() -> int:
    """How wide the terminal is at the other end of the standard error."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def fitted(name: str, room: int) -> str:
    """A name in at most so many columns, its end rather than its beginning."""
    from unicodedata import east_asian_width

    taken = 0
    for at in range(len(name) - 1, -1, -1):
        wide = 2 if east_asian_width(name[at]) in "WF" else 1
        if taken + wide > room - (at > 0):  # an ellipsis, if this is not all of it
            return f"…{name[at + 1 :]}"
        taken += wide
    return name


def clock(seconds: float) -> str:
    """``1:05`` or ``2:00:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
