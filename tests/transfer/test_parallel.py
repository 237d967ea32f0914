"""Large files: parallel ranges of the source into parts of the target, whatever fails on the way."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.backends.azure import AzureBackend
from genro_storage.backends.base import StorageBackend
from genro_storage.backends.gcs import GcsBackend
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageUnavailableError,
    TransferCancelled,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing import Fault, FaultPlan, FaultyBackend
from genro_storage.transfer import TransferEvent, flow, parallel
from genro_storage.transfer.options import CopyOptions
from genro_storage.transfer.runs import Run
from tests.servers.azure import AzureEndpoint
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer
from tests.servers.s3 import S3Endpoint

from .conftest import local_mount, memory_mount
from .trees import at, files

MIB = 1 << 20
PART = 8 * MIB
DATA = random.Random(4).randbytes(4 * PART + 17)
SMALL = random.Random(5).randbytes(250_000)
KINDS = ("local", "memory", "s3", "gcs", "azure")

Make = Callable[..., Mount]


@pytest.fixture(autouse=True)
def no_waiting_for_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "RetryPolicy", lambda retries, sleep: RetryPolicy(retries, 0.0, sleep))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of the files that went in parts."""
    seen: list[str] = []
    begun = parallel.Parts.begun

    def spy(self: parallel.Parts, target: Any, *args: Any) -> Any:
        seen.append(target.path)
        return begun(self, target, *args)

    monkeypatch.setattr(parallel.Parts, "begun", spy)
    return seen


@pytest.fixture
def made(
    tmp_path: Path, seaweedfs: S3Endpoint, gcs: GcsServer, azure_versions: AzureEndpoint
) -> Iterator[Callable[[str, str], Mount]]:
    """Mounts by name and kind, each of a place of its own."""
    opened: list[StorageBackend] = []
    buckets: list[str] = []
    containers: list[str] = []

    def make(name: str, kind: str) -> Mount:
        backend: StorageBackend
        if kind == "local":
            return local_mount(name, tmp_path / name)
        if kind == "memory":
            return memory_mount(name)
        if kind == "s3":
            backend = S3Backend(S3Backend.Options(**seaweedfs.options(seaweedfs.make_bucket())))
        elif kind == "gcs":
            buckets.append(gcs.make_bucket())
            backend = GcsBackend(GcsBackend.Options(**gcs.options(buckets[-1])))
        else:
            containers.append(azure_versions.make_container())
            options = azure_versions.options(containers[-1])
            backend = AzureBackend(AzureBackend.Options(**{key: value for key, value in options.items() if value}))
        opened.append(backend)
        return Mount(name, backend)

    yield make
    for backend in opened:
        backend.close()
    for bucket in buckets:  # these two servers live in this process
        gcs.forget(bucket)
    for container in containers:
        azure_versions.forget(container)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Everything above 100 kB is large; the options of parts that are small."""
    monkeypatch.setattr(parallel, "LARGE", 100_000)
    monkeypatch.setattr("genro_storage.transfer.stream.SMALL", 50_000)
    return {"part_size": 64_000, "parts": 3}


# --- every direction ---


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_in_every_direction(made: Callable[[str, str], Mount], moved: list[str], source: str, target: str) -> None:
    """Alone and in a tree, with what goes along; nothing is left open."""
    here, there = made("a", source), made("b", target)
    here.put("d/f.bin", DATA)
    facts = here.stat("d/f.bin")
    report = transfer.copy(at(here, "d/f.bin"), at(there, "x/g.bin"))
    assert (report.files_copied, report.bytes_copied, report.verified_checksum + report.verified_size) == (
        *(1, len(DATA)),
        1,
    )
    assert transfer.copy(at(here, "d"), at(there, "e")).files_copied == 1
    for path in ("x/g.bin", "e/f.bin"):
        assert there.get(path)[0] == DATA
        if there.features.keeps_mtime:
            assert there.stat(path).mtime == pytest.approx(facts.mtime, abs=1e-6)
    assert moved == ([] if source == target else ["x/g.bin", "e/f.bin"])  # else by the storage itself
    assert not there.can("unfinished") or there.unfinished("", older_than=-60) == []
    assert sorted(files(there)) == ["e/f.bin", "x/g.bin"]


def test_options_are_judged() -> None:
    for bad in (0, -1, 1.5, "4", True, None):
        for name in ("parts", "part_size"):
            with pytest.raises(ValueError, match=name):
                CopyOptions(**{name: bad})
    assert (CopyOptions().parts, CopyOptions().part_size, CopyOptions().buffer) == (4, PART, 32 * MIB)


def test_parts_go_at_once_and_no_more_than_asked(small: dict[str, int], local: Mount) -> None:
    lock, under_way, most = threading.Lock(), [0], [0]
    together = threading.Barrier(3)

    class Slow(MemoryBackend):
        def parts(self, *args: Any, **how: Any) -> Any:
            writer = super().parts(*args, **how)
            put = writer.put

            def slow(offset: int, data: Any) -> str:
                with lock:
                    under_way[0] += 1
                    most[0] = max(most[0], under_way[0])
                if offset < 3 * 64_000:
                    together.wait(60)
                try:
                    return put(offset, data)
                finally:
                    with lock:
                        under_way[0] -= 1

            writer.put = slow  # type: ignore[method-assign]
            return writer

    local.put("f", SMALL)
    target = Mount("t", Slow(MemoryOptions()))
    transfer.copy(at(local, "f"), at(target, "f"), **small)
    assert target.get("f")[0] == SMALL
    assert most == [3]


@pytest.mark.parametrize("buffer", [100_000, 10_000])
def test_parts_larger_than_their_share_are_not_held(
    small: dict[str, int], local: Mount, moved: list[str], buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T43: they are read again instead, by a target that needs a checksum first."""
    held: list[object] = []
    monkeypatch.setattr(parallel, "Held", lambda pieces: held.append(pieces) or pytest.fail("held"))
    monkeypatch.setattr(MemoryBackend, "parts", two_passes(MemoryBackend.parts))
    target = memory_mount("t")
    local.put("f", SMALL)
    transfer.copy(at(local, "f"), at(target, "f"), buffer=buffer, **small)
    assert target.get("f")[0] == SMALL
    assert (moved, held) == (["f"], [])


