"""What a refusal that follows a lost answer means: our own success, or the work of somebody else."""

from __future__ import annotations

from contextlib import closing

from . import hashing
from .backends.base import BackendReader, Tick
from .exceptions import StorageError, StorageNotFoundError
from .types import Stat

CHUNK = 1 << 20


def gone(failure: StorageError) -> bool | None:
    """What a removal asked for, once its first answer was lost."""
    return True if isinstance(failure, StorageNotFoundError) else None


def same_content(one: Stat, other: Stat) -> bool | None:
    """Whether what is stored with two files says that they hold the same bytes; None where it says nothing."""
    if one.size != other.size:
        return False
    if common := one.hashes.keys() & other.hashes.keys():
        return all(one.hashes[name] == other.hashes[name] for name in common)
    return True if one.etag is not None and one.etag == other.etag else None


def same_bytes(one: BackendReader, other: BackendReader, tick: Tick) -> bool:
    """As `same_content`, by reading both, which closes them; `tick` may raise meanwhile."""
    with closing(one), closing(other):
        return _digest(one, tick) == _digest(other, tick)


def _digest(reader: BackendReader, tick: Tick) -> str:
    hasher = hashing.new("sha256")
    while chunk := reader.read(CHUNK):
        hasher.update(chunk)
        tick(0)
    return hasher.hexdigest()
