"""What a transfer tells: events and callbacks, in the caller's thread, one at a time."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import genro_storage
from genro_storage import StorageManager, TransferEvent, transfer
from genro_storage.exceptions import StorageError, StorageQuotaError, StorageTransferError, StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.transfer import events
from genro_storage.transfer.events import Teller

from .stores import objects
from .test_engine import many, no_threads_left, refusing
from .trees import at, files, plant

KINDS = {"start", "scan", "file_start", "bytes", "file_done", "skip", "error", "retry", "delete", "mkdir", "end"}


class Told:
    """Everything that was told, and from where."""

    def __init__(self) -> None:
        self.events: list[TransferEvent] = []
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[threading.Thread] = set()

    def on_event(self, event: TransferEvent) -> None:
        self.threads.add(threading.current_thread())
        self.events.append(event)

    def note(self, name: str) -> Any:
        def callback(*args: Any) -> None:
            self.threads.add(threading.current_thread())
            self.calls.append((name, *args))

        return callback

    @property
    def options(self) -> dict[str, Any]:
        names = ("on_file", "on_skip", "on_error", "on_delete")
        return {"on_event": self.on_event} | {name: self.note(name) for name in names}

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, kind: str) -> list[TransferEvent]:
        return [event for event in self.events if event.kind == kind]


def test_a_tree_tells_all_of_itself(memory: Mount) -> None:
    source = many(5)
    plant(memory, dst__x=b"")
    source.mkdir("src/empty")
    there, store = objects("t")
    store.hook = refusing("dst/00003")
    told = Told()
    with pytest.raises(StorageTransferError):
        transfer.copy(at(source, "src"), at(there, "dst"), exclude="00001", retries=0, **told.options)
    kinds = told.kinds()
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert set(kinds) <= KINDS
    assert sorted(event.relpath for event in told.of("file_done")) == ["00000", "00002", "00004"]
    assert [(event.relpath, event.reason) for event in told.of("skip")] == [("00001", "excluded")]
    assert [(event.relpath, type(event.error)) for event in told.of("error")] == [("00003", StorageQuotaError)]
    assert [event.relpath for event in told.of("mkdir")] == ["empty"]
    assert len(told.of("file_start")) == 4 + 1  # the directory too is begun
    assert told.threads == {threading.current_thread()}
    end = told.events[-1]
    assert (end.files_done, end.files_total, end.total_known) == (5, 5, True)
    assert (end.bytes_done, end.bytes_total) == (3, 4)
    assert sorted(name for name, *_ in told.calls) == ["on_error", "on_file", "on_file", "on_file", "on_skip"]
    for event in told.events:
        json.dumps(event.to_dict())


def test_files_are_begun_before_they_are_done(memory: Mount) -> None:
    told = Told()
    transfer.copy(at(many(30), "src"), at(memory, "dst"), **told.options)
    for number in range(30):
        about = [event.kind for event in told.events if event.relpath == f"{number:05}"]
        assert about == ["file_start", "file_done"]


def test_the_total_is_exact_from_the_first_callback(memory: Mount) -> None:
    told = Told()
    transfer.copy(at(many(3000), "src"), at(memory, "dst"), **told.options)
    settled = told.of("file_done")
    assert len(settled) == 3000
    assert {event.files_total for event in settled} == {3000}
    assert {event.bytes_total for event in settled} == {3000}
    assert [event.files_done for event in settled] == list(range(1, 3001))


def test_callbacks_get_nodes_where_the_call_had_nodes(tmp_path: Path) -> None:
    storage = StorageManager([{"name": "a", "type": "local", "path": str(tmp_path)}, {"name": "m", "type": "memory"}])
    storage.node("a:src/d/x").write_bytes(b"1")
    storage.node("a:src/y").write_bytes(b"22")
    told = Told()
    storage.node("a:src").copy_to("m:dst", exclude="y", **told.options)
    assert ("on_file", storage.node("a:src/d/x")) in told.calls
    assert ("on_skip", storage.node("a:src/y"), "excluded") in told.calls
    done = told.of("file_done")[0]
    assert (done.node, done.dest) == (storage.node("a:src/d/x"), storage.node("m:dst/d/x"))
    told = Told()
    storage.node("a:src/y").copy_into(storage.node("m:dst"), **told.options)
    done = told.of("file_done")[0]
    assert (done.node, done.dest, done.relpath) == (storage.node("a:src/y"), storage.node("m:dst/y"), "y")
    assert genro_storage.TransferEvent is TransferEvent


def test_a_rename_tells_of_every_file(local: Mount) -> None:
    plant(local, src__a=b"1", src__d__b=b"22")
    told = Told()
    calls: list[tuple[int, int]] = []
    transfer.move(
        at(local, "src"), at(local, "dst"), symlinks="copy",
        progress=lambda done, total: calls.append((done, total)), **told.options,
    )  # fmt: skip
    assert sorted(event.relpath for event in told.of("file_done")) == ["a", "d/b"]
    assert sorted(call[1].path for call in told.calls) == ["src/a", "src/d/b"]
    assert calls == [(1, 2), (2, 2)]


def test_t35_each_retry_is_told(memory: Mount) -> None:
    source, store = objects("s")
    store.set("f", b"x" * 10)
    left = [2]

    def hook(name: str, path: str) -> None:
        if name == "get" and left[0]:
            left[0] -= 1
            raise StorageUnavailableError("SlowDown")

    plant(memory, d__x=b"")
    store.set("src/f", b"x" * 10)
    store.hook = hook
    told = Told()
    report = transfer.copy(at(source, "src"), at(memory, "d"), **told.options)
    assert [(event.relpath, event.attempt) for event in told.of("retry")] == [("f", 1), ("f", 2)]
    assert all(isinstance(event.error, StorageUnavailableError) for event in told.of("retry"))
    assert report.retries == 2
    assert told.kinds()[-2:] == ["file_done", "end"]


class Clock:
    """The time of events, which only a test moves; `tick` waits until the transfer has looked at the new time."""

    def __init__(self) -> None:
        self.now, self.looks, self.looked = 100.0, 0, threading.Condition()

    def monotonic(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        with self.looked:
            self.now += seconds
            before = self.looks
            assert self.looked.wait_for(lambda: self.looks > before, 60)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, pulse = Clock(), Teller.pulse

    def looking(self: Teller) -> None:
        with clock.looked:
            pulse(self)
            clock.looks += 1
            clock.looked.notify_all()

    monkeypatch.setattr(Teller, "pulse", looking)
    monkeypatch.setattr(events, "time", clock)
    return clock


def test_bytes_events_come_ten_times_a_second_at_most_with_rate_and_eta(memory: Mount, clock: Clock) -> None:
    source, store = objects("s")
    store.set("big", b"x" * (8 << 20))
    store.hook = lambda name, path: clock.tick(0.0625) if name == "read" else None  # 16 MiB/s
    told = Told()
    transfer.copy(at(source, "big"), at(memory, "big"), on_event=told.on_event)
    steps = told.of("bytes")
    times = [event.elapsed for event in steps]
    assert len(steps) >= 4
    assert all(later - earlier >= 0.1 for earlier, later in pairwise([0.0, *times]))
    assert [event.bytes_done for event in steps] == sorted({event.bytes_done for event in steps})
    assert [event.bytes_done / (16 << 20) for event in steps] == [seconds - 0.0625 for seconds in times]
    assert {event.bytes_total for event in steps} == {8 << 20}
    for event in steps:
        assert event.rate == pytest.approx(event.bytes_done / event.elapsed)
        assert event.eta == pytest.approx(((8 << 20) - event.bytes_done) / event.rate)
    assert told.events[-1].bytes_done == 8 << 20


def test_the_rate_is_that_of_the_last_ten_seconds(memory: Mount, clock: Clock) -> None:
    source, store = objects("s")
    store.set("big", b"x" * (8 << 20))
    reads = iter([10.0, *[2.5] * 8])
    store.hook = lambda name, path: clock.tick(next(reads)) if name == "read" else None
    told = Told()
    transfer.copy(at(source, "big"), at(memory, "big"), on_event=told.on_event)
    rates = [event.rate / (1 << 20) for event in told.of("bytes")]
    assert rates == pytest.approx([1 / 12.5, 2 / 15, 3 / 17.5, *[0.4] * 5])


def test_the_bytes_of_a_retried_file_are_not_counted_twice(memory: Mount) -> None:
    source, store = objects("s")
    store.set("big", b"x" * (6 << 20))
    reads = [0]

    def hook(name: str, path: str) -> None:
        if name == "read":
            reads[0] += 1
            time.sleep(0.03)
            if reads[0] == 6:
                raise StorageUnavailableError("gone")

    store.hook = hook
    told = Told()
    transfer.copy(at(source, "big"), at(memory, "big"), on_event=told.on_event)
    assert max(event.bytes_done for event in told.events) == 6 << 20
    assert told.events[-1].bytes_done == 6 << 20


@pytest.mark.parametrize("name", ["on_event", "on_file", "on_skip", "on_error", "progress"])
@pytest.mark.parametrize("error", [ZeroDivisionError, StorageError])
def test_a_raising_callback_stops_all_and_propagates(name: str, error: type[Exception]) -> None:
    there, store = objects("t")
    store.hook = refusing("dst/00003")
    calls: list[Any] = []

    def callback(*args: Any) -> None:
        calls.append(args)
        if name != "on_event" or args[0].kind == "file_done":
            raise error("mine")

    with pytest.raises(error, match="mine"):
        transfer.copy(
            at(many(200), "src"), at(there, "dst"), exclude="00001", retries=0, errors="report", **{name: callback}
        )
    assert len(calls) == 1 or name == "on_event"
    assert store.open_writers == 0
    assert no_threads_left()
    assert all(data == b"x" for data in files(there).values())


def test_bytes_of_what_stays_are_no_part_of_the_whole(memory: Mount, local: Mount) -> None:
    for number in range(4):
        plant(memory, **{f"d__{number}": b"x" * 1000})
        plant(local, **{f"d__{number}": (b"x" if number else b"y") * 1000})
    seen: list[transfer.TransferEvent] = []
    transfer.copy(at(memory, "d"), at(local, "d"), skip="hash", on_event=seen.append)
    assert (seen[-1].kind, seen[-1].bytes_done, seen[-1].bytes_total) == ("end", 1000, 1000)
    seen.clear()
    transfer.compare(at(memory, "d"), at(local, "d"), on_event=seen.append)
    assert (seen[-1].kind, seen[-1].bytes_done, seen[-1].bytes_total) == ("end", 4000, 4000)
    assert seen[-1].eta == 0.0


@pytest.mark.parametrize("dry_run", [False, True])
def test_links_have_no_bytes(local: Mount, other: Mount, tmp_path: Path, dry_run: bool) -> None:
    plant(local, src__a=b"12345")
    (tmp_path / "l/src/link").symlink_to("a")
    told: list[TransferEvent] = []
    report = transfer.copy(at(local, "src"), at(other, "dst"), symlinks="copy", dry_run=dry_run, on_event=told.append)
    assert (report.files_copied, report.bytes_copied) == (2, 5)
    assert (told[-1].bytes_done, told[-1].bytes_total) == (5, 5)
