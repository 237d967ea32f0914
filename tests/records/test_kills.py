"""Processes and servers killed at random moments: nothing acknowledged is lost, no commit is there by half."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage.exceptions import CommitOutcomeUnknownError, StorageUnavailableError, VersionConflictError
from genro_storage.records import Put, RecordStore, store_class
from genro_storage.records.postgres import PostgresRecordStore
from genro_storage.records.redis import RedisRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis
from tests.servers.running import running

WRITER = """
import sys
from genro_storage.records import Put, store_class
kind, place, worker, number = *sys.argv[1:4], int(sys.argv[4])
store = store_class(kind)(place)
while True:
    store.sync.commit([Put(f"w/{worker}", f"{number:06}", b"x" * 300, expect=0), Put("last", worker, b"%d" % number)])
    print(number, flush=True)
    number += 1
"""


def judge(store: RecordStore, worker: str, acknowledged: int) -> int:
    """All up to the last one acknowledged, at most one more, and the commits whole; the next number."""
    keys = [record.key for record in store.sync.scan(f"w/{worker}")]
    assert keys == [f"{number:06}" for number in range(len(keys))]
    assert len(keys) - 1 in (acknowledged, acknowledged + 1)
    last = store.sync.get("last", worker)
    assert (int(last.data) if last else -1) == len(keys) - 1
    return len(keys)


class Writer:
    """A process that writes on from a number; `acknowledged` is the last number that it was told is kept."""

    def __init__(self, kind: str, place: str, worker: str, number: int) -> None:
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", WRITER, kind, place, worker, str(number)]
        self.worker, self.acknowledged = worker, number - 1
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.acknowledged = int(line)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL
        self.reader.join()


def test_writers_of_one_file_are_killed(tmp_path: Path, soak: Callable[[int], int]) -> None:
    """8 processes on one SQLite file; 50 rounds with GENRO_SOAK=1."""
    path = str(tmp_path / "records.db")
    chance, numbers = random.Random(1), {f"{worker}": 0 for worker in range(8)}
    for _ in range(soak(50)):
        writers = [Writer("sqlite", path, worker, number) for worker, number in numbers.items()]
        deadline = time.monotonic() + 60
        while not all(writer.acknowledged >= numbers[writer.worker] for writer in writers):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        chance.shuffle(writers)
        for writer in writers:
            writer.kill()
        store = SQLiteRecordStore(path)
        numbers = {writer.worker: judge(store, writer.worker, writer.acknowledged) for writer in writers}
        store.sync.close()


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[Postgres]:
    """With fsync, as it comes."""
    yield from running(Postgres(durable=True))


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[Redis]:
    """Every write is on the disk before it is answered."""
    yield from running(Redis(durable=True))


def test_the_server_is_killed_postgres(durable_postgres: Postgres, soak: Callable[[int], int]) -> None:
    """10 rounds with GENRO_SOAK=1."""
    store = PostgresRecordStore(durable_postgres.url())
    while_it_dies(store, durable_postgres.restart, soak(10))


def test_the_server_is_killed_redis(durable_redis: Redis, soak: Callable[[int], int]) -> None:
    store = RedisRecordStore(durable_redis.url(), require_durable=True)
    while_it_dies(store, durable_redis.restart, soak(10))


def while_it_dies(store: RecordStore, restart: Callable[[], None], rounds: int) -> None:
    """Threads write while the server is killed and started again; who is told that it is unknown, reads."""
    stop = threading.Event()
    written = dict.fromkeys(range(4), 0)
    unknown = []

    def write(worker: int) -> None:
        while not stop.is_set():
            number = written[worker]
            try:
                store.sync.commit(
                    [Put(f"w/{worker}", f"{number:06}", b"x" * 300, expect=0), Put("last", f"{worker}", b"%d" % number)]
                )
            except CommitOutcomeUnknownError:
                unknown.append(worker)
                continue  # the same number again: `expect` tells whether it is there
            except StorageUnavailableError:
                time.sleep(0.02)
                continue
            except VersionConflictError:
                assert worker in unknown
            written[worker] = number + 1

    store.sync.initialize()
    threads = [threading.Thread(target=write, args=[worker]) for worker in written]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not all(written.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(rounds):
        time.sleep(0.5)
        restart()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    for worker, count in written.items():
        assert count > 0
        assert judge(store, f"{worker}", count - 1) >= count
    store.sync.close()


def test_every_kind_has_its_class() -> None:
    for kind in ("memory", "sqlite", "postgresql", "redis", "mount"):
        assert store_class(kind).name == kind
    with pytest.raises(ValueError, match="no such record store: 'mongo'"):
        store_class("mongo")
