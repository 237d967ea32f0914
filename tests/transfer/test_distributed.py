"""§11: the workers of an executor copy the files; the caller plans, tells, and removes what was moved."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.exceptions import (
    StorageConfigError,
    StorageNotFoundError,
    StorageTimeoutError,
    StorageTransferError,
    TransferCancelled,
)
from genro_storage.mount import Mount
from genro_storage.transfer import distributed, flow
from genro_storage.transfer.distributed import BATCH_FILES
from genro_storage.transfer.flow import Flow
from genro_storage.transfer.pace import Bandwidth

from .conftest import local_mount, memory_mount
from .test_events import Told
from .trees import at, files, plant, tree


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask() -> Iterator[Executor]:
    """A real cluster of processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture(params=["threads", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "threads":
        with ThreadPoolExecutor(3) as threads:
            yield threads
    else:
        yield request.getfixturevalue(request.param)


class Here(Executor):
    """Runs each batch when it is submitted, and keeps what was; `lose` says which calls are lost, and how."""

    _max_workers = 2

    def __init__(self, *lose: int, after: bool = False) -> None:
        self.batches: list[int] = []
        self.again: list[bool] = []
        self.most = 0
        self._lose, self._after = set(lose), after

    def submit(self, function: Any, errand: bytes, batch: bytes, again: bool) -> Future[Any]:  # type: ignore[override]
        import pickle

        self.batches.append(len(pickle.loads(batch)))
        self.again.append(again)
        lost = len(self.batches) in self._lose
        future: Future[Any] = Future()
        result = b"" if lost and not self._after else function(errand, batch, again)
        if lost:
            future.set_exception(ConnectionResetError("the worker is gone"))
        else:
            future.set_result(result)
        return future


def many(mount: Mount, count: int, size: int = 100) -> dict[str, bytes]:
    made = {f"d{number % 7}/f{number:04}": os.urandom(size) for number in range(count)}
    for path, data in made.items():
        mount.put(f"src/{path}", data)
    return made


def test_a_tree_is_copied(executor: Executor, local: Mount, other: Mount) -> None:
    made = many(local, 300)
    local.mkdir("src/empty")
    told = Told()
    calls: list[tuple[int, int]] = []
    report = transfer.copy(
        at(local, "src"), at(other, "dst"), executor=executor, exclude="f0007",
        progress=lambda done, total: calls.append((done, total)), **told.options,
    )  # fmt: skip
    assert files(other, "dst") == {path: data for path, data in made.items() if path != "d0/f0007"}
    assert "empty/" in tree(other, "dst")
    assert (report.files_copied, report.files_skipped, report.files_total) == (299, 1, 300)
    assert report.bytes_copied == 299 * 100
    assert report.directories_created == 1
    assert calls == [(done, 300) for done in range(1, 301)]
    assert len(told.of("file_start")) == 300
    assert len(told.of("file_done")) == 299
    assert told.threads == {threading.current_thread()}


def test_mtimes_and_modes_go_along(processes: Executor, local: Mount, other: Mount) -> None:
    many(local, 3)
    local.set_mtime("src/d0/f0000", 1e9)
    transfer.copy(at(local, "src"), at(other, "dst"), executor=processes, preserve=("mtime", "mode"))
    assert other.stat("dst/d0/f0000").mtime == 1e9


def test_one_file(processes: Executor, local: Mount, other: Mount) -> None:
    plant(local, f=b"123")
    report = transfer.copy(at(local, "f"), at(other, "g"), executor=processes)
    assert report.files_copied == 1
    assert files(other) == {"g": b"123"}
    with pytest.raises(StorageNotFoundError):
        transfer.copy(at(local, "nothing"), at(other, "g"), executor=processes)


def test_the_caller_removes_what_was_moved(executor: Executor, local: Mount, other: Mount) -> None:
    made = many(local, 100)
    other.put("dst/x", b"")  # so that no rename will do
    report = transfer.move(at(local, "src"), at(other, "dst"), executor=executor)
    assert report.files_copied == 100
    assert {path: data for path, data in files(other, "dst").items() if path != "x"} == made
    assert tree(local) == {}


def test_failures_are_told_one_by_one(processes: Executor, local: Mount, other: Mount) -> None:
    many(local, 30)
    other.mkdir("dst/d0/f0000", parents=True)
    (Path(str(local.local_path("src"))) / "dangling").symlink_to("nowhere")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=processes)
    report = caught.value.report
    assert report.files_copied == 29
    assert sorted(failure.relpath for failure in report.failures) == ["d0/f0000", "dangling"]
    assert report.files_total == report.files_copied + report.files_skipped + report.files_failed == 31


def test_stop_and_then_again(local: Mount, other: Mount) -> None:
    """What a worker remembers of a stopped transfer must not stop the next one, which asks for the same."""
    many(local, 30)
    blocked = Path(str(other.local_path("dst/d0")))
    blocked.parent.mkdir()
    blocked.mkdir(mode=0o755)
    (blocked / "f0000").symlink_to("/etc/passwd")  # leads out of the mount: it is not written through
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(StorageTransferError):
            transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, errors="stop")
        (blocked / "f0000").unlink()
        assert transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, errors="stop").files_copied == 30


