"""The cases about reading: round trips, ranges, facts, and one object staying one object."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing
from typing import ClassVar

import pytest
from msgspec.structs import replace

from ..backends.base import StorageBackend
from ..exceptions import StorageConflictError, StorageIsADirectoryError, StorageNotFoundError, UnsupportedOperation
from ..mount import Mount
from ..retry import RetryPolicy
from ..types import Stat, WriteOptions
from .suite import Suite, needs

RANGES: list[tuple[int, int | None]] = [
    *[(0, None), (0, 0), (0, 1), (3, 7), (9, 10), (9, None), (5, 100), (10, None), (10, 12), (12, 20), (7, 7)],
    *[(-1, None), (-4, None), (-10, None), (-100, None)],
]


def payload(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes without a pattern that a shifted block would repeat."""
    return random.Random(seed).randbytes(size)


def read_in_chunks(reader: object, size: int) -> bytes:
    """All of a BackendReader, by reads of `size`."""
    parts = []
    while data := reader.read(size):  # type: ignore[attr-defined]
        assert len(data) <= size
        parts.append(data)
    return b"".join(parts)


class Cases(Suite):
    """The fixtures and sizes that the cases share."""

    large: ClassVar[int] = 9 * 1024 * 1024 + 17
    many: ClassVar[int] = 1100
    payloads: ClassVar[int] = 300
    emptied_stay: ClassVar[bool] = False
    """A server behind the storage goes on listing directories that were emptied (SeaweedFS)."""

    @pytest.fixture
    def backend(self) -> StorageBackend:
        """A fresh, empty backend: the one fixture a subclass writes."""
        raise NotImplementedError("a subclass of BackendSuite overrides the fixture 'backend'")

    @pytest.fixture
    def mount(self, backend: StorageBackend) -> Mount:
        """The backend behind a mount named "m" that retries with short waits, as users reach it."""
        return Mount("m", backend, retry=RetryPolicy(retries=3, max_delay=0.05))


