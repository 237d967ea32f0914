"""Parts of a file: several ranges in few requests, and the whole in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..nodes import StorageNode

GAP = 64 << 10
"""Ranges at most this far apart are fetched together."""


def read_ranges(node: StorageNode, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each [start, end), in the order asked; near ones cost one request together."""
    for start, end in ranges:
        if start < 0 or end < start:
            raise ValueError(f"a range is (start, end) with 0 ≤ start ≤ end, not ({start}, {end})")
    found: dict[int, bytes] = {}
    for first, last, members in _together(ranges):
        data = node.read_bytes(first, last)
        for number in members:
            start, end = ranges[number]
            found[number] = data[start - first : end - first]
    return [found.get(number, b"") for number in range(len(ranges))]


def _together(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[int]]]:
    """(first, last, numbers of the ranges inside), for those that are not empty."""
    numbers = sorted((number for number, (start, end) in enumerate(ranges) if end > start), key=lambda n: ranges[n])
    first = last = 0
    members: list[int] = []
    for number in numbers:
        start, end = ranges[number]
        if members and start > last + GAP:
            yield first, last, members
            members = []
        if not members:
            first, last = start, end
        last = max(last, end)
        members.append(number)
    if members:
        yield first, last, members


def iter_chunks(node: StorageNode, size: int, start: int, end: int | None) -> Iterator[bytes]:
    """[start, end) in chunks of `size` bytes, the last one shorter; closes when exhausted or dropped."""
    if size < 1:
        raise ValueError(f"size is 1 or more, not {size}")
    reader = node.mount.reader(node.path, start, end, version=node.version)
    try:
        pieces: list[bytes] = []
        have = 0
        while data := reader.read(size - have):
            pieces.append(data)
            have += len(data)
            if have == size:
                yield b"".join(pieces)
                pieces, have = [], 0
        if have:
            yield b"".join(pieces)
    finally:
        reader.close()
