"""What is acknowledged is there: writers killed, servers killed, many processes at one session."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.records.base import Change
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions import SessionStore, StorageFactory
from tests.servers.fixtures import running
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

ROOT = Path(__file__).parents[2]
DURABLE = ["sqlite", "postgresql", "redis", "mount"]

WORKER = """
import asyncio, json, os, sys
from genro_storage import StorageManager, StorageUnavailableError
from genro_storage.sessions import StorageFactory

kind, config, name, tasks, count, log = sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]
tasks, count = int(tasks), int(count)
told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

async def write(store, task):
    for number in range(count):
        role = f"{name}-{task}"
        try:
            await store.add_conversation_message("shared", role, number)
            await store.update_session("shared", increment_requests=True)
        except StorageUnavailableError:
            os.write(told, b"doubt\\n")
            await asyncio.sleep(0.1)
            continue
        os.write(told, f"{role} {number}\\n".encode())

async def main():
    if kind == "mount":
        config["mount"] = StorageManager([{"name": "m", "type": "local", "path": config["mount"]}]).node("m:records")
    store = StorageFactory.create_storage_backend(kind, config)
    await store.initialize()
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(write(store, task) for task in range(tasks)))
    await store.close()

asyncio.run(main())
"""


class Writer:
    """A process that appends to one session and notes what was acknowledged."""

    def __init__(self, kind: str, config: dict[str, Any], folder: Path, name: str, tasks: int, count: int) -> None:
        self.log = folder / f"{name}.log"
        self.log.touch()
        words = [kind, json.dumps(config), name, str(tasks), str(count), str(self.log)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def acknowledged(self) -> tuple[list[tuple[str, int]], int]:
        """(role, number) of each acknowledged pair of calls, in order; how many are in doubt."""
        lines = self.log.read_text().splitlines()
        sure = [(line.split()[0], int(line.split()[1])) for line in lines if line != "doubt"]
        return sure, lines.count("doubt")


@pytest.fixture(params=DURABLE)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(kind, configuration, server) of a store of its own; a durable one unless a test asks for others."""
    if request.param == "sqlite":
        yield "sqlite", {"path": str(tmp_path / "s.db")}, None
    elif request.param == "postgresql":
        for server in running(Postgres(durable=True)):
            yield "postgresql", {"url": server.url(server.make_database())}, server
    elif request.param == "mount":
        yield "mount", {"mount": str(tmp_path)}, None
    elif request.param == "memory":
        yield "memory", {}, None
    else:
        for server in running(Redis(durable=True)):
            yield "redis", {"url": server.url()}, server


@contextmanager
def opened(kind: str, config: dict[str, Any]) -> Iterator[SessionStore]:
    """A store at a place; closed at the end, so that a mount is free for its next owner."""
    if kind == "mount":
        node = StorageManager([{"name": "m", "type": "local", "path": config["mount"]}]).node("m:records")
        config = {"mount": node}
    store = StorageFactory.create_storage_backend(kind, config)
    try:
        yield store
    finally:
        store.sync.close()


def processes(kind: str, count: int) -> int:
    """How many may write at once: of a mount there is one owner."""
    return 1 if kind == "mount" else count