def two_passes(parts: Any) -> Any:
    """As S3 does: a checksum of all pieces, then the pieces."""

    def opened(self: MemoryBackend, *args: Any, **how: Any) -> Any:
        writer = parts(self, *args, **how)
        writer.one_pass, put = False, writer.put

        def twice(offset: int, data: Any) -> str:
            assert b"".join(data) == b"".join(data)
            return str(put(offset, data))

        writer.put = twice
        return writer

    return opened


def test_a_store_of_small_parts_gets_larger_ones(seaweedfs: S3Endpoint, memory: Mount, moved: list[str]) -> None:
    backend = S3Backend(S3Backend.Options(**seaweedfs.options(seaweedfs.make_bucket())))
    target = Mount("s3", backend)
    memory.put("f", DATA)
    transfer.copy(at(memory, "f"), at(target, "f"), part_size=1)
    assert backend.parts("g", part_size=1).part_size == 5 * MIB
    assert target.get("f")[0] == DATA
    assert moved == ["f"]
    backend.close()


# --- requests, and what the network does to them ---


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as running:
        yield running


@pytest.fixture
def s3(seaweedfs: S3Endpoint, proxy: FaultProxy) -> Iterator[Mount]:
    """A bucket behind the proxy."""
    entry = seaweedfs.through(proxy.endpoint).options(seaweedfs.make_bucket())
    backend = S3Backend(S3Backend.Options(**entry, timeout=5))
    yield Mount("s3", backend)
    backend.close()


def kinds(proxy: FaultProxy) -> Counter[str]:
    """Requests by what they are for."""

    def kind(query: str, method: str) -> str:
        if "list-type" in query:
            return "LIST"
        if query.startswith("uploads"):
            return "BEGIN"
        if "partNumber" in query:
            return "PART"
        return {"POST": "END", "DELETE": "ABORT"}.get(method, method)

    return Counter(kind(one.query, one.method) for one in proxy.log)


