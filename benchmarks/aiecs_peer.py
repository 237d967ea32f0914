"""aiecs' ContextEngine for benchmarks/sessions.py: reads lines "count tasks", answers operations per second."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import sys
import time
import uuid

logging.disable(logging.CRITICAL)  # its own line for each session is not what is measured

from aiecs.domain.context.context_engine import ContextEngine  # noqa: E402


async def speed(engine: ContextEngine, count: int, tasks: int) -> float:
    prefix, numbers = uuid.uuid4().hex[:8], iter(range(count))

    async def work() -> None:
        for number in numbers:
            await engine.create_session(f"{prefix}{number}", "u", {"a": 1})
            await engine.get_session(f"{prefix}{number}")

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return count / (time.perf_counter() - start)


async def main() -> None:
    engine = ContextEngine()
    if not await engine.initialize():
        sys.exit("Redis is not there")
    print(importlib.metadata.version("aiecs"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, tasks = map(int, line.split())
        found = await speed(engine, count, tasks)
        if engine._memory_sessions:
            sys.exit("it keeps sessions in memory: that is not what is compared")
        print(found, flush=True)


asyncio.run(main())
