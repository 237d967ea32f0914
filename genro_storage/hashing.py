"""Hashes by name: incremental, with lowercase hexadecimal results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from .exceptions import StorageDriverError


class Hasher(Protocol):
    """A hash in the making."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Crc32c:
    """CRC-32C (Castagnoli) as 8 hexadecimal digits, big-endian, as the cloud stores mean it."""

    def __init__(self) -> None:
        try:
            import google_crc32c
        except ImportError as error:
            raise StorageDriverError(
                "crc32c needs the package google-crc32c: install genro-storage[s3] (or [gcs], [all])"
            ) from error
        self._extend: Callable[[int, bytes], int] = google_crc32c.extend
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._extend(self._value, data if isinstance(data, bytes) else bytes(data))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


_BY_NAME: dict[str, Callable[[], Hasher]] = {
    "crc32c": Crc32c,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "blake2b": hashlib.blake2b,
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}

ALGORITHMS = tuple(_BY_NAME)
"""The names that `new` knows, the cheapest to compute first."""


def new(algorithm: str) -> Hasher:
    """A hasher; an unknown name → `ValueError`, crc32c without its package → `StorageDriverError`."""
    try:
        make = _BY_NAME[algorithm]
    except (KeyError, TypeError):
        raise ValueError(f"unknown hash algorithm {algorithm!r}; known: {', '.join(ALGORITHMS)}") from None
    return make()


def computable(algorithm: str) -> bool:
    """Whether `new` would answer here."""
    try:
        new(algorithm)
    except (ValueError, StorageDriverError):
        return False
    return True
