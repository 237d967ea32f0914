"""Listings by prefix: pages of entries whose paths are the keys themselves, however odd, and markers as directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..types import Stat
from ._objects import directory_of, position, prefix_of

PAGE = 1000
"""Entries that one request gives at most (S3 API, ListObjectsV2; Google and Azure are asked for as many)."""


class Asked(NamedTuple):
    """One page of keys: those that begin with `prefix` and are not below `start`, told without their first `cut`
    characters."""

    prefix: str
    delimiter: bool
    start: str
    limit: int
    token: str
    cut: int


class Page(NamedTuple):
    """Facts of objects under their keys as `Asked.cut` has them, common prefixes under whole keys, and the token of the
    next page, "" on the last."""

    objects: Sequence[Stat]
    prefixes: Sequence[str]
    token: str


class Listing:
    """One listing below `path`: an iterator over pages; `empty` says afterwards that not even a marker was there."""

    def __init__(
        self, fetch: Callable[[Asked], Page], top: str, path: str, *, flat: bool, after: str, limit: int | None
    ) -> None:
        self._fetch, self._top = fetch, top
        self._prefix = top + prefix_of(path)
        self._after, self._limit = after, limit
        # Who asks for one entry asks whether any key is there; a directory level may show what is emptied (SeaweedFS).
        self._peek = limit == 1 and not flat and not after
        self._delimiter = not flat and not self._peek
        self.empty = True

    def __iter__(self) -> Iterator[Sequence[Stat]]:
        left, token = self._limit, ""
        start = self._top + self._after if self._after else ""
        while left is None or left > 0:
            # Two more than asked: the directory's own marker and the entry to start after come first.
            count = PAGE if left is None else min(PAGE, left + 2)
            page = self._fetch(Asked(self._prefix, self._delimiter, start, count, token, len(self._top)))
            self.empty = self.empty and not (page.objects or page.prefixes)
            entries = self._entries(page)[:left]
            if self._peek:
                entries = [self._at_this_level(entry) for entry in entries]
            if entries:
                yield entries
            if left is not None:
                left -= len(entries)
            token = page.token
            if not token:
                break

    def _entries(self, page: Page) -> list[Stat]:
        cut = len(self._top)
        entries = [stat for stat in page.objects if stat.path and stat.path[-1] != "/"]
        directories = {key[cut:] for key in page.prefixes}
        if len(entries) < len(page.objects):
            directories |= {stat.path for stat in page.objects if stat.path[-1:] == "/"}
        directories.discard(self._prefix[cut:])
        if directories:
            entries += [Stat(directory_of(key), is_dir=True) for key in directories]
            entries.sort(key=position)
        return self._above(entries) if self._after else entries

    def _above(self, entries: list[Stat]) -> list[Stat]:
        """Without what a server tells of the places before: the one to start after, or all where it knows no start."""
        first = 0
        while first < len(entries) and position(entries[first]) <= self._after:
            first += 1
        return entries[first:]

    def _at_this_level(self, entry: Stat) -> Stat:
        below = len(self._prefix) - len(self._top)
        slash = position(entry).find("/", below)
        return entry if slash < 0 else Stat(directory_of(position(entry)[: slash + 1]), is_dir=True)
