"""What session stores are measured against: written by hand as anybody would, or somebody's product."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent


def runs() -> str:
    """A name that no run before had."""
    return uuid.uuid4().hex[:8]


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


class Alchemy:
    """SQLAlchemy 2 over asyncpg: a session of its ORM for each call."""

    async def open(self, url: str) -> Alchemy:
        from sqlalchemy import Float, String
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
        from sqlalchemy.orm import DeclarativeBase, mapped_column

        class Base(DeclarativeBase):
            pass

        class Session(Base):
            __tablename__ = f"alchemy_{runs()}"
            id = mapped_column(String, primary_key=True)
            usr = mapped_column(String, index=True)
            created = mapped_column(Float, index=True)
            status = mapped_column(String)
            told = mapped_column(String)

        address = "postgresql+asyncpg" + url[url.index("://") :]
        self.engine = create_async_engine(address, pool_size=10, max_overflow=20)
        async with self.engine.begin() as db:
            await db.run_sync(Base.metadata.create_all)
        self.session, self.kind = async_sessionmaker(self.engine), Session
        return self

    async def create(self, name: str) -> None:
        async with self.session() as session, session.begin():
            told = json.dumps({"a": 1})
            session.add(self.kind(id=name, usr="u", created=time.time(), status="active", told=told))

    async def get(self, name: str) -> dict[str, Any]:
        async with self.session() as session:
            row = await session.get_one(self.kind, name)
            return {"id": row.id, "user": row.usr, "created": row.created, "metadata": json.loads(row.told)}


class Aiecs:
    """aiecs' ContextEngine in an interpreter of its own: it pins an openai that other peers cannot have."""

    TASKS = 16
    """Its pool has 20 connections, and beyond them it silently keeps sessions in memory."""

    async def open(self, python: str, url: str) -> Aiecs:
        place = urlsplit(url)
        told = {"REDIS_HOST": str(place.hostname), "REDIS_PORT": str(place.port or 6379)}
        pipe = asyncio.subprocess.PIPE
        script = str(HERE / "aiecs_peer.py")
        self.process = await asyncio.create_subprocess_exec(
            python, script, stdin=pipe, stdout=pipe, env=os.environ | told
        )
        self.version = await self._line()
        return self

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"aiecs ended: {await self.process.wait()}")
        return line

    async def speed(self, count: int, tasks: int) -> float:
        """Operations per second, as it measures them itself."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count} {tasks}\n".encode())
        return float(await self._line())

    async def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
