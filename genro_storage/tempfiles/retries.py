"""When a failed deletion is tried again: after the interval, after twice as long and so on, at last not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from . import log

MOST_DELAY = 3600.0
ATTEMPTS = 10
"""After this many failures it is left to the sweep of a later owner."""


class Failure(NamedTuple):
    """How often it failed, when it is tried again by the manager's monotonic clock, and why it failed."""

    attempts: int
    due: float
    reason: str


class Retries:
    """What could not be deleted so far, by path; thread-safe. `interval`: seconds until the second attempt."""

    def __init__(self, clock: Callable[[], float], interval: float) -> None:
        self._clock = clock
        self._interval = interval
        self._lock = threading.Lock()
        self._failures: dict[str, Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failures)

    @property
    def reasons(self) -> dict[str, str]:
        """Path → why it resists."""
        with self._lock:
            return {path: failure.reason for path, failure in self._failures.items()}

    def due(self, path: str) -> bool:
        """Whether the time has come to try it (again)."""
        failure = self._failures.get(path)
        return failure is None or failure.due <= self._clock()

    def put_off(self, path: str, reason: str) -> None:
        """Notes a failure, in the log too: as an error when it is the last one that we care about."""
        with self._lock:
            before = self._failures.get(path)
            attempts = before.attempts + 1 if before else 1
            delay = min(MOST_DELAY, self._interval * 2.0 ** min(attempts - 1, 20))
            due = self._clock() + delay if attempts < ATTEMPTS else float("inf")
            self._failures[path] = Failure(attempts, due, reason)
        say = log.error if attempts == ATTEMPTS else log.warning if attempts < ATTEMPTS else log.debug
        say("Failed to remove %s (attempt %d): %s", path, attempts, reason)

    def forgive(self, path: str) -> None:
        """It is gone, or new."""
        if self._failures:
            with self._lock:
                self._failures.pop(path, None)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forgets all others."""
        if self._failures:
            with self._lock:
                self._failures = {path: failure for path, failure in self._failures.items() if wanted(path)}
