"""Prints by how many bytes one copy of 200 MiB (or argv[4]) makes this process grow; run in a process of its own."""

from __future__ import annotations

import json
import random
import sys
import threading

import psutil

from genro_storage import StorageManager

SIZE = int(sys.argv[4]) if len(sys.argv) > 4 else 200
PROCESS = psutil.Process()


def peak_while(copy: object) -> int:
    """The largest resident size seen while `copy()` runs, in bytes."""
    largest, ended = PROCESS.memory_info().rss, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(0.005):
            largest = max(largest, PROCESS.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    copy()  # type: ignore[operator]
    ended.set()
    watcher.join()
    return largest


mounts, source, target = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
with StorageManager(mounts) as storage:
    chunk = random.Random(1).randbytes(1 << 20)
    storage.node(f"{source}:small").write_bytes(b"x" * 1000)
    storage.node(f"{source}:large").write_from(chunk for _ in range(SIZE))
    storage.copy(f"{source}:small", f"{target}:small-copy")
    before = PROCESS.memory_info().rss
    largest = peak_while(lambda: storage.copy(f"{source}:large", f"{target}:large-copy"))
    assert storage.node(f"{target}:large-copy").size == SIZE << 20
print(largest - before)
