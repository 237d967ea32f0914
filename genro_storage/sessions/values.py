"""Values of checkpoints: serialised once, off the event loop where they are large, and named by their digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from msgspec import Struct

from .models import pack
from .shared import HEAVY, aside, heavy

INLINE = 1 << 10
"""Bytes from which a value is a record of its own."""


class Typed(NamedTuple):
    """A serialised value: the serialiser's word for its form, and the bytes."""

    type: str
    data: bytes


class Value(NamedTuple):
    """A channel's value: in one piece, or a list in several."""

    pieces: Sequence[Typed]
    is_list: bool = False


class Slot(Struct, frozen=True, array_like=True):
    """Where a header has a value: inline (`type`, `data`), or at digests; `is_list`: the pieces make one list.

    `size`: bytes at the digests.
    """

    type: str = ""
    data: bytes = b""
    digests: tuple[str, ...] = ()
    is_list: bool = False
    size: int = 0


class Offer:
    """The values of one put; `told` serialises one, and does so once however often the put is tried.

    `key`: that of the digests.
    """

    def __init__(self, values: Mapping[str, Any], told: Callable[[Any], Value], key: bytes) -> None:
        self._values = values
        self._told = told
        self._key = key
        self._filed: dict[str, tuple[Slot, dict[str, bytes]]] = {}

    async def filed(self, channels: Iterable[str]) -> dict[str, tuple[Slot, dict[str, bytes]]]:
        """For each channel where a header has its value, and the records that are its own, by digest."""
        wanted = list(channels)
        missing = [channel for channel in wanted if channel not in self._filed]
        large = heavy([self._values[channel] for channel in missing], HEAVY)
        await aside(large, self._file, missing)
        return {channel: self._filed[channel] for channel in wanted}

    def _file(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._filed[channel] = _filed(self._told(self._values[channel]), self._key)


def _filed(value: Value, key: bytes) -> tuple[Slot, dict[str, bytes]]:
    pieces = value.pieces
    if len(pieces) == 1 and not value.is_list and len(pieces[0].data) < INLINE:
        return Slot(pieces[0].type, pieces[0].data), {}
    digests, own = [], {}
    for piece in pieces:
        hasher = blake2b(piece.type.encode() + b"\0", digest_size=20, key=key)
        hasher.update(piece.data)
        digest = hasher.hexdigest()
        own[digest] = pack(tuple(piece))
        digests.append(digest)
    size = sum(len(piece.data) for piece in pieces)
    return Slot(digests=tuple(digests), is_list=value.is_list, size=size), own
