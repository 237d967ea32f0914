"""Records in a directory of a mount: the suite over local, memory and S3, the owner, and what survives a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageQuotaError,
    UnsupportedOperation,
    VersionConflictError,
)
from genro_storage.records._mount_engine import Engine
from genro_storage.records._mount_objects import key_of, path_of
from genro_storage.records.base import Delete, Put, RecordStore
from genro_storage.records.mount import MountRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock
from tests.servers.s3 import S3Endpoint


def folder(**entry: object) -> StorageNode:
    """A directory of a new mount."""
    manager = StorageManager()
    manager.configure([{"name": "m", **entry}])
    return manager.node("m:records")


class TestMountOverLocal(RecordSuite):
    lacks = frozenset({"shared", "snapshot_scan", "reverse_scan"})
    examples = 15

    @pytest.fixture
    def place(self, tmp_path: Path) -> StorageNode:
        return folder(type="local", path=str(tmp_path))

    @pytest.fixture
    def store(self, place: StorageNode, clock: FakeClock) -> MountRecordStore:
        return MountRecordStore(place, clock=clock)

    def reopened(self, store: RecordStore, clock: FakeClock) -> MountRecordStore:
        assert isinstance(store, MountRecordStore)
        return MountRecordStore(folder_of(store), clock=clock)


def folder_of(store: MountRecordStore) -> StorageNode:
    """The same directory by another manager."""
    options = store.mount.backend.options
    return folder(type="local", path=options.path)


class TestMountOverMemory(RecordSuite):
    lacks = frozenset({"durable", "shared", "snapshot_scan", "reverse_scan"})
    examples = 15

    @pytest.fixture
    def store(self, clock: FakeClock) -> MountRecordStore:
        return MountRecordStore(folder(type="memory"), clock=clock)


@pytest.fixture
def place(tmp_path: Path) -> StorageNode:
    return folder(type="local", path=str(tmp_path))


@pytest.fixture
def store(place: StorageNode) -> Iterator[MountRecordStore]:
    store = MountRecordStore(place)
    yield store
    store.sync.close()


def test_s3(ministack: S3Endpoint) -> None:
    """Over an object store with atomic conditions: written, folded, and read by the next owner."""
    place = folder(type="s3", **ministack.options(ministack.make_bucket()))
    first = MountRecordStore(place)
    (version, *_) = first.sync.commit([Put("s", "a", b"1"), Put("s/#", "b", b"2"), Put("s", "gone", b"")])
    first.sync.commit([Put("s", "a", b"3", expect=version), Delete("s", "gone")])
    with pytest.raises(VersionConflictError):
        first.sync.commit([Put("s", "a", b"", expect=version)])
    first.sync.close()
    second = MountRecordStore(place)
    assert [record.data for record in second.sync.scan("s")] == [b"3"]
    second.sync.commit([Delete("s", "a")])
    second.sync.close()
    third = MountRecordStore(place)
    assert third.sync.scan("s") == []
    assert [record.key for record in third.sync.scan("s/#")] == ["b"]
    third.sync.close()


# --- names ---


@pytest.mark.parametrize("key", ["a", "A", "..", ".", ".genro-x", "a/b", "a%b", "é", "CON", "a~b", "~", "k" * 200])
def test_names_of_files(key: str) -> None:
    path = path_of("s", key)
    name = path.removeprefix("r/s/")
    assert "/" not in name
    assert len(name) <= 255
    assert not name.startswith(".")
    assert name == name.lower()
    assert key_of(name) == key


def test_long_names_keep_apart() -> None:
    names = {path_of("s", "k" * 300 + str(n)) for n in range(10)}
    assert len(names) == 10
    assert all(key_of(name.rpartition("/")[2]) is None for name in names)


# --- owners ---


def test_a_second_owner_is_refused(place: StorageNode) -> None:
    store = MountRecordStore(place, lease=2)
    store.sync.commit([Put("s", "k", b"")])
    other = MountRecordStore(place, lease=0.1)  # it waits as long as the owner asks for
    start = time.monotonic()
    with pytest.raises(StorageConflictError, match=f"owned by process {os.getpid()} on"):
        other.sync.get("s", "k")
    assert 1.9 < time.monotonic() - start < 30  # what is a lease unless said otherwise
    store.sync.close()
    record = other.sync.get("s", "k")
    assert record is not None
    other.sync.close()


def test_a_lease_is_renewed(place: StorageNode) -> None:
    """Longer than the lease, the first one stays the owner."""
    store = MountRecordStore(place, lease=2)
    store.sync.initialize()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with pytest.raises(StorageConflictError):
            MountRecordStore(place, lease=2).sync.initialize()
    store.sync.commit([Put("s", "k", b"")])
    store.sync.close()


def test_an_owner_that_was_taken_over_stops(place: StorageNode) -> None:
    first = MountRecordStore(place, lease=0.5)
    first.sync.commit([Put("s", "k", b"first")])
    assert first._engine is not None
    first._engine._keeper.cancel()  # type: ignore[union-attr]  # it sleeps through its lease
    second = MountRecordStore(place, lease=0.4)
    deadline = time.monotonic() + 60
    while True:
        try:
            second.sync.commit([Put("s", "k", b"second")])
            break
        except StorageConflictError:
            assert time.monotonic() < deadline
    with pytest.raises(StorageConflictError):
        first.sync.commit([Put("s", "k", b"late")])
    record = second.sync.get("s", "k")
    assert record is not None
    assert record.data == b"second"
    second.sync.close()
    record = first.sync.get("s", "k")  # the other one is gone: it may become the owner again
    assert record is not None
    assert record.data == b"second"
    first.sync.close()


def test_closed_in_order_it_is_tidy(store: MountRecordStore, tmp_path: Path) -> None:
    for number in range(100):
        store.sync.commit([Put("s", f"{number % 10}", b"%d" % number)])
    store.sync.commit([Delete("s", "0")])
    store.sync.close()
    found = sorted(str(path.relative_to(tmp_path / "records")) for path in (tmp_path / "records").rglob("*.*"))
    assert found == [f"r/s/{number}.rec" for number in range(1, 10)]
    assert len(list((tmp_path / "records/log").iterdir())) == 1


def test_commits_travel_together(store: MountRecordStore, tmp_path: Path) -> None:
    async def burst() -> None:
        await store.commit([Put("s", "first", b"")])
        await asyncio.gather(*(store.commit([Put("s", f"{n}", b"")]) for n in range(200)))

    asyncio.run(burst())
    assert len(list((tmp_path / "records/log").iterdir())) < 50


CHILD = """
import sys
from genro_storage import StorageManager
from genro_storage.records import Put
from genro_storage.records.mount import MountRecordStore
manager = StorageManager()
manager.configure([{"name": "m", "type": "local", "path": sys.argv[1]}])
store = MountRecordStore(manager.node("m:records"))
number = int(sys.argv[2])
while True:
    store.sync.commit([Put("s", f"{number:06}", b"x" * 100, expect=0), Put("n", "last", b"%d" % number)])
    print(number, flush=True)
    number += 1
