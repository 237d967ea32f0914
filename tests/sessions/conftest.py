"""The stores that every test of sessions runs over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.crypto import Keyring
from genro_storage.records.base import RecordStore
from genro_storage.records.encrypted import EncryptedRecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.records.mount import MountRecordStore
from genro_storage.records.postgres import PostgresRecordStore
from genro_storage.records.redis import RedisRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing.record_words import FakeClock
from tests.servers.postgres import Postgres

STORES = ["memory", "sqlite", "postgresql", "redis", "mount", "mount-memory", "encrypted"]

Opened = Callable[..., SessionStore]


@pytest.fixture(scope="session")
def session_database(postgres: Postgres) -> str:
    """A database that all tests share, each with a schema of its own."""
    return postgres.url(postgres.make_database())


def _fresh(prefix: str) -> str:
    return f"{prefix}{os.urandom(6).hex()}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=STORES)
def records(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[RecordStore]:
    """An empty record store with a clock that is moved by hand."""
    store = _opened(request.param, request, clock)
    yield store
    store.sync.close()


def _opened(kind: str, request: pytest.FixtureRequest, clock: FakeClock) -> RecordStore:
    if kind == "memory":
        return MemoryRecordStore(clock=clock)
    if kind == "postgresql":
        return PostgresRecordStore(request.getfixturevalue("session_database"), clock=clock, schema=_fresh("s"))
    if kind == "redis":
        return RedisRecordStore(request.getfixturevalue("redis_server").url(), clock=clock, prefix=_fresh("s"))
    folder: Path = request.getfixturevalue("tmp_path")
    if kind == "mount":
        return MountRecordStore(
            StorageManager([{"name": "m", "type": "local", "path": str(folder)}]).node("m:records"), clock=clock
        )
    if kind == "mount-memory":
        return MountRecordStore(StorageManager([{"name": "m", "type": "memory"}]).node("m:records"), clock=clock)
    sqlite = SQLiteRecordStore(folder / "records.db", clock=clock)
    return EncryptedRecordStore(sqlite, Keyring([{"id": "k", "key": "5a" * 32}])) if kind == "encrypted" else sqlite


@pytest.fixture
def opened(records: RecordStore) -> Iterator[Opened]:
    """Opens session stores with options over the one record store."""
    stores: list[SessionStore] = []

    def opened(**options: Any) -> SessionStore:
        stores.append(SessionStore(records, **options))
        return stores[-1]

    yield opened
    for store in stores:
        store.sync.close()


@pytest.fixture
def sessions(opened: Opened) -> BlockingSessions:
    """The blocking face of a store with default options."""
    return opened().sync
