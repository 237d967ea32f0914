"""The progress of one transfer, on a terminal: one line that is redrawn and goes away at the end."""

from __future__ import annotations

import shutil
import sys
import threading
import time

WIDTH = 24
EVERY = 0.25
PATIENCE = 0.5
"""Seconds before the first drawing: what is quick needs no bar."""


class Progress:
    """A context manager; `update(done, total)` may be called as often as one likes, a clock keeps the line alive."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._began = time.monotonic()
        self._done = self._total = 0
        self._drawn = False
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

    def update(self, done: int, total: int) -> None:
        """Files finished, and files known so far."""
        self._done, self._total = done, total

    def _tick(self) -> None:
        wait = PATIENCE
        while not self._ended.wait(wait):
            wait = EVERY
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{self.text(time.monotonic() - self._began)[:width]}")
            sys.stderr.flush()
            self._drawn = True

    def text(self, elapsed: float) -> str:
        """The line as it is after so many seconds."""
        if not self._total:
            return f"{self._verb}  {clock(elapsed)}"
        share = self._done / self._total
        filled = round(share * WIDTH)
        bar = "━" * filled + "─" * (WIDTH - filled)
        line = f"{self._verb}  {bar}  {self._done}/{self._total} files  {share:4.0%}"
        if not self._done or not elapsed:
            return f"{line}  {clock(elapsed)}"
        rate = self._done / elapsed
        return f"{line}  {rate:.1f} files/s  {clock(elapsed)}, {clock((self._total - self._done) / rate)} left"


def clock(seconds: float) -> str:
    """``1:05`` or ``2:00:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
