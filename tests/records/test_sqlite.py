"""Records in one SQLite file: the suite, and what only a file has."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StoragePermissionError,
    StorageQuotaError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
    VersionConflictError,
)
from genro_storage.records._sqlite import file, lane
from genro_storage.records.base import Delete, Put, Record, RecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock, at_once
from tests.test_bridge import in_child, without_threads


class TestSQLite(RecordSuite):
    lacks = frozenset()
    examples = 30

    @pytest.fixture
    def store(self, tmp_path: Path, clock: FakeClock) -> SQLiteRecordStore:
        # Durability is not what these cases look at, and fsync is what they would wait for.
        return SQLiteRecordStore(tmp_path / "records.db", clock=clock, synchronous="OFF")

    def reopened(self, store: RecordStore, clock: FakeClock) -> SQLiteRecordStore:
        assert isinstance(store, SQLiteRecordStore)
        return SQLiteRecordStore(store.file.path, clock=clock)


@pytest.fixture
def store(tmp_path: Path) -> SQLiteRecordStore:
    return SQLiteRecordStore(tmp_path / "records.db")


def pragma(path: str, name: str) -> object:
    with sqlite3.connect(path) as connection:
        (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    connection.close()
    return value


def test_how_the_file_is_made(store: SQLiteRecordStore) -> None:
    store.sync.commit([Put("s", "k", b"")])
    connection = store.file.connect()
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "auto_vacuum", "synchronous", "foreign_keys", "busy_timeout", "journal_size_limit")
    }
    connection.close()
    assert settings == {
        "journal_mode": "wal",
        "auto_vacuum": 2,  # incremental
        "synchronous": 2,  # full
        "foreign_keys": 1,
        "busy_timeout": 10000,
        "journal_size_limit": 64 << 20,
    }
    store.sync.close()
    assert not os.path.exists(store.file.path + "-wal")


def test_commits_travel_together(store: SQLiteRecordStore) -> None:
    async def burst() -> None:
        await asyncio.gather(*(store.commit([Put("s", f"{n}", b"")]) for n in range(1000)))

    asyncio.run(burst())
    assert store.writing.commits == 1000
    assert 1000 / 256 <= store.writing.batches < 100
    store.sync.close()


def test_who_conflicts_fails_alone(store: SQLiteRecordStore) -> None:
    async def burst() -> list[object]:
        commits = (store.commit([Put("s", f"{n // 2}", b""), Put("t", f"{n}", b"", expect=0)]) for n in range(100))
        bad = (store.commit([Put("u", f"{n}", b""), Put("v", "k", b"", expect=10**9)]) for n in range(100))
        return await asyncio.gather(*commits, *bad, return_exceptions=True)

    found = asyncio.run(burst())
    assert all(isinstance(answer, list) for answer in found[:100])
    assert all(isinstance(answer, VersionConflictError) for answer in found[100:])
    assert len(store.sync.scan("t")) == 100
    assert store.sync.scan("u") == []
    assert store.writing.batches < 50
    store.sync.close()


def test_what_one_commit_writes_the_next_of_its_batch_expects(store: SQLiteRecordStore) -> None:
    """Commits of one batch are judged one after the other, though what they write is written together."""

    async def burst() -> list[object]:
        commits = [
            store.commit([Put("s", "made", b"1", expect=0)]),
            store.commit([Put("s", "made", b"2", expect=0)]),
            store.commit([Delete("s", "made")]),
            store.commit([Put("s", "made", b"4", expect=0), Put("s", "other", b"")]),
            store.commit([Delete("s", "other")]),
        ]
        with store._writer.seats[0].lock:  # the writer waits, at most with the first of them
            tasks = [asyncio.ensure_future(commit) for commit in commits]
            for _ in range(5):
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third, fourth, fifth = asyncio.run(burst())
    assert store.writing.batches <= 2
    assert isinstance(second, VersionConflictError)
    assert [second.expected, second.actual] == [0, first[0]]  # type: ignore[index]
    assert third == fifth == [0]
    record = store.sync.get("s", "made")
    assert record is not None
    assert (record.data, [record.version]) == (b"4", fourth[:1])  # type: ignore[index]
    assert store.sync.get("s", "other") is None
    store.sync.close()


def test_no_version_is_given_twice(store: SQLiteRecordStore) -> None:
    """Each store reserves numbers; what it reserved in a transaction that failed another one may have."""
    other = SQLiteRecordStore(store.file.path)
    seen: list[int] = []
    for number in range(20):
        for one in (store, other):
            seen += one.sync.commit([Put("s", f"{number % 3}", b"")])
            with pytest.raises(VersionConflictError):
                one.sync.commit([Put("s", "lost", b""), Put("s", f"{number % 3}", b"", expect=10**9)])
        if number == 10:
            other.sync.close()
    for one in (store, other):
        one.sync.close()
    seen += SQLiteRecordStore(store.file.path).sync.commit([Put("s", "k", b"")])
    assert len(set(seen)) == len(seen) == 41


def test_a_reservation_that_was_rolled_back_is_not_used(store: SQLiteRecordStore) -> None:
    with pytest.raises(VersionConflictError):
        store.sync.commit([Put("s", "lost", b""), Put("s", "k", b"", expect=1)])
    assert store.sync.commit([Put("s", "k", b"")]) == [1]
    other = SQLiteRecordStore(store.file.path)
    assert other.sync.commit([Put("s", "k", b"")]) != [1]
    for one in (store, other):
        one.sync.close()


def test_a_failed_commit_fails_the_whole_batch(store: SQLiteRecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills: nobody of the batch is told that it went well, and nothing of it is there."""
    store.sync.commit([Put("s", "old", b"old")])
    real = store.file.connect

    def small(busy_timeout: float | None = None) -> sqlite3.Connection:
        connection = real(busy_timeout=busy_timeout)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 5}")
        return connection

    store.sync.close()
    store._writer._connect = small

    async def burst() -> list[object]:
        commits = (store.commit([Put("s", f"{n}", bytes(2000))]) for n in range(100))
        return await asyncio.gather(*commits, return_exceptions=True)

    found = asyncio.run(burst())
    acknowledged = {f"{n}" for n, answer in enumerate(found) if isinstance(answer, list)}
    failed = [answer for answer in found if not isinstance(answer, list)]
    assert len(failed) >= 90
    assert all(isinstance(answer, StorageQuotaError) for answer in failed)
    assert {record.key for record in store.sync.scan("s")} == acknowledged | {"old"}
    store._writer._connect = real
    store.sync.close()
    store.sync.commit([Put("s", "new", b"")])
    store.sync.close()


