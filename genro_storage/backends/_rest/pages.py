"""Listings by prefix: pages of entries whose paths are the keys themselves, however odd, and markers as directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ...types import Stat
from .._objects import directory_of, position, prefix_of

PAGE = 1000


class Asked(NamedTuple):
    """One page of keys: those that begin with `prefix` and are not below `start`."""

    prefix: str
    delimiter: bool
    start: str
    limit: int
    token: str


class Page(NamedTuple):
    """Facts of objects under their whole keys, common prefixes, and the token of the next page, "" on the last."""

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
        self._flat = flat
        self.empty = True

    def __iter__(self) -> Iterator[Sequence[Stat]]:
        left, token = self._limit, ""
        start = self._top + self._after if self._after else ""
        while left is None or left > 0:
            # Two more than asked: the directory's own marker and the entry to start after come first.
            count = PAGE if left is None else min(PAGE, left + 2)
            page = self._fetch(Asked(self._prefix, not self._flat, start, count, token))
            self.empty = self.empty and not (page.objects or page.prefixes)
            entries = self._entries(page)[:left]
            if entries:
                yield entries
            if left is not None:
                left -= len(entries)
            token = page.token
            if not token:
                break

    def _entries(self, page: Page) -> list[Stat]:
        cut = len(self._top)
        directories = set(page.prefixes) | {stat.path for stat in page.objects if stat.path.endswith("/")}
        directories.discard(self._prefix)
        entries = [
            replace(stat, path=stat.path[cut:]) if cut else stat for stat in page.objects if stat.path[-1:] != "/"
        ]
        if directories:
            entries += [Stat(directory_of(key[cut:]), is_dir=True) for key in directories]
            entries.sort(key=position)
        return [entry for entry in entries if position(entry) > self._after] if self._after else entries
