"""Sessions, conversations and checkpoints beside what people use: `python benchmarks/sessions.py --servers`.

`--servers` starts PostgreSQL and Redis with durable settings; `--postgres URL` and `--redis URL` take those that run.
Peers: pip install aiosqlite openai-agents sqlalchemy langgraph-checkpoint-sqlite langgraph-checkpoint-postgres
"psycopg[binary,pool]" asyncpg redis; a row says so where its peer is not there. aiecs pins an openai of its own: it is
asked in the interpreter that `--aiecs PYTHON` names, where `pip install aiecs==2.2.0` was done.
Medians of alternating runs in one process; the durability is equal on both sides. Exit code 1: a bar is missed.
`--write` puts the table into docs/benchmarks.rst.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from session_peers import Aiecs, Alchemy, HandFile, HandPostgres, HandRedis, HandSQLite, runs

from genro_storage import StorageManager
from genro_storage.sessions import (
    MountStorageBackend,
    PostgreSQLStorageBackend,
    RedisStorageBackend,
    SessionStore,
    SQLiteStorageBackend,
)

ROUNDS = 5
WIDE = 32
DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.rst"
BEGIN, END = ".. session figures, written by benchmarks/sessions.py", ".. end of session figures"
LIBRARIES = (
    "aiosqlite",
    "openai-agents",
    "sqlalchemy",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "psycopg",
    "asyncpg",
    "redis",
)

Call = Callable[[int], Awaitable[object]]


class Row(NamedTuple):
    """A row: operations per second (or bytes, where less is better); without figures the peer was not there."""

    name: str
    peer: str
    bar: float
    ours: float = 0
    theirs: float = 0
    less: bool = False

    @property
    def measured(self) -> bool:
        return bool(self.theirs)

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def held(self) -> bool:
        if not self.measured:
            return False
        return self.ratio <= self.bar if self.less else self.ratio >= self.bar


async def speed(call: Call, count: int, tasks: int) -> float:
    """Operations per second of `count` calls from so many tasks."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return count / (time.perf_counter() - start)


def told_of(tasks: int) -> str:
    return f"{tasks} task{'' if tasks == 1 else 's'}"


async def beside(name: str, peer: str, bar: float, ours: Call, theirs: Call, count: int, tasks: int) -> Row:
    """Both, in turns, each call with numbers of its own."""

    def timed(call: Call) -> Callable[[int], Awaitable[float]]:
        return lambda turn: speed(lambda number: call(turn * count + number), count, tasks)

    return await in_turns(name, peer, bar, timed(ours), timed(theirs))


async def in_turns(
    name: str, peer: str, bar: float, ours: Callable[[int], Awaitable[float]], theirs: Callable[[int], Awaitable[float]]
) -> Row:
    """Medians of both; they tell their speed in a turn."""
    figures: tuple[list[float], list[float]] = [], []
    for turn in range(ROUNDS + 1):
        for side, told in zip(figures, (ours, theirs), strict=True):
            found = await told(turn)
            if turn:  # the first one warms up
                side.append(found)
    return Row(name, peer, bar, statistics.median(figures[0]), statistics.median(figures[1]))


# --- rows ---


def creating(store: Any, prefix: str) -> Call:
    async def call(number: int) -> None:
        await store.create_session(f"{prefix}{number}", "u", {"a": 1})
        await store.get_session(f"{prefix}{number}")

    return call


def by_hand(peer: Any, prefix: str) -> Call:
    async def call(number: int) -> None:
        await peer.create(f"{prefix}{number}")
        await peer.get(f"{prefix}{number}")

    return call


async def sqlite_sessions(folder: Path) -> AsyncIterator[Row]:
    hand = await HandSQLite().open(str(folder / "hand.db"))
    store = SQLiteStorageBackend(folder / "ours.db")
    await store.initialize()
    peer = "aiosqlite by hand"
    for tasks, bar, count in ((WIDE, 2.5, 2000), (1, 0.6, 500)):
        name = f"create+get session, {told_of(tasks)}"
        prefix = runs()
        yield await beside(name, peer, bar, creating(store, prefix), by_hand(hand, prefix), count, tasks)
    text = "What is a mount? " * 8
    await store.create_session("talk", "u")
    await hand.create("talk")
    for tasks, bar, count in ((WIDE, 3.0, 3000), (1, 0.8, 800)):
        yield await beside(
            f"append message, {told_of(tasks)}",
            peer,
            bar,
            lambda number: store.add_conversation_message("talk", "user", text),
            lambda number: hand.append("talk", text),
            count,
            tasks,
        )
    read = lambda number: store.get_conversation_history("talk")  # noqa: E731
    yield await beside("last 50 messages", peer, 1.0, read, lambda number: hand.latest("talk"), 500, 1)
    yield await beside(
        "1000 updates of one session at once",
        peer,
        1.0,
        lambda number: store.update_session("talk", increment_requests=True),
        lambda number: hand.count("talk"),
        1000,
        1000,
    )
    facts = await store.get_session("talk")
    assert facts is not None
    assert facts["request_count"] == 1000 * (ROUNDS + 1)
    async for row in agents(folder, store, text):
        yield row
    await hand.db.close()
    await store.close()


