"""Places for so many at once: a semaphore that costs no Python where one is free."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Slots:
    """`count` places; thread-safe, also for finalizers."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self.release()

    def acquire(self, *, timeout: float) -> bool:
        """Takes a place; False after `timeout` seconds without one."""
        try:
            self._free.get(timeout=timeout)
        except Empty:
            return False
        return True

    def release(self) -> None:
        """Gives back what was taken, once."""
        self._free.put(None)
