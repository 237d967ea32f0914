"""What the cases for record stores share: words for features, a clock that is moved by hand, and threads at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..exceptions import VersionConflictError
from ..records.base import Change, RecordStore, now
from .suite import Suite

WORDS = frozenset({"durable", "shared", "snapshot_scan", "reverse_scan"})
SPACES = (f"suite/{number}" for number in itertools.count(1))


def needs(word: str) -> Callable[[Any], Any]:
    """Marks a case that only makes sense where this feature holds (`WORDS`)."""

    def mark(case: Any) -> Any:
        case.needs = frozenset({word})
        return case

    return mark


class FakeClock:
    """A clock that goes on when it is told to; it begins at the real time, as servers have clocks of their own."""

    def __init__(self) -> None:
        self.time = now()

    def __call__(self) -> int:
        return self.time

    def advance(self, seconds: float) -> int:
        """Goes on; returns the new time in microseconds."""
        self.time += round(seconds * 1_000_000)
        return self.time


def at_once(work: Callable[[int], Any], count: int) -> list[Any]:
    """The results of work(0) … work(count - 1), begun together in threads."""
    gate = threading.Barrier(count)

    def begin(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


class RecordCases(Suite):
    """The fixtures that the cases for record stores take; a subclass adds `store`."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def space(self) -> str:
        return next(SPACES)

    @staticmethod
    def conflicts(store: RecordStore, changes: Sequence[Change], index: int, actual: int) -> None:
        """The commit fails for exactly this change."""
        with pytest.raises(VersionConflictError) as caught:
            store.sync.commit(changes)
        error, change = caught.value, changes[index]
        assert (error.index, error.space, error.key) == (index, change.space, change.key)
        assert (error.expected, error.actual) == (change.expect, actual)
