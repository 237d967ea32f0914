"""A local mount beside pathlib and fsspec: `python benchmarks/local.py [DIRECTORY]` prints peer, ours, ours/peer, bar.

Each number is the median of many short alternating rounds in one process, so that a machine or a disk that is busy for
a while counts on both sides. The bars for writing hold on a disk file system.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from genro_storage import StorageManager, StorageNode

SMALL, LARGE = os.urandom(4096), os.urandom(1 << 20)
ROUNDS, FEW = 201, 21
MANY = 10_000

Work = Callable[[], object]


def timed(work: Work, times: int) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times


class Bench:
    """Runs the pairs, prints the table, and remembers whether every bar held."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.held = True

    def compare(
        self, label: str, bar: float | None, peer: Work, ours: Work, times: int, after: Work = lambda: None
    ) -> None:
        """One line; `after` clears up behind each round, untimed."""
        sides: list[tuple[Work, list[float]]] = [(peer, []), (ours, [])]
        for number in range(ROUNDS if times > 1 else FEW):
            for work, took in sides if number % 2 else reversed(sides):
                took.append(timed(work, times))
            after()
        self.line(label, *(statistics.median(took) for _, took in sides), bar)

    def line(self, label: str, theirs: float, mine: float, bar: float | None) -> None:
        ratio = mine / theirs
        good = bar is None or round(ratio, 2) <= bar
        self.held &= good
        limit = "" if bar is None else f"bar {bar:.2f}x"
        shown = f"{label:<50} {theirs * 1e6:10.2f} µs {mine * 1e6:10.2f} µs {ratio:6.2f}x  {limit}"
        print(shown, "" if good else " MISSED", flush=True)


def new_names(prefix: str) -> Iterator[str]:
    return (f"{prefix}{number}" for number in itertools.count())


def bare_replace(target: Path, data: bytes) -> None:
    """What replacing a file in one step costs at the least."""
    hidden = f"{target}.new"
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    os.write(fd, data)
    os.fchmod(fd, 0o644)
    os.close(fd)
    os.rename(hidden, target)


def cleared(folder: Path) -> Work:
    def clear() -> None:
        for entry in os.scandir(folder):
            os.unlink(entry.path)

    return clear


def reading(bench: Bench, storage: StorageManager, fs: Any) -> None:
    base = bench.base
    for path, data in (("small", SMALL), ("large", LARGE), ("a/b/small", SMALL)):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(data)
        one(bench, storage.node(f"m:{path}"), base / path, fs, path)


def one(bench: Bench, node: StorageNode, peer: Path, fs: Any, path: str) -> None:
    text = str(peer)
    times, bar = (10, 1.05) if path == "large" else (100, 1.3)
    if "/" not in path:
        bench.compare(f"read_bytes {path} | pathlib", bar, peer.read_bytes, node.read_bytes, times)
    bench.compare(f"read_bytes {path} | fsspec cat_file", 1.0, lambda: fs.cat_file(text), node.read_bytes, times)
    if path != "large":
        bar = 3.0 if "/" in path else 2.0
        bench.compare(f"exists {path} | pathlib", bar, peer.exists, lambda: node.exists(), 100)
        bench.compare(f"exists {path} | fsspec", 1.0, lambda: fs.exists(text), lambda: node.exists(), 100)
        bench.compare(f"stat {path} | fsspec info", 1.0, lambda: fs.info(text), node.stat, 100)


def writing(bench: Bench, storage: StorageManager, fs: Any) -> None:
    folder = bench.base / "new"
    folder.mkdir()
    root = storage.add_mount({"name": "new", "type": "local", "path": str(folder)}).node("new:")
    below = storage.node("m:new")
    names = new_names("n")
    clear = cleared(folder)
    nodes = (root.child(next(names)) for _ in itertools.count())
    deeper = (below.child(next(names)) for _ in itertools.count())
    paths = (folder / next(names) for _ in itertools.count())
    texts = (str(folder / next(names)) for _ in itertools.count())
    written = lambda: next(nodes).write_bytes(SMALL)  # noqa: E731
    plain = lambda: next(paths).write_bytes(SMALL)  # noqa: E731
    bench.compare("write_bytes new | pathlib", 1.2, plain, written, 10, clear)
    bench.compare(
        "write_bytes new | fsspec pipe_file", 1.0, lambda: fs.pipe_file(next(texts), SMALL), written, 100, clear
    )
    deep = lambda: next(deeper).write_bytes(SMALL)  # noqa: E731
    bench.compare("write_bytes new, a directory down | pathlib", None, plain, deep, 10, clear)
    old = bench.base / "old"
    old.write_bytes(SMALL)
    node = storage.node("m:old")
    bench.compare(
        "write_bytes over | open-write-fchmod-close-rename",
        1.4,
        lambda: bare_replace(old, SMALL),
        lambda: node.write_bytes(SMALL),
        10,
    )
    large, goal = storage.node("m:large"), str(bench.base / "copy")
    bench.compare(
        "copy_to 1 MiB | fsspec cp_file",
        1.0,
        lambda: fs.cp_file(str(bench.base / "large"), goal),
        lambda: large.copy_to("m:copy2"),
        2,
    )


def listing(bench: Bench, storage: StorageManager, fs: Any) -> None:
    folder = bench.base / "many"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number * 7919 % MANY:05}.txt").touch()
    node = storage.node("m:many")
    names = lambda: sorted(os.scandir(folder), key=lambda entry: entry.name)  # noqa: E731
    bench.compare(f"children() of {MANY:,} | sorted os.scandir", 2.0, names, node.children, 1)
    bench.compare(
        f"children() of {MANY:,} | fsspec ls", 1.0, lambda: fs.ls(str(folder), detail=False), node.children, 1
    )
    facts = lambda: list(node.scan())  # noqa: E731
    bench.compare(f"scan() of {MANY:,} | fsspec ls detail", 1.0, lambda: fs.ls(str(folder), detail=True), facts, 1)


def importing(bench: Bench) -> None:
    """`import genro_storage` over a bare interpreter, each in a process of its own."""

    def run(code: str) -> float:
        return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1)

    pairs = [(run("pass"), run("import genro_storage")) for _ in range(21)]
    bare, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    over = ours - bare
    bench.held &= over <= 0.030
    print(f"{'import genro_storage, over a bare interpreter':<50} {over * 1e3:24.2f} ms          bar 30 ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", nargs="?", metavar="DIRECTORY", help="where files are made (default: of temporary files)"
    )
    where = parser.parse_args().directory
    with (
        tempfile.TemporaryDirectory(dir=where) as folder,
        StorageManager([{"name": "m", "type": "local", "path": folder}]) as storage,
    ):
        bench = Bench(Path(folder))
        fs = LocalFileSystem()
        print(f"{'':<50} {'peer':>13} {'ours':>13}")
        bench.compare(
            'manager.node("m:a/b/c") | Path("a/b/c")', 2.0, lambda: Path("a/b/c"), lambda: storage.node("m:a/b/c"), 1000
        )
        reading(bench, storage, fs)
        writing(bench, storage, fs)
        listing(bench, storage, fs)
        importing(bench)
    return 0 if bench.held else 1


if __name__ == "__main__":
    raise SystemExit(main())
