"""Throttling servers, cut lines, full disks, changing sources: nothing is lost, nothing half-written."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from genro_storage import transfer
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import StorageConflictError, StorageQuotaError, StorageTransferError
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.transfer import crew
from genro_storage.transfer import files as workers
from genro_storage.transfer.pace import Width
from tests.servers.faultproxy import Fault, FaultProxy, Kind, Request
from tests.servers.s3 import S3Endpoint

from .conftest import local_mount
from .trees import at, files


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def bucket(seaweedfs: S3Endpoint, proxy: FaultProxy) -> Iterator[tuple[Mount, Mount]]:
    """One bucket through the proxy, and directly."""
    entry = seaweedfs.options(seaweedfs.make_bucket())
    mounts = [
        Mount(name, S3Backend(S3Backend.Options(**entry | {"endpoint": url})), retry=RetryPolicy(40, 0.2))
        for name, url in (("s3", proxy.endpoint), ("direct", seaweedfs.endpoint))
    ]
    yield mounts[0], mounts[1]
    for mount in mounts:
        mount.backend.close()


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files went at once, each time that was made smaller."""
    seen: list[int] = []
    slow = Width.slow

    def noted(self: Width) -> None:
        slow(self)
        seen.append(self.now)

    monkeypatch.setattr(Width, "slow", noted)
    return seen


def plant(mount: Mount, count: int, size: int) -> dict[str, bytes]:
    made = {f"{number:03}": os.urandom(size) for number in range(count)}
    for path, data in made.items():
        mount.put(f"src/{path}", data)
    return made


def throttled(proxy: FaultProxy, seconds: float, *headers: str) -> threading.Timer:
    """Answers 503 SlowDown to all that would write, for a while."""
    proxy.answer(503, "SlowDown", times=None, method="PUT", headers=headers)
    timer = threading.Timer(seconds, proxy.clear)
    timer.start()
    return timer


@pytest.mark.parametrize("headers", [(), ("Retry-After: 6",)])
def test_t45_a_target_that_throttles_for_5_seconds(
    headers: tuple[str, ...],
    local: Mount,
    bucket: tuple[Mount, Mount],
    proxy: FaultProxy,
    widths: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "RetryPolicy", RetryPolicy)  # waits are real here
    made = plant(local, 120, 100)
    timer = throttled(proxy, 5, *headers)
    begun = time.monotonic()
    try:
        # Without a word of the server the usual three tries may be over within the five seconds.
        report = transfer.copy(at(local, "src"), at(bucket[0], "dst"), retries=3 if headers else 12)
    finally:
        timer.cancel()
    assert 5 < time.monotonic() - begun < 60
    assert files(bucket[1], "dst") == made
    assert (report.files_copied, report.files_failed) == (120, 0)
    assert report.retries == sum(request.status == 503 for request in proxy.log) >= 8
    assert min(widths) <= 4  # half of the first eight
    assert crew.width("auto", local, bucket[0]).now == 8


def test_t34_what_is_throttled_for_too_long_fails_and_goes_the_next_time(
    local: Mount, bucket: tuple[Mount, Mount], proxy: FaultProxy
) -> None:
    made = plant(local, 20, 100)
    proxy.answer(503, "SlowDown", times=None, contains="dst/01")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(bucket[0], "dst"))
    report = caught.value.report
    assert (report.files_copied, report.files_failed, report.files_total) == (10, 10, 20)
    assert {failure.attempts for failure in report.failures} == {4}
    assert files(bucket[1], "dst") == {path: data for path, data in made.items() if not path.startswith("01")}
    proxy.clear()
    assert transfer.copy(at(local, "src"), at(bucket[0], "dst"), skip="size").files_copied == 10
    assert files(bucket[1], "dst") == made


class Cuts:
    """Spoils requests in every way there is: by their number and a seed, never by the time they take."""

    def __init__(self, seed: int, count: int) -> None:
        """`count` of the next requests, hardly four times as many."""
        self.random, self.left = random.Random(seed), count

    def __call__(self, request: Request) -> Fault | None:
        chance, way, after = self.random.random(), self.random.randrange(3), self.random.randrange(1, 3000)
        if not self.left or chance > 0.3:
            return None
        self.left -= 1
        ways: dict[str, Kind] = {"PUT": "reset_upload", "GET": "reset" if after % 2 else "truncate"}
        kinds: list[Kind] = ["refuse", "lose_answer", ways.get(request.method, "refuse")]
        return Fault(kinds[way], after=after)