# --- batches ---


def test_batches_are_bounded(local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    many(local, 1000, 10)
    here = Here()
    transfer.copy(at(local, "src"), at(other, "dst"), executor=here)
    assert sum(here.batches) == 1000
    assert 1 < max(here.batches) <= BATCH_FILES
    monkeypatch.setattr(distributed, "BATCH_BYTES", 25)
    here = Here()
    transfer.copy(at(local, "src"), at(other, "dst2"), executor=here)
    assert max(here.batches) == 2


def test_two_batches_per_worker_are_under_way(local: Mount, other: Mount) -> None:
    many(local, 500, 10)
    running: list[int] = []
    now, lock = [0], threading.Lock()

    class Counting(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
            with lock:
                now[0] += 1
                running.append(now[0])
            future = super().submit(*args, **kwargs)
            future.add_done_callback(lambda _: now.__setitem__(0, now[0] - 1))
            return future

    with Counting(2) as threads:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=threads)
    assert max(running) == 4


def test_bandwidth_is_divided(local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    many(local, 8, 256 << 10)
    shares: list[float | None] = []

    def sharing(buffer: int, *, bandwidth: float | None) -> Flow:
        shares.append(bandwidth)
        return Flow(buffer, bandwidth=bandwidth)

    monkeypatch.setattr(distributed, "Flow", sharing)
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, bandwidth=2 << 20)
    assert set(shares) == {1 << 20}
    assert time.monotonic() - begun > 0.7


def test_threads_of_one_process_have_their_shares_together(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads with half the bandwidth each owe as much time for two files as the whole bandwidth asks for."""
    many(local, 2, 256 << 10)
    both = threading.Barrier(2, timeout=60)
    owed: list[float] = []

    class Together(Flow):
        """Counts only what both threads are at, and waits for nothing."""

        def tick(self, count: int = 0) -> None:
            if count:
                both.wait()
            super().tick(count)
            if count:
                both.wait()

        def wait(self, seconds: float) -> None:
            owed.append(seconds)

    monkeypatch.setattr(distributed, "Flow", Together)
    monkeypatch.setattr(flow, "Bandwidth", lambda rate: Bandwidth(rate, clock=lambda: 0.0))
    with ThreadPoolExecutor(2) as threads:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, bandwidth=128 << 10)
    assert max(owed) == pytest.approx(4)


@pytest.mark.parametrize(
    ("has", "asked", "workers", "batches"),
    [(4, "auto", 4, 8), (4, 8, 4, 8), (8, 2, 2, 2), (None, 3, 3, 6), (None, "auto", 8, 16)],
)
def test_a_bandwidth_is_divided_among_those_that_work(has: Any, asked: Any, workers: int, batches: int) -> None:
    """Of more workers than are asked for, only so many get something to do."""
    assert distributed._workers(SimpleNamespace(_max_workers=has), asked) == (workers, batches)


# --- lost workers ---


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_batch_is_done_elsewhere(after: bool, local: Mount, other: Mount) -> None:
    """`after`: the worker had done all of it, and only its answer was lost."""
    made = many(local, 50)
    here = Here(1, 3, after=after)
    told = Told()
    report = transfer.copy(at(local, "src"), at(other, "dst"), executor=here, overwrite=False, on_event=told.on_event)
    assert files(other, "dst") == made
    assert (report.files_copied, report.files_failed, report.bytes_copied) == (50, 0, 5000)
    assert here.again.count(True) == 2
    assert told.of("retry")


def test_what_was_committed_is_not_copied_again(local: Mount, other: Mount) -> None:
    many(local, 20)
    for path, data in files(local, "src").items():
        other.put(f"dst/{path}", data)
    inodes = {entry.path: entry.etag for page in other.walk("dst") for entry in page if not entry.is_dir}
    transfer.copy(at(local, "src"), at(other, "dst"), executor=Here(1))  # the second try sees what is there
    now = {entry.path: entry.etag for page in other.walk("dst") for entry in page if not entry.is_dir}
    assert len([path for path in now if now[path] == inodes[path]]) >= 1
    assert files(other, "dst") == files(local, "src")


def test_workers_that_are_lost_again_and_again_fail_their_files(local: Mount, other: Mount) -> None:
    many(local, 10)
    with pytest.raises(StorageTransferError, match="its worker was lost: ConnectionResetError") as caught:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=Here(*range(1, 1000)), retries=2)
    assert caught.value.report.files_failed == 10
    assert {failure.attempts for failure in caught.value.report.failures} == {3}


def test_a_worker_process_that_dies(local: Mount, other: Mount) -> None:
    """A broken process pool has no other workers: its files fail, and nothing hangs."""
    many(local, 200)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(int).result()
        os.kill(next(iter(pool._processes)), 9)
        with pytest.raises((StorageTransferError, BrokenExecutor)):
            transfer.copy(at(local, "src"), at(other, "dst"), executor=pool)


def test_a_killed_dask_worker(local: Mount, other: Mount) -> None:
    from distributed import Client, LocalCluster

    made = many(local, 600, 20_000)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killed: list[int] = []

        def kill(done: int, total: int) -> None:
            if not killed:
                killed.append(pids[0])
                os.kill(pids[0], 9)

        report = transfer.copy(at(local, "src"), at(other, "dst"), executor=client.get_executor(), progress=kill)
    assert killed
    assert report.files_copied == 600
    assert files(other, "dst") == made


# --- stopping ---


def test_cancel_lets_running_batches_end(local: Mount, other: Mount) -> None:
    made = many(local, 2000)
    stop = threading.Event()

    def tell(done: int, total: int) -> None:
        if done == 10:
            stop.set()

    with ThreadPoolExecutor(2) as threads, pytest.raises(TransferCancelled) as caught:
        transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, cancel=stop, progress=tell)
    there = files(other, "dst")
    assert len(there) < 2000
    assert there.items() <= made.items()
    assert caught.value.report.files_copied == len(there)


def test_a_deadline(local: Mount, other: Mount) -> None:
    many(local, 50, 100_000)
    with ThreadPoolExecutor(2) as threads, pytest.raises(StorageTimeoutError):
        transfer.copy(at(local, "src"), at(other, "dst"), executor=threads, deadline=0.3, bandwidth=1 << 20)


# --- what cannot be sent ---


def test_mounts_of_this_process_only(processes: Executor, local: Mount, tmp_path: Path) -> None:
    many(local, 3)
    with pytest.raises(StorageConfigError, match="mount 'm' cannot be used by the workers"):
        transfer.copy(at(local, "src"), at(memory_mount(), "dst"), executor=processes)
    storage = StorageManager(
        [
            {"name": "here", "type": "local", "path": str(tmp_path)},
            {"name": "told", "type": "local", "path": lambda: str(tmp_path)},
            {"name": "named", "type": "local", "path": os.getcwd},
        ]
    )
    for name in ("told", "named"):
        with pytest.raises(StorageConfigError, match=f"mount '{name}' cannot be used by the workers"):
            storage.copy("here:l/src", f"{name}:dst", executor=processes)
    assert not (tmp_path / "dst").exists()


def test_the_same_through_a_manager(processes: Executor, tmp_path: Path) -> None:
    mount = local_mount("a", tmp_path)
    many(mount, 20)
    storage = StorageManager([{"name": "a", "type": "local", "path": str(tmp_path)}])
    storage.node("a:src").copy_to("a:dst", executor=processes)
    assert files(mount, "dst") == files(mount, "src")
