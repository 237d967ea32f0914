"""The cases about staged writes: parts in any order, seen all at once or never, resumed by a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from ..backends.base import PartWriter, StorageBackend
from ..exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
)
from ..mount import Mount
from ..types import WriteOptions
from .conditions import race
from .reading import Cases, entries, payload
from .suite import needs

SMALL = 64 * 1024
"""The size of parts that is asked for; a storage may need larger ones."""


class Pieces:
    """A part that is fetched again whenever somebody goes through it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        return (self._data[start : start + 10_007] for start in range(0, len(self._data), 10_007))


def begun(mount: Mount, path: str = "d/f", parts: int = 2, **options: object) -> tuple[PartWriter, bytes, list[int]]:
    """A staged write, the bytes of `parts` parts and a short one, and where the parts begin."""
    writer = mount.parts(path, WriteOptions(**options), part_size=SMALL)  # type: ignore[arg-type]
    data = payload(parts * writer.part_size + 17)
    return writer, data, list(range(0, len(data), writer.part_size))


def put(writer: PartWriter, data: bytes, *offsets: int) -> dict[int, str]:
    """Puts these parts; their receipts."""
    return {offset: writer.put(offset, data[offset : offset + writer.part_size]) for offset in offsets}


def written(mount: Mount, path: str, **options: object) -> bytes:
    """Writes a file in parts; its bytes."""
    writer, data, offsets = begun(mount, path, 1, **options)
    try:
        put(writer, data, *offsets)
        writer.commit()
    finally:
        writer.discard()
    return data