def test_a_read_that_fails_fails_alone(tmp_path: Path) -> None:
    """A backup to where nothing can be written says nothing of the reads that travel with it."""
    store = SQLiteRecordStore(tmp_path / "records.db", readers=1)
    store.sync.commit([Put("s", "large", bytes(65537))])  # a small one is read without a thread

    async def burst() -> list[Record | BaseException | None]:
        with store._readers.seats[0].lock:  # the reader waits, at most with the first of them
            reads = [store.get("s", "large"), store.backup(tmp_path / "none" / "copy.db"), store.get("s", "large")]
            tasks = [asyncio.ensure_future(call) for call in reads]
            for _ in range(5):
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, failed, last = asyncio.run(burst())
    assert isinstance(failed, StorageUnavailableError)
    assert str(tmp_path / "none" / "copy.db") in str(failed)
    assert isinstance(first, Record)
    assert first == last
    store.sync.close()


def test_small_records_are_read_at_once(store: SQLiteRecordStore) -> None:
    """No thread is asked for a record of 64 KiB; for one byte more it is."""
    store.sync.commit([Put("s", "small", bytes(65536)), Put("s", "large", bytes(65537))])

    async def read() -> None:
        for key in ("small", "none"):
            call = store.get("s", key)
            with pytest.raises(StopIteration):
                call.send(None)
        call = store.get("s", "large")
        assert call.send(None) is not None
        call.close()

    asyncio.run(read())
    store.sync.close()