async def agents(folder: Path, store: SessionStore, text: str) -> AsyncIterator[Row]:
    """OpenAI Agents' own sessions."""
    try:
        from agents.extensions.memory.async_sqlite_session import AsyncSQLiteSession
        from agents.extensions.memory.sqlalchemy_session import SQLAlchemySession
        from agents.memory.sqlite_session import SQLiteSession
    except ImportError:
        yield Row("append message", "agents SQLiteSession", 1.1)
        return
    item = {"role": "user", "content": text}
    asynchronous = AsyncSQLiteSession("talk", db_path=str(folder / "async.db"))
    await asynchronous.add_items([item] * 300)
    read = lambda number: store.get_conversation_history("talk")  # noqa: E731
    theirs = lambda number: asynchronous.get_items(50)  # noqa: E731
    yield await beside("last 50 messages", "agents AsyncSQLiteSession", 1 / 0.6, read, theirs, 300, 1)
    append = lambda number: store.add_conversation_message("talk", "user", text)  # noqa: E731
    plain = SQLiteSession("talk", db_path=str(folder / "plain.db"))
    yield await beside(
        "append message", "agents SQLiteSession", 1.1, append, lambda number: plain.add_items([item]), 800, 1
    )
    alchemy = SQLAlchemySession.from_url("talk", url=f"sqlite+aiosqlite:///{folder}/alchemy.db", create_tables=True)
    await alchemy.add_items([item])
    yield await beside(
        "append message", "agents SQLAlchemySession", 5, append, lambda number: alchemy.add_items([item]), 100, 1
    )


async def mounted(folder: Path) -> AsyncIterator[Row]:
    (folder / "mount").mkdir()
    (folder / "json").mkdir()
    with StorageManager([{"name": "m", "type": "local", "path": str(folder / "mount"), "fsync": True}]) as manager:
        store = MountStorageBackend(manager.node("m:"), exclusive=True)
        await store.initialize()
        prefix = runs()
        peer = by_hand(HandFile(folder / "json"), prefix)
        yield await beside(
            "create+get session, mount", "JSON files by hand", 0.4, creating(store, prefix), peer, 150, 1
        )
        await store.close()


# --- checkpoints ---


def checkpoint(values: dict[str, Any]) -> Any:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.base.id import uuid6

    made = empty_checkpoint() | {"id": str(uuid6()), "channel_values": values}
    made["channel_versions"] = dict.fromkeys(values, "1")
    return made


