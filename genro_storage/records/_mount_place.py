"""A directory of a mount as the protocol of the mount store wants it: awaited, with conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .._bridge import Workers
from ..exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotFoundError,
)
from ..paths import join
from ..types import PLAIN, WriteOptions

if TYPE_CHECKING:
    from ..mount import Mount

P = ParamSpec("P")
T = TypeVar("T")


class AtOnce:
    """In the place of `Workers`, for a storage that answers sooner than a thread wakes up: no other is asked."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)

    def close(self) -> None:
        """Nothing was begun."""


class MountObjects:
    """`Objects` in `path` of a mount, each call by `workers`; without `conditions` none is asked of the storage."""

    def __init__(self, mount: Mount, path: str, workers: Workers | AtOnce, *, conditions: bool) -> None:
        self.mount = mount
        self.path = path
        self.workers = workers
        self.conditions = conditions

    async def get(self, path: str) -> tuple[bytes, str]:
        return await self.workers.run(self._get, join(self.path, path))

    def _get(self, path: str) -> tuple[bytes, str]:
        data, stat = self.mount.get(path)
        return data, stat.etag or ""

    async def look(self, paths: Sequence[str]) -> list[bytes | None]:
        wanted = [join(self.path, path) for path in paths]
        if isinstance(self.workers, AtOnce):
            return [self._found(path) for path in wanted]
        return await asyncio.gather(*(self.workers.run(self._found, path) for path in wanted))

    def _found(self, path: str) -> bytes | None:
        try:
            return self.mount.get(path)[0]
        except StorageNotFoundError:
            return None

    async def create(self, path: str, data: bytes) -> str:
        options = WriteOptions(if_absent=True) if self.mount.features.if_absent != "none" else PLAIN
        return await self.workers.run(self._put, join(self.path, path), data, options)

    async def replace(self, path: str, data: bytes, etag: str) -> str:
        options = WriteOptions(if_match=etag) if self.conditions else PLAIN
        try:
            return await self.workers.run(self._put, join(self.path, path), data, options)
        except (StorageNotFoundError, StorageExistsError) as error:
            raise StorageConflictError(str(error)) from error

    def _put(self, path: str, data: bytes, options: WriteOptions) -> str:
        etag = self.mount.put(path, data, options).etag
        if etag is None and self.conditions:  # a storage that does not answer with it
            there, etag = self._get(path)
            if there != data:
                raise StorageConflictError("it was changed by somebody else meanwhile", path=path)
        return etag or ""

    async def delete(self, path: str, etag: str | None = None) -> None:
        wanted = etag if self.conditions else None
        try:
            await self.workers.run(self.mount.delete, join(self.path, path), if_match=wanted)
        except StorageNotFoundError:
            pass

    async def names(self, folder: str, after: str = "") -> list[str]:
        return await self.workers.run(self._names, join(self.path, folder), after)

    def _names(self, folder: str, after: str) -> list[str]:
        start = f"{folder}/{after}" if after else ""

        def listed() -> list[str]:
            pages = self.mount.backend.scan(folder, after=start, facts=False)
            return [stat.path.rpartition("/")[2] for page in pages for stat in page]

        try:
            return sorted(name for name in self.mount.guard.call("list", folder, listed) if name > after)
        except (StorageNotFoundError, StorageNotADirectoryError):
            return []

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
