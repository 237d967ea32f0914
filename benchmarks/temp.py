"""TempFileManager beside tempfile and shutil: `python benchmarks/temp.py [DIRECTORY]` prints peer, ours and peer/ours.

Filling the dead owners takes longest, on some ext4 machines a minute; a DIRECTORY on tmpfs shows the same ratios.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from genro_storage.tempfiles import TempFileManager

ROUNDS = 3
SMALL = 2000


def mkstemp(directory: str) -> None:
    for _ in range(SMALL):
        fd, path = tempfile.mkstemp(dir=directory)
        os.close(fd)
        os.unlink(path)


def create_file(manager: TempFileManager) -> None:
    for _ in range(SMALL):
        os.unlink(manager.create_file())


def temporary_directory(directory: str) -> None:
    for _ in range(SMALL):
        with tempfile.TemporaryDirectory(dir=directory):
            pass


def scratch(manager: TempFileManager) -> None:
    for _ in range(SMALL):
        with manager.scratch("report.csv"):
            pass


def fill(base: str, owners: int = 20, files: int = 1000) -> None:
    """What `owners` dead processes left."""
    for number in range(owners):
        owner = f"{base}/o-{number:016x}"
        os.makedirs(f"{owner}/f")
        for name in range(files):
            with open(f"{owner}/f/{name}", "wb") as file:
                file.write(b"x")


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(label: str, bar: float, peer: Callable[[], float], ours: Callable[[], float]) -> bool:
    """Alternating runs, medians."""
    pairs = [(peer(), ours()) for _ in range(ROUNDS)]
    theirs, mine = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = theirs / mine
    print(f"{label:<42} {theirs * 1e3:9.2f} ms {mine * 1e3:9.2f} ms {ratio:6.2f}x  bar {bar}x", flush=True)
    return ratio >= bar


def sweeps(scratch_dir: str) -> bool:
    def removed_by(remove: Callable[[str], object]) -> float:
        base = tempfile.mkdtemp(dir=scratch_dir)
        fill(base)
        return timed(lambda: remove(base))

    def swept(base: str) -> None:
        with TempFileManager(base) as manager:
            report = manager.sweep()
        assert report.removed == 20, report

    return compare(
        "sweep, 20 dead owners x 1000 files", 0.7, lambda: removed_by(shutil.rmtree), lambda: removed_by(swept)
    )


def first_file(base: str) -> bool:
    """A process that imports and creates one file, beside one that imports the package only."""

    def run(code: str) -> float:
        probe = f"import genro_storage, time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
        env = {**os.environ, "TMPDIR": base}
        return float(subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, check=True).stdout)

    code = "from genro_storage.tempfiles import TempFileManager; m = TempFileManager(); m.create_file()"
    took = statistics.median(run(code) for _ in range(ROUNDS))
    print(f"{'import and first create_file':<42} {'':12} {took * 1e3:9.2f} ms         bar 30 ms")
    return took <= 0.030


def main() -> int:
    where = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as base, TempFileManager(f"{base}/ours") as manager:
        peers = tempfile.mkdtemp(dir=base)
        print(f"{'':<42} {'peer':>12} {'ours':>12}")
        held = [
            compare(
                f"create_file and delete, {SMALL}",
                0.7,
                lambda: timed(lambda: mkstemp(peers)),
                lambda: timed(lambda: create_file(manager)),
            ),
            compare(
                f"scratch enter and exit, {SMALL}",
                0.8,
                lambda: timed(lambda: temporary_directory(peers)),
                lambda: timed(lambda: scratch(manager)),
            ),
            sweeps(base),
            first_file(base),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
