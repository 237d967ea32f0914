"""How fast: bandwidth and how many files at once."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.backends.options import Options
from genro_storage.exceptions import StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.transfer import flow
from genro_storage.transfer.crew import flow_of
from genro_storage.transfer.options import CopyOptions
from genro_storage.transfer.pace import FIRST, MOST, ROUND, Bandwidth, Width, bytes_per_second, width

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MiB/s", 20 << 20), ("1.5 MB/s", 1.5e6), ("300K", 3e5), ("300kB", 3e5), ("2GiB", 2 << 30), ("7", 7),
        (1000, 1000), (0.5, 0.5),
    ],
)  # fmt: skip
def test_bandwidth_as_text(text: Any, rate: float) -> None:
    assert bytes_per_second(text) == rate
    assert CopyOptions(bandwidth=text).bandwidth == rate


@pytest.mark.parametrize("bad", ["", "fast", "-3MB", "1e400", 0, -1, True, "5 parsecs", float("inf"), float("nan")])
def test_bad_bandwidth(bad: Any) -> None:
    with pytest.raises(ValueError, match="bandwidth is bytes per second"):
        CopyOptions(bandwidth=bad)


def test_t46_the_bucket_holds_one_second_and_begins_empty() -> None:
    clock = Clock()
    bucket = Bandwidth(1000, clock)
    assert bucket.owed(500) == pytest.approx(0.5)
    assert bucket.owed(500) == pytest.approx(1.0)
    clock.now += 60  # a pause saves up one second, not sixty
    assert bucket.owed(1000) == 0
    assert bucket.owed(1000) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [100, 64 << 10])
def test_t46_over_10_seconds_it_is_the_rate(size: int) -> None:
    clock = Clock()
    bucket = Bandwidth(1 << 20, clock)
    sent = 0
    while clock.now < 110:
        sent += size
        clock.now += bucket.owed(size)
    assert sent == pytest.approx(10 << 20, rel=0.1)


@pytest.mark.parametrize("size", [16 << 10, 2 << 20])
def test_t46_a_copy_takes_its_time(size: int, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 MiB at 4 MiB/s wait for one second, however many threads share the rate: by a clock that only waiting moves."""
    source, store = objects("s")
    for number in range((4 << 20) // size):
        store.set(f"src/{number:04}", b"x" * size)
    clock, lock = Clock(), threading.Lock()

    class Counted(Bandwidth):
        def owed(self, count: int) -> float:
            with lock:
                clock.now += (seconds := super().owed(count))
            return seconds

    monkeypatch.setattr(flow, "Bandwidth", lambda rate: Counted(rate, clock))
    monkeypatch.setattr(flow.Flow, "wait", lambda self, seconds: None)
    transfer.copy(at(source, "src"), at(memory, "dst"), bandwidth=4 << 20)
    assert clock.now == pytest.approx(101)


def test_t46_the_waits_are_real(memory: Mount) -> None:
    source, store = objects("s")
    store.set("f", b"x" * (4 << 20))
    begun = time.monotonic()
    transfer.copy(at(source, "f"), at(memory, "f"), bandwidth=4 << 20)
    assert time.monotonic() - begun > 0.8


def test_t46_what_a_server_copies_is_not_counted() -> None:
    source, store = objects("s", copies=True)
    store.set("big", b"x" * (4 << 20))
    begun = time.monotonic()
    assert transfer.copy(at(source, "big"), at(source, "twin"), bandwidth=1000).bytes_server_side == 4 << 20
    assert time.monotonic() - begun < 60  # not an hour


# --- how many at once ---

LOOK = 1.2 * ROUND


def rounds(many: Width, clock: Clock, rate: Any, count: int) -> None:
    """Lets so many rounds pass in a place that does `rate(width)` files a second."""
    for _ in range(count):
        clock.now += max(LOOK, many.now / rate(many.now))
        many.done(max(many.now, int(LOOK * rate(many.now))), 0)


def test_t45_it_grows_while_that_brings_more() -> None:
    clock = Clock()
    many = Width(8, 64, clock=clock)
    rounds(many, clock, lambda width: 50 * width, 200)  # each file waits 20 ms, whatever the others do
    assert many.now == 64


def test_t45_it_doubles_while_that_brings_more() -> None:
    clock = Clock()
    many = Width(8, 64, clock=clock)
    seen = [8]
    for _ in range(20):
        clock.now += LOOK  # each file waits so long, whatever the others do
        many.done(many.now, 0)
        if many.now != seen[-1]:
            seen.append(many.now)
    assert seen == [8, 16, 32, 64]


def test_t45_what_opens_connections_is_no_measure() -> None:
    """The first files are slow, and more of them at once bring nothing."""
    clock = Clock()
    many = Width(8, 64, clock=clock)
    clock.now += LOOK
    many.done(16, 0)
    for _ in range(10):
        clock.now += LOOK
        many.done(100, 0)
        assert many.now in (8, 16)
    assert many.now == 8


@pytest.mark.parametrize("enough", [8, 12, 20, 30])
def test_t45_it_stays_where_more_brings_nothing(enough: int) -> None:
    clock = Clock()
    many = Width(8, 64, clock=clock)
    seen = []
    for _ in range(400):
        rounds(many, clock, lambda width: 50 * min(width, enough), 1)
        seen.append(many.now)
    assert max(seen) <= 3 * enough
    assert enough * 0.7 <= statistics.median(seen) <= enough * 1.25 + 1
    assert enough * 0.7 <= min(seen[50:]) <= max(seen[50:]) <= 2 * enough  # what it tries now and then


def test_t45_after_throttling_it_does_not_double_any_more() -> None:
    clock = Clock()
    many = Width(8, 64, clock=clock)
    rounds(many, clock, lambda width: 50 * width, 20)
    assert many.now > 16
    clock.now += 2
    many.slow()
    before = many.now
    for _ in range(100):
        rounds(many, clock, lambda width: 50 * width, 1)
        assert many.now <= before + 1
        before = many.now
    assert before > 40


def test_t45_it_is_fast_where_each_file_waits() -> None:
    """4,000 files of 20 ms each at both ends of what is allowed would take 10 s and 1.3 s."""
    clock = Clock()
    many = Width(8, 64, clock=clock)
    left, begun = 4000, clock.now
    while left > 0:
        clock.now += 0.02
        many.done(many.now, 0)
        left -= many.now
    assert many.now == 64
    assert clock.now - begun < 2.6


def test_t45_half_as_many_after_throttling_once_a_second_at_most() -> None:
    clock = Clock()
    many = Width(32, 64, clock=clock)
    clock.now += 2
    for _ in range(10):
        many.slow()
    assert many.now == 16
    for _ in range(10):
        clock.now += 1
        many.slow()
    assert many.now == 1
    rounds(many, clock, lambda width: 50 * width, 100)
    assert many.now > 5


def test_t45_a_number_is_exact() -> None:
    clock = Clock()
    many = Width(5, clock=clock)
    rounds(many, clock, lambda width: 50 * width, 50)
    clock.now += 2
    many.slow()
    assert many.now == 5


def test_t45_where_it_begins_and_ends(tmp_path: Path) -> None:
    local, memory = local_mount("l", tmp_path / "l"), memory_mount()
    begins = width("auto", memory, local)
    assert (begins.now, begins._most) == (FIRST, MOST)
    assert width("auto", local, local).now == 1
    assert width(3, memory, local).now == 3

    class Few(Options, frozen=True, kw_only=True):
        max_connections: int = 5

    few, store = objects("f")
    store.options = Few()
    limited = width("auto", few, memory)
    assert (limited.now, limited._most) == (5, 5)


@pytest.mark.parametrize("concurrency", [1, 3, 12])
def test_t45_so_many_files_at_once(concurrency: int) -> None:
    source, store = objects("s")
    there, target = objects("t")
    for number in range(40):
        store.set(f"src/{number}", b"x")
    now, most, change = [0], [0], threading.Condition()

    def hook(name: str, path: str) -> None:
        if name == "put":
            with change:
                now[0] += 1
                most[0] = max(most[0], now[0])
                change.notify_all()
                change.wait_for(lambda: most[0] >= concurrency, 60)
            time.sleep(0.02)  # time for one too many to come
            with change:
                now[0] -= 1

    target.hook = hook
    transfer.copy(at(source, "src"), at(there, "dst"), concurrency=concurrency)
    assert most[0] == concurrency


def test_t45_throttling_is_noticed_while_files_wait_for_their_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = objects("s")
    there, target = objects("t")
    for number in range(64):
        store.set(f"src/{number:02}", b"x")
    refusals = iter(range(100))
    widths: list[int] = []
    slow = Width.slow

    def noted(self: Width) -> None:
        slow(self)
        widths.append(self.now)

    def hook(name: str, path: str) -> None:
        if name == "put" and next(refusals, None) is not None:
            raise StorageUnavailableError("SlowDown")

    monkeypatch.setattr(Width, "slow", noted)
    target.hook = hook
    report = transfer.copy(at(source, "src"), at(there, "dst"), retries=10_000)
    assert (report.files_copied, report.retries) == (64, 100)
    assert widths[0] == FIRST // 2  # at the first refusal, though nothing has come of any file
    assert len(widths) == 100
    assert len(target.keys) == 64


# --- what may be held ---


def test_t42_the_buffer_is_the_budget() -> None:
    assert flow_of(CopyOptions(buffer=12 << 20))._budget._size == 12 << 20
