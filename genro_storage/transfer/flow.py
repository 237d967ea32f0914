"""What all files of one transfer share: the wish to stop, and the memory they may hold together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..exceptions import TransferCancelled

BUFFER = 32 << 20


class Flow:
    """Cancelling and a byte budget; thread-safe."""

    def __init__(self, buffer: int = BUFFER) -> None:
        self._stop = threading.Event()
        self._buffer = self._left = buffer
        self._room = threading.Condition()

    def cancel(self) -> None:
        """Makes every `tick` and `wait` raise from now on."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def tick(self, count: int = 0) -> None:
        """Called with bytes done, at least once per chunk; raises `TransferCancelled` after `cancel`."""
        if self._stop.is_set():
            raise TransferCancelled("the transfer was cancelled")

    def wait(self, seconds: float) -> None:
        """Waits, unless cancelled."""
        self._stop.wait(seconds)
        self.tick()

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Holds `size` bytes of the budget, as soon as they are free."""
        size = min(size, self._buffer)
        with self._room:
            self._room.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._room:
                self._left += size
                self._room.notify_all()
