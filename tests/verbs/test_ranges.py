"""Ranges and chunks: what is fetched, in how many requests, and that a file is one file."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import StorageConflictError, StorageNotFoundError
from genro_storage.mount import Mount


@pytest.fixture
def node() -> Iterator[StorageNode]:
    with StorageManager([{"name": "m", "type": "memory"}]) as storage:
        yield storage.node("m:f")


def test_ranges_are_fetched_together_where_they_are_near(node: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(1_000_000)
    node.write_bytes(data)
    asked: list[tuple[int, int]] = []
    get = Mount.get

    def counted(self: Mount, path: str, start: int = 0, end: int | None = None, **how: object) -> object:
        asked.append((start, end or 0))
        return get(self, path, start, end, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Mount, "get", counted)
    wanted = [(500_000, 500_010), (0, 10), (20, 30), (5, 25), (7, 7), (999_995, 1_000_050), (2_000_000, 2_000_001)]
    assert node.read_ranges(wanted) == [data[start:end] for start, end in wanted]
    assert asked == [(0, 30), (500_000, 500_010), (999_995, 1_000_050), (2_000_000, 2_000_001)]
    assert node.read_ranges([]) == []
    for bad in ((-1, 5), (5, 4)):
        with pytest.raises(ValueError, match="a range is"):
            node.read_ranges([bad])


@pytest.mark.parametrize(
    ("size", "start", "end"), [(7, 0, None), (100, 3, 50), (1, 95, None), (1000, 0, None), (10, -25, None)]
)
def test_chunks(node: StorageNode, size: int, start: int, end: int | None) -> None:
    data = bytes(range(100))
    node.write_bytes(data)
    chunks = list(node.iter_chunks(size, start, end))
    assert b"".join(chunks) == data[start:end]
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size


def test_chunks_of_nothing_and_of_what_is_missing(node: StorageNode) -> None:
    with pytest.raises(StorageNotFoundError):
        next(node.iter_chunks())
    node.write_bytes(b"")
    assert list(node.iter_chunks()) == []
    with pytest.raises(ValueError, match="size is 1 or more"):
        next(node.iter_chunks(0))


def test_a_seek_after_a_replacement_is_a_conflict(node: StorageNode) -> None:
    node.write_bytes(b"a" * 3_000_000)
    with node.open("rb") as file:
        assert file.read(1) == b"a"
        node.write_bytes(b"b" * 3_000_000)
        file.seek(2_500_000)
        with pytest.raises(StorageConflictError):
            file.read(1)
