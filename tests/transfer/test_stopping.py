"""T34, T36: however a transfer is stopped, it stops soon, and nothing half-written stays or appears later."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import (
    StorageQuotaError,
    StorageTimeoutError,
    StorageTransferError,
    StorageUnavailableError,
    TransferCancelled,
)
from genro_storage.mount import Mount
from genro_storage.transfer import purge
from genro_storage.types import PLAIN, Stat, WriteOptions

from .stores import ObjectStore, objects
from .test_engine import no_threads_left
from .trees import at, files

SOON = 9.0
"""Seconds; the promise is one second and a chunk, the rest is for a loaded machine. Less than `PATIENCE`."""
BIG = 3 << 20


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What a server that never answers waits for; at the end of the test it answers."""
    event = threading.Event()
    yield event
    event.set()
    end = time.monotonic() + 60
    while not no_threads_left() and time.monotonic() < end:
        time.sleep(0.01)


def source_of(size: int, count: int) -> tuple[Mount, ObjectStore]:
    mount, store = objects("s")
    for number in range(count):
        store.set(f"src/{number}", b"x" * size)
    return mount, store


def hanging(store: ObjectStore, hang: threading.Event, *names: str) -> threading.Event:
    """Lets the named calls wait; the event tells that one does."""
    waits = threading.Event()

    def hook(name: str, path: str) -> None:
        if name in names:
            waits.set()
            hang.wait()

    store.hook = hook
    return waits


class Stop:
    """Sets a cancel once something hangs."""

    def __init__(self, waits: threading.Event) -> None:
        self._waits = waits
        self.since: float | None = None

    def is_set(self) -> bool:
        if self.since is None and self._waits.is_set():
            self.since = time.monotonic()
        return self.since is not None

    @property
    def seconds(self) -> float:
        assert self.since is not None
        return time.monotonic() - self.since


# --- a storage that answers ---


@pytest.mark.parametrize("size", [100, BIG])
def test_t36_cancel_discards_what_is_in_flight(size: int) -> None:
    here, origin = source_of(size, 200 if size == 100 else 20)
    there, store = objects("t")
    begun = threading.Event()

    def hook(name: str, path: str) -> None:
        if name in ("put", "write"):
            time.sleep(0.01)
        if len(store.keys) >= 3:
            begun.set()

    store.hook = hook
    stop = Stop(begun)
    with pytest.raises(TransferCancelled) as caught:
        transfer.copy(at(here, "src"), at(there, "dst"), cancel=stop, concurrency=2)
    assert stop.seconds < SOON
    report = caught.value.report
    assert report.cancelled
    assert not report.ok
    assert 3 <= report.files_copied < len(origin.keys)
    assert len(store.keys) == report.files_copied  # everything that is there was counted, and whole
    assert all(len(data) == size for data, _ in store.keys.values())
    assert (store.open_writers, origin.open_readers) == (0, 0)
    assert no_threads_left()


def test_t36_a_cancel_ends_the_deletions_that_wait(hang: threading.Event) -> None:
    """What the storage was asked already may still go; nothing is asked later."""
    here, _ = source_of(1, 1)
    there, store = objects("t")
    for number in range(100):
        store.set(f"dst/{number}", b"old")
    stop = Stop(hanging(store, hang, "delete"))
    with pytest.raises(TransferCancelled):
        transfer.sync(at(here, "src"), at(there, "dst"), delete=True, max_delete=200, cancel=stop)
    hang.set()
    end = time.monotonic() + 60
    while not no_threads_left():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(store.keys) >= 100 - purge.AT_ONCE


def test_t36_a_cancel_ends_what_is_kept_and_deleted() -> None:
    here, _ = source_of(1, 1)
    there, store = objects("t")
    for number in range(100):
        store.set(f"dst/{number}", b"old")
    begun = threading.Event()
    store.hook = lambda name, path: begun.set() if name == "delete" else None
    how: dict[str, Any] = {"delete": True, "max_delete": 200, "backup": at(there, "kept")}
    with pytest.raises(TransferCancelled) as caught:
        transfer.sync(at(here, "src"), at(there, "dst"), cancel=Stop(begun), **how)
    assert caught.value.report.cancelled
    assert sum(path.startswith("dst/") for path in store.keys) >= 98
    assert len(store.keys) == 101  # what went is kept


@pytest.mark.parametrize("path", ["src", "src/0"])
def test_t36_a_deadline_is_a_timeout(path: str) -> None:
    here, origin = source_of(BIG, 50)
    there, store = objects("t")
    store.hook = lambda name, path: time.sleep(0.1) if name in ("put", "write") else None
    begun = time.monotonic()
    with pytest.raises(StorageTimeoutError, match=r"did not end within 0\.2 s") as caught:
        transfer.copy(at(here, path), at(there, "dst"), deadline=0.2, concurrency=2)
    assert time.monotonic() - begun < SOON
    assert caught.value.report.cancelled
    assert caught.value.retryable is False
    assert (store.open_writers, origin.open_readers) == (0, 0)