def putting(saver: Any, size: int) -> Call:
    async def call(number: int) -> None:
        config = {"configurable": {"thread_id": f"t{number % WIDE}", "checkpoint_ns": ""}}
        made = checkpoint({"state": os.urandom(size // 2).hex(), "step": number})
        await saver.aput(config, made, {"source": "loop", "step": number}, made["channel_versions"])

    return call


def getting(saver: Any) -> Call:
    async def call(number: int) -> None:
        found = await saver.aget_tuple({"configurable": {"thread_id": f"t{number % WIDE}", "checkpoint_ns": ""}})
        assert found is not None

    return call


async def checkpoints(folder: Path) -> AsyncIterator[Row]:
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        from genro_storage.sessions.langgraph import GenroCheckpointSaver
    except ImportError:
        yield Row("checkpoint put, 10 KB", "AsyncSqliteSaver", 3)
        return
    for size, count, bars in ((10_000, 1000, (3, 3, 0.8, 1.5)), (1_000_000, 40, (0, 0, 0.7, 0.8))):
        async with AsyncSqliteSaver.from_conn_string(str(folder / f"theirs{size}.db")) as theirs:
            await theirs.setup()
            await theirs.conn.execute("PRAGMA synchronous=FULL")
            store = SQLiteStorageBackend(folder / f"ours{size}.db")
            ours = GenroCheckpointSaver(store)
            for tasks, put, get in ((WIDE, *bars[:2]), (1, *bars[2:])):
                if not put:
                    continue
                told = f"{size // 1000} KB, {told_of(tasks)}"
                yield await beside(
                    f"checkpoint put, {told}",
                    "AsyncSqliteSaver",
                    put,
                    putting(ours, size),
                    putting(theirs, size),
                    count,
                    tasks,
                )
                yield await beside(
                    f"checkpoint get, {told}", "AsyncSqliteSaver", get, getting(ours), getting(theirs), count, tasks
                )
            await store.close()
    async for row in sizes(folder):
        yield row


async def sizes(folder: Path) -> AsyncIterator[Row]:
    """Bytes on disk, and reading the last of many."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from genro_storage.sessions.langgraph import GenroCheckpointSaver

    static = os.urandom(50_000).hex()
    growing = [os.urandom(500).hex() for _ in range(400)]
    works = {
        "static 100 KB channel, 300 steps": (300, lambda step: {"static": static, "count": step}, 1 / 50),
        "list growing by 1 KB, 400 steps": (400, lambda step: {"log": growing[: step + 1]}, 1 / 8),
    }
    for at, (name, (steps, values, bar)) in enumerate(works.items()):
        paths = folder / f"size-ours{at}.db", folder / f"size-theirs{at}.db"
        store = SQLiteStorageBackend(paths[0])
        async with AsyncSqliteSaver.from_conn_string(str(paths[1])) as theirs:
            ours = GenroCheckpointSaver(store)
            for saver in (ours, theirs):
                config: Any = {"configurable": {"thread_id": "t0", "checkpoint_ns": ""}}
                for step in range(steps):
                    made = checkpoint(values(step))
                    config = await saver.aput(config, made, {"source": "loop", "step": step}, made["channel_versions"])
            if at:
                yield await beside(
                    f"get of the last, {name}", "AsyncSqliteSaver", 0.7, getting_one(ours), getting_one(theirs), 50, 1
                )
        await store.close()
        ours_size, theirs_size = (float(size_of(path)) for path in paths)
        yield Row(f"database size, {name}", "AsyncSqliteSaver", bar, ours_size, theirs_size, less=True)


def getting_one(saver: Any) -> Call:
    async def call(number: int) -> None:
        assert await saver.aget_tuple({"configurable": {"thread_id": "t0", "checkpoint_ns": ""}}) is not None

    return call


def size_of(path: Path) -> int:
    return sum(os.path.getsize(one) for one in path.parent.glob(path.name + "*"))


async def latest(folder: Path) -> AsyncIterator[Row]:
    """The newest of 500 checkpoints beside reading all of them."""
    store = SQLiteStorageBackend(folder / "latest.db")
    for number in range(500):
        await store.store_checkpoint("t", f"c{number}", {"state": os.urandom(5000).hex()})
    one = lambda number: store.get_checkpoint("t")  # noqa: E731
    everything = lambda number: store.list_checkpoints("t", None)  # noqa: E731
    yield await beside("latest of 500 checkpoints of 10 KB", "reading all of them", 30, one, everything, 5, 1)
    await store.close()


# --- servers ---


async def served(store: SessionStore, peer: Any, told: str, bars: tuple[float, float]) -> AsyncIterator[Row]:
    for tasks, bar, count in ((WIDE, bars[0], 3000), (1, bars[1], 500)):
        prefix = runs()
        name = f"create+get session, {store.records.name}, {told_of(tasks)}"
        yield await beside(name, told, bar, creating(store, prefix), by_hand(peer, prefix), count, tasks)


async def on_postgres(url: str) -> AsyncIterator[Row]:
    store = PostgreSQLStorageBackend(url, schema=f"bench_{runs()}")
    await store.initialize()
    async for row in served(store, await HandPostgres().open(url), "asyncpg by hand", (0.7, 0.9)):
        yield row
    name, prefix = f"create+get session, postgresql, {WIDE} tasks", runs()
    if installed("sqlalchemy"):
        alchemy = await Alchemy().open(url)
        ours, theirs = creating(store, prefix), by_hand(alchemy, prefix)
        yield await beside(name, "SQLAlchemy 2, asyncpg", 1.5, ours, theirs, 500, WIDE)
        await alchemy.engine.dispose()
    else:
        yield Row(name, "SQLAlchemy 2, asyncpg", 1.5)
    async for row in postgres_checkpoints(store, url):
        yield row
    await store.close()


async def postgres_checkpoints(store: SessionStore, url: str) -> AsyncIterator[Row]:
    told, peer = f"10 KB, postgresql, {WIDE} tasks", "AsyncPostgresSaver"
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        from genro_storage.sessions.langgraph import GenroCheckpointSaver
    except ImportError:
        yield Row(f"checkpoint put, {told}", peer, 0.8)
        yield Row(f"checkpoint get, {told}", peer, 1)
        return
    async with AsyncPostgresSaver.from_conn_string(url) as plain:
        await plain.setup()  # its migrations refuse to run in a pipeline
    async with AsyncPostgresSaver.from_conn_string(url, pipeline=True) as theirs:
        ours = GenroCheckpointSaver(store)
        put, get = (putting(ours, 10_000), putting(theirs, 10_000)), (getting(ours), getting(theirs))
        yield await beside(f"checkpoint put, {told}", peer, 0.8, *put, 1000, WIDE)
        yield await beside(f"checkpoint get, {told}", peer, 1, *get, 1000, WIDE)


async def on_redis(url: str, aiecs: str | None) -> AsyncIterator[Row]:
    store = RedisStorageBackend(url, prefix=f"bench{runs()}")
    await store.initialize()
    async for row in served(store, await HandRedis().open(url), "redis.asyncio by hand", (0.9, 0.9)):
        yield row
    name = f"create+get session, redis, {Aiecs.TASKS} tasks"
    if aiecs is None:
        yield Row(name, "aiecs ContextEngine", 1.3)
    else:
        peer = await Aiecs().open(aiecs, url)

        async def ours(turn: int) -> float:
            return await speed(creating(store, runs()), 500, Aiecs.TASKS)

        yield await in_turns(
            name, f"aiecs {peer.version} ContextEngine", 1.3, ours, lambda turn: peer.speed(500, Aiecs.TASKS)
        )
        await peer.close()
    await store.close()


async def rows(options: argparse.Namespace) -> AsyncIterator[Row]:
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name)
        for some in (sqlite_sessions, mounted, checkpoints, latest):
            async for row in some(folder):
                yield row
    if options.postgres:
        async for row in on_postgres(options.postgres):
            yield row
    if options.redis:
        async for row in on_redis(options.redis, options.aiecs):
            yield row


# --- what is told ---


def table(results: list[Row]) -> Iterator[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES if installed(name))
    yield f"Python {platform.python_version()}, {versions}."
    yield f"Ours divided by the peer, medians of {ROUNDS} alternating runs."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield "   :widths: 45 25 10 10 10"
    yield ""
    for cells in [("work", "peer", "ratio", "bar", ""), *map(cells_of, results)]:
        for at, cell in enumerate(cells):
            yield f"   {'*' if at == 0 else ' '} - {cell}".rstrip()


def cells_of(row: Row) -> tuple[str, ...]:
    bound = f"{'≤' if row.less else '≥'} {row.bar:.2g}"
    if not row.measured:
        return row.name, row.peer, "", bound, "not installed"
    return row.name, row.peer, f"{row.ratio:.2f}", bound, "" if row.held else "missed"


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def write(results: list[Row]) -> None:
    page = DOCS.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = "\n".join(table(results))
    DOCS.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")


async def measured(options: argparse.Namespace) -> list[Row]:
    results = []
    async for row in rows(options):
        results.append(row)
        figures = "not installed"
        if row.measured:
            figures = f"{row.ours:>10.0f} {row.theirs:>10.0f} {row.ratio:6.2f}{'' if row.held else '  MISSED'}"
        print(f"{row.name:<58} {row.peer:<26} {figures}", flush=True)
    return results


def served_by(stack: ExitStack, options: argparse.Namespace) -> None:
    """Starts the servers that no option names; both answer when a write is on the disk."""
    from tests.servers.postgres import Postgres
    from tests.servers.redis import Redis

    if not options.postgres:
        options.postgres = stack.enter_context(Postgres(durable=True)).url()
    if not options.redis:
        options.redis = stack.enter_context(Redis(durable=True)).url()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--servers", action="store_true", help="start PostgreSQL and Redis, where no URL is given")
    parser.add_argument("--aiecs", metavar="PYTHON", help="an interpreter that has aiecs")
    parser.add_argument("--directory", help="where files are made; a real disk, not tmpfs")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.rst")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.servers:
            served_by(stack, options)
        results = asyncio.run(measured(options))
    if options.write:
        write(results)
    return 0 if all(row.held for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
