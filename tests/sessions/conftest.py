"""The stores that every test of sessions runs over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.sessions.store import BlockingSessions, SessionStore
from genro_storage.testing.record_words import FakeClock

STORES = ["memory", "sqlite"]

Opened = Callable[..., SessionStore]


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
    folder: Path = request.getfixturevalue("tmp_path")
    return SQLiteRecordStore(folder / "records.db", clock=clock)


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