@pytest.mark.parametrize("seed", range(2))
def test_a_proxy_that_cuts_connections_at_random(
    seed: int, local: Mount, bucket: tuple[Mount, Mount], proxy: FaultProxy
) -> None:
    """Fewer cuts than one file has tries: whichever requests they meet, all arrives."""
    made = plant(local, 80, 3000)
    local.put("src/big", big := os.urandom(7 << 20))
    made |= {"big": big}
    proxy.choose = upward = Cuts(seed, 20)
    up = transfer.copy(at(local, "src"), at(bucket[0], "dst"), retries=20)
    proxy.choose = downward = Cuts(seed + 100, 20)
    down = transfer.copy(at(bucket[0], "dst"), at(local, "back"), retries=20)
    assert (upward.left, downward.left) == (0, 0)
    assert files(bucket[1], "dst") == files(local, "back") == made
    assert (up.files_copied, down.files_copied) == (81, 81)
    assert up.retries > 0
    assert down.retries > 0
    assert list(bucket[1].unfinished("", older_than=0)) == []


@pytest.mark.parametrize("size", [100_000, 5 << 20])
def test_a_disk_that_fills(size: int, memory: Mount, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], check=True)
    try:
        there = local_mount("d", disk)
        there.put("dst/003", b"old")
        made = plant(memory, (20 << 20) // size, size)
        with pytest.raises(StorageTransferError) as caught:
            transfer.copy(at(memory, "src"), at(there, "dst"))
        report = caught.value.report
        assert isinstance(caught.value.__cause__, StorageQuotaError)
        assert report.retries == 0  # waiting makes no room
        assert report.files_failed > 0
        assert report.files_copied > 0
        assert report.files_total == report.files_copied + report.files_failed == len(made)
        now = files(there, "dst")
        assert {path for path in now if now[path] == made[path]} >= now.keys() - {"003"}
        assert now["003"] in (b"old", made["003"])
        assert len([path for path in now if now[path] == made[path]]) == report.files_copied
        assert [name for _, _, names in os.walk(disk) for name in names if ".genro" in name] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def is_a_state(data: bytes) -> bool:
    """Whether the file was like this at one moment: up to some place one number, from there on the one before."""
    numbers = list(dict.fromkeys(data))
    switches = sum(one != next_one for one, next_one in pairwise(data[:: len(data) // 400]))
    return len(numbers) == 1 or (len(numbers) == 2 and switches == 1 and (numbers[0] - numbers[1]) % 250 == 1)


@pytest.mark.parametrize("size", [200_000, 3 << 20, 36 << 20])
@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_t32_a_source_that_changes_all_the_time(
    size: int, kind: str, local: Mount, other: Mount, memory: Mount, request: pytest.FixtureRequest
) -> None:
    """The same size, other bytes, in place: a copy that is told to be good holds one state, else the old one stays."""
    target = {"memory": memory, "local": other}.get(kind) or request.getfixturevalue("bucket")[1]
    local.put("f", b"\0" * size)
    target.put("g", b"old")
    path, ended = Path(str(local.local_path("f"))), threading.Event()

    def change() -> None:
        number = 0
        with path.open("r+b", buffering=0) as file:
            while not ended.is_set():
                number = (number + 1) % 250
                file.seek(0)
                for _ in range(0, size, size // 4):  # a file's time tells when a write began, not that one goes on
                    file.write(bytes([number]) * (size // 4))
                    time.sleep(0.002)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(4):
            try:
                transfer.copy(at(local, "f"), at(target, "g"), retries=1)
            except StorageConflictError:
                pass
            got = target.get("g")[0]
            assert got == b"old" or (len(got) == size and is_a_state(got))
    finally:
        ended.set()
        thread.join()
    assert transfer.copy(at(local, "f"), at(target, "g")).files_copied == 1
    assert target.get("g")[0] == path.read_bytes()
