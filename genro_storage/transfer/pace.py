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
LOCAL = 4
BURST = 1.0
"""Seconds of bandwidth that an idle while may save up."""
ROUND = 0.025
"""Seconds that one look at the throughput takes at least."""
PROBE = 2.0
"""Seconds after which one more file at once is tried even though the last one brought nothing."""
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
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._paid = clock()
        """When all that was taken so far will have been paid for."""

    def owed(self, count: int) -> float:
        """Takes `count` bytes; the seconds to wait until they are paid for."""
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - BURST) + count / self._rate
            return max(0.0, self._paid - now)


class Width:
    """How many files go at once; one number if it is given, else one that follows the throughput. Thread-safe.

    One more is tried as long as that brought more, half as many stay when the storage says that it is too much.
    """

    def __init__(self, first: int, most: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` None: exactly `first`, always."""
        self.now = first
        self._fixed = most is None
        self._most = first if most is None else most
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = self._tried = clock()
        self._slowed = -math.inf
        self._files = self._work = 0
        self._rate = self._mark = 0.0

    def done(self, files: int, size: int) -> None:
        """So many files, of so many bytes together, are through."""
        if self._fixed:
            return
        with self._lock:
            self._files += files
            self._work += size + files * FILE_COST
            now = self._clock()
            if self._files >= self.now and now - self._begun >= ROUND:
                self._judge(now, self._work / (now - self._begun))
                self._begun, self._files, self._work = now, 0, 0

    def _judge(self, now: float, rate: float) -> None:
        self._rate = (self._rate + rate) / 2 if self._rate else rate
        # One more of n that all wait brings 1/n; half of that is more than noise.
        grows = self._rate > self._mark * (1 + 0.5 / self.now)
        if self.now < self._most and (grows or now - self._tried > PROBE):
            self.now += 1
            self._mark, self._tried = self._rate, now

    def slow(self) -> None:
        """The storage throttles, or does not answer: half as many, once a second at most."""
        with self._lock:
            now = self._clock()
            if self._fixed or now - self._slowed < 1.0:
                return
            self.now = max(1, self.now // 2)
            self._slowed = self._begun = now
            self._files = self._work = 0
            self._rate = self._mark = 0.0


def width(concurrency: int | str, source: Mount, target: Mount, cpus: int) -> Width:
    """What `concurrency` means between these two."""
    if isinstance(concurrency, int):
        return Width(concurrency)
    if both_local(source, target):
        return Width(min(LOCAL, cpus))
    most = min([MOST, *(limit for mount in (source, target) if (limit := connections(mount)) is not None)])
    return Width(min(FIRST, most), most)


def connections(mount: Mount) -> int | None:
    """The `max_connections` of a mount, where its type has such an option."""
    found = getattr(mount.backend.options, "max_connections", None)
    return found if isinstance(found, int) else None
