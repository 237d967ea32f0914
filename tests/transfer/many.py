"""Prints what transfers of many entries cost: requests, bytes of memory, seconds; run in a process of its own."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

from genro_storage import transfer
from genro_storage.backends.base import StorageBackend
from genro_storage.mount import Mount
from genro_storage.transfer.places import At
from genro_storage.types import Features, Stat

PROCESS = psutil.Process()


class Endless(StorageBackend):
    """Lists as many keys as wanted, in pages of 1,000, and holds none; only deletions are taken, and counted."""

    features = Features(real_dirs=False, ordered=True, mtime_resolution=1.0, keeps_mtime=True, tells_missing=False)
    abilities = frozenset({"walk", "delete_many"})

    def __init__(self, count: int, extra: int = 0) -> None:
        super().__init__()
        self.count, self.extra = count, extra
        self.requests = self.deleted = 0

    @property
    def storage_id(self) -> str:
        return f"endless-{id(self)}"

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        for start in range(0, self.count + self.extra, 1000):
            self.requests += 1
            yield [self._stat(path, number) for number in range(start, min(start + 1000, self.count + self.extra))]

    def _stat(self, path: str, number: int) -> Stat:
        return Stat(f"{path}/{number // 5000:05}/some-name-of-a-file-{number:09}.bin", 10, mtime=1e9)

    def scan(self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True) -> Any:
        self.requests += 1
        yield [self._stat(path, 0)]

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        raise FileNotFoundError(path)

    def reader(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> Any:
        raise FileNotFoundError(path)

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        self.deleted += len(paths)
        return iter(())


def measured(call: Any) -> dict[str, Any]:
    """What came of a call, with the seconds it took and the bytes by which the process grew meanwhile."""
    before, largest, ended = PROCESS.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(0.01):
            largest = max(largest, PROCESS.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    report = call()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    return {"growth": largest - before, "seconds": seconds, **report.to_dict()}


def run(count: int) -> Iterator[dict[str, Any]]:
    """One synchronisation of equal sides, one that deletes as many as it keeps, one comparison."""
    for extra, verb, how in (
        (0, transfer.sync, {}),
        (count, transfer.sync, {"delete": True, "max_delete": count}),
        (0, transfer.compare, {"by": "size"}),
    ):
        here, there = Endless(count), Endless(count, extra)
        sides = At(Mount("s", here), "d"), At(Mount("t", there), "d")
        found = measured(lambda sides=sides, verb=verb, how=how: verb(*sides, **how))
        yield {**found, "requests": (here.requests, there.requests), "deleted": there.deleted}


if __name__ == "__main__":
    list(run(1000))
    print(json.dumps([*run(int(sys.argv[1]))]))
