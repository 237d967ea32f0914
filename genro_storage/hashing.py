"""Hashes by name: incremental, with lowercase hexadecimal results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
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


def _of_hashlib(name: str) -> Hasher:
    import hashlib  # a program that hashes nothing does not load OpenSSL

    return hashlib.new(name, usedforsecurity=False)


_BY_NAME: dict[str, Callable[[], Hasher]] = {
    "crc32c": Crc32c,
    "md5": lambda: _of_hashlib("md5"),
    "sha1": lambda: _of_hashlib("sha1"),
    "blake2b": lambda: _of_hashlib("blake2b"),
    "sha256": lambda: _of_hashlib("sha256"),
    "sha512": lambda: _of_hashlib("sha512"),
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


# --- CRC-32C of bytes put together: polynomials over GF(2), bits reflected ---

_CASTAGNOLI = 0x82F63B78


def crc32c_joined(parts: Iterable[tuple[str, int]]) -> str:
    """The CRC-32C of parts in order, each told by its own CRC-32C in hex and its number of bytes; reads nothing."""
    joined = 0
    for told, size in parts:
        joined = _times(_shift(size), joined) ^ int(told, 16)
    return f"{joined:08x}"


def _times(a: int, b: int) -> int:
    """The product of two polynomials, modulo that of CRC-32C."""
    product, bit = 0, 1 << 31
    while bit:
        if a & bit:
            product ^= b
        b = (b >> 1) ^ (_CASTAGNOLI if b & 1 else 0)
        bit >>= 1
    return product


@lru_cache(maxsize=64)
def _shift(size: int) -> int:
    """x to the power of 8 * `size`: what so many bytes behind it do to a CRC."""
    power, square = 1 << 31, 1 << 23  # 1, and x to the power of 8
    while size:
        if size & 1:
            power = _times(square, power)
        square = _times(square, square)
        size >>= 1
    return power
