"""Which parts of a large file go next: runs of neighbours, each read by one request as long as nothing fails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from ..backends.base import BackendReader


class Run:
    """The reader that goes through neighbouring parts, up to `end`; used by one thread."""

    def __init__(self, end: int, opened: Callable[[int, int], BackendReader]) -> None:
        """`opened` gives a reader of a range of the source."""
        self._end, self._opened = end, opened
        self._reader: BackendReader | None = None
        self._at = 0

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on, b"" at the end; anew where the last ones ended elsewhere."""
        if self._reader is None or self._at != start:
            self.close()
            self._reader, self._at = self._opened(start, self._end), start
        try:
            data = self._reader.read(size)
        except BaseException:
            self.close()
            raise
        self._at += len(data)
        if self._at >= self._end:
            self.close()
        return data

    def close(self) -> None:
        """Lets go of the reader; a later `read` opens another one."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


class Runs:
    """The parts of a file that are still to go; thread-safe.

    Guided self-scheduling: a run is long while much is left, so that few requests bring it, and short towards the end,
    so that all threads end at about one time.
    """

    def __init__(
        self, starts: Iterable[int], part_size: int, threads: int, longest: int, *, alone: bool = False
    ) -> None:
        """`starts` ascend; a run has at most `longest` bytes, and one part at least. `alone`: the first has one."""
        self._left = deque(starts)
        self._part_size, self._threads = part_size, threads
        self._most = longest // part_size
        self._alone = alone
        self._lock = threading.Lock()

    def take(self) -> list[int]:
        """Where the parts of the next run begin; [] when none is left."""
        with self._lock:
            run = [self._left.popleft()] if self._left else []
            most = 1 if self._alone else min(self._most, len(self._left) // (2 * self._threads))
            self._alone = False
            while len(run) < most and self._left[0] == run[-1] + self._part_size:
                run.append(self._left.popleft())
            return run