def test_t36_cancelled_before_it_begins(memory: Mount) -> None:
    here, origin = source_of(10, 5)
    cancel = threading.Event()
    cancel.set()
    for path in ("src", "src/0"):
        with pytest.raises(TransferCancelled):
            transfer.copy(at(here, path), at(memory, "dst"), cancel=cancel)
    assert files(memory) == {}
    assert origin.calls == []


def test_t36_a_wait_for_a_retry_is_no_hindrance(memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # waits are real here
    here, origin = source_of(10, 5)
    failed = threading.Event()

    def hook(name: str, path: str) -> None:
        if name == "get":
            failed.set()
            raise StorageUnavailableError("later", retry_after=30)

    origin.hook = hook
    stop = Stop(failed)
    with pytest.raises(TransferCancelled):
        transfer.copy(at(here, "src"), at(memory, "dst"), cancel=stop)
    assert stop.seconds < SOON
    assert no_threads_left()


def test_t36_nobody_waits_for_memory_any_more(hang: threading.Event) -> None:
    here, _ = source_of(BIG, 20)
    there, store = objects("t")
    stop = Stop(hanging(store, hang, "write"))
    with pytest.raises(TransferCancelled):
        transfer.copy(at(here, "src"), at(there, "dst"), cancel=stop, buffer=11 << 20, concurrency=8)
    assert stop.seconds < SOON


# --- a storage that never answers ---


TREE = [("src", call) for call in ("walk", "get", "put", "reader", "read", "writer", "write", "commit")]
FILE = [("src/0", call) for call in ("reader", "read", "writer", "write", "commit")]


@pytest.mark.parametrize(("path", "call"), TREE + FILE)
@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_t36_a_call_that_hangs_holds_nobody_up(path: str, call: str, how: str, hang: threading.Event) -> None:
    size = 10 if call in ("get", "put") else BIG
    here, origin = source_of(size, 5)
    there, store = objects("t")
    store.set("dst/0" if path == "src" else "dst", b"old")
    waits = hanging(origin if call in ("get", "reader", "read", "walk") else store, hang, call)
    stop = Stop(waits)
    options: dict[str, Any] = {"cancel": stop} if how == "cancel" else {"deadline": 0.3}
    begun = time.monotonic()
    with pytest.raises((TransferCancelled, StorageTimeoutError)) as caught:
        transfer.copy(at(here, path), at(there, "dst"), **options)
    assert waits.is_set()
    assert (stop.seconds if how == "cancel" else time.monotonic() - begun) < SOON
    assert isinstance(caught.value, TransferCancelled if how == "cancel" else StorageTimeoutError)
    before = {key: data for key, (data, _) in store.keys.items()}
    hang.set()  # the answers come after all
    end = time.monotonic() + 60
    while not no_threads_left() and time.monotonic() < end:
        time.sleep(0.01)
    gc.collect()  # a reader that came when nobody wanted it any more
    assert (store.open_writers, origin.open_readers) == (0, 0), threading.enumerate()
    after = {key: data for key, (data, _) in store.keys.items()}
    assert all(data in (before.get(key), b"x" * size) for key, data in after.items())
    if call not in ("put", "commit"):  # what was being committed may still be, whole
        assert after == before


def test_t34_stop_leaves_alone_what_hangs(hang: threading.Event) -> None:
    here, _ = source_of(10, 50)
    there, store = objects("t")
    waits = threading.Event()

    def hook(name: str, path: str) -> None:
        if name == "put" and path == "dst/0":
            waits.set()
            hang.wait()
        elif name == "put":
            waits.wait()
            raise StorageQuotaError("full")

    store.hook = hook
    begun = time.monotonic()
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(here, "src"), at(there, "dst"), errors="stop")
    assert time.monotonic() - begun < SOON
    assert isinstance(caught.value.__cause__, StorageQuotaError)


def test_a_move_removes_nothing_after_it_was_cancelled(hang: threading.Event) -> None:
    here, origin = source_of(10, 3)
    there, store = objects("t")
    stop = Stop(hanging(store, hang, "put"))
    with pytest.raises(TransferCancelled):
        transfer.move(at(here, "src"), at(there, "dst"), cancel=stop)
    hang.set()
    end = time.monotonic() + 60
    while not no_threads_left() and time.monotonic() < end:
        time.sleep(0.01)
    assert len(origin.keys) == 3


