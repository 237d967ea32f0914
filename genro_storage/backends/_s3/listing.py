"""Listings of S3: pages of entries whose paths are the keys themselves, however odd, and markers as directories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...types import Stat
from .._objects import directory_of, position, prefix_of, unquoted
from .client import Answer, Connection
from .facts import common
from .plain import Object, Page

PAGE = 1000
"""Keys that one request gives at most (S3 API, ListObjectsV2)."""


class Listing:
    """One listing below `path`: an iterator over pages; `empty` says afterwards that not even a marker was there."""

    def __init__(
        self, connection: Connection, top: str, path: str, *, flat: bool, after: str, limit: int | None
    ) -> None:
        self._connection, self._top = connection, top
        self._prefix = top + prefix_of(path)
        self._after, self._limit = after, limit
        self._request: Answer = common(connection.options) | {"Prefix": self._prefix}
        # Who asks for one entry asks whether any key is there; a directory level may show what is emptied (SeaweedFS).
        if not flat and limit != 1:
            self._request["Delimiter"] = "/"
        self._peek = not flat and limit == 1
        if after:
            self._request["StartAfter"] = top + after
        self.empty = True

    def __iter__(self) -> Iterator[Sequence[Stat]]:
        left = self._limit
        while left is None or left > 0:
            page = self._page(left)
            entries = self._entries(page)[:left]
            if self._peek:
                entries = [self._at_this_level(entry) for entry in entries]
            if entries:
                yield entries
            if left is not None:
                left -= len(entries)
            if not page.token:
                break
            self._request["ContinuationToken"] = page.token

    def _page(self, left: int | None) -> Page:
        # One more than asked: the directory's own marker comes first and is no entry.
        request = self._request | {"MaxKeys": PAGE if left is None else min(PAGE, left + 1)}
        connection = self._connection
        page = connection.plain.page(connection, request)
        if page is None:
            page = _told(connection.run(connection.client.list_objects_v2(**request)))
        if page.objects or page.prefixes:
            self.empty = False
        return page

    def _at_this_level(self, entry: Stat) -> Stat:
        below = len(self._prefix) - len(self._top)
        slash = position(entry).find("/", below)
        return entry if slash < 0 else Stat(directory_of(position(entry)[: slash + 1]), is_dir=True)

    def _entries(self, page: Page) -> list[Stat]:
        cut = len(self._top)
        entries, directories = [], set(page.prefixes)
        for key, size, modified, etag, stored in page.objects:
            if key[-1:] == "/":
                directories.add(key)
            else:
                entries.append(Stat(key[cut:], size, mtime=modified, etag=etag or None, storage_class=stored))
        directories.discard(self._prefix)
        if directories:
            entries += [Stat(directory_of(key[cut:]), is_dir=True) for key in directories]
            entries.sort(key=position)
        if self._after and entries and position(entries[0]) == self._after:
            del entries[0]  # the directory to start after, for a key inside it follows its name
        return entries


def _told(answer: Answer) -> Page:
    """A page as the client tells it."""
    objects = [
        Object(
            found["Key"],
            found["Size"],
            float(int(found["LastModified"].timestamp())),
            unquoted(found.get("ETag")) or "",
            found.get("StorageClass"),
        )
        for found in answer.get("Contents", ())
    ]
    prefixes = [common["Prefix"] for common in answer.get("CommonPrefixes", ())]
    token = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
    return Page(objects, prefixes, token or "")
