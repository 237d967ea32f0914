"""What the part writers of all drivers share: which parts have come, whether they are the whole, how large they are."""

from __future__ import annotations

import os
import re
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .. import hashing
from ..exceptions import StorageCorruptedError, StorageError, StorageNotFoundError
from ..types import Stat, WriteOptions
from .handles import Part

HIDDEN_PARTS = ".genro-p-"
"""Begins the names of files and keys that hold staged parts; the name they are for follows."""
PIECE = 1 << 20
"""Bytes of a large part that are handled at once."""

_NAME = re.compile(rf"{re.escape(HIDDEN_PARTS)}[0-9a-f]{{11,}}-[0-9a-f]{{12}}-(.+)", re.DOTALL)
_ROOM = 255 - 40
_CUT = 50


class Receipt(NamedTuple):
    """A part that the storage has: its bytes, the storage's own name for it, its CRC-32C in hex, another checksum."""

    size: int
    tag: str = ""
    crc32c: str = ""
    other: str = ""

    def __str__(self) -> str:
        import json

        return json.dumps(self)

    @classmethod
    def read(cls, text: str) -> Receipt:
        """The receipt that was told as text; `ValueError` for what is none."""
        import json

        return cls(*json.loads(text))


class Staged:
    """Parts of one file, in any order and from any thread. A driver writes `_store`, `_publish` and `_drop`.

    Dropped without `commit` or `discard` the parts stay where they are, for whoever has the token.
    """

    token: str
    one_pass = False

    def __init__(self, path: str, options: WriteOptions, part_size: int, receipts: Mapping[int, str]) -> None:
        self.path, self.options, self.part_size = path, options, part_size
        self._receipts = {offset: Receipt.read(text) for offset, text in receipts.items()}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._ended = False

    @property
    def held(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._receipts)

    @property
    def digests(self) -> Mapping[str, str]:
        with self._lock:
            found = [receipt for _, receipt in sorted(self._receipts.items())]
        if not found or not all(receipt.crc32c for receipt in found):
            return {}
        return {"crc32c": hashing.crc32c_joined((receipt.crc32c, receipt.size) for receipt in found)}

    def reread(self, start: int, end: int) -> bytes | None:
        return None

    def _forget(self, offset: int) -> None:
        """A part that was told by its receipt is not there."""
        with self._lock:
            self._receipts.pop(offset, None)

    # --- what a driver does ---

    def _store(self, offset: int, data: Part) -> Receipt:
        """Stores one part."""
        raise NotImplementedError

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        """Makes all parts one visible file; may be called again after an error."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Takes away what was staged."""
        raise NotImplementedError

    # --- what everybody calls ---

    def put(self, offset: int, data: Part) -> str:
        self._check()
        self._judge(offset, len(data))
        receipt = self._store(offset, data)
        with self._lock:
            self._receipts[offset] = receipt
        return str(receipt)

    def _judge(self, offset: int, length: int) -> None:
        """Raises unless a part of this length belongs at this place."""
        if offset % self.part_size or offset < 0 or length > self.part_size:
            raise ValueError(f"{length} bytes at {offset} are no part of {self.part_size} bytes")
        size = self.options.size
        if size is not None and length != (due := min(self.part_size, max(0, size - offset))):
            raise StorageCorruptedError(f"the part at {offset} has {length} bytes where {due} were announced")

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._check()
        parts, size = self._whole()
        _judge_hashes(self.digests, hashes)
        stat = self._publish(parts, size, hashes)
        self._ended = True
        return stat

    def _whole(self) -> tuple[list[Receipt], int]:
        """All parts in order, and the size they make; `StorageCorruptedError` if one is missing."""
        with self._lock:
            found = sorted(self._receipts.items())
        due = 0
        for offset, receipt in found:
            if offset != due:
                break
            due += receipt.size
        last = found[-1][0] + found[-1][1].size if found else 0
        size = last if self.options.size is None else self.options.size
        if due != size or last != size:
            raise StorageCorruptedError(f"the part at {due} never came; {size} bytes were to be written")
        return [receipt for _, receipt in found], size

    def discard(self) -> None:
        if self._ended or self._pid != os.getpid():
            return
        self._ended = True
        try:
            self._drop()
        except Exception:  # noqa: BLE001 - a driver call; nobody is left to tell, `unfinished` finds what stays
            return

    def _check(self) -> None:
        if self._ended:
            raise StorageError("this staged write is finished")
        if self._pid != os.getpid():
            raise StorageError("this staged write was opened before the process forked; open one by its token")


def _judge_hashes(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for name in found.keys() & expected.keys():
        if found[name] != expected[name]:
            raise StorageCorruptedError(f"the {name} of the parts is not {expected[name]}", retryable=True)


class Crc:
    """The CRC-32C of a part that is passing, in hex; "" where nothing computes it."""

    def __init__(self) -> None:
        self._hasher = hashing.new("crc32c") if hashing.computable("crc32c") else None

    def passed(self, data: bytes | bytearray | memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(data)

    def __str__(self) -> str:
        return "" if self._hasher is None else self._hasher.hexdigest()


class Sums(Crc):
    """As `Crc`; where nothing computes that, the CRC-32 of zlib: what is in the file must be told from holes."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = 0

    def passed(self, data: bytes | bytearray | memoryview) -> None:
        super().passed(data)
        if self._hasher is None:
            self._plain = zlib.crc32(data, self._plain)

    def receipt(self, size: int) -> Receipt:
        return Receipt(size, "", str(self), f"{self._plain:08x}" if self._hasher is None else "")


def fitting(part_size: int, size: int | None, *, least: int = 1, most_parts: int | None = None) -> int:
    """The size of parts that a storage takes: at least `least`, and so that there are at most `most_parts`."""
    if part_size < 1:
        raise ValueError(f"part_size is a number of bytes from 1 up, not {part_size}")
    part_size = max(part_size, least)
    if size is None or most_parts is None or size <= part_size * most_parts:
        return part_size
    needed = -(-size // most_parts)
    return -(-needed // PIECE) * PIECE


def hidden_name(name: str) -> str:
    """A new name beside `name` that no listing shows; it tells `name`, or its beginning where that is very long."""
    told = name if len(name.encode("utf-8", "surrogateescape")) <= _ROOM else name[:_CUT]
    return f"{HIDDEN_PARTS}{int(time.time() * 1000):011x}-{os.urandom(6).hex()}-{told}"


def meant(hidden: str) -> str | None:
    """The name for which `hidden_name` made this one; None for other names."""
    match = _NAME.fullmatch(hidden)
    return match[1] if match else None


def pieces(data: Part) -> Iterator[bytes | bytearray | memoryview]:
    """A part as the pieces it consists of."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return iter((data,))
    return iter(data)


def gone() -> StorageNotFoundError:
    """The error for a token whose parts are not there any more."""
    return StorageNotFoundError("the staged write is gone: it was committed, discarded or cleaned up")
