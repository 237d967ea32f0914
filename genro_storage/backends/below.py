"""A directory of another backend as a backend of its own, for drivers that know nothing of roots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import msgspec

from ..exceptions import StorageError
from ..paths import join
from ..types import PLAIN, Features, Stat, WriteOptions
from .base import BackendReader, StorageBackend


class Below(StorageBackend):
    """Puts a path before every path on the way in and takes it away from every `Stat` on the way out.

    It has the six methods and no abilities: what a driver of the simple five can do.
    """

    def __init__(self, inner: StorageBackend, path: str) -> None:
        super().__init__(inner.options)
        self._inner = inner
        self.root = path
        self.context = inner.context

    @property
    def features(self) -> Features:  # type: ignore[override]
        return self._inner.features

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset()

    @property
    def storage_id(self) -> str:
        return self._inner.storage_id

    def native_path(self, path: str) -> str:
        return self._inner.native_path(self._at(path))

    def rooted(self, path: str) -> Self:
        return type(self)(self._inner, self._at(path))

    def translate(self, error: Exception) -> StorageError | None:
        return self._inner.translate(error)

    def _at(self, path: str) -> str:
        return join(self.root, path) if path else self.root

    def _own(self, stat: Stat) -> Stat:
        return msgspec.structs.replace(stat, path=stat.path[len(self.root) :].lstrip("/"))

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        return self._own(self._inner.stat(self._at(path), version=version))

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        above = self._at(after) if after else ""
        for page in self._inner.scan(self._at(path), after=above, limit=limit, facts=facts):
            yield [self._own(entry) for entry in page]

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        reader = self._inner.reader(self._at(path), start, end, version=version, if_match=if_match)
        reader.stat = self._own(reader.stat)
        return reader

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        return self._own(self._inner.put(self._at(path), data, options))

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self._inner.delete(self._at(path))
