"""Bytes in memory held against the hashes that they were announced with."""

from __future__ import annotations

from collections.abc import Mapping

from ... import hashing
from ...exceptions import StorageCorruptedError


def check_hashes(data: bytes, hashes: Mapping[str, str]) -> None:
    """Other bytes than announced → `StorageCorruptedError`."""
    for algorithm, expected in hashes.items():
        hasher = hashing.new(algorithm)
        hasher.update(data)
        if hasher.hexdigest() != expected:
            raise StorageCorruptedError(f"the {algorithm} of the bytes is not {expected}", retryable=True)