class Reading(Cases):
    @pytest.mark.parametrize("size", [0, 1, 1000, 65_537])
    def test_put_then_get(self, backend: StorageBackend, size: int) -> None:
        data = payload(size)
        told = backend.put("d/file.bin", data)
        there, stat = backend.get("d/file.bin")
        assert there == data
        assert (told.path, told.size) == (stat.path, stat.size) == ("d/file.bin", size)

    @pytest.mark.parametrize("size", [0, 1, 65_537])
    def test_write_then_read(self, mount: Mount, size: int) -> None:
        data = payload(size)
        writer = mount.writer("d/e/file.bin")
        for start in range(0, size, 10_001):
            writer.write(data[start : start + 10_001])
        told = writer.commit()
        assert (told.path, told.size) == ("d/e/file.bin", size)
        with closing(mount.reader("d/e/file.bin")) as reader:
            assert reader.stat.size == size
            assert read_in_chunks(reader, 7_777) == data
            assert reader.read(5) == b""
            assert reader.read() == b""

    def test_large(self, mount: Mount) -> None:
        """A file of several parts, in chunks that fit no part; the announced size and the sum hold."""
        data = payload(self.large)
        writer = mount.writer("large.bin", WriteOptions(size=len(data)))
        for start in range(0, len(data), 1_000_003):
            writer.write(data[start : start + 1_000_003])
        assert writer.commit().size == len(data)
        with closing(mount.reader("large.bin")) as reader:
            assert hashlib.sha256(read_in_chunks(reader, 1 << 20)).digest() == hashlib.sha256(data).digest()
        assert mount.get("large.bin", 8_388_600, 8_388_620)[0] == data[8_388_600:8_388_620]

    def test_large_put(self, mount: Mount) -> None:
        data = payload(self.large)
        mount.put("large.bin", data)
        assert mount.get("large.bin")[0] == data

    def test_many_payloads(self, mount: Mount) -> None:
        """Bytes of any value and length, under one name replaced again and again (R18: nothing is cached)."""
        dice = random.Random(7)
        for number in range(self.payloads):
            data = dice.randbytes(dice.choice([300, dice.randrange(2000)]))
            path = f"p/{number % 10}"
            mount.put(path, data)
            assert mount.get(path)[0] == data

    @pytest.mark.parametrize(("start", "end"), RANGES)
    def test_ranges(self, backend: StorageBackend, mount: Mount, start: int, end: int | None) -> None:
        """[start, end), a suffix if negative; past the end there is less or nothing; facts are the whole object's."""
        data = b"0123456789"
        expected = data[start:] if start < 0 else data[start:end]
        backend.put("f", data)
        backend.put("empty", b"")
        there, stat = backend.get("f", start, end)
        assert (there, stat.size) == (expected, 10)
        for reader in (backend.reader("f", start, end), mount.reader("f", start, end)):
            with closing(reader):
                assert reader.stat.size == 10
                assert reader.read() == expected
                assert reader.read() == b""
        assert backend.get("empty", start, end)[0] == b""

    def test_missing(self, backend: StorageBackend, mount: Mount) -> None:
        backend.put("there", b"x")
        for path in ("absent", "no/such/dir", "ther", "there2"):
            with pytest.raises(StorageNotFoundError):
                mount.get(path)
            with pytest.raises(StorageNotFoundError):
                mount.reader(path)
            with pytest.raises(StorageNotFoundError):
                mount.stat(path)
            assert not mount.exists(path)
            assert not mount.is_file(path)
            assert not mount.is_dir(path)

    def test_a_directory_is_not_read(self, backend: StorageBackend, mount: Mount) -> None:
        backend.put("d/x", b"x")
        kinds = (
            StorageIsADirectoryError if backend.features.real_dirs else (StorageIsADirectoryError, StorageNotFoundError)
        )
        with pytest.raises(kinds):
            mount.get("d")
        with pytest.raises(kinds):
            mount.reader("d").read()
        assert mount.get("d/x")[0] == b"x"

    def test_facts(self, backend: StorageBackend, mount: Mount) -> None:
        backend.put("d/f.txt", b"12345")
        stat = mount.stat("d/f.txt")
        assert (stat.path, stat.size, stat.is_file, stat.is_dir, stat.is_symlink) == ("d/f.txt", 5, True, False, False)
        assert stat.mtime is None or type(stat.mtime) is float
        above = mount.stat("d")
        assert (above.path, above.is_dir, above.is_file) == ("d", True, False)
        root = mount.stat("")
        assert (root.path, root.is_dir) == ("", True)
        assert mount.exists("")
        assert mount.is_dir("")
        assert not mount.is_file("")

    def test_facts_are_stable(self, mount: Mount) -> None:
        """R43: two looks at an unchanged file agree, and the listing, the read and the write tell the same."""
        told = mount.put("d/f", b"12345")
        first = mount.stat("d/f")
        assert mount.stat("d/f") == first
        (listed,) = [entry for page in mount.scan("d") for entry in page]
        for other in (told, listed, mount.get("d/f")[1], mount.get("d/f", 1, 2)[1]):
            assert (other.path, other.is_file) == (first.path, True)
            assert other.size == first.size or (other is listed and other.size is None)
            assert _agree(other.etag, first.etag)
            assert _agree(other.mtime, first.mtime, 1.0 if other is told or other is listed else 0)

    def test_a_look_tells_what_stat_tells(self, backend: StorageBackend, mount: Mount) -> None:
        """Of an object with all that it can have; only the hashes may be missing. What is not there is missing too."""
        features = backend.features
        kept = WriteOptions(
            metadata={"owner": "né"} if features.metadata else None,
            content_type="text/x-one" if features.content_type else None,
            mtime=1234567890.0 if features.keeps_mtime else None,
        )
        for path, size, options in (("d/plain", 5, WriteOptions()), ("d/rich é", 7, kept), ("empty", 0, kept)):
            mount.put(path, b"x" * size, options)
            told, seen = mount.stat(path), mount.look(path)
            assert replace(seen, hashes={}) == replace(told, hashes={})
            assert seen.hashes.items() <= told.hashes.items()
        with pytest.raises(StorageNotFoundError):
            mount.look("d/absent")

    @needs("mtime")
    def test_mtime_is_the_time_of_the_write(self, backend: StorageBackend, mount: Mount) -> None:
        import time

        before = time.time()
        mount.put("f", b"1")
        mtime = mount.stat("f").mtime
        assert mtime is not None
        slack = 2 + (backend.features.mtime_resolution or 0)
        assert before - slack <= mtime <= time.time() + slack

    @needs("hashes")
    def test_hashes_are_true(self, backend: StorageBackend, mount: Mount) -> None:
        data = payload(5000)
        mount.put("f", data)
        hashes = mount.stat("f").hashes
        assert set(hashes) <= set(backend.features.hashes)
        for algorithm in set(hashes) & hashlib.algorithms_available:
            assert hashes[algorithm] == hashlib.new(algorithm, data).hexdigest()

    @needs("if_match")
    def test_read_if_match(self, backend: StorageBackend, mount: Mount) -> None:
        mount.put("f", b"old")
        etag = mount.stat("f").etag
        assert etag
        assert mount.get("f", if_match=etag)[0] == b"old"
        mount.put("f", b"newer")
        for read in (mount.get, mount.reader):
            with pytest.raises(StorageConflictError):
                read("f", if_match=etag)

    def test_no_version_is_invented(self, backend: StorageBackend, mount: Mount) -> None:
        """An unknown version is an error, never the live bytes."""
        backend.put("f", b"1")
        for ask in (mount.stat, mount.get, mount.reader):
            with pytest.raises((UnsupportedOperation, StorageNotFoundError)):
                ask("f", version="no-such-version")

    def test_an_object_read_is_one_object(self, mount: Mount) -> None:
        """R18: replaced while it is read, a file gives its old bytes or a conflict, never a mixture."""
        size = 3 * 1024 * 1024
        mount.put("f", b"o" * size)
        with closing(mount.reader("f")) as reader:
            taken = reader.read(1000)
            mount.put("f", b"n" * size)
            try:
                taken += read_in_chunks(reader, 1 << 18)
            except StorageConflictError:
                return
        assert taken == b"o" * size


def _agree(one: float | str | None, other: float | str | None, slack: float = 0) -> bool:
    """Two facts, either of which may be unknown; `slack` seconds for a listing that tells coarser times."""
    if one is None or other is None or one == other:
        return True
    return isinstance(one, float) and isinstance(other, float) and abs(one - other) <= slack


def entries(pages: object) -> list[Stat]:
    """The entries of a listing's pages."""
    return [entry for page in pages for entry in page]  # type: ignore[attr-defined]
