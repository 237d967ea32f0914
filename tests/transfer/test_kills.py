"""Transfers killed with SIGKILL at random moments: the next run ends identical and sends little again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.journal import Journal, rows
from genro_storage.records.blocking import BlockingRecords
from genro_storage.records.sqlite import SQLiteRecordStore
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer
from tests.servers.s3 import S3Endpoint

MIB = 1 << 20
PART = 8 * MIB
FILES = 2000
AT_ONCE = 8
LATE = 2.0
"""Seconds of small files that may go again: one by the promise, one for a loaded machine."""
SCRIPT = Path(__file__).with_name("resumed.py")

Report = dict[str, Any]


class Runs:
    """The same call again and again, each in a process of its own; `mounts` as these processes see them."""

    def __init__(self, mounts: dict[str, Any], journal: Path, **fields: Any) -> None:
        self.mounts, self.fields = mounts, {"journal": str(journal), **fields}
        self.lived = 0.0
        """Seconds between the moment that a kill waited for and the kill."""

    def start(self, source: str, target: str, operation: str = "copy", **fields: Any) -> subprocess.Popen[str]:
        told = {"mounts": self.mounts, "operation": operation, "source": source, "target": target}
        told["fields"] = {**self.fields, **fields}
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(SCRIPT), json.dumps(told)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    def killed(self, source: str, target: str, after: Callable[[], bool], seconds: float = 0.0, **fields: Any) -> bool:
        """Killed so many seconds after `after` holds; False if it had ended by then."""
        process = self.start(source, target, **fields)
        try:
            while not after() and process.poll() is None:
                time.sleep(0.005)
            begun = time.monotonic()
            time.sleep(seconds)
            ended = process.poll() is not None
            self.lived = time.monotonic() - begun + 0.005
        finally:
            process.kill()
            process.communicate()
        return not ended

    def whole(self, source: str, target: str, **fields: Any) -> Report:
        """Runs to its end."""
        output, _ = self.start(source, target, **fields).communicate()
        report: Report = json.loads(output)
        return report


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def bucket(seaweedfs: S3Endpoint) -> dict[str, Any]:
    return {"type": "s3", **seaweedfs.options(seaweedfs.make_bucket())}


@pytest.fixture
def storage(tmp_path: Path, bucket: dict[str, Any]) -> Iterator[StorageManager]:
    """What the test itself sees, without the proxy."""
    with StorageManager({"l": {"type": "local", "path": str(tmp_path)}, "s": bucket}) as storage:
        yield storage


@pytest.fixture
def runs(tmp_path: Path, proxy: FaultProxy, bucket: dict[str, Any]) -> Runs:
    (tmp_path / "state").mkdir()
    mounts = {"l": {"type": "local", "path": str(tmp_path)}, "s": {**bucket, "endpoint": proxy.endpoint}}
    return Runs(mounts, tmp_path / "state/journal.sqlite")


@pytest.fixture
def size(soak: Callable[[int], int]) -> int:
    """64 MiB; 500 MiB with GENRO_SOAK=1."""
    return max(64, soak(500)) * MIB


def sent(proxy: FaultProxy) -> int:
    return proxy.count("PUT", "partNumber=")


def never_ending(proxy: FaultProxy) -> None:
    """No upload is completed until `clear`: however late the kill comes, it comes in time."""
    proxy.blackhole(times=None, method="POST", contains="uploadId=")


def fetched(proxy: FaultProxy) -> int:
    """Requests for a range; the look at the source has none."""
    return sum(request.method == "GET" and "range" in request.headers for request in list(proxy.log))


def repeated(proxy: FaultProxy) -> dict[str, list[int]]:
    """The requests of the log that came more than once, with their answers' statuses."""
    seen: dict[str, list[int]] = {}
    for request in list(proxy.log):
        name = f"{request.method} {request.query or request.headers.get('range', '')}"
        seen.setdefault(name, []).append(request.status)
    return {name: statuses for name, statuses in seen.items() if len(statuses) > 1}


def moved(proxy: FaultProxy) -> int:
    """Requests for whole files, in either direction."""
    return sum(
        request.method == "PUT" or (request.method == "GET" and "list-type" not in request.query)
        for request in list(proxy.log)
    )


def unfinished_jobs(path: str) -> int:
    journal = Journal(SQLiteRecordStore(path))
    try:
        return sum(not info.finished for info in journal.jobs())
    finally:
        journal.close()


def remembered(journal: BlockingRecords) -> set[str]:
    """The keys of the files that are known to be done."""
    return {done.key for job in journal.scan(rows.JOBS) for done in journal.scan(rows.done_space(job.key))}


