"""Sessions, conversations and checkpoints beside what people use: `python benchmarks/sessions.py [ROW …]`.

`--postgres URL` and `--redis URL` add those rows; peers that are not installed are left out (pip install aiosqlite
openai-agents sqlalchemy langgraph-checkpoint-sqlite asyncpg redis).
Medians of alternating runs in one process; the durability is equal on both sides. Exit code 1: a bar is missed.
`--write` puts the table into docs/benchmarks.rst.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genro_storage import StorageManager
from genro_storage.sessions import (
    MountStorageBackend,
    PostgreSQLStorageBackend,
    RedisStorageBackend,
    SessionStore,
    SQLiteStorageBackend,
)

ROUNDS = 3
WIDE = 32
DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.rst"
BEGIN, END = ".. session figures, written by benchmarks/sessions.py", ".. end of session figures"
LIBRARIES = ("aiosqlite", "openai-agents", "sqlalchemy", "langgraph-checkpoint-sqlite", "asyncpg", "redis")

Call = Callable[[int], Awaitable[object]]


class Row(NamedTuple):
    """A measured row: figures are operations per second (or bytes, where less is better)."""

    name: str
    peer: str
    ours: float
    theirs: float
    bar: float
    less: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def held(self) -> bool:
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


async def beside(name: str, peer: str, bar: float, ours: Call, theirs: Call, count: int, tasks: int) -> Row:
    """Both, in turns, each call with numbers of its own."""
    figures: tuple[list[float], list[float]] = [], []
    for turn in range(ROUNDS + 1):
        for side, call in zip(figures, (ours, theirs), strict=True):
            found = await speed(lambda number, call=call, turn=turn: call(turn * count + number), count, tasks)
            if turn:  # the first one warms up
                side.append(found)
    return Row(name, peer, statistics.median(figures[0]), statistics.median(figures[1]), bar)


def runs() -> str:
    return uuid.uuid4().hex[:8]


# --- peers written by hand ---


class HandSQLite:
    """Two tables as anybody would write them, `synchronous=FULL` in WAL mode."""

    async def open(self, path: str) -> HandSQLite:
        import aiosqlite

        self.db = await aiosqlite.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE s(id TEXT PRIMARY KEY, user TEXT, created REAL, status TEXT, metadata TEXT, n INT DEFAULT 0)",
            "CREATE INDEX s_user ON s(user)",
            "CREATE INDEX s_created ON s(created)",
            "CREATE TABLE m(id INTEGER PRIMARY KEY, sid TEXT, role TEXT, content TEXT, ts REAL)",
            "CREATE INDEX m_sid ON m(sid, id)",
        ):
            await self.db.execute(statement)
        return self

    async def create(self, name: str) -> None:
        row = (name, "u", time.time(), "active", json.dumps({"a": 1}))
        await self.db.execute("INSERT INTO s(id, user, created, status, metadata) VALUES (?, ?, ?, ?, ?)", row)

    async def get(self, name: str) -> dict[str, Any] | None:
        async with self.db.execute("SELECT * FROM s WHERE id=?", (name,)) as found:
            row = await found.fetchone()
        return row and {
            "id": row[0],
            "user": row[1],
            "created": row[2],
            "status": row[3],
            "metadata": json.loads(row[4]),
        }

    async def append(self, name: str, text: str) -> None:
        row = (name, "user", text, time.time())
        await self.db.execute("INSERT INTO m(sid, role, content, ts) VALUES (?, ?, ?, ?)", row)

    async def latest(self, name: str) -> list[dict[str, Any]]:
        sql = "SELECT role, content, ts FROM m WHERE sid=? ORDER BY id DESC LIMIT 50"
        async with self.db.execute(sql, (name,)) as found:
            rows = await found.fetchall()
        return [{"role": role, "content": content, "timestamp": ts} for role, content, ts in reversed(list(rows))]

    async def count(self, name: str) -> None:
        await self.db.execute("UPDATE s SET n=n+1 WHERE id=?", (name,))


class HandPostgres:
    """A pool and one statement per call."""

    async def open(self, url: str) -> HandPostgres:
        import asyncpg

        self.pool = await asyncpg.create_pool(url, min_size=10, max_size=30)
        self.table = f"hand_{runs()}"
        async with self.pool.acquire() as db:
            await db.execute(
                f"CREATE TABLE {self.table}"
                "(id TEXT PRIMARY KEY, usr TEXT, created DOUBLE PRECISION, status TEXT, metadata TEXT)"
            )
            await db.execute(f"CREATE INDEX ON {self.table}(usr)")
            await db.execute(f"CREATE INDEX ON {self.table}(created)")
        return self

    async def create(self, name: str) -> None:
        async with self.pool.acquire() as db:
            sql = f"INSERT INTO {self.table} VALUES ($1, $2, $3, $4, $5)"
            await db.execute(sql, name, "u", time.time(), "active", json.dumps({"a": 1}))

    async def get(self, name: str) -> dict[str, Any]:
        async with self.pool.acquire() as db:
            row = await db.fetchrow(f"SELECT * FROM {self.table} WHERE id=$1", name)
        return dict(row)


class HandRedis:
    """A hash and two sorted sets in one pipeline."""

    async def open(self, url: str) -> HandRedis:
        import redis.asyncio

        self.db = redis.asyncio.Redis.from_url(url)
        self.prefix = f"hand{runs()}"
        return self

    async def create(self, name: str) -> None:
        now = time.time()
        async with self.db.pipeline(transaction=True) as pipe:
            facts = {"user": "u", "created": now, "status": "active", "metadata": json.dumps({"a": 1})}
            pipe.hset(f"{self.prefix}:{name}", mapping=facts)
            pipe.zadd(f"{self.prefix}:user:u", {name: now})
            pipe.zadd(f"{self.prefix}:active", {name: now})
            await pipe.execute()

    async def get(self, name: str) -> dict[str, Any]:
        found = await self.db.hgetall(f"{self.prefix}:{name}")
        return {key.decode(): value.decode() for key, value in found.items()}


class HandFile:
    """A JSON file per session: temporary name, fsync, rename, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def create(self, name: str) -> None:
        await asyncio.to_thread(self._create, name)

    def _create(self, name: str) -> None:
        path = self.folder / f"{name}.json"
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump({"user": "u", "created": time.time(), "status": "active", "metadata": {"a": 1}}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.tmp", path)

    async def get(self, name: str) -> Any:
        return await asyncio.to_thread(lambda: json.loads((self.folder / f"{name}.json").read_text()))


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
    for tasks, bar, count in ((WIDE, 2.5, 1000), (1, 0.6, 200)):
        name = f"create+get session, {tasks} tasks"
        prefix = runs()
        yield await beside(name, peer, bar, creating(store, prefix), by_hand(hand, prefix), count, tasks)
    text = "What is a mount? " * 8
    await store.create_session("talk", "u")
    await hand.create("talk")
    for tasks, bar, count in ((WIDE, 3.0, 1500), (1, 0.8, 200)):
        yield await beside(
            f"append message, {tasks} tasks",
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
        "append message", "agents SQLiteSession", 1.1, append, lambda number: plain.add_items([item]), 200, 1
    )
    alchemy = SQLAlchemySession.from_url("talk", url=f"sqlite+aiosqlite:///{folder}/alchemy.db", create_tables=True)
    await alchemy.add_items([item])
    yield await beside(
        "append message", "agents SQLAlchemySession", 5, append, lambda number: alchemy.add_items([item]), 100, 1
    )


async def served(store: SessionStore, peer: Any, told: str, bars: tuple[float, float]) -> AsyncIterator[Row]:
    await store.initialize()
    for tasks, bar, count in ((WIDE, bars[0], 1000), (1, bars[1], 300)):
        prefix = runs()
        name = f"create+get session, {store.records.name}, {tasks} tasks"
        yield await beside(name, told, bar, creating(store, prefix), by_hand(peer, prefix), count, tasks)
    await store.close()


async def mounted(folder: Path) -> AsyncIterator[Row]:
    (folder / "mount").mkdir()
    (folder / "json").mkdir()
    with StorageManager([{"name": "m", "type": "local", "path": str(folder / "mount")}]) as manager:
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
        return
    for size, count, bars in ((10_000, 200, (3, 3, 0.8, 1.5)), (1_000_000, 40, (0, 0, 0.7, 0.8))):
        async with AsyncSqliteSaver.from_conn_string(str(folder / f"theirs{size}.db")) as theirs:
            await theirs.setup()
            await theirs.conn.execute("PRAGMA synchronous=FULL")
            store = SQLiteStorageBackend(folder / f"ours{size}.db")
            ours = GenroCheckpointSaver(store)
            for tasks, put, get in ((WIDE, *bars[:2]), (1, *bars[2:])):
                if not put:
                    continue
                told = f"{size // 1000} KB, {tasks} tasks"
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
        yield Row(f"database size, {name}", "AsyncSqliteSaver", *(float(size_of(path)) for path in paths), bar, True)


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


async def rows(options: argparse.Namespace) -> AsyncIterator[Row]:
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name)
        async for row in sqlite_sessions(folder):
            yield row
        async for row in mounted(folder):
            yield row
        async for row in checkpoints(folder):
            yield row
        async for row in latest(folder):
            yield row
    if options.postgres:
        store: SessionStore = PostgreSQLStorageBackend(options.postgres, schema=f"bench_{runs()}")
        hand: Any = await HandPostgres().open(options.postgres)
        async for row in served(store, hand, "asyncpg by hand", (0.7, 0.9)):
            yield row
    if options.redis:
        store = RedisStorageBackend(options.redis, prefix=f"bench{runs()}")
        async for row in served(store, await HandRedis().open(options.redis), "redis.asyncio by hand", (0.9, 0.9)):
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
    bound = "≤" if row.less else "≥"
    return row.name, row.peer, f"{row.ratio:.2f}", f"{bound} {row.bar:.2g}", "" if row.held else "missed"


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
        state = "" if row.held else "  MISSED"
        print(
            f"{row.name:<58} {row.peer:<26} {row.ours:>10.0f} {row.theirs:>10.0f} {row.ratio:6.2f}{state}", flush=True
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--directory", help="where files are made; a real disk, not tmpfs")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.rst")
    options = parser.parse_args()
    results = asyncio.run(measured(options))
    if options.write:
        write(results)
    return 0 if all(row.held for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
