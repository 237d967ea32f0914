"""Acceptance suite for record stores: directed cases, and a state machine against a dict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from ..exceptions import VersionConflictError
from ..records.base import MAX_CHANGES, Check, Delete, Put, Record, RecordStore
from .record_life import LifeCases
from .record_model import check_against_model
from .record_ranges import RangeCases
from .record_words import SPACES, WORDS, FakeClock, at_once, needs


class RecordSuite(RangeCases, LifeCases):
    """Subclass it with a fixture `store`: an initialised store that uses the fixture `clock`.

    Cases use spaces of their own, so one store may serve them all. `lacks` names the features it has not (`WORDS`). A
    store that is shared or durable also overrides `reopened`.
    """

    examples: ClassVar[int] = 60
    """Runs of the state machine."""

    def reopened(self, store: RecordStore, clock: FakeClock) -> RecordStore:
        """Another object over the same records; where the store is not shared, the first one is closed before."""
        raise NotImplementedError

    def test_lacks_is_declared(self, store: RecordStore) -> None:
        lacking = {word for word in WORDS if not getattr(store.features, word)}
        assert lacking == self.lacks, f"declare: lacks = {sorted(lacking)}"

    # --- one record ---

    def test_put_and_get(self, store: RecordStore, space: str) -> None:
        (version,) = store.sync.commit([Put(space, "k", b"\x00\xffdata")])
        assert version > 0
        assert store.sync.get(space, "k") == Record(space, "k", b"\x00\xffdata", version, None)
        assert store.sync.get(space, "other") is None
        assert store.sync.get(space + "x", "k") is None

    def test_overwrite_gives_a_new_version(self, store: RecordStore, space: str) -> None:
        (first,) = store.sync.commit([Put(space, "k", b"1")])
        (second,) = store.sync.commit([Put(space, "k", b"")])
        assert second != first
        assert store.sync.get(space, "k") == Record(space, "k", b"", second, None)

    def test_delete(self, store: RecordStore, space: str) -> None:
        store.sync.commit([Put(space, "k", b"1")])
        assert store.sync.commit([Delete(space, "k")]) == [0]
        assert store.sync.get(space, "k") is None
        assert store.sync.scan(space) == []
        assert store.sync.commit([Delete(space, "k")]) == [0]

    def test_a_version_never_comes_back(self, store: RecordStore, space: str) -> None:
        """No ABA: what was deleted and written again does not match an old `expect`."""
        seen: set[int] = set()
        for _ in range(5):
            (version,) = store.sync.commit([Put(space, "k", b"same")])
            assert version not in seen
            seen.add(version)
            store.sync.commit([Delete(space, "k")])
        store.sync.commit([Put(space, "k", b"same")])
        for version in seen:
            with pytest.raises(VersionConflictError):
                store.sync.commit([Put(space, "k", b"new", expect=version)])

    @pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3 << 20])
    def test_sizes(self, store: RecordStore, space: str, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        store.sync.commit([Put(space, "k", data)])
        record = store.sync.get(space, "k")
        assert record is not None
        assert record.data == data
        assert [found.data for found in store.sync.scan(space)] == [data]
        assert store.sync.get_many([(space, "k"), (space, "none")]) == [record, None]

    def test_get_many(self, store: RecordStore, space: str) -> None:
        versions = store.sync.commit([Put(space, str(number), b"%d" % number) for number in range(10)])
        found = store.sync.get_many([(space, str(number)) for number in (7, 3, 11, 7)])
        wanted = [Record(space, str(number), b"%d" % number, versions[number], None) for number in (7, 3)]
        assert found == [*wanted, None, wanted[0]]
        assert store.sync.get_many([]) == []

    # --- expect ---

    def test_expect(self, store: RecordStore, space: str) -> None:
        (one,) = store.sync.commit([Put(space, "k", b"1", expect=0)])
        (two,) = store.sync.commit([Put(space, "k", b"2", expect=one)])
        assert store.sync.commit([Check(space, "k", expect=two), Check(space, "none", expect=0)]) == [two, 0]
        self.conflicts(store, [Put(space, "k", b"3", expect=0)], 0, two)
        self.conflicts(store, [Put(space, "k", b"3", expect=one)], 0, two)
        self.conflicts(store, [Delete(space, "k", expect=one)], 0, two)
        self.conflicts(store, [Delete(space, "none", expect=two)], 0, 0)
        self.conflicts(store, [Put(space, "other", b""), Check(space, "k", expect=one)], 1, two)
        self.conflicts(store, [Put(space, "other", b""), Check(space, "none", expect=one)], 1, 0)
        assert [record.data for record in store.sync.scan(space)] == [b"2"]
        assert store.sync.commit([Delete(space, "k", expect=two)]) == [0]
        assert store.sync.commit([Delete(space, "k", expect=0)]) == [0]

    def test_all_or_nothing(self, store: RecordStore, space: str) -> None:
        (old,) = store.sync.commit([Put(space, "old", b"old")])
        with pytest.raises(VersionConflictError):
            store.sync.commit(
                [
                    Put(space, "new", b"new"),
                    Delete(space, "old"),
                    Put(space, "none", b"", expect=old),
                    Put("x", "y", b""),
                ]
            )
        assert store.sync.scan(space) == [Record(space, "old", b"old", old, None)]
        assert store.sync.get("x", "y") is None

    def test_a_commit_over_spaces(self, store: RecordStore, space: str) -> None:
        changes = [Put(f"{space}/{number}", "k", b"%d" % number) for number in range(50)]
        versions = store.sync.commit(changes)
        found = store.sync.get_many([(change.space, change.key) for change in changes])
        assert [(record.data, record.version) for record in found if record] == [
            (change.data, version) for change, version in zip(changes, versions, strict=True)
        ]

    def test_the_largest_commit(self, store: RecordStore, space: str) -> None:
        changes = [Put(space, f"{number:04}", b"x" * 100) for number in range(MAX_CHANGES)]
        versions = store.sync.commit(changes)
        assert [record.version for record in store.sync.scan(space)] == versions
        store.sync.commit([Delete(space, change.key) for change in changes])
        assert store.sync.scan(space) == []

    def test_creators_race(self, store: RecordStore, space: str) -> None:
        def create(number: int) -> int:
            try:
                store.sync.commit([Put(space, "k", b"%d" % number, expect=0)])
            except VersionConflictError:
                return 0
            return 1

        assert sum(at_once(create, 8)) == 1

    def test_no_update_is_lost(self, store: RecordStore, space: str) -> None:
        """Read, add one, write on the condition that nobody else did: 8 threads, exact sum."""
        store.sync.commit([Put(space, "n", b"0")])

        def add(_: int) -> None:
            for _ in range(10):
                while True:
                    record = store.sync.get(space, "n")
                    assert record is not None
                    try:
                        store.sync.commit([Put(space, "n", b"%d" % (int(record.data) + 1), expect=record.version)])
                        break
                    except VersionConflictError:
                        continue

        at_once(add, 8)
        record = store.sync.get(space, "n")
        assert record is not None
        assert record.data == b"80"

    # --- more than one ---

    @needs("durable")
    def test_it_is_still_there(self, store: RecordStore, space: str, clock: FakeClock) -> None:
        (version,) = store.sync.commit([Put(space, "k", b"kept")])
        store.sync.close()
        other = self.reopened(store, clock)
        try:
            assert other.sync.get(space, "k") == Record(space, "k", b"kept", version, None)
            (later,) = other.sync.commit([Put(space, "k", b"")])
            assert later != version
        finally:
            other.sync.close()

    @needs("shared")
    def test_two_see_each_other(self, store: RecordStore, space: str, clock: FakeClock) -> None:
        other = self.reopened(store, clock)
        try:
            for number in range(20):
                one, two = (store, other) if number % 2 else (other, store)
                (version,) = one.sync.commit([Put(space, "k", b"%d" % number)])
                record = two.sync.get(space, "k")
                assert record is not None
                assert record.version == version
                with pytest.raises(VersionConflictError):
                    two.sync.commit([Put(space, "k", b"", expect=version + 1000)])
        finally:
            other.sync.close()

    def test_model(self, store: RecordStore, clock: FakeClock) -> None:
        """Any sequence of calls gives what a dict gives."""
        check_against_model(store, clock, self.examples, lambda: next(SPACES))

    @pytest.fixture(autouse=True)
    def _closed(self, store: RecordStore) -> Iterator[None]:
        yield
        store.sync.close()