def clean(storage: StorageManager, runs: Runs) -> None:
    """After `recover` no staged write is left, and no job in the journal."""
    journal = runs.fields["journal"]
    assert storage.recover(older_than=0, journal=journal).ok
    for name in storage.get_mount_names():
        assert storage.node(f"{name}:").mount.unfinished("", older_than=-3600) == []
    assert unfinished_jobs(journal) == 0


def same(storage: StorageManager, a: str, b: str) -> bool:
    """Whether all bytes are, by hash; nothing is on one side only."""
    report = storage.compare(a, b)
    return report.same > 0 and report.same == report.files_total


def plant(storage: StorageManager, place: str, size: int) -> None:
    """A file whose parts all differ."""
    chunk = random.Random(size).randbytes(MIB)
    storage.node(place).write_from(number.to_bytes(4) + chunk[4:] for number in range(size // MIB))


class Tally:
    """What became of the kills: how many hit a copy under way, and the most that had to go again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kills = self.hits = self.most = 0

    def until(self, hits: int) -> Iterator[int]:
        """Numbers, until so many have hit."""
        for number in range(1, 3 * hits + 10):
            if self.hits < hits:
                yield number
        assert self.hits >= hits, self

    def add(self, hit: bool, again: int) -> None:
        self.kills, self.hits, self.most = self.kills + 1, self.hits + hit, max(self.most, again)
        print(self, flush=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.kills} kills, {self.hits} under way, at most {self.most} again"


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_large_file(
    runs: Runs, storage: StorageManager, proxy: FaultProxy, size: int, soak: Callable[[int], int], direction: str
) -> None:
    """50 kills in each direction with GENRO_SOAK=1: at most the 4 parts in flight go again."""
    source, target, count = ("l:big", "s:copy", sent) if direction == "up" else ("s:big", "l:copy", fetched)
    plant(storage, source, size)
    fields: dict[str, Any] = {"bandwidth": size // 3, "part_size": PART, "parts": 4}
    seconds = runs.whole(source, f"{target}-0", **fields)["duration"]
    tally = Tally(f"{size // MIB} MiB {direction}")
    for number in tally.until(soak(50)):
        place, moment = f"{target}-{number}", random.random() * seconds
        proxy.forget()
        hit = runs.killed(source, place, lambda: count(proxy) > 0, moment, **fields)
        there = storage.node(place).exists
        if there and not unfinished_jobs(runs.fields["journal"]):
            continue  # all was done
        report = runs.whole(source, place, **fields)
        again = count(proxy) + -size // PART
        tally.add(hit and not there, again)
        assert again - report["retries"] <= 4, f"killed after {moment:.2f} of {seconds:.2f} s: {repeated(proxy)}"
        assert (report["files_copied"], report["bytes_copied"]) == (1, size)
        assert same(storage, source, place)
        storage.node(place).delete()
    clean(storage, runs)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_tree(
    runs: Runs, storage: StorageManager, proxy: FaultProxy, soak: Callable[[int], int], direction: str
) -> None:
    """50 kills in each direction with GENRO_SOAK=1: at most the last second goes again, and what is in flight."""
    source, target = ("l:tree", "s:copy") if direction == "up" else ("s:tree", "l:copy")
    for number in range(FILES):
        storage.node(f"l:tree/{number % 40:02}/{number:04}").write(f"{number} " * (number % 500))
    if direction == "down":
        storage.copy("l:tree", "s:tree")
    proxy.rtt = 0.01
    fields = {"concurrency": AT_ONCE}
    seconds = runs.whole(source, f"{target}-0", **fields)["duration"]
    tally = Tally(f"{FILES} files {direction}")
    for number in tally.until(soak(50)):
        place, moment = f"{target}-{number}", random.random() * seconds
        proxy.forget()
        hit = runs.killed(source, place, lambda: moved(proxy) > 0, moment, **fields)
        rate = max(FILES / seconds, moved(proxy) / runs.lived)  # who else uses the machine changes from run to run
        if moved(proxy) >= FILES and not unfinished_jobs(runs.fields["journal"]):
            continue  # all was done
        report = runs.whole(source, place, **fields)
        again = moved(proxy) - FILES
        tally.add(hit, again)
        assert again <= AT_ONCE + LATE * rate, f"killed after {moment:.2f} of {seconds:.2f} s"
        assert report["files_copied"] == FILES
        assert same(storage, source, place)
        storage.node(place).delete(recursive=True)
    clean(storage, runs)


def test_a_move(runs: Runs, storage: StorageManager, proxy: FaultProxy, soak: Callable[[int], int]) -> None:
    """Killed at any moment every file is on one side at least; in the end it is on the other."""
    proxy.rtt = 0.02
    for number in range(soak(50)):
        made = {f"{name % 9}/{name}": f"{number} {name} " * name for name in range(200)}
        for path, text in made.items():
            storage.node(f"l:{number}/{path}").write(text)
        runs.killed(f"l:{number}", f"s:{number}", lambda: moved(proxy) > 0, random.random(), operation="move")
        for path, text in made.items():
            sides = [node for node in (storage.node(f"{side}:{number}/{path}") for side in "ls") if node.exists]
            assert sides
            assert [node.read_text() for node in sides] == [text] * len(sides)
        if storage.node(f"l:{number}").exists:
            runs.whole(f"l:{number}", f"s:{number}", operation="move")
        assert not storage.node(f"l:{number}").exists
        found = {node.path.removeprefix(f"{number}/"): node for node in storage.node(f"s:{number}").rglob("*")}
        assert {path: node.read_text() for path, node in found.items() if node.is_file} == made
        proxy.forget()
    clean(storage, runs)


def test_a_synchronisation(runs: Runs, storage: StorageManager, proxy: FaultProxy) -> None:
    """It resumes by itself: the large file in its parts, the small ones as they are."""
    plant(storage, "l:tree/big", 64 * MIB)
    for number in range(50):
        storage.node(f"l:tree/{number:02}").write(f"{number}")
    fields: dict[str, Any] = {"bandwidth": 16 * MIB, "operation": "sync"}
    never_ending(proxy)
    assert runs.killed("l:tree", "s:copy", lambda: sent(proxy) >= 6, **fields)
    proxy.clear()
    report = runs.whole("l:tree", "s:copy", **fields)
    assert report["resumed"]
    assert report["bytes_resumed"] >= 2 * PART
    assert sent(proxy) <= 64 * MIB // PART + 4
    assert same(storage, "l:tree", "s:copy")
    clean(storage, runs)


def test_a_large_file_that_is_done_stays(runs: Runs, storage: StorageManager, proxy: FaultProxy) -> None:
    plant(storage, "l:tree/0", 40 * MIB)
    for number in range(1000):
        storage.node(f"l:tree/{number:03}").write(f"{number}")
    proxy.rtt = 0.05
    with closing(SQLiteRecordStore(runs.fields["journal"]).sync) as journal:  # the large one and some others
        both = lambda: "=0" in (keys := remembered(journal)) and len(keys) > 1  # noqa: E731
        assert runs.killed("l:tree", "s:copy", both, concurrency=4)
    assert not storage.node("s:copy/999").exists
    proxy.clear()
    report = runs.whole("l:tree", "s:copy", concurrency=4)
    assert sent(proxy) == 40 * MIB // PART
    assert report["bytes_resumed"] > 40 * MIB
    assert same(storage, "l:tree", "s:copy")
    clean(storage, runs)


def test_from_cloud_to_cloud(runs: Runs, storage: StorageManager, proxy: FaultProxy, gcs: GcsServer) -> None:
    runs.mounts["g"] = {"type": "gcs", **gcs.options(gcs.make_bucket())}
    storage.configure({"g": runs.mounts["g"]})
    plant(storage, "g:big", 64 * MIB)
    fields = {"bandwidth": 16 * MIB}
    never_ending(proxy)
    assert runs.killed("g:big", "s:copy", lambda: sent(proxy) >= 6, **fields)
    proxy.clear()
    report = runs.whole("g:big", "s:copy", **fields)
    assert report["bytes_resumed"] >= 2 * PART
    assert sent(proxy) <= 64 * MIB // PART + 4
    assert same(storage, "g:big", "s:copy")
    clean(storage, runs)


def test_a_killed_upload_is_cleaned_up(runs: Runs, storage: StorageManager, proxy: FaultProxy) -> None:
    """With resume or without; nothing of it is listed."""
    plant(storage, "l:big", 64 * MIB)
    for number, fields in enumerate(({}, {"journal": None})):
        proxy.forget()
        never_ending(proxy)
        assert runs.killed("l:big", f"s:{number}", lambda: sent(proxy) >= 5, bandwidth=16 * MIB, **fields)
    proxy.clear()
    assert storage.node("s:").children() == []
    mount = storage.node("s:").mount
    assert sorted(found.path for found in mount.unfinished("", older_than=-3600)) == ["0", "1"]
    assert storage.recover(journal=runs.fields["journal"]).aborted == []
    clean(storage, runs)
