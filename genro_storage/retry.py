"""When to try again: how often, and how long to wait in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from .exceptions import StorageError

FIRST_DELAY = 0.5


class RetryPolicy(NamedTuple):
    """`retries` tries after the first; waits grow exponentially with full jitter, up to `max_delay` seconds."""

    retries: int = 3
    max_delay: float = 30.0
    sleep: Callable[[float], object] = time.sleep

    def allows(self, attempt: int, error: StorageError) -> bool:
        """Whether to try again after `attempt` retries ended in `error`."""
        return error.retryable and attempt < self.retries

    def wait(self, attempt: int, error: StorageError) -> None:
        """Waits before retry number `attempt` (from 0); a server's Retry-After goes before our own guess."""
        self.sleep(self.delay(attempt, error))

    def delay(self, attempt: int, error: StorageError) -> float:
        """Seconds to wait before retry number `attempt` (from 0)."""
        if error.retry_after is not None:
            return min(self.max_delay, error.retry_after)
        longest: float = min(self.max_delay, FIRST_DELAY * 2**attempt)
        return longest * random.random()  # jitter needs no secrecy


NO_RETRY = RetryPolicy(retries=0)
