"""Small keyed records in ordered spaces, over five kinds of store, each imported on first use."""

from __future__ import annotations

from importlib import import_module

from .base import (
    Change,
    Check,
    Delete,
    Put,
    Record,
    RecordFeatures,
    RecordStore,
)

__all__ = ["STORES", "Change", "Check", "Delete", "Put", "Record", "RecordFeatures", "RecordStore", "store_class"]

STORES = {
    "memory": "memory:MemoryRecordStore",
    "sqlite": "sqlite:SQLiteRecordStore",
    "postgresql": "postgres:PostgresRecordStore",
    "redis": "redis:RedisRecordStore",
    "mount": "mount:MountRecordStore",
}
"""Kind → where its class is."""


def store_class(kind: str) -> type[RecordStore]:
    """The class of a kind of store.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in STORES:
        raise ValueError(f"no such record store: {kind!r}; there are {', '.join(STORES)}")
    module, _, name = STORES[kind].partition(":")
    found: type[RecordStore] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