def test_a_closed_loop_does_not_stop_the_writer(store: SQLiteRecordStore) -> None:
    """Regression: the answer to a loop that is gone killed the thread that answers."""
    for _ in range(3):
        loop = asyncio.new_event_loop()
        task = loop.create_task(store._writer.run(lambda transaction: time.sleep(0.02)))
        loop.run_until_complete(asyncio.sleep(0.005))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    assert store.sync.commit([Put("s", "k", b"")]) == [1]
    store.sync.close()


def test_the_log_is_brought_home_between_commits(store: SQLiteRecordStore) -> None:
    """No caller waits for it, and it does not grow without end."""
    for number in range(40):
        store.sync.commit([Put("s", f"{number}", bytes(1 << 20))])
    assert os.path.getsize(store.file.path + "-wal") < 24 << 20
    deadline = time.monotonic() + 60
    while os.path.getsize(store.file.path) < 30 << 20:  # after the last answer
        assert time.monotonic() < deadline
        time.sleep(0.01)
    store.sync.close()


def test_a_log_that_cannot_be_brought_home_ends_no_thread(store: SQLiteRecordStore) -> None:
    """A damaged file says so to whoever reads or writes next, instead of keeping all of them waiting for ever."""
    real, asked = store.file.connect, threading.Event()

    def judged(action: int, name: str | None, *rest: object) -> int:
        if action != sqlite3.SQLITE_PRAGMA or name != "wal_checkpoint":
            return sqlite3.SQLITE_OK
        asked.set()
        return sqlite3.SQLITE_DENY

    def refusing() -> sqlite3.Connection:
        connection = real()
        connection.set_authorizer(judged)
        return connection

    store._writer._connect = refusing
    store.writing._logged = file.LOGGED + 1
    store.sync.commit([Put("s", "k", b"1")])
    assert asked.wait(60)
    writing = threading.Thread(target=lambda: store.sync.commit([Put("s", "k", b"2")]), daemon=True)
    writing.start()
    writing.join(60)
    assert not writing.is_alive()
    record = store.sync.get("s", "k")
    assert record is not None
    assert record.data == b"2"
    store.sync.close()


