"""Faults, and the plan that says which call suffers which."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
Kind = Literal["fail", "lost", "truncate", "delay"]


def injected() -> Exception:
    """The error of a fault that names none: what a broken disk says, and no retry helps."""
    return OSError(errno.EIO, "injected fault")


class Fault(NamedTuple):
    """What happens at call number `at` (from 1), for `times` calls; `on` counts only calls of that name.

    `fail`: the call does not happen. `lost`: it happens and its answer is lost. `truncate`: a read gives half and then
    ends, a write or a listing does half and fails. `delay`: it waits `seconds`. `error` makes what is raised.
    """

    at: int
    kind: Kind = "fail"
    error: Callable[[], Exception] = injected
    on: str | None = None
    times: int = 1
    seconds: float = 0.01

    def strikes(self, number: int) -> bool:
        return self.at <= number < self.at + self.times


class FaultPlan:
    """Counts every call of the backends it is given to and says which of them suffers. Thread-safe.

    `calls` holds the names in order, those of readers and writers as ``reader.read``, ``writer.commit``, …. `watch` is
    called with each name before the call is made, from the thread that makes it.
    """

    def __init__(self, *faults: Fault, watch: Callable[[str], object] = lambda name: None) -> None:
        self.faults = list(faults)
        self.watch = watch
        self.calls: list[str] = []
        self.struck: list[str] = []
        self._lock = threading.Lock()

    def next(self, name: str) -> Fault | None:
        """Counts one call; its fault, if it has one."""
        self.watch(name)
        with self._lock:
            self.calls.append(name)
            for fault in self.faults:
                number = len(self.calls) if fault.on is None else self.calls.count(name)
                if fault.on in (None, name) and fault.strikes(number):
                    self.struck.append(name)
                    return fault
        return None

    def run(self, name: str, call: Callable[[], T]) -> T:
        """Counts and makes one call that cannot be done by half."""
        fault = self.next(name)
        if fault is None:
            return call()
        if fault.kind == "delay":
            time.sleep(fault.seconds)
            return call()
        if fault.kind == "lost":
            given_up(call())
        raise fault.error()


def given_up(lost: object) -> None:
    """What a lost answer would have been is nobody's: a reader, writer or editor is let go."""
    for name in ("discard", "close"):
        if callable(release := getattr(lost, name, None)):
            release()
            return


def halves(fault: Fault | None) -> bool:
    return fault is not None and fault.kind == "truncate"


def struck(fault: Fault | None, call: Callable[[], T]) -> T:
    """The call under a fault that may also be a truncation, which is the caller's to apply."""
    if fault is None or fault.kind == "truncate":
        return call()
    if fault.kind == "delay":
        time.sleep(fault.seconds)
        return call()
    if fault.kind == "lost":
        call()
    raise fault.error()