class Staging(Cases):
    late_judge: ClassVar[bool] = False
    """A server behind the storage lets several staged writes pass that come at one moment (SeaweedFS)."""

    @needs("parts")
    def test_parts_come_in_any_order(self, mount: Mount) -> None:
        writer, data, offsets = begun(mount)
        put(writer, data, *reversed(offsets))
        told = writer.commit()
        assert (told.path, told.size) == ("d/f", len(data))
        assert mount.get("d/f")[0] == data
        assert mount.stat("d/f").size == len(data)
        assert told.etag in (None, mount.stat("d/f").etag)

    @needs("parts")
    def test_parts_come_from_any_thread(self, mount: Mount) -> None:
        writer, data, offsets = begun(mount, parts=3)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda offset: put(writer, data, offset), offsets))
        writer.commit()
        assert mount.get("d/f")[0] == data

    @needs("parts")
    def test_parts_appear_in_one_step(self, mount: Mount) -> None:
        """Nothing shows before, neither itself nor what holds it; then all of it, with what was asked to be kept."""
        mount.put("d/f", b"old")
        writer, data, offsets = begun(mount)
        put(writer, data, *offsets)
        assert [entry.path for entry in entries(mount.scan("d"))] == ["d/f"]
        assert [entry.path for entry in entries(mount.walk("")) if not entry.is_dir] == ["d/f"]
        assert mount.get("d/f")[0] == b"old"
        writer.commit()
        assert mount.get("d/f")[0] == data
        assert [entry.path for entry in entries(mount.walk("")) if not entry.is_dir] == ["d/f"]

    @needs("parts")
    def test_a_part_may_be_put_again(self, mount: Mount) -> None:
        writer, data, offsets = begun(mount)
        writer.put(0, payload(writer.part_size, 9))
        put(writer, data, *offsets)
        writer.commit()
        assert mount.get("d/f")[0] == data

    @needs("parts")
    @pytest.mark.parametrize("announced", [False, True])
    @pytest.mark.parametrize("missing", [0, 1, 2])
    def test_a_missing_part_is_an_error(self, mount: Mount, missing: int, announced: bool) -> None:
        mount.put("d/f", b"old")
        writer, data, offsets = begun(mount)
        if announced:
            writer.discard()
            writer = mount.parts("d/f", WriteOptions(size=len(data)), part_size=SMALL)
        put(writer, data, *[offset for offset in offsets if offset != offsets[missing]])
        if missing == 2 and not announced:  # nobody could know
            writer.commit()
            assert mount.get("d/f")[0] == data[: offsets[2]]
            return
        with pytest.raises(StorageCorruptedError):
            writer.commit()
        assert mount.get("d/f")[0] == b"old"
        put(writer, data, offsets[missing])
        writer.commit()
        assert mount.get("d/f")[0] == data

    @needs("parts")
    def test_parts_hold_to_the_announced_size(self, mount: Mount) -> None:
        writer = mount.parts("f", WriteOptions(size=10), part_size=SMALL)
        for data in (b"123456789", b"12345678901"):
            with pytest.raises(StorageCorruptedError):
                writer.put(0, data)
        writer.put(0, b"1234567890")
        writer.commit()
        assert mount.get("f")[0] == b"1234567890"

    @needs("parts")
    @pytest.mark.parametrize("announced", [None, 0])
    def test_no_parts_are_an_empty_file(self, mount: Mount, announced: int | None) -> None:
        mount.put("f", b"old")
        assert mount.parts("f", WriteOptions(size=announced), part_size=SMALL).commit().size == 0
        assert mount.get("f")[0] == b""

    @needs("parts")
    def test_large_parts_are_given_in_pieces(self, mount: Mount) -> None:
        writer, data, offsets = begun(mount)
        for offset in offsets:
            writer.put(offset, Pieces(data[offset : offset + writer.part_size]))
        writer.commit()
        assert mount.get("d/f")[0] == data

    @needs("parts", "keeps_mtime")
    def test_parts_keep_the_mtime(self, backend: StorageBackend, mount: Mount) -> None:
        written(mount, "f", mtime=1_234_567_890.5)
        resolution = max(1e-6, backend.features.mtime_resolution or 0)
        assert mount.stat("f").mtime == pytest.approx(1_234_567_890.5, abs=resolution)

    @needs("parts", "metadata", "content_type")
    def test_parts_keep_type_and_metadata(self, mount: Mount) -> None:
        written(mount, "f", content_type="text/x-strange", metadata={"key": "caf\u00e9"})
        stat = mount.stat("f")
        assert (stat.content_type, dict(stat.metadata or {})) == ("text/x-strange", {"key": "caf\u00e9"})

    # --- conditions ---

    @needs("parts", "if_absent")
    def test_parts_if_absent(self, mount: Mount) -> None:
        """Judged at commit: somebody else's file that came meanwhile stays."""
        first = written(mount, "d/f", if_absent=True)
        writer, data, offsets = begun(mount, "g", 1, if_absent=True)
        put(writer, data, *offsets)
        mount.put("g", b"somebody else")
        with pytest.raises(StorageExistsError):
            writer.commit()
        writer.discard()
        assert mount.get("g")[0] == b"somebody else"
        with pytest.raises(StorageExistsError):
            written(mount, "d/f", if_absent=True)
        assert mount.get("d/f")[0] == first

    @needs("parts", "if_match")
    def test_parts_if_match(self, mount: Mount) -> None:
        mount.put("f", b"first")
        stale = mount.stat("f").etag
        data = written(mount, "f", if_match=stale)
        for path in ("f", "absent"):
            with pytest.raises(StorageConflictError):
                written(mount, path, if_match=stale)
        assert mount.get("f")[0] == data
        assert not mount.exists("absent")

    @needs("parts", "atomic_if_absent")
    def test_one_staged_creator_wins(self, mount: Mount) -> None:
        writers = [begun(mount, "f", 0, if_absent=True)[0] for _ in range(4)]
        for number, writer in enumerate(writers):
            writer.put(0, bytes([number]) * 1000)
        winners = race(4, lambda number: writers[number].commit(), StorageExistsError)
        assert winners if self.late_judge else len(winners) == 1
        assert mount.get("f")[0] in {bytes([number]) * 1000 for number in winners}

    # --- to go on, and to give up ---

    @needs("parts")
    def test_a_token_goes_on(self, backend: StorageBackend, mount: Mount) -> None:
        """Whoever has token and receipts, text both, goes on where another left off."""
        writer, data, offsets = begun(mount)
        receipts = json.loads(json.dumps(list(put(writer, data, *offsets[1:]).items())))
        token = json.loads(json.dumps(writer.token))
        size = writer.part_size
        del writer
        other = Mount("n", backend.rooted(""))
        again = other.parts("d/f", part_size=size, token=token, receipts=dict(map(tuple, receipts)))
        assert (again.part_size, again.held) == (size, frozenset(offsets[1:]))
        put(again, data, offsets[0])
        again.commit()
        assert mount.get("d/f")[0] == data

    @needs("parts", "unfinished")
    def test_a_receipt_that_is_not_true_does_not_count(self, mount: Mount) -> None:
        writer, data, offsets = begun(mount)
        receipts = put(writer, data, offsets[0], offsets[2])
        receipts[offsets[1]] = receipts[offsets[0]]
        again = mount.parts("d/f", part_size=writer.part_size, token=writer.token, receipts=receipts)
        assert again.held == {offsets[0], offsets[2]}
        again.discard()

    @needs("parts", "unfinished")
    def test_a_token_that_is_gone(self, mount: Mount) -> None:
        committed, data, offsets = begun(mount, "f", 1)
        put(committed, data, *offsets)
        committed.commit()
        discarded = begun(mount, "g", 1)[0]
        discarded.put(0, payload(discarded.part_size))
        discarded.discard()
        for path, token in (("f", committed.token), ("g", discarded.token)):
            with pytest.raises(StorageNotFoundError):
                mount.parts(path, part_size=SMALL, token=token)
        assert mount.get("f")[0] == data

    @needs("parts")
    def test_discarded_parts_are_gone(self, mount: Mount) -> None:
        """Old bytes stay; again and again without a word; no way back; after a commit nothing."""
        mount.put("d/f", b"old")
        for path in ("d/f", "d/g"):
            writer, data, offsets = begun(mount, path, 1)
            put(writer, data, *offsets)
            writer.discard()
            writer.discard()
            for again in (writer.commit, lambda: put(writer, data, 0)):  # noqa: B023 - called at once
                with pytest.raises(StorageError):
                    again()
        assert mount.get("d/f")[0] == b"old"
        assert [entry.path for entry in entries(mount.scan("d"))] == ["d/f"]
        writer, data, offsets = begun(mount, "d/f", 1)
        put(writer, data, *offsets)
        writer.commit()
        writer.discard()
        assert mount.get("d/f")[0] == data

    @needs("parts", "unfinished")
    def test_unfinished_writes_are_found_and_discarded(self, mount: Mount) -> None:
        """Those at or below a path and old enough; not what was committed or discarded."""
        for path in ("a/f", "a/b/g", "ab", "c"):
            writer = begun(mount, path, 1)[0]
            writer.put(0, payload(writer.part_size))
        written(mount, "a/done")
        begun(mount, "a/gone")[0].discard()
        assert sorted(found.path for found in mount.unfinished("", older_than=-60)) == ["a/b/g", "a/f", "ab", "c"]
        assert sorted(found.path for found in mount.unfinished("a", older_than=-60)) == ["a/b/g", "a/f"]
        assert [found.path for found in mount.unfinished("a/f", older_than=-60)] == ["a/f"]
        assert mount.unfinished("a", older_than=3600) == []
        for found in mount.unfinished("a", older_than=-60):
            mount.parts(found.path, part_size=SMALL, token=found.token).discard()
        assert sorted(found.path for found in mount.unfinished("", older_than=-60)) == ["ab", "c"]
