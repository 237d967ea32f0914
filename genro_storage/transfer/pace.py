"""How fast a transfer may go: bytes per second, and how many files at once."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable

from ..mount import Mount
from .places import both_local

FIRST, MOST = 8, 64
BURST = 1.0
"""Seconds of bandwidth that an idle while may save up."""
ROUND = 0.15
"""Seconds that one look at the throughput takes at least: threads tell of what they did several times in it."""
REST = 2.0
"""Seconds after which more files at once are tried again even though the last ones brought nothing."""
FILE_COST = 64 << 10
"""What a file counts beside its bytes: small ones cost their requests."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ki|mi|gi|k|m|g|)b?(?:/s)?\s*", re.IGNORECASE)


def bytes_per_second(bandwidth: float | str) -> float:
    """``20 << 20``, ``"20MiB/s"``, ``"1.5 MB/s"``, ``"300K"`` as a number; anything else → `ValueError`."""
    rate: float = -1
    if isinstance(bandwidth, str):
        if match := _RATE.fullmatch(bandwidth):
            rate = float(match[1]) * _UNITS[match[2].lower()]
    elif isinstance(bandwidth, (int, float)) and not isinstance(bandwidth, bool):
        rate = bandwidth
    if not 0 < rate < math.inf:
        raise ValueError(f"bandwidth is bytes per second, as 20_000_000 or '20MiB/s', not {bandwidth!r}")
    return rate


class Bandwidth:
    """A token bucket of one second, empty at first: the first second is no faster than the others. Thread-safe."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        """Bytes per second; whoever shares it may change it at any time."""
        self._clock = clock
        self._lock = threading.Lock()
        self._paid = clock()
        """When all that was taken so far will have been paid for."""

    def owed(self, count: int) -> float:
        """Takes `count` bytes; the seconds to wait until they are paid for."""
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - BURST) + count / self.rate
            return max(0.0, self._paid - now)


class Width:
    """How many files go at once; one number if it is given, else one that follows the throughput. Thread-safe.

    Twice as many at first, as long as a look shows that they bring more; then one more at a time, with a look after
    each quarter: where that brought nothing, it goes back, rests, and begins again with what it sees meanwhile. Half as
    many stay when the storage says that it is too much.
    """

    def __init__(self, first: int, most: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` None: exactly `first`, always."""
        self.now = first
        self._fixed = most is None
        self._most = first if most is None else most
        self._clock = clock
        self._lock = threading.Lock()
        self._base, self._rate = first, 0.0
        """The last number that was looked at, and what it brought."""
        self._looking = self._doubling = True
        self._cold = True
        """Connections are being made, so that the first look would tell of those."""
        self._rests_until = self._slowed = -math.inf
        self._begun = clock()
        self._files = self._work = 0

    def done(self, files: int, size: int) -> None:
        """So many files, of so many bytes together, are through."""
        if self._fixed:
            return
        with self._lock:
            self._files += files
            self._work += size + files * FILE_COST
            now = self._clock()
            if now < self._rests_until:
                return
            if self._looking and self._files >= 2 * self.now and now - self._begun >= ROUND:
                if self._cold:
                    self._cold = False
                else:
                    self._look(self._work / (now - self._begun), now)
                self._count_anew(now)
            elif not self._looking and self._files >= self.now / 2:
                self._grow()
                self._count_anew(now)

    def _grow(self) -> None:
        # What was begun by fewer is through when half as many files as go now are: only then a look tells of them.
        goal = min(self._most, self._base * 2 if self._doubling else self._base * 1.25 + 1)
        self._looking = self.now >= goal
        if not self._looking:
            self.now = int(goal) if self._doubling else self.now + 1

    def _look(self, rate: float, now: float) -> None:
        # Where all wait, a quarter more brings a quarter more; less than half of that is noise.
        enough = self._rate * (1 + 0.4 * (self.now / self._base - 1))
        more, known = rate > enough, self._rate > 0
        nothing = known and not more and (rate <= 1.1 * self._rate or not self._doubling)
        self._doubling = self._doubling and more
        if more:
            self._base, self._rate = self.now, rate
        else:
            self.now = self._base
        self._looking = nothing or (known and self.now == self._most)
        if self._looking:  # rest, and see what these bring meanwhile: all else may have changed
            self._rests_until, self._rate = now + REST, 0.0

    def _count_anew(self, now: float) -> None:
        self._begun, self._files, self._work = now, 0, 0

    def slow(self) -> None:
        """The storage throttles, or does not answer: half as many, once a second at most."""
        with self._lock:
            now = self._clock()
            if self._fixed or now - self._slowed < 1.0:
                return
            self._base = self.now = max(1, self.now // 2)
            self._rate, self._looking, self._doubling = 0.0, True, False
            self._slowed, self._rests_until = now, now + 1.0
            self._count_anew(now)


def width(concurrency: int | str, source: Mount, target: Mount) -> Width:
    """What `concurrency` means between these two.

    Between local disks one thread begins: where all is in memory, two that pass the interpreter on at every system call
    take twice the processor time and longer; where the disk is what is waited for, more follow.
    """
    if isinstance(concurrency, int):
        return Width(concurrency)
    if both_local(source, target):
        return Width(1, MOST)
    most = min([MOST, *(limit for mount in (source, target) if (limit := connections(mount)) is not None)])
    return Width(min(FIRST, most), most)


def connections(mount: Mount) -> int | None:
    """The `max_connections` of a mount, where its type has such an option."""
    found = getattr(mount.backend.options, "max_connections", None)
    return found if isinstance(found, int) else None