def test_requests(s3: Mount, proxy: FaultProxy, memory: Mount) -> None:
    memory.put("d/f", DATA)
    transfer.copy(at(memory, "d"), at(s3, "d"))
    found = kinds(proxy)
    assert (found["BEGIN"], found["PART"], found["END"], found["GET"], found["ABORT"]) == (1, 5, 1, 0, 0)
    proxy.forget()
    transfer.copy(at(s3, "d"), at(memory, "e"))
    found = kinds(proxy)
    assert (found["HEAD"], found["GET"]) == (1, 6)  # one of them asks whether the source is a file
    assert memory.get("e/f")[0] == DATA


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART, 4 * PART + 17])
def test_a_single_download_asks_for_no_byte_twice(s3: Mount, proxy: FaultProxy, memory: Mount, size: int) -> None:
    """What tells the size brings the first part; an empty file has none to bring, and is looked at."""
    s3.put("f", DATA[:size])
    proxy.forget()
    assert transfer.copy(at(s3, "f"), at(memory, "f")).bytes_copied == size
    assert memory.get("f")[0] == DATA[:size]
    asked = [one.headers["range"].removeprefix("bytes=").split("-") for one in proxy.log if one.method == "GET"]
    spans = sorted((int(first), min(int(last or size), size - 1)) for first, last in asked)
    parts = range(0, size, PART) if size >= parallel.LARGE else [0, PART] if size > PART else [0]
    ends = [*parts[1:], size]
    assert spans == [(start, end - 1) for start, end in zip(parts, ends, strict=True)]
    assert kinds(proxy)["HEAD"] == (size == 0)


@pytest.mark.parametrize("wanted", [None, True])
def test_t37_a_resumed_download_is_looked_at_first(
    s3: Mount, proxy: FaultProxy, memory: Mount, tmp_path: Path, wanted: bool | None
) -> None:
    """An earlier run may have brought the first part: nothing is asked for before that is known."""
    s3.put("f", DATA)
    proxy.forget()
    transfer.copy(at(s3, "f"), at(memory, "f"), resume=wanted, journal=str(tmp_path / "journal.sqlite"))
    assert memory.get("f")[0] == DATA
    assert [one.method for one in proxy.log] == ["HEAD", *["GET"] * 5]


@pytest.mark.parametrize("fault", ["reset", "truncate"])
@pytest.mark.parametrize("after", [0, 3 * MIB])
def test_t35_the_first_range_is_read_again(s3: Mount, proxy: FaultProxy, memory: Mount, fault: str, after: int) -> None:
    s3.put("f", DATA)
    proxy.forget()
    spoil = proxy.reset if fault == "reset" else proxy.truncate
    spoil(after, method="GET", contains="/f")
    transfer.copy(at(s3, "f"), at(memory, "e"))
    assert kinds(proxy)["GET"] == 6
    assert memory.get("e")[0] == DATA


@pytest.mark.parametrize("fault", ["reset", "lost", "busy", "damaged"])
def test_t35_a_part_is_sent_again_alone(s3: Mount, proxy: FaultProxy, memory: Mount, fault: str) -> None:
    memory.put("f", DATA)
    if fault == "reset":
        proxy.reset_upload(after=100_000, method="PUT", contains="partNumber=2")
    elif fault == "lost":
        proxy.lose_answer(method="PUT", contains="partNumber=2")
    else:
        status, code = (503, "SlowDown") if fault == "busy" else (400, "BadDigest")
        proxy.answer(status, code, method="PUT", contains="partNumber=2")
    told: list[TransferEvent] = []
    report = transfer.copy(at(memory, "f"), at(s3, "f"), on_event=told.append)
    assert (report.retries, report.files_copied) == (1, 1)
    retried = [(event.relpath, event.attempt, event.error is None) for event in told if event.kind == "retry"]
    assert retried == [("f", 1, False)]
    sent = Counter(one.query.partition("partNumber=")[2].partition("&")[0] for one in proxy.log if one.method == "PUT")
    assert sent == {"1": 1, "2": 2, "3": 1, "4": 1, "5": 1}
    assert s3.get("f")[0] == DATA


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_t35_a_range_is_read_again_alone(s3: Mount, proxy: FaultProxy, memory: Mount, fault: str) -> None:
    s3.put("d/f", DATA)
    proxy.forget()
    spoil = proxy.reset if fault == "reset" else proxy.truncate
    spoil(3 * MIB, method="GET", contains="/d/f")
    report = transfer.copy(at(s3, "d"), at(memory, "e"))
    assert report.retries == 1
    assert kinds(proxy)["GET"] == 7
    assert memory.get("e/f")[0] == DATA