def judged(store: SessionStore, writers: list[Writer], *, before: int = 0) -> int:
    """Every acknowledged message is there once and in its writer's order, numbers have no gap; returns the last."""
    history = store.sync.get_conversation_history("shared", None)
    assert [one["seq"] for one in history] == list(range(1, len(history) + 1))
    seen = Counter((one["role"], one["content"]) for one in history)
    assert max(seen.values(), default=1) == 1
    sure, doubts = 0, 0
    for writer in writers:
        acknowledged, doubtful = writer.acknowledged()
        sure, doubts = sure + len(acknowledged), doubts + doubtful
        assert all(one in seen for one in acknowledged)
    for role in {one["role"] for one in history}:
        numbers = [one["content"] for one in history if one["role"] == role]
        assert numbers == sorted(numbers)
    requests = store.sync.get_session("shared")["request_count"]
    assert sure + before <= requests
    told = store.sync.verify()
    assert told.faults == []
    return int(requests)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_writers_killed_at_random(place: Any, tmp_path: Path, soak: Callable[[int], int]) -> None:
    kind, config, _ = place
    with opened(kind, config) as store:
        store.sync.create_session("shared", "u")
    everybody: list[Writer] = []
    for number in range(soak(50)):
        with ExitStack() as ending:
            count = processes(kind, 8)
            writers = [Writer(kind, config, tmp_path, f"r{number}w{n}", 2, 10**6) for n in range(count)]
            for writer in writers:
                ending.callback(writer.close)
            for writer in writers:
                writer.ready()
            for writer in writers:
                writer.go()
            while not number and not any(writer.acknowledged()[0] for writer in writers):
                time.sleep(0.01)  # one round at least is not over before it began
            for writer in random.sample(writers, len(writers)):
                time.sleep(random.uniform(0, 1.2 / len(writers)))
                writer.kill()
        everybody += writers
        with opened(kind, config) as store:
            judged(store, everybody)
    assert sum(len(writer.acknowledged()[0]) for writer in everybody) > 0


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("place", ["postgresql", "redis"], indirect=True)
def test_the_server_killed_under_writers(place: Any, tmp_path: Path, soak: Callable[[int], int]) -> None:
    kind, config, server = place
    store = StorageFactory.create_storage_backend(kind, config)
    store.sync.create_session("shared", "u")
    everybody: list[Writer] = []
    for number in range(soak(10)):
        with ExitStack() as ending:
            writers = [Writer(kind, config, tmp_path, f"r{number}w{n}", 4, 10**6) for n in range(2)]
            for writer in writers:
                ending.callback(writer.close)
                writer.ready()
            for writer in writers:
                writer.go()
            time.sleep(random.uniform(0.2, 0.6))
            server.restart()
            sizes = [len(writer.acknowledged()[0]) for writer in writers]
            until = time.monotonic() + 90
            while time.monotonic() < until:  # they go on by themselves
                time.sleep(0.1)
                if all(len(one.acknowledged()[0]) > size for one, size in zip(writers, sizes, strict=True)):
                    break
            else:
                pytest.fail("a writer did not come back after its server did")
        everybody += writers
        judged(store, everybody)
    store.sync.close()


@pytest.mark.timeout(300)
def test_many_processes_at_one_session(place: Any, tmp_path: Path) -> None:
    kind, config, _ = place
    count = processes(kind, 4)
    with opened(kind, config) as store:
        store.sync.create_session("shared", "u")
    with ExitStack() as ending:
        writers = [Writer(kind, config, tmp_path, f"w{n}", 32 // count, 10) for n in range(count)]
        for writer in writers:
            ending.callback(writer.close)
        for writer in writers:
            writer.ready()
        for writer in writers:
            writer.go()
        for writer in writers:
            assert writer.process.wait(120) == 0
    with opened(kind, config) as store:
        assert judged(store, writers) == 320
        assert len(store.sync.get_conversation_history("shared", None)) == 320


@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["memory", *DURABLE], indirect=True)
def test_two_hundred_sessions_of_a_hundred_messages(place: Any) -> None:
    """History is exact and ordered in each."""
    import asyncio

    kind, config, _ = place

    async def talk(store: SessionStore, number: int) -> None:
        name = f"s{number}"
        await store.create_session(name, "u")
        for at in range(0, 100, 10):
            await asyncio.gather(*(store.add_conversation_message(name, "user", at + n) for n in range(10)))

    async def all_of_them(store: SessionStore) -> None:
        await asyncio.gather(*(talk(store, number) for number in range(200)))

    # 2,000 at once wait for some connections: on a slow machine longer than a service would want to.
    patience = {"postgresql": {"acquire_timeout": 300}, "redis": {"timeout": 300}}
    with opened(kind, config | patience.get(kind, {})) as store:
        store.sync.run(all_of_them(store))
        for number in range(200):
            history = store.sync.get_conversation_history(f"s{number}", None)
            assert [one["seq"] for one in history] == list(range(1, 101))
            assert [one["content"] for one in history] == list(range(100))
        assert store.sync.verify().ok


class _InTurns(MemoryRecordStore):
    """Each commit takes some turns of the loop."""

    async def commit(self, changes: Sequence[Change]) -> list[int]:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().commit(changes)


@pytest.mark.parametrize("turns", range(9))
def test_the_loop_can_go_down_whatever_is_under_way(turns: int) -> None:
    """Whoever waits for a commit that nobody will make must not hold up the end of the program."""
    ended = []

    async def use() -> None:
        store = SessionStore(_InTurns())
        await store.initialize()
        await store.create_session("s", "u")

        async def one(number: int) -> None:
            try:
                await store.update_session("s", increment_requests=True)
            finally:
                ended.append(number)

        tasks = [asyncio.ensure_future(one(number)) for number in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        assert len(tasks) == 20

    program = threading.Thread(target=lambda: asyncio.run(use()), daemon=True)
    program.start()
    program.join(60)
    assert not program.is_alive()
    assert len(ended) == 20 or turns == 0  # a task that is cancelled before its first step does nothing