@pytest.mark.parametrize("watched", [True, False])
def test_t36_removing_emptied_directories_holds_nobody_up(watched: bool, hang: threading.Event) -> None:
    here, origin = source_of(10, 2)
    for number in range(5):
        origin.set(f"src/d{number}/")
    there, _ = objects("t")
    if not watched:
        assert transfer.move(at(here, "src"), at(there, "dst")).files_copied == 2
        assert origin.keys == {}
        return
    stop = Stop(hanging(origin, hang, "rmdir"))
    with pytest.raises(TransferCancelled) as caught:
        transfer.move(at(here, "src"), at(there, "dst"), cancel=stop)
    assert stop.seconds < SOON
    assert caught.value.report.files_copied == 2
    hang.set()
    end = time.monotonic() + 60
    while not no_threads_left() and time.monotonic() < end:
        time.sleep(0.01)
    assert origin.names().count("rmdir") == 1  # the one that hung, and none after it


class Renaming(ObjectStore):
    """Keys that have a rename, which is all that this does to them."""

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities | {"rename_from"}

    def rename_from(self, source: Any, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        self.called("rename", path)
        for key in [key for key in self.keys if key.startswith(f"{source_path}/")]:
            self.set(path + key.removeprefix(source_path), self.keys.pop(key)[0])
        return Stat(path, is_dir=True)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_t36_a_rename_that_hangs_holds_nobody_up(how: str, hang: threading.Event) -> None:
    """The server may still do it: then it is done whole."""
    store = Renaming()
    for number in range(3):
        store.set(f"src/{number}", b"x")
    mount = Mount("m", store)
    waits = hanging(store, hang, "rename")
    stop = Stop(waits)
    options: dict[str, Any] = {"cancel": stop} if how == "cancel" else {"deadline": 0.3}
    with pytest.raises(TransferCancelled if how == "cancel" else StorageTimeoutError) as caught:
        transfer.move(at(mount, "src"), at(mount, "dst"), **options)
    assert waits.is_set()
    assert caught.value.report.cancelled
    assert caught.value.report.files_copied == 0
    assert sorted(store.keys) == ["src/0", "src/1", "src/2"]
    hang.set()
    end = time.monotonic() + 60
    while not no_threads_left() and time.monotonic() < end:
        time.sleep(0.01)
    assert sorted(store.keys) == ["dst/0", "dst/1", "dst/2"]


# --- Ctrl-C, as a person does it ---

DEAF = """
import threading
from genro_storage import transfer
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.mount import Mount
from genro_storage.types import PLAIN, Stat, WriteOptions
from genro_storage.transfer.places import At

class Deaf(MemoryBackend):
    def rename_from(self, *args):
        print("renaming", flush=True)
        while True:
            try:
                threading.Event().wait()
            except BaseException:
                pass

mount = Mount("m", Deaf(MemoryOptions()))
mount.put("src/a", b"1")
try:
    transfer.move(At(mount, "src"), At(mount, "dst"))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_t36_ctrl_c_on_a_rename_that_never_ends() -> None:
    """Whatever its driver makes of an interruption."""
    program = subprocess.Popen(
        [sys.executable, "-c", DEAF],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path(transfer.__file__).parents[2])},
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "renaming\n"
        program.send_signal(signal.SIGINT)
        told, _ = program.communicate(timeout=60)
        assert told == "interrupted\n"
        assert program.returncode == 0
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


PROGRAM = """
import sys
from genro_storage import StorageManager
storage = StorageManager([
    {"name": "a", "type": "local", "path": sys.argv[1]},
    {"name": "s", "type": "s3", "bucket": "b", "endpoint_url": sys.argv[2], "key": "k", "secret": "s"},
])
try:
    storage.copy("a:" + sys.argv[3], "s:dst/", retries=5)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """An endpoint that takes requests and never answers; the event tells that one came."""
    came = threading.Event()
    open_ones: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                open_ones.append(connection)
                if connection.recv(1):
                    came.set()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
    for connection in open_ones:
        connection.close()


@pytest.mark.parametrize("path", ["src", "src/small", "src/big"])
def test_t36_ctrl_c_on_a_server_that_never_answers(path: str, tmp_path: Path, silent: Any) -> None:
    endpoint, came = silent
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "small").write_bytes(b"x")
    (tmp_path / "src" / "big").write_bytes(bytes(20 << 20))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), endpoint, path],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path(transfer.__file__).parents[2])},
    )  # fmt: skip
    started = time.monotonic()
    try:
        assert came.wait(60)
        time.sleep(0.5)
        begun = time.monotonic()
        program.send_signal(signal.SIGINT)
        told, _ = program.communicate(timeout=60)
        assert time.monotonic() - begun < SOON + (begun - started)  # as slow as this machine starts a program
        assert told == "interrupted\n"
        assert program.returncode == 0
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