def test_a_part_that_never_goes_ends_it(s3: Mount, proxy: FaultProxy, memory: Mount) -> None:
    """Its own turns are all: they are not multiplied by those of the file. The old target stays, nothing is open."""
    memory.put("f", DATA)
    s3.put("f", b"old")
    proxy.forget()
    proxy.answer(503, "SlowDown", times=None, method="PUT", contains="partNumber=3")
    told: list[TransferEvent] = []
    with pytest.raises(StorageUnavailableError, match="'s3:f'"):
        transfer.copy(at(memory, "f"), at(s3, "f"), retries=2, on_event=told.append)
    assert [event.attempt for event in told if event.kind in ("retry", "error")] == [1, 2, 1]
    assert proxy.count("PUT", "partNumber=3") == 3
    proxy.clear()
    assert s3.get("f")[0] == b"old"
    assert s3.unfinished("", older_than=-60) == []


def test_a_lost_end_is_known_again(s3: Mount, proxy: FaultProxy, memory: Mount) -> None:
    memory.put("f", DATA)
    proxy.lose_answer(method="POST", contains="uploadId=")
    report = transfer.copy(at(memory, "f"), at(s3, "f"), overwrite=False)
    assert (report.files_copied, report.retries, kinds(proxy)["PART"]) == (1, 1, 5)
    assert s3.get("f")[0] == DATA


def test_a_lost_beginning_is_found_by_cleanup(s3: Mount, proxy: FaultProxy, memory: Mount) -> None:
    """Nobody knows the id of that upload; `unfinished` tells it."""
    memory.put("f", DATA)
    proxy.lose_answer(method="POST", contains="uploads")
    assert transfer.copy(at(memory, "f"), at(s3, "f")).files_copied == 1
    assert [found.path for found in s3.unfinished("", older_than=-60)] == ["f"]
    for found in s3.unfinished("f", older_than=-60):
        s3.parts("f", part_size=1, token=found.token).discard()
    assert s3.unfinished("", older_than=-60) == []
    assert s3.get("f")[0] == DATA


# --- T32: the source changes ---


@contextmanager
def changed_after(mount: Mount, reads: int, change: Callable[[], object]) -> Iterator[Mount]:
    """The same mount, whose source somebody changes after so many readings, once."""
    left = count(1)

    def watch(name: str) -> None:
        if name == "reader.read" and next(left) == reads:
            change()

    yield Mount(mount.name, FaultyBackend(mount.backend, FaultPlan(watch=watch)))


@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_t32_a_source_that_changes(
    made: Callable[[str, str], Mount], small: dict[str, int], moved: list[str], kind: str
) -> None:
    """No mixture of two states, ever: the whole file is copied anew, or nothing."""
    source, target = made("s", kind), memory_mount("t")
    small["part_size"] = 16_000
    newer = bytes(reversed(SMALL))
    source.put("f", SMALL)
    target.put("f", b"old")
    with changed_after(source, 2, lambda: source.put("f", newer)) as watched, pytest.raises(StorageConflictError):
        transfer.copy(at(watched, "f"), at(target, "f"), retries=0, **small)
    assert target.get("f")[0] == b"old"
    source.put("f", SMALL)
    with changed_after(source, 2, lambda: source.put("f", newer)) as watched:
        report = transfer.copy(at(watched, "f"), at(target, "f"), **small)
    assert (report.retries, target.get("f")[0]) == (1, newer)
    assert moved == ["f"] * 3
    assert target.unfinished("", older_than=-60) == []


# --- verification ---