"""


def test_kills(tmp_path: Path, place: StorageNode) -> None:
    """kill -9 at random moments: what was acknowledged is there, no commit by half, and the next goes on at once."""
    root = str(Path(__file__).parents[2])
    acknowledged = -1
    for round_ in range(6):
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(acknowledged + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root})
        assert child.stdout is not None
        for _ in range(20 + 17 * round_):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = MountRecordStore(place)
        keys = [record.key for record in store.sync.scan("s")]
        assert keys == [f"{number:06}" for number in range(len(keys))]
        assert len(keys) - 1 in (acknowledged, acknowledged + 1)  # the last one may have been under way
        last = store.sync.get("n", "last")
        assert last is not None
        assert int(last.data) == len(keys) - 1
        acknowledged = len(keys) - 1
        store.sync.close()


def test_cancelled_callers_leave_no_lease_behind(place: StorageNode) -> None:
    """Cancelled at many moments, while it opens too: it goes on as the owner, and the next owner need not wait."""

    async def use(store: MountRecordStore) -> None:
        for steps in range(12):
            calls = [store.get("s", "k"), store.commit([Put("s", f"{steps}", b"")]), store.sweep(), store.scan("s")]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await asyncio.sleep(steps / 2000)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await store.commit([Put("s", "last", b"")])

    for _ in range(3):
        store = MountRecordStore(place)
        asyncio.run(use(store))
        assert store.sync.get("s", "last") is not None
        start = time.monotonic()
        store.sync.close()
        assert time.monotonic() - start < 30  # its lease


# --- what it refuses ---


def test_a_storage_without_conditions(tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    place = folder(type="ftp", host="127.0.0.1", port=9, username="x", password="y")
    store = MountRecordStore(place)
    with pytest.raises(UnsupportedOperation, match="exclusive"):
        store.sync.initialize()
    store.sync.close()


def test_exclusive_use(place: StorageNode, tmp_path: Path) -> None:
    store = MountRecordStore(place, exclusive=True)
    (version,) = store.sync.commit([Put("s", "k", b"1")])
    store.sync.commit([Put("s", "k", b"2", expect=version)])
    store.sync.close()
    assert not (tmp_path / "records/lease").exists()
    again = MountRecordStore(place, exclusive=True)
    record = again.sync.get("s", "k")
    assert record is not None
    assert record.data == b"2"
    again.sync.close()


def test_options_that_cannot_be(place: StorageNode) -> None:
    with pytest.raises(StorageConfigError):
        MountRecordStore(place, lease=0)


def test_what_was_just_committed_is_read_at_once(tmp_path: Path) -> None:
    """Neither a thread nor the store's own loop is asked for what waits in memory."""
    store = MountRecordStore(folder(type="local", path=str(tmp_path)), exclusive=True)
    store.sync.commit([Put("s", "there", b"1"), Put("s", "gone", b""), Put("s", "over", b"", expires_at=1)])
    store.sync.commit([Delete("s", "gone")])

    async def read() -> None:
        for key, data in (("there", b"1"), ("gone", None), ("over", None)):
            call = store.get("s", key)
            with pytest.raises(StopIteration) as found:
                call.send(None)
            assert getattr(found.value.value, "data", None) == data

    asyncio.run(read())
    store.sync.close()


