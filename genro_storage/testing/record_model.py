"""A state machine that drives a record store beside a dict and compares every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ..exceptions import VersionConflictError
from ..records.base import Change, Check, Delete, Put, Record, RecordStore

KEYS = st.sampled_from(["0", "1", "a", "a-b", "aa", "b", "z"])
SPACES = st.sampled_from(["x", "y#"])
AFTER = st.sampled_from(["", "", "", "", "0", "05", "a", "a-", "b", "zz"])
UNTIL = st.sampled_from([None, None, "zz", "b", "a", "a-", "0", "05", "1", ""])
EXPECTS = st.sampled_from(["any"] * 6 + ["current"] * 4 + ["absent", "old"])
LIVES = st.sampled_from([None, None, None, 1, 9])
"""Seconds a record lives."""


Place = tuple[str, str, str, str, int | None, bytes]
"""Space, key, the kind of change, a word for `expect`, seconds to live, data."""
PLACES = st.lists(
    st.tuples(SPACES, KEYS, st.sampled_from("ppppdc"), EXPECTS, LIVES, st.binary(max_size=8)),
    min_size=1,
    max_size=7,
    unique_by=lambda place: place[:2],
)


class Ticking(Protocol):
    """A clock that a test moves."""

    def __call__(self) -> int: ...
    def advance(self, seconds: float) -> int: ...


class Machine(RuleBasedStateMachine):
    """Puts, deletes, checks, time and scans; the model is a dict of records."""

    store: RecordStore
    clock: Ticking
    fresh: Callable[[], str]

    @initialize()
    def begin(self) -> None:
        self.prefix = self.fresh()
        self.model: dict[tuple[str, str], Record] = {}
        self.used: dict[tuple[str, str], set[int]] = {}

    def living(self, space: str, key: str) -> Record | None:
        record = self.model.get((space, key))
        return None if record and record.expires_at and record.expires_at <= self.clock() else record

    def expected(self, space: str, key: str, word: str) -> int | None:
        """The `expect` that a word means for this record now."""
        record = self.living(space, key)
        old = self.used.get((space, key), set()) - {record.version if record else 0}
        return {
            "any": None,
            "absent": 0,
            "current": record.version if record else 0,
            "old": max(old, default=10**12),
        }[word]

    @rule(places=PLACES)
    def commit(self, places: list[Place]) -> None:
        self.commit_all(places)

    @rule(places=PLACES)
    def commit_more(self, places: list[Place]) -> None:
        """The same once more: a rule is drawn as often as any other, and what is empty shows little."""
        self.commit_all(places)

    def commit_all(self, places: list[Place]) -> None:
        changes: list[Change] = []
        for name, key, kind, word, life, data in places:
            space = f"{self.prefix}/{name}"
            expect = self.expected(space, key, word)
            if kind == "p":
                expires_at = None if life is None else self.clock() + life * 1_000_000
                changes.append(Put(space, key, data, expect=expect, expires_at=expires_at))
            elif kind == "d":
                changes.append(Delete(space, key, expect=expect))
            else:
                changes.append(Check(space, key, expect=0 if expect is None else expect))
        actual = [record.version if (record := self.living(c.space, c.key)) else 0 for c in changes]
        wrong = [n for n, c in enumerate(changes) if c.expect is not None and c.expect != actual[n]]
        if not wrong:
            self.apply(changes, self.store.sync.commit(changes))
            return
        with pytest.raises(VersionConflictError) as caught:
            self.store.sync.commit(changes)
        error = caught.value
        assert error.index in wrong
        assert (error.expected, error.actual) == (changes[error.index].expect, actual[error.index])

    def apply(self, changes: list[Change], versions: list[int]) -> None:
        for change, version in zip(changes, versions, strict=True):
            place = (change.space, change.key)
            if isinstance(change, Put):
                used = self.used.setdefault(place, set())
                assert version > 0
                assert version not in used
                used.add(version)
                self.model[place] = Record(*place, change.data, version, change.expires_at)
            elif isinstance(change, Delete):
                assert version == 0
                self.model.pop(place, None)
            else:
                assert version == change.expect

    @rule(
        name=SPACES,
        after=AFTER,
        until=UNTIL,
        limit=st.sampled_from([None, 0, 1, 2, 5]),
        reverse=st.booleans(),
    )
    def scan(self, name: str, after: str, until: str | None, limit: int | None, reverse: bool) -> None:
        space = f"{self.prefix}/{name}"
        keys = sorted(key for held, key in self.model if held == space and self.living(space, key))
        keys = [key for key in keys if key > after and (until is None or key < until)]
        wanted = [self.model[space, key] for key in (keys[::-1] if reverse else keys)[:limit]]
        assert self.store.sync.scan(space, after=after, until=until, limit=limit, reverse=reverse) == wanted

    @rule(names=st.lists(st.tuples(SPACES, KEYS), min_size=1, max_size=5))
    def get(self, names: list[tuple[str, str]]) -> None:
        places = [(f"{self.prefix}/{name}", key) for name, key in names]
        assert self.store.sync.get_many(places) == [self.living(*place) for place in places]
        assert self.store.sync.get(*places[0]) == self.living(*places[0])

    @rule(seconds=st.sampled_from([0.5, 1, 4]), sweeps=st.booleans())
    def wait(self, seconds: float, sweeps: bool) -> None:
        self.clock.advance(seconds)
        if sweeps:
            self.store.sync.sweep()


def check_against_model(
    store: RecordStore, clock: Any, examples: int, fresh: Callable[[], str], *, shrink: bool = True
) -> None:
    """Runs the machine that often; each run in a space of its own, so that one store serves them all."""

    class Bound(Machine):
        pass

    Bound.store, Bound.clock, Bound.fresh = store, clock, staticmethod(fresh)
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=not shrink,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