def test_t8_hashes_of_parts_prove_the_whole(made: Callable[[str, str], Mount], memory: Mount) -> None:
    """GCS tells a CRC-32C of the whole: that of what came, and of what was sent, follows from those of the parts."""
    gcs = made("g", "gcs")
    memory.put("f", DATA)
    assert transfer.copy(at(memory, "f"), at(gcs, "f")).verified_checksum == 1
    assert transfer.copy(at(gcs, "f"), at(memory, "g")).verified_checksum == 1


@pytest.mark.parametrize("target", ["local", "memory"])
def test_t8_a_stored_md5_is_held_against_parts(
    made: Callable[[str, str], Mount], moved: list[str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It follows from no hashes of parts: what is staged is hashed in order. Without one the size is all there is."""
    s3, there = made("s", "s3"), made("t", target)
    s3.put("f", DATA)
    assert "md5" in s3.stat("f").hashes
    report = transfer.copy(at(s3, "f"), at(there, "f"))
    assert (report.verified_checksum, report.verified_size) == (1, 0)
    transfer.copy(at(there, "f"), at(s3, "g"))
    assert not s3.stat("g").hashes
    report = transfer.copy(at(s3, "g"), at(there, "g"))
    assert (report.verified_checksum, report.verified_size) == (0, 1)
    report = transfer.copy(at(s3, "f"), at(there, "h"), verify="size")
    assert (report.verified_checksum, report.verified_size) == (0, 1)
    there.put("f", b"old")
    monkeypatch.setattr(parallel.Parts, "_chunks", damaged(parallel.Parts._chunks))
    with pytest.raises(StorageCorruptedError, match="its stored hash says otherwise"):
        transfer.copy(at(s3, "f"), at(there, "f"), retries=0)
    assert there.get("f")[0] == b"old"
    assert there.unfinished("", older_than=-60) == []
    assert moved == ["f", "g", "g", "h", "f"]


def damaged(chunks: Any) -> Any:
    """One bit of the second part is another."""

    def read(self: parallel.Parts, run: Run, start: int, end: int) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks(self, run, start, end)):
            yield chunk[:-1] + bytes([chunk[-1] ^ 1]) if start == PART and number == 3 else chunk

    return read


def test_damage_on_the_way_is_found(
    made: Callable[[str, str], Mount], memory: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcs = made("g", "gcs")
    gcs.put("f", DATA)
    memory.put("f", b"old")
    monkeypatch.setattr(parallel.Parts, "_chunks", damaged(parallel.Parts._chunks))
    with pytest.raises(StorageCorruptedError):
        transfer.copy(at(gcs, "f"), at(memory, "f"))
    assert memory.get("f")[0] == b"old"
    assert memory.unfinished("", older_than=-60) == []


def test_read_goes_in_one_stream(local: Mount, memory: Mount, moved: list[str]) -> None:
    local.put("f", DATA)
    assert transfer.copy(at(local, "f"), at(memory, "f"), verify="read").verified_checksum == 1
    assert moved == []


# --- faults at every call, and the end before the end ---


@pytest.mark.parametrize("kind", ["fail", "lost"])
@pytest.mark.parametrize("retryable", [False, True])
@pytest.mark.parametrize("where", ["memory", "local"])
def test_a_fault_at_every_call(small: dict[str, int], tmp_path: Path, kind: Any, retryable: bool, where: str) -> None:
    """The old target stays or the new one is whole; nothing is left; the report adds up."""
    source = memory_mount("s")
    source.put("f", SMALL)
    error = (lambda: StorageUnavailableError("injected")) if retryable else None
    for number in range(1, 30):
        inner: StorageBackend = MemoryBackend(MemoryOptions())
        if where == "local":
            (tmp_path / str(number)).mkdir()
            inner = LocalStorage(LocalOptions(path=str(tmp_path / str(number))))
        inner.put("f", b"old")
        fault = Fault(number, kind) if error is None else Fault(number, kind, error)
        plan = FaultPlan(fault)
        target = Mount("t", FaultyBackend(inner, plan))
        try:
            report = transfer.copy(at(source, "f"), at(target, "f"), errors="report", **small)
            assert report.files_total == report.files_copied + report.files_failed == 1
            copied = report.files_copied == 1
        except StorageError:  # what the target is was asked in vain, before the first byte
            copied = False
        content = inner.get("f")[0]
        assert content in ((SMALL,) if copied else (b"old", SMALL))
        assert list(inner.unfinished("", older_than=-60)) == []
        if retryable:
            assert (copied, content) == (True, SMALL)
        if not plan.struck:
            break
    else:
        pytest.fail("it never came to an end")
    assert number > 5


def test_exists_is_judged_at_the_end(small: dict[str, int], memory: Mount, local: Mount) -> None:
    """T41: somebody else's file that came during the copy stays."""
    local.put("f", SMALL)
    with changed_after(local, 3, lambda: memory.put("f", b"theirs")) as watched, pytest.raises(StorageExistsError):
        transfer.copy(at(watched, "f"), at(memory, "f"), overwrite=False, **small)
    assert memory.get("f")[0] == b"theirs"
    assert memory.unfinished("", older_than=-60) == []


def test_t36_cancel(small: dict[str, int], memory: Mount, local: Mount) -> None:
    cancel = threading.Event()
    memory.put("f", SMALL)
    local.put("f", b"old")
    with changed_after(memory, 3, cancel.set) as watched, pytest.raises((TransferCancelled, StorageError)):
        transfer.copy(at(watched, "f"), at(local, "f"), cancel=cancel, bandwidth=100_000, **small)
    assert local.get("f")[0] == b"old"
    assert local.unfinished("", older_than=-60) == []


@pytest.mark.parametrize("verify", ["none", "checksum"])
def test_a_thread_that_is_cancelled_by_its_driver_ends_the_file(
    small: dict[str, Any], memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch, verify: str
) -> None:
    """What a driver raises may be no `Exception`; without its part the file is not whole."""
    memory.put("f", SMALL)
    local.put("f", b"old")
    cancelled, real = threading.Event(), parallel.Parts._part

    def part(self: parallel.Parts, *args: Any) -> None:
        if threading.current_thread().name == "genro-transfer-part":
            cancelled.set()
            raise asyncio.CancelledError
        assert cancelled.wait(60)
        real(self, *args)

    monkeypatch.setattr(parallel.Parts, "_part", part)
    with pytest.raises(asyncio.CancelledError):
        transfer.copy(at(memory, "f"), at(local, "f"), verify=verify, **small)
    assert local.get("f")[0] == b"old"


def test_threads_that_cannot_be_had_leave_nobody_at_work(
    small: dict[str, int], memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.put("f", SMALL)
    local.put("f", b"old")
    crew: list[threading.Thread] = []

    def thread(name: str, work: Callable[[], object]) -> threading.Thread:
        one = flow.thread(name, work)
        crew.append(one)
        if len(crew) > 1:
            monkeypatch.setattr(one, "start", refused)
        return one

    def refused() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel, "thread", thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        transfer.copy(at(memory, "f"), at(local, "f"), **small)
    assert [one.is_alive() for one in crew] == [False, False]
    assert local.get("f")[0] == b"old"
    assert local.unfinished("", older_than=-60) == []


def test_bandwidth_is_that_of_all_parts(small: dict[str, int], memory: Mount, local: Mount) -> None:
    """T46: the parts of a file do not multiply it."""
    memory.put("f", SMALL)
    report = transfer.copy(at(memory, "f"), at(local, "f"), bandwidth=100_000, **small)
    assert report.duration >= 1.2  # 250 kB, of which one second's worth may go at once


# --- T42 ---


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_t42_memory(seaweedfs: S3Endpoint, tmp_path: Path, soak: Callable[[int], int], direction: str) -> None:
    """At most 64 MiB for a file of 2 GiB (with GENRO_SOAK=1)."""
    import json

    entry = {"name": "s", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket())}
    mounts = [{"name": "l", "type": "local", "path": str(tmp_path)}, entry]
    way = ["l", "s"] if direction == "up" else ["s", "l"]
    script = Path(__file__).parents[1] / "memory_growth.py"
    size = str(max(256, soak(2048)))
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(mounts), *way, size], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64 * MIB
