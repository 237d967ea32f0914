"""Many files: failures, callbacks, stopping, bounds."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import StorageError, StorageQuotaError, StorageTransferError, TransferCancelled
from genro_storage.mount import Mount
from genro_storage.transfer import engine
from genro_storage.transfer.engine import Engine
from genro_storage.transfer.events import Teller
from genro_storage.transfer.flow import Flow
from genro_storage.transfer.job import Copied
from genro_storage.transfer.options import CopyOptions
from genro_storage.transfer.pace import Width
from genro_storage.transfer.plan import Action, Entry
from genro_storage.transfer.pool import BATCH, Outcome, Threads
from genro_storage.transfer.report import KEPT_FAILURES, TransferReport
from genro_storage.types import Stat

from .conftest import memory_mount
from .stores import objects
from .trees import at, files, plant


def many(count: int = 50) -> Mount:
    mount, store = objects("s")
    for number in range(count):
        store.set(f"src/{number:05}", b"x")
    return mount


def refusing(*paths: str) -> Any:
    def hook(name: str, path: str) -> None:
        if name in ("put", "commit") and path in paths:
            raise StorageQuotaError("full")

    return hook


def no_threads_left() -> bool:
    return not [one for one in threading.enumerate() if one.name.startswith("genro-transfer")]


def test_t34_continue_does_all_that_can_be_done() -> None:
    there, store = objects("t")
    store.hook = refusing("dst/00003", "dst/00007")
    with pytest.raises(StorageTransferError, match="2 failed, 48 of 50 files") as caught:
        transfer.copy(at(many(), "src"), at(there, "dst"))
    report = caught.value.report
    assert (report.files_copied, report.files_failed, report.files_total, report.ok) == (48, 2, 50, False)
    assert sorted(failure.relpath for failure in report.failures) == ["00003", "00007"]
    assert isinstance(caught.value.__cause__, StorageQuotaError)
    assert (caught.value.mount, caught.value.path) == ("t", "dst")
    assert len(files(there)) == 48


def test_t34_report_never_raises_for_entries() -> None:
    there, store = objects("t")
    store.hook = refusing("dst/00003", "f")
    report = transfer.copy(at(many(), "src"), at(there, "dst"), errors="report")
    assert (report.files_copied, report.files_failed) == (49, 1)
    assert transfer.copy(at(many(), "src/00001"), at(there, "f"), errors="report").files_failed == 1


def test_t34_stop_begins_nothing_new() -> None:
    there, store = objects("t")
    store.hook = refusing("dst/00003")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(many(1000), "src"), at(there, "dst"), errors="stop")
    report = caught.value.report
    assert report.files_failed == 1
    assert report.files_copied < 100
    assert len(files(there)) == report.files_copied
    assert no_threads_left()


def test_t34_a_single_file_raises_its_own_error() -> None:
    there, store = objects("t")
    store.hook = refusing("f")
    with pytest.raises(StorageQuotaError):
        transfer.copy(at(many(), "src/00001"), at(there, "f"))


# --- progress ---


@pytest.mark.parametrize("count", [1, 50])
def test_progress_is_called_in_the_callers_thread_for_each_file(count: int, memory: Mount) -> None:
    calls: list[tuple[int, int, threading.Thread]] = []
    source = many(count)
    source.backend.set("src/zzz/../odd")  # type: ignore[attr-defined]
    plant(memory, other=b"")
    report = transfer.copy(
        at(source, "src"),
        at(memory, "dst"),
        exclude="*3",
        errors="report",
        progress=lambda done, total: calls.append((done, total, threading.current_thread())),
    )
    assert [done for done, _, _ in calls] == list(range(1, count + 2))
    assert {total for _, total, _ in calls} == {count + 1} == {report.files_total}
    assert {thread for _, _, thread in calls} == {threading.current_thread()}
    assert report.skip_reasons == ({"excluded": 5} if count == 50 else {})


def test_progress_of_one_file_and_of_nothing(memory: Mount) -> None:
    calls: list[tuple[int, int]] = []
    plant(memory, f=b"x")
    tell = lambda done, total: calls.append((done, total))  # noqa: E731
    transfer.copy(at(memory, "f"), at(memory, "g"), progress=tell)
    transfer.copy(at(memory, "f"), at(memory, "f"), progress=tell)
    transfer.move(at(memory, "g"), at(memory, "h"), progress=tell)
    assert calls == [(1, 1)] * 3


def test_the_total_grows_beyond_what_is_planned_ahead(memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "AHEAD", 10)
    calls: list[tuple[int, int]] = []
    transfer.copy(at(many(100), "src"), at(memory, "d"), progress=lambda done, total: calls.append((done, total)))
    assert all(done <= total for done, total in calls)
    assert calls[0][1] < 100
    assert calls[-1] == (100, 100)


def test_a_raising_callback_cancels_and_propagates() -> None:
    there, store = objects("t")

    def tell(done: int, total: int) -> None:
        if done == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transfer.copy(at(many(1000), "src"), at(there, "dst"), progress=tell)
    went = len(files(there))
    assert went < 1000
    assert len(files(there)) == went  # nothing goes on in the background
    assert store.open_writers == 0
    assert no_threads_left()


# --- stopping ---


def test_ctrl_c_discards_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    here, origin = objects("s")
    there, store = objects("t")
    for number in range(20):
        origin.set(f"src/{number}", b"x" * (3 << 20))
    writing = threading.Event()

    def hook(name: str, path: str) -> None:
        if name == "write":
            writing.set()
            flow.wait_for_cancel()

    flow = SlowFlow()
    monkeypatch.setattr(transfer, "flow_of", lambda options: flow)
    store.hook = hook

    def interrupted(self: Threads, timeout: float | None) -> Any:
        """Stands for the queue of results, where the caller waits."""
        writing.wait()
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Threads, "results", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transfer.copy(at(here, "src"), at(there, "dst"))
    assert store.keys == {}
    assert (store.open_writers, origin.open_readers) == (0, 0)
    assert no_threads_left()


class SlowFlow(Flow):
    """Holds whoever asks until the transfer is cancelled."""

    def wait_for_cancel(self) -> None:
        self._stop.wait()


def test_ctrl_c_in_a_single_file() -> None:
    here, origin = objects("s")
    there, store = objects("t")
    origin.set("f", b"x" * (3 << 20))
    store.set("g", b"old")

    def interrupt(name: str, path: str) -> None:
        if name == "write":
            raise KeyboardInterrupt

    store.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        transfer.copy(at(here, "f"), at(there, "g"))
    assert store.keys["g"][0] == b"old"
    assert (store.open_writers, origin.open_readers) == (0, 0)


def test_an_error_that_is_not_ours_is_raised(memory: Mount) -> None:
    def crash(action: Action, opened: object = None) -> Outcome:
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError):
        engine_of(crash).run(iter(actions(10)))
    assert no_threads_left()


def engine_of(work: Any, report: TransferReport | None = None, width: int = 2, **options: Any) -> Engine:
    flow, given = Flow(), CopyOptions(**options)
    told = report or TransferReport("copy", "a:", "b:", "")
    teller = Teller(given, told, flow, at(memory_mount()), at(memory_mount()))

    def each(batch: Sequence[Action]) -> Generator[Outcome, None, None]:
        yield from map(work, batch)

    return Engine(Threads(each, flow, Width(width)), given, told, flow, teller)


def actions(count: int) -> Iterator[Action]:
    for number in range(count):
        yield Action("copy", Entry(str(number), str(number).encode(), Stat(str(number), 1)))


def test_t42_at_most_1000_actions_are_planned_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, most, enough = [0], [0], threading.Event()
    report = TransferReport("copy", "a:", "b:", "")
    counted = threading.Lock()
    begun = [0]

    def plan() -> Iterator[Action]:
        for action in actions(5000):
            planned[0] += 1
            most[0] = max(most[0], planned[0] - begun[0])
            if most[0] >= engine.QUEUE:
                enough.set()
            yield action

    def work(action: Action, opened: object = None) -> Outcome:
        assert enough.wait(60)  # the plan runs ahead, as far as it may
        with counted:
            begun[0] += 1
        return Outcome(Copied(action.entry.stat, 1))

    engine_of(work, report, 3).run(plan())
    assert report.files_copied == 5000
    assert engine.QUEUE <= most[0] <= engine.QUEUE + 3 * BATCH + 1


def test_failures_are_counted_beyond_what_is_kept_and_hold_no_buffers() -> None:
    report = TransferReport("copy", "a:", "b:", "")
    alive: list[weakref.ref[Any]] = []

    class Buffer:
        pass

    def work(action: Action, opened: object = None) -> Outcome:
        def read() -> None:
            buffer = Buffer()
            alive.append(weakref.ref(buffer))
            raise StorageError("no")

        try:
            read()
        except StorageError as error:
            return Outcome(error=error)
        raise AssertionError

    engine_of(work, report, errors="report").run(actions(KEPT_FAILURES + 5))
    assert (report.files_failed, len(report.failures)) == (KEPT_FAILURES + 5, KEPT_FAILURES)
    gc.collect()
    assert len([one for one in alive if one() is not None]) <= 1


# --- flow ---


def test_flow() -> None:
    flow = Flow(buffer=10)
    flow.tick(5)
    flow.wait(0)
    entered = threading.Event()
    with flow.room(8):
        thread = threading.Thread(target=lambda: [entered.set() for _ in [0] if flow.room(100).__enter__() is None])
        thread.start()
        assert not entered.wait(0.05)
    thread.join(60)
    assert entered.is_set()
    flow.cancel()
    for stopped in (lambda: flow.tick(), lambda: flow.wait(60)):
        with pytest.raises(TransferCancelled):
            stopped()


# --- the report ---


def test_the_report_is_json_and_one_line(local: Mount, memory: Mount) -> None:
    there, store = objects("t")
    store.hook = refusing("dst/b")
    plant(local, src__a=b"1", src__b=b"22", src__c=b"333")
    report = transfer.copy(at(local, "src"), at(there, "dst"), errors="report", exclude="c")
    told = json.loads(json.dumps(report.to_dict()))
    assert told["source"] == "l:src"
    assert told["files_total"] == 3
    assert told["failures"][0]["error"] == "StorageQuotaError"
    assert (told["bytes_copied"], told["bytes_skipped"], told["ok"]) == (1, 3, False)
    assert told["rate"] >= 0
    assert report.finished is not None
    assert report.started <= report.finished
    line = str(report)
    assert "\n" not in line
    assert "1 skipped, 1 failed" in line