def test_a_load_that_never_ends_folds_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits stays near the limit, and so does the log; no commit waits for all of it to be folded."""
    monkeypatch.setattr("genro_storage.records._mount_engine.FULL", 20)
    store = MountRecordStore(folder(type="local", path=str(tmp_path)), exclusive=True)
    for number in range(200):
        store.sync.commit([Put("s", f"{number}", b"")])
        assert store._engine is not None
        assert store._engine._log is not None
        assert len(store._engine._log.waiting) <= 22
    assert len(list((tmp_path / "records" / "log").iterdir())) < 60
    assert len(store.sync.scan("s")) == 200
    store.sync.close()


def test_folding_gives_way_to_whoever_writes() -> None:
    """Begun when nobody wrote, it stops after the slice in which somebody does, until there is peace again."""

    class Log:
        lost, lease = False, None

        def __init__(self) -> None:
            self.waiting = list(range(4000))

        async def fold(self, most: int) -> None:
            del self.waiting[:most]
            engine._busy = True  # as a commit sets it
            begun.set()

    log, begun = Log(), asyncio.Event()
    engine = Engine(None, 0.05)  # type: ignore[arg-type]  # nothing is opened

    async def left() -> int:
        keeper = asyncio.create_task(engine._keep(log))  # type: ignore[arg-type]
        await begun.wait()
        keeper.cancel()
        await asyncio.wait([keeper])
        return len(log.waiting)

    assert asyncio.run(left()) > 0  # without giving way all was folded at once


# --- folding that fails ---


class Full:
    """The storage takes no more records, as long as `now`; its log it takes."""

    def __init__(self, store: MountRecordStore) -> None:
        self.now = True
        self._create = store._objects.create
        store._objects.create = self.create  # type: ignore[method-assign]

    async def create(self, path: str, data: bytes) -> str:
        if self.now and path.startswith("r/"):
            raise StorageQuotaError("full")
        return await self._create(path, data)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_folding_that_fails_is_told_until_it_goes_on() -> None:
    store = MountRecordStore(folder(type="memory"), lease=3)
    full = Full(store)
    store.sync.commit([Put("s", "k", b"")])
    wait_for(lambda: bool(store.warnings))
    assert "full" in store.warnings[0]
    full.now = False
    wait_for(lambda: not store.warnings)
    store.sync.close()
    assert store.warnings == ()


def test_closing_that_fails_leaves_no_thread() -> None:
    """What could not be folded stays in the log, and the next owner finds it there."""
    before = set(threading.enumerate())
    place = folder(type="memory")
    store = MountRecordStore(place, exclusive=True)
    store.sync.commit([Put("s", "k", b"1")])
    Full(store)
    with pytest.raises(StorageQuotaError):
        store.sync.close()
    wait_for(lambda: not set(threading.enumerate()) - before)
    again = MountRecordStore(place, exclusive=True)
    assert [record.data for record in again.sync.scan("s")] == [b"1"]
    again.sync.close()
