"""Cases of record stores: order and bounds of scans, names that can be and names that cannot, limits."""

from __future__ import annotations

import itertools

import pytest

from ..exceptions import RecordTooLargeError
from ..records.base import MAX_CHANGES, Change, Delete, Put, RecordStore
from .record_words import RecordCases


class RangeCases(RecordCases):
    """What `scan` gives, and what a name and a commit may be."""

    # --- scan ---

    KEYS = ("!", "-", ".", "/", "0", "A", "Z", "a", "a b", "a/b", "aa", "z", "~", "é", "日本", "\uffee", "😀")

    def filled(self, store: RecordStore, space: str) -> list[str]:
        """Keys in bytewise order, all of them written."""
        keys = sorted(self.KEYS, key=str.encode)
        store.sync.commit([Put(space, key, key.encode()) for key in reversed(keys)])
        return keys

    def test_scan_order(self, store: RecordStore, space: str) -> None:
        keys = self.filled(store, space)
        store.sync.commit([Put(space + "0", "before", b""), Put(space[:-1], "after", b"")])
        assert [record.key for record in store.sync.scan(space)] == keys
        assert [record.key for record in store.sync.scan(space, reverse=True)] == keys[::-1]
        assert [record.data.decode() for record in store.sync.scan(space)] == keys

    @pytest.mark.parametrize("reverse", [False, True])
    def test_scan_bounds(self, store: RecordStore, space: str, reverse: bool) -> None:
        keys = self.filled(store, space)
        bounds = ["", *keys, "a0", "b", "\U0010ffff"]
        for after, until, limit in itertools.product(bounds, [None, *bounds[::3]], [None, 0, 1, 3, 100]):
            wanted = [key for key in keys if key.encode() > after.encode()]
            if until is not None:
                wanted = [key for key in wanted if key.encode() < until.encode()]
            wanted = (wanted[::-1] if reverse else wanted)[:limit]
            found = store.sync.scan(space, after=after, until=until, limit=limit, reverse=reverse)
            assert [record.key for record in found] == wanted, (after, until, limit)

    def test_scan_pages(self, store: RecordStore, space: str) -> None:
        """2,500 records by pages of 1,000, and all at once."""
        keys = [f"{number:05}" for number in range(2500)]
        for start in range(0, 2500, 500):
            store.sync.commit([Put(space, key, b"") for key in keys[start : start + 500]])
        found: list[str] = []
        while page := store.sync.scan(space, after=found[-1] if found else "", limit=1000):
            found += [record.key for record in page]
        assert found == keys
        assert [record.key for record in store.sync.scan(space)] == keys

    def test_plain_spaces(self, store: RecordStore, space: str) -> None:
        plain = f"{space}#"
        keys = sorted(["0" * 20, "1" * 20, "a-b", "z" * 128, "9"])
        store.sync.commit([Put(plain, key, key.encode()) for key in keys])
        assert [record.key for record in store.sync.scan(plain)] == keys
        assert [record.key for record in store.sync.scan(plain, after=keys[1], until=keys[4])] == keys[2:4]
        assert [record.key for record in store.sync.scan(plain, limit=2, reverse=True)] == keys[:2:-1]
        for key in ("A", "a/b", "a_b", "z" * 129, "é"):
            with pytest.raises(ValueError, match="keys of the space"):
                store.sync.commit([Put(plain, key, b"")])

    # --- names and limits ---

    HOSTILE = (
        "..",
        "../../etc/passwd",
        "a/../b",
        "/",
        "//",
        "a:b",
        "a\\b",
        "%2e%2e",
        "*",
        "a\nb",
        " ",
        "'; DROP",
        "{}",
    )

    def test_names_never_collide(self, store: RecordStore, space: str) -> None:
        """Whatever a name holds, it is that name and no other; nothing is a path, a pattern or a statement."""
        names = {*self.HOSTILE, *self.KEYS, "k" * 1536, "k" * 1535 + "x", "é" * 768, "k" * 200, "k" * 200 + "x"}
        spaces = [f"{space}/{name}" for name in ("a", "a/b", "..", "%2F", "é")]
        wanted = {(one, name): f"{one} {name}".encode() for one in spaces for name in names}
        store.sync.commit([Put(*place, data) for place, data in wanted.items()])
        for (one, name), data in wanted.items():
            record = store.sync.get(one, name)
            assert record is not None
            assert (record.space, record.key, record.data) == (one, name, data)
        for one in spaces:
            assert [record.key for record in store.sync.scan(one)] == sorted(names, key=str.encode)

    def test_colons_do_not_collide(self, store: RecordStore, space: str) -> None:
        store.sync.commit([Put(f"{space}a", "b:c", b"1"), Put(f"{space}a:b", "c", b"2"), Put(f"{space}a/b", "c", b"3")])
        assert [record.data for record in store.sync.scan(f"{space}a")] == [b"1"]
        assert [record.data for record in store.sync.scan(f"{space}a:b")] == [b"2"]

    @pytest.mark.parametrize("key", ["", "k" * 1537, "é" * 769, "a\0b", "\ud800"])
    def test_keys_that_cannot_be(self, store: RecordStore, space: str, key: str) -> None:
        with pytest.raises(ValueError, match="key"):
            store.sync.commit([Put(space, key, b"")])
        with pytest.raises(ValueError, match="key"):
            store.sync.get(space, key)

    @pytest.mark.parametrize("space", ["s" * 513, "é" * 257, "a\0b", "\udfff"])
    def test_spaces_that_cannot_be(self, store: RecordStore, space: str) -> None:
        for call in (lambda: store.sync.get(space, "k"), lambda: store.sync.scan(space)):
            with pytest.raises(ValueError, match="space"):
                call()

    def test_the_longest_space(self, store: RecordStore, space: str) -> None:
        longest = [(space + "/").ljust(512, "s"), (space + "/").ljust(511, "s") + "t", ""]
        store.sync.commit([Put(one, "k", one.encode()) for one in longest])
        assert [store.sync.scan(one)[0].data.decode() for one in longest] == longest
        store.sync.commit([Delete(one, "k") for one in longest])

    def test_commits_that_cannot_be(self, store: RecordStore, space: str) -> None:
        put: Change = Put(space, "k", b"")
        many: list[Change] = [Put(space, str(n), b"") for n in range(MAX_CHANGES + 1)]
        for changes in ([], [put, Delete(space, "k")], many):
            with pytest.raises(ValueError, match="commit"):
                store.sync.commit(changes)
        with pytest.raises(ValueError, match="expect"):
            store.sync.commit([Put(space, "k", b"", expect=-1)])
        with pytest.raises(TypeError):
            store.sync.commit([Put(space, "k", "text")])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="limit"):
            store.sync.scan(space, limit=-1)
        assert store.sync.scan(space) == []

    def test_too_large(self, store: RecordStore, space: str) -> None:
        with pytest.raises(RecordTooLargeError):
            store.sync.commit([Put(space, "k", bytes(store.features.max_data + 1))])
        half = bytes(min(store.features.max_data, 64 << 20))
        with pytest.raises(RecordTooLargeError):
            store.sync.commit([Put(space, str(n), half) for n in range((128 << 20) // len(half) + 1)])
        assert store.sync.scan(space) == []