def test_who_gets_no_thread_is_told_and_asks_again(store: SQLiteRecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.sync.initialize()
    with without_threads(monkeypatch, lane):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                store.sync.commit([Put("s", "k", b"1")])

        async def burst() -> list[object]:
            return await asyncio.gather(
                *(store.commit([Put("s", f"{n}", b"")]) for n in range(3)), return_exceptions=True
            )

        assert all(isinstance(answer, RuntimeError) for answer in asyncio.run(burst()))
    assert store.sync.commit([Put("s", "k", b"1")]) == [1]
    store.sync.close()


def test_the_file_shrinks(store: SQLiteRecordStore) -> None:
    for start in range(0, 2000, 500):
        store.sync.commit([Put("s", f"{n}", bytes(8000)) for n in range(start, start + 500)])
    store.sync.close()
    before = os.path.getsize(store.file.path)
    for start in range(0, 2000, 500):
        store.sync.commit([Delete("s", f"{n}") for n in range(start, start + 500)])
    for _ in range(5):
        store.sync.sweep()
    store.sync.close()
    assert os.path.getsize(store.file.path) < before / 10


def test_backup(store: SQLiteRecordStore, tmp_path: Path) -> None:
    store.sync.commit([Put("s", f"{n}", bytes(5000)) for n in range(500)])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.sync.commit([Put("live", "a", b"%d" % number), Put("live", "b", b"%d" % number)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            asyncio.run(store.backup(tmp_path / "copy.db"))
    finally:
        stop.set()
        thread.join()
    with pytest.raises(ValueError, match="itself"):
        asyncio.run(store.backup(store.file.path))
    copy = SQLiteRecordStore(tmp_path / "copy.db")
    assert len(copy.sync.scan("s")) == 500
    one, two = copy.sync.scan("live")
    assert one.data == two.data
    copy.sync.close()
    store.sync.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "copy.db",
        "copy.db-lock",
        "records.db",
        "records.db-lock",
    ]


# --- what it refuses ---


def test_a_newer_layout(store: SQLiteRecordStore) -> None:
    store.sync.initialize()
    store.sync.close()
    with sqlite3.connect(store.file.path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    again = SQLiteRecordStore(store.file.path)
    with pytest.raises(StorageSchemaError, match="layout 99"):
        again.sync.initialize()
    again.sync.close()


def test_another_file_in_its_place_while_it_was_closed(store: SQLiteRecordStore) -> None:
    """A new one is prepared, one of a newer release refused, by the store that knew the one before."""
    store.sync.commit([Put("space", "key", b"x")])
    store.sync.close()
    os.unlink(store.file.path)
    assert store.sync.get("space", "key") is None
    store.sync.commit([Put("space", "other", b"x")])
    store.sync.close()
    with sqlite3.connect(store.file.path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StorageSchemaError, match="layout 99"):
        store.sync.get("space", "other")
    with pytest.raises(StorageSchemaError, match="layout 99"):
        store.sync.commit([Put("space", "other", b"y")])


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, only " + "words " * 1000)
    store = SQLiteRecordStore(tmp_path / "notes.txt")
    with pytest.raises(StorageCorruptedError, match=r"notes.txt"):
        store.sync.initialize()
    store.sync.close()
    assert (tmp_path / "notes.txt").read_text().startswith("no database")


def test_no_folder(tmp_path: Path) -> None:
    store = SQLiteRecordStore(tmp_path / "none" / "records.db")
    with pytest.raises(StorageConfigError, match="folder"):
        store.sync.get("s", "k")
    store.sync.close()


BAD: list[dict[str, object]] = [
    {"path": ":memory:"},
    {"path": ""},
    {"path": "a", "synchronous": "maybe"},
    {"path": "a", "readers": 0},
    {"path": "a", "raeders": 2},
]


@pytest.mark.parametrize("options", BAD)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(StorageConfigError):
        SQLiteRecordStore(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse"])
def test_network_file_systems(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "file_system", lambda folder: kind)
    store = SQLiteRecordStore(tmp_path / "records.db")
    with pytest.raises(StorageConfigError, match="allow_network_fs"):
        store.sync.initialize()
    store.sync.close()
    assert list(tmp_path.iterdir()) == []
    allowed = SQLiteRecordStore(tmp_path / "records.db", allow_network_fs=True)
    allowed.sync.initialize()
    allowed.sync.close()


def test_the_file_system_of_a_folder() -> None:
    assert file.file_system("/proc") == "proc"
    assert file.file_system("/proc/self") == "proc"
    assert file.file_system(os.getcwd()) not in (None, "proc")


def test_a_file_that_cannot_be_written(store: SQLiteRecordStore) -> None:
    store.sync.initialize()
    readonly = sqlite3.connect(f"file:{store.file.path}?mode=ro", uri=True, isolation_level=None)
    with pytest.raises(StoragePermissionError), file.translating(store.file.path):
        readonly.execute("DELETE FROM records")
    readonly.close()
    store.sync.close()


def test_somebody_holds_the_database(tmp_path: Path) -> None:
    store = SQLiteRecordStore(tmp_path / "records.db", busy_timeout=0.1)
    store.sync.commit([Put("s", "k", b"old")])
    holder = sqlite3.connect(store.file.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageTimeoutError) as caught:
        store.sync.commit([Put("s", "k", b"new")])
    assert caught.value.retryable
    record = store.sync.get("s", "k")
    assert record is not None
    assert record.data == b"old"
    holder.execute("ROLLBACK")
    holder.close()
    store.sync.commit([Put("s", "k", b"new")])
    store.sync.close()


# --- forks and processes ---


def test_a_forked_child_works_on(store: SQLiteRecordStore) -> None:
    store.sync.commit([Put("s", "parent", b"")])
    assert in_child(lambda: store.sync.commit([Put("s", "child", b"")]))
    assert [record.key for record in store.sync.scan("s")] == ["child", "parent"]
    store.sync.close()


def test_forks_while_it_is_used(store: SQLiteRecordStore) -> None:
    """Children and parent write on; nothing is lost, nobody hangs, the file stays whole."""
    stop = threading.Event()
    written = []

    def write() -> None:
        while not stop.is_set():
            (version,) = store.sync.commit([Put("p", f"{len(written):06}", bytes(1000))])
            written.append(version)

    threads = [threading.Thread(target=write)]
    for thread in threads:
        thread.start()

    def child(number: int) -> Callable[[], None]:
        def work() -> None:
            for n in range(20):
                store.sync.commit([Put("c", f"{number}-{n}", bytes(1000))])

        return work

    try:
        done = [in_child(child(number)) for number in range(5)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert done == [True] * 5
    assert len(store.sync.scan("c")) == 100
    assert [record.version for record in store.sync.scan("p")] == written
    store.sync.close()
    assert pragma(store.file.path, "integrity_check") == "ok"


PROCESS = """
import sys
from genro_storage.exceptions import VersionConflictError
from genro_storage.records import Put
from genro_storage.records.sqlite import SQLiteRecordStore
store = SQLiteRecordStore(sys.argv[1])
for _ in range(int(sys.argv[2])):
    while True:
        record = store.sync.get("s", "n")
        try:
            data, version = (record.data, record.version) if record else (b"0", 0)
            store.sync.commit([Put("s", "n", b"%d" % (int(data) + 1), expect=version)])
            break
        except VersionConflictError:
            pass
store.sync.close()
"""


def processes(store: SQLiteRecordStore, count: int, rounds: int) -> list[tuple[int, str]]:
    command = [sys.executable, "-c", PROCESS, store.file.path, str(rounds)]
    path = str(Path(__file__).parents[2])
    children = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
        for _ in range(count)
    ]
    return [(child.wait(), child.stderr.read() if child.stderr else "") for child in children]


def test_processes_count_together(store: SQLiteRecordStore, soak: Callable[[int], int]) -> None:
    """8 processes × 500 read-modify-write: no error, exact sum; each also races to open the fresh file."""
    rounds = soak(500)
    assert processes(store, 8, rounds) == [(0, "")] * 8
    record = store.sync.get("s", "n")
    assert record is not None
    assert record.data == b"%d" % (8 * rounds)
    store.sync.close()


def test_processes_open_a_fresh_file(tmp_path: Path, soak: Callable[[int], int]) -> None:
    """Regression: the switch to WAL raced when several began at once. 8 processes, 20 rounds with GENRO_SOAK=1."""
    for number in range(soak(20)):
        assert processes(SQLiteRecordStore(tmp_path / f"{number}.db"), 8, 1) == [(0, "")] * 8


def test_a_store_that_is_forgotten_ends_its_threads(tmp_path: Path) -> None:
    store = SQLiteRecordStore(tmp_path / "records.db")
    store.sync.commit([Put("s", "k", b"")])
    path = store.file.path
    del store
    gc.collect()
    deadline = time.monotonic() + 60
    while os.path.exists(path + "-wal"):  # gone with the last connection
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_threads_read_and_write(store: SQLiteRecordStore) -> None:
    def work(number: int) -> None:
        for n in range(5):
            store.sync.commit([Put("s", f"{number:03}-{n}", bytes(number))])
            record = store.sync.get("s", f"{number:03}-{n}")
            assert record is not None
            assert len(record.data) == number

    at_once(work, 50)
    assert len(store.sync.scan("s")) == 250
    store.sync.close()
