"""Parts staged in memory: kept in the store, where whoever has the token finds them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping

from ..types import Stat, Unfinished, WriteOptions
from ._memory_store import Parts, Store
from ._staging import Crc, Receipt, Staged, gone, pieces
from .handles import Part


class MemoryParts(Staged):
    """A staged write; the parts become one file by `put`."""

    one_pass = True

    def __init__(
        self,
        store: Store,
        full: str,
        path: str,
        options: WriteOptions,
        put: Callable[[bytes], Stat],
        *,
        part_size: int,
        token: str | None,
        receipts: Mapping[int, str],
    ) -> None:
        super().__init__(path, options, part_size, receipts)
        self._store_of, self._put = store, put
        self.token = token or uuid.uuid4().hex
        with store.lock:
            found = store.staged.get(self.token)
            if found is None and token is None:
                found = store.staged[self.token] = Parts(full)
            if found is None or found.path != full:
                raise gone()
        self._parts = found
        for offset, receipt in list(self._receipts.items()):
            if _receipt(found.data.get(offset, b"")) != receipt:
                self._forget(offset)

    def reread(self, start: int, end: int) -> bytes | None:
        offset = start - start % self.part_size
        with self._store_of.lock:
            return self._parts.data.get(offset, b"")[start - offset : end - offset]

    def _store(self, offset: int, data: Part) -> Receipt:
        content = b"".join(pieces(data))
        with self._store_of.lock:
            self._parts.data[offset] = content
        return _receipt(content)

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        with self._store_of.lock:
            if self._store_of.staged.get(self.token) is not self._parts:
                raise gone()
            held = [self._parts.data[offset] for offset in sorted(self.held)]
        stat = self._put(b"".join(held))
        self._drop()
        return stat

    def _drop(self) -> None:
        with self._store_of.lock:
            self._store_of.staged.pop(self.token, None)


def _receipt(content: bytes) -> Receipt:
    crc = Crc()
    crc.passed(content)
    return Receipt(len(content), "", str(crc))


def unfinished(store: Store, full: str, root: str, older_than: float) -> Iterator[Unfinished]:
    """What is staged at or below the path `full`; told relative to `root`."""
    latest, lead = time.time() - older_than, f"{root}/" if root else ""
    with store.lock:
        held = sorted((parts.path, token, parts.born) for token, parts in store.staged.items())
    for path, token, born in held:
        if born <= latest and (not full or path == full or path.startswith(f"{full}/")):
            yield Unfinished(path.removeprefix(lead), token, born)
