"""A record store whose data only the holder of a key can read; names, versions and times stay in clear."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ..crypto import Keyring, is_sealed
from ..exceptions import StorageCorruptedError, VersionConflictError
from .base import Change, Put, Record, RecordFeatures, RecordStore

LARGE = 256 << 10
"""Bytes above which a thread works, so that the event loop does not stand still."""
OVERHEAD = 256
"""Bytes that a sealed record has more than its data, at most."""
PAGE = 200


class EncryptedRecordStore(RecordStore):
    """`inner`, with data sealed by `keys` (`Keyring`) for exactly its space and key.

    With `allow_plaintext_read` records that were written before are read as they are; without, they are refused: a
    reader that accepts both can be made to accept anything. Spaces, keys, versions and expiry are not hidden.
    """

    def __init__(self, inner: RecordStore, keys: Keyring, *, allow_plaintext_read: bool = False) -> None:
        super().__init__(clock=inner.clock)
        self.inner = inner
        self.keys = keys
        self.allow_plaintext_read = allow_plaintext_read
        self.digest_key = keys.digest_key()
        self.name = inner.name  # type: ignore[misc]  # of this instance: what it is made of
        most = inner.features.max_data - OVERHEAD
        self.features: RecordFeatures = msgspec.structs.replace(inner.features, max_data=most)

    @property
    def durability(self) -> str:  # type: ignore[override]
        return self.inner.durability

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.warnings

    async def _get(self, space: str, key: str) -> Record | None:
        record = await self.inner.get(space, key)
        return None if record is None else (await self._opened([record]))[0]

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        found = await self.inner.get_many(keys)
        opened = iter(await self._opened([record for record in found if record is not None]))
        return [None if record is None else next(opened) for record in found]

    async def _scan(self, space: str, after: str, until: str | None, limit: int | None, reverse: bool) -> list[Record]:
        return await self._opened(await self.inner.scan(space, after=after, until=until, limit=limit, reverse=reverse))

    async def _commit(self, changes: Sequence[Change]) -> list[int]:
        large = sum(len(change.data) for change in changes if type(change) is Put) > LARGE
        sealed = await asyncio.to_thread(self._sealed, changes) if large else self._sealed(changes)
        return await self.inner.commit(sealed)

    async def rotate(self, space: str) -> int:
        """Seals the records of a space anew that are not under the first key; returns how many. May be run again."""
        count, after = 0, ""
        while page := await self.inner.scan(space, after=after, limit=PAGE):
            after = page[-1].key
            old = [record for record in page if not self.keys.is_current(record.data)]
            for record in await self._opened(old):
                put = Put(space, record.key, record.data, expect=record.version, expires_at=record.expires_at)
                try:
                    await self.commit([put])
                    count += 1
                except VersionConflictError:  # written meanwhile, and so under the first key
                    pass
        return count

    @property
    def queue_depth(self) -> int:
        """As the store inside tells."""
        return int(getattr(self.inner, "queue_depth", 0))

    async def approximate_count(self) -> int | None:
        return await self.inner.approximate_count()

    async def initialize(self) -> None:
        await self.inner.initialize()

    async def close(self) -> None:
        await self.inner.close()

    async def ping(self, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - the name of the port
        return await self.inner.ping(timeout)

    async def sweep(self, limit: int = 500) -> int:
        return await self.inner.sweep(limit)

    def _sealed(self, changes: Sequence[Change]) -> list[Change]:
        return [self._seal(change) if type(change) is Put else change for change in changes]

    def _seal(self, put: Put) -> Put:
        data = self.keys.seal(put.data, _context(put.space, put.key))
        return Put(put.space, put.key, data, expect=put.expect, expires_at=put.expires_at)

    async def _opened(self, records: Sequence[Record]) -> list[Record]:
        if sum(len(record.data) for record in records) > LARGE:
            return await asyncio.to_thread(lambda: [self._open(record) for record in records])
        return [self._open(record) for record in records]

    def _open(self, record: Record) -> Record:
        if not is_sealed(record.data) and self.allow_plaintext_read:
            return record
        try:
            data = self.keys.open(record.data, _context(record.space, record.key))
        except StorageCorruptedError as error:
            text = f"record {record.key!r} of {record.space!r}: {error.message}"
            raise StorageCorruptedError(text, operation="read") from None
        return Record(record.space, record.key, data, record.version, record.expires_at)


def _context(space: str, key: str) -> bytes:
    return space.encode() + b"\0" + key.encode()  # no name holds a NUL
