"""Transfers that were stopped or failed go on where they were, and what nobody goes on with is found and removed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import StorageManager, transfer
from genro_storage.backends.local import LocalStorage
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageTransferError,
    StorageUnavailableError,
    TransferCancelled,
)
from genro_storage.journal import Job, Journal
from genro_storage.mount import Level, Mount
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.testing import Fault, FaultPlan, FaultyBackend
from genro_storage.transfer import CopyOptions, TransferReport, crew, parallel
from genro_storage.transfer.flow import Flow
from genro_storage.transfer.recover import recover, seconds_of

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at, files

DATA = random.Random(7).randbytes(640_000)
PART = 64_000
SMALL: dict[str, Any] = {"part_size": PART, "parts": 2, "server_side": False}


class Stop:
    """Set once so many parts were stored, or files committed."""

    def __init__(self, after: int) -> None:
        self.left = after

    def is_set(self) -> bool:
        return self.left <= 0


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything above 100 kB is large."""
    monkeypatch.setattr(parallel, "LARGE", 100_000)
    monkeypatch.setattr("genro_storage.transfer.stream.SMALL", 50_000)
    monkeypatch.setattr("genro_storage.transfer.pool.SMALL", 50_000)
    monkeypatch.setattr("genro_storage.transfer.crew.SMALL", 50_000)


@pytest.fixture
def journal() -> Journal:
    return Journal(MemoryRecordStore())


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of the parts that were read from the source."""
    seen: list[int] = []
    read = parallel.Parts._part

    def spy(self: parallel.Parts, writer: Any, start: int, *how: Any) -> None:
        seen.append(start)
        read(self, writer, start, *how)

    monkeypatch.setattr(parallel.Parts, "_part", spy)
    return seen


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Stop]:
    """A wish to stop once so many parts are in the journal."""

    def make(after: int) -> Stop:
        stop = Stop(after)
        receipt = Job.receipt

        def count(self: Job, path: str, offset: int, text: str) -> None:
            receipt(self, path, offset, text)
            stop.left -= 1
            if stop.is_set():
                noticed.wait(60)  # no more parts than these and what is under way

        def cancel(self: Flow) -> None:
            ended(self)
            noticed.set()

        noticed, ended = threading.Event(), Flow.cancel
        monkeypatch.setattr(Job, "receipt", count)
        monkeypatch.setattr(Flow, "cancel", cancel)
        return stop

    return make


def half(journal: Journal, stopping: Callable[[int], Stop], source: Mount, target: Mount, **fields: Any) -> None:
    """Copies four of ten parts of `source:f` to `target:g`."""
    with pytest.raises(TransferCancelled):
        transfer.copy(at(source, "f"), at(target, "g"), journal=journal, cancel=stopping(4), **SMALL, **fields)
    assert not target.exists("g")


def copied(journal: Journal, source: Mount, target: Mount, **fields: Any) -> TransferReport:
    return transfer.copy(at(source, "f"), at(target, "g"), journal=journal, **SMALL, **fields)


# --- one large file ---


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_t37_a_large_file_goes_on(
    tmp_path: Path, journal: Journal, parts: list[int], stopping: Callable[[int], Stop], kind: str
) -> None:
    source = memory_mount("s")
    target = memory_mount("t") if kind == "memory" else local_mount("t", tmp_path / "t")
    source.put("f", DATA)
    half(journal, stopping, source, target)
    assert len(target.unfinished("", older_than=-60)) == 1
    assert files(target) == {}  # hidden
    before = set(parts)
    assert len(before) < 10
    parts.clear()
    report = copied(journal, source, target)
    assert target.get("g")[0] == DATA
    assert (report.resumed, report.files_copied, report.bytes_copied) == (True, 1, len(DATA))
    assert report.bytes_resumed == len(DATA) - PART * len(parts) >= 4 * PART
    assert target.unfinished("", older_than=-60) == []
    assert journal.jobs() == []


def test_stopped_again_and_again(
    journal: Journal, memory: Mount, local: Mount, parts: list[int], stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    runs = 0
    while True:
        runs += 1
        try:
            copied(journal, local, memory, cancel=stopping(2))
            break
        except TransferCancelled:  # on a slow machine after the commit, before it was remembered
            assert memory.exists("g") or len(memory.unfinished("", older_than=-60)) == 1
    assert 2 <= runs <= 6
    assert len(parts) <= 10 + 2 * runs
    assert memory.get("g")[0] == DATA
    assert journal.jobs() == []


def test_t37_other_speeds_are_the_same_job(
    journal: Journal, memory: Mount, local: Mount, stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    report = transfer.copy(
        at(local, "f"), at(memory, "g"), journal=journal, part_size=100_000, parts=3, concurrency=2, retries=1
    )
    assert report.bytes_resumed >= 4 * PART
    assert memory.get("g")[0] == DATA


def test_other_options_are_another_job(
    journal: Journal, memory: Mount, local: Mount, stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    assert copied(journal, local, memory, preserve=("mtime",)).bytes_resumed == 0
    assert copied(journal, local, memory).bytes_resumed >= 4 * PART


def test_t38_a_source_that_changed_begins_anew(
    journal: Journal, memory: Mount, local: Mount, stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    other = random.Random(8).randbytes(len(DATA))
    local.put("f", other)
    report = copied(journal, local, memory)
    assert (report.resumed, report.bytes_resumed) == (True, 0)
    assert memory.get("g")[0] == other
    assert memory.unfinished("", older_than=-60) == []


def test_t38_an_upload_that_is_gone_begins_anew(
    journal: Journal, memory: Mount, local: Mount, stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    (found,) = memory.unfinished("", older_than=-60)
    memory.parts(found.path, part_size=PART, token=found.token).discard()
    assert copied(journal, local, memory).bytes_resumed == 0
    assert memory.get("g")[0] == DATA


def test_t38_ranges_of_a_part_file_are_hashed_again(
    tmp_path: Path, journal: Journal, memory: Mount, parts: list[int], stopping: Callable[[int], Stop]
) -> None:
    target = local_mount("t", tmp_path / "t")
    memory.put("f", DATA)
    half(journal, stopping, memory, target)
    (hidden,) = (tmp_path / "t").glob(".genro-*")
    (info,) = journal.jobs()
    (staged,) = journal.staged(info.id)
    spoilt = min(staged.receipts)
    with hidden.open("r+b") as file:
        file.seek(spoilt)
        file.write(b"spoilt")
    parts.clear()
    copied(journal, memory, target)
    assert spoilt in parts
    assert len(parts) == 10 - len(staged.receipts) + 1
    assert target.get("g")[0] == DATA


def test_t38_part_files_are_hashed_without_crc32c(
    tmp_path: Path, journal: Journal, memory: Mount, stopping: Callable[[int], Stop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genro_storage.hashing.computable", lambda name: name != "crc32c")
    target = local_mount("t", tmp_path / "t")
    memory.put("f", DATA)
    half(journal, stopping, memory, target)
    (hidden,) = (tmp_path / "t").glob(".genro-*")
    (info,) = journal.jobs()
    (staged,) = journal.staged(info.id)
    with hidden.open("r+b") as file:
        file.seek(min(staged.receipts) + 5)
        file.write(b"spoilt")
    report = copied(journal, memory, target)
    assert target.get("g")[0] == DATA
    assert report.bytes_resumed == PART * (len(staged.receipts) - 1)


def test_killed_after_the_commit_and_before_the_journal_knew(
    tmp_path: Path, journal: Journal, memory: Mount, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is there and the upload gone: it is recognised by the parts it was made of."""
    target = local_mount("t", tmp_path / "t")
    memory.put("f", DATA)

    def killed(self: Job, *args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Job, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            copied(journal, memory, target)
    parts.clear()
    report = copied(journal, memory, target)
    assert (parts, report.bytes_resumed) == ([], len(DATA))
    assert journal.jobs() == []


def test_killed_after_the_commit_and_something_else_is_there(
    journal: Journal, memory: Mount, local: Mount, parts: list[int], stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    (info,) = journal.jobs()
    (staged,) = journal.staged(info.id)
    writer = memory.parts("g", part_size=PART, token=staged.token, receipts=staged.receipts)
    writer.discard()
    memory.put("g", bytes(len(DATA)))
    parts.clear()
    assert copied(journal, local, memory).bytes_resumed == 0
    assert (len(parts), memory.get("g")[0]) == (10, DATA)


def test_an_error_of_the_content_leaves_nothing(
    journal: Journal, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven wrong is not gone on with."""
    memory = memory_mount("t")
    local.put("f", DATA)

    def wrong(self: object, size: int, digests: object) -> None:
        raise StorageCorruptedError("wrong")

    monkeypatch.setattr("genro_storage.transfer.proof.Proof.judge_parts", wrong)
    with pytest.raises(StorageCorruptedError):
        copied(journal, local, memory, retries=0)
    assert memory.unfinished("", older_than=-60) == []
    (info,) = journal.jobs()
    assert list(journal.staged(info.id)) == []


@pytest.mark.parametrize("_", range(10))
def test_a_storage_out_of_reach_keeps_what_it_has(journal: Journal, local: Mount, _: int) -> None:
    local.put("f", DATA)
    inner = memory_mount("t")
    plan = FaultPlan(Fault(6, on="parts.put", times=99, error=_unreachable))
    faulty = Mount("t", FaultyBackend(inner.backend, plan))
    with pytest.raises(StorageUnavailableError):
        copied(journal, local, faulty, retries=0)
    assert not inner.exists("g")
    (info,) = journal.jobs()
    (staged,) = journal.staged(info.id)
    assert {json.loads(receipt)[0] for receipt in staged.receipts.values()} == {PART}  # none by half
    report = copied(journal, local, Mount("t", inner.backend))
    assert report.bytes_resumed >= 4 * PART
    assert inner.get("g")[0] == DATA


def _unreachable() -> Exception:
    return StorageUnavailableError("no answer")


def test_without_resume_nothing_is_left(
    memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch, parts: list[int]
) -> None:
    local.put("f", DATA)
    stop = Stop(4)
    read = parallel.Parts._part

    def count(self: parallel.Parts, writer: Any, start: int, *how: Any) -> None:
        read(self, writer, start, *how)
        stop.left -= 1

    monkeypatch.setattr(parallel.Parts, "_part", count)
    with pytest.raises(TransferCancelled):
        transfer.copy(at(local, "f"), at(memory, "g"), cancel=stop, bandwidth=1_000_000, **SMALL)
    assert memory.unfinished("", older_than=-60) == []
    assert files(memory) == {}


# --- trees ---


def plant(mount: Mount, count: int = 60) -> dict[str, bytes]:
    made = {f"{number % 7}/{number:03}": b"%d" % number * 9 for number in range(count)}
    for path, data in made.items():
        mount.put(f"d/{path}", data)
    return made


def interrupted(operation: str, source: Mount, target: Mount, after: int = 20, **fields: Any) -> None:
    """Stops after so many files."""
    seen = 0

    def stop(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        getattr(transfer, operation)(at(source, "d"), at(target, "e"), on_file=stop, concurrency=2, **fields)


@pytest.mark.parametrize("operation", ["copy", "move"])
def test_t37_a_tree_goes_on(journal: Journal, memory: Mount, local: Mount, operation: str) -> None:
    made = plant(local)
    interrupted(operation, local, memory, journal=journal)
    before = {path: memory.stat(f"e/{path}").etag for path in files(memory, "e")}
    report = getattr(transfer, operation)(at(local, "d"), at(memory, "e"), journal=journal)
    assert files(memory, "e") == made
    after = {path: memory.stat(f"e/{path}").etag for path in before}
    assert before == after  # none was written again
    if operation == "move":
        assert files(local) == {}
    else:
        assert report.files_copied == len(made)
        assert report.bytes_resumed == sum(len(made[path]) for path in before)
    assert journal.jobs() == []


def test_t33_directories_that_the_interrupted_run_emptied_go(
    journal: Journal, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local)
    for name in ("d/empty/deep", "d/kept/empty"):
        local.mkdir(name, parents=True)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("genro_storage.transfer.moving.Removal.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer.move(at(local, "d"), at(memory, "e"), journal=journal, exclude="kept")
    assert (files(local), local.is_dir("d/3")) == ({}, True)
    transfer.move(at(local, "d"), at(memory, "e"), journal=journal, exclude="kept")
    assert [entry.path for page in local.walk("") for entry in page] == ["d", "d/kept", "d/kept/empty"]
    assert memory.is_dir("e/empty/deep")
    assert journal.jobs() == []


def test_what_was_there_says_nothing_of_the_speed(journal: Journal, memory: Mount, local: Mount) -> None:
    for number in range(40):
        local.put(f"d/{number:02}", bytes(40_000))
    interrupted("copy", local, memory, journal=journal)
    rates = []
    report = transfer.copy(
        at(local, "d"), at(memory, "e"), journal=journal, on_event=lambda event: rates.append(event.rate), retries=0
    )
    left = report.bytes_copied - report.bytes_resumed
    assert report.bytes_resumed > 0
    assert report.rate == pytest.approx(left / report.duration)
    assert rates[-1] * report.duration <= 1.5 * left + 40_000


def test_t33_a_source_that_was_copied_and_not_yet_removed_goes(
    journal: Journal, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plant(local)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("genro_storage.transfer.moving.Removal.proven", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer.move(at(local, "d"), at(memory, "e"), journal=journal, concurrency=1)
    assert files(local, "d") == made
    before = {path: memory.stat(f"e/{path}").etag for path in files(memory, "e")}
    assert len(before) >= 1
    transfer.move(at(local, "d"), at(memory, "e"), journal=journal)
    assert files(memory, "e") == made
    assert files(local) == {}
    assert {path: memory.stat(f"e/{path}").etag for path in before} == before


def test_t38_what_changed_on_either_side_goes_again(journal: Journal, memory: Mount, local: Mount) -> None:
    made = plant(local)
    interrupted("copy", local, memory, journal=journal)
    done = sorted(files(memory, "e"))
    local.put(f"d/{done[0]}", b"changed")
    memory.put(f"e/{done[1]}", bytes(len(made[done[1]])))
    memory.delete(f"e/{done[2]}")
    report = transfer.copy(at(local, "d"), at(memory, "e"), journal=journal)
    assert files(memory, "e") == {**made, done[0]: b"changed"}
    assert report.bytes_resumed == sum(len(made[path]) for path in done[3:])


def test_a_listing_that_tells_no_etag_is_no_reason_to_copy_again(
    journal: Journal, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plant(local)
    target, store = objects("t")
    listed = store._listed
    monkeypatch.setattr(store, "_listed", lambda stat: replace(listed(stat), etag=None, hashes={}))
    interrupted("copy", local, target, journal=journal)
    before = sum(name == "put" for name, _ in store.calls)
    transfer.copy(at(local, "d"), at(target, "e"), journal=journal)
    assert sum(name == "put" for name, _ in store.calls) == len(made) >= before
    assert {path: store.keys[f"e/{path}"][0] for path in made} == made


@pytest.mark.parametrize("ability", ["atomic", "none"])
def test_t03_what_must_not_be_overwritten_is_ours(
    journal: Journal, local: Mount, monkeypatch: pytest.MonkeyPatch, ability: str
) -> None:
    """What the interrupted run made is no obstacle, nor is what it could not write down; what others made is one."""
    made = plant(local)
    target, store = objects("t", if_absent=ability)
    other = max(made)
    store.set(f"e/{other}", bytes(len(made[other])))
    with monkeypatch.context() as patched:
        commit = Job.commit

        def late(self: Job, path: str, done: Any) -> None:
            if path[-1] != "7":
                commit(self, path, done)

        patched.setattr(Job, "commit", late)
        interrupted("copy", local, target, journal=journal, overwrite=False)
    assert {path[-1] for path in files(target, "e")} > {"7"}
    with pytest.raises(StorageTransferError, match="1 failed") as caught:
        transfer.copy(at(local, "d"), at(target, "e"), journal=journal, overwrite=False)
    assert caught.value.report is not None
    assert [failure.relpath for failure in caught.value.report.failures] == [other]
    assert isinstance(caught.value.__cause__, StorageExistsError)
    assert files(target, "e") == {**made, other: bytes(len(made[other]))}


def test_failed_entries_keep_the_job(journal: Journal, memory: Mount, tmp_path: Path) -> None:
    source = local_mount("s", tmp_path / "s")
    made = plant(source)
    faulty = Mount("s", FaultyBackend(source.backend, FaultPlan(Fault(30, on="get"))))
    with pytest.raises(StorageTransferError):
        transfer.copy(at(faulty, "d"), at(memory, "e"), journal=journal, retries=0, server_side=False)
    report = transfer.copy(at(source, "d"), at(memory, "e"), journal=journal, server_side=False)
    assert files(memory, "e") == made
    assert report.resumed
    assert journal.jobs() == []


def test_an_executor_resumes_files(journal: Journal, local: Mount, other: Mount) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made = plant(local)
    with ThreadPoolExecutor(2) as pool:
        interrupted("copy", local, other, journal=journal, executor=pool, server_side=False)
        before = {path: other.stat(f"e/{path}").etag for path in files(other, "e")}
        report = transfer.copy(
            at(local, "d"), at(other, "e"), journal=journal, executor=pool, concurrency=2, server_side=False
        )
    assert files(other, "e") == made
    assert {path: other.stat(f"e/{path}").etag for path in before} == before
    assert report.bytes_resumed == sum(len(made[path]) for path in before) > 0


# --- the job and its owner ---


def test_two_owners(journal: Journal, memory: Mount, local: Mount) -> None:
    plant(local)

    def again(_: object) -> None:
        transfer.copy(at(local, "d"), at(memory, "e"), journal=journal)

    with pytest.raises(StorageConflictError, match="is being done by process"):
        transfer.copy(at(local, "d"), at(memory, "e"), journal=journal, on_file=again)


RUN = Path(__file__).with_name("resumed.py")


def started(mounts: dict[str, Any], operation: str, source: str, target: str, **fields: Any) -> subprocess.Popen[str]:
    """The same call in a process of its own."""
    told = {"mounts": mounts, "operation": operation, "source": source, "target": target, "fields": fields}
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); exec(open({str(RUN)!r}).read())"]
    return subprocess.Popen([*command, json.dumps(told)], stdout=subprocess.PIPE, text=True)


def test_another_process_owns_it_until_it_dies(tmp_path: Path) -> None:
    mounts = {name: {"type": "local", "path": str(tmp_path / name)} for name in "ab"}
    local_mount("b", tmp_path / "b")
    made = plant(local_mount("a", tmp_path / "a"))
    kept = str(tmp_path / "journal.sqlite")
    process = started(mounts, "copy", "a:d", "b:e", journal=kept, bandwidth=40, server_side=False)
    try:
        while not list((tmp_path / "b").rglob("0*")):
            time.sleep(0.02)
        with StorageManager(mounts) as storage:
            with pytest.raises(StorageConflictError, match=f"process {process.pid} on"):
                storage.copy("a:d", "b:e", journal=kept, server_side=False)
            process.kill()
            process.wait()
            report = storage.copy("a:d", "b:e", journal=kept, server_side=False)
            assert report.resumed
            assert files(storage.node("b:").mount, "e") == made
    finally:
        process.kill()
        process.wait()


def test_a_job_that_was_taken_over_stops(
    journal: Journal, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local)

    def taken(self: Job, *args: object) -> None:
        raise StorageConflictError("it was taken over by another process")

    monkeypatch.setattr(Job, "commit", taken)
    with pytest.raises(StorageConflictError, match="taken over"):
        transfer.copy(at(local, "d"), at(memory, "e"), journal=journal)


# --- journals ---


def test_who_does_not_resume_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").write_bytes(bytes(40 << 20))
    code = """
import sys
from genro_storage import StorageManager
with StorageManager({"a": {"type": "local", "path": sys.argv[1]}, "m": {"type": "memory"}}) as storage:
    storage.copy("a:", "m:x")
    storage.copy("a:f", "m:f")
    storage.sync("m:x", "m:x2", dry_run=True)
    storage.sync("m:x", "m:x2", resume=False)
    loaded = [name for name in sys.modules if name == "sqlite3" or name.startswith("genro_storage.records")]
    storage.node("a:small").write("1")
    storage.copy("a:small", "m:s", resume=True)
    storage.sync("a:", "m:x", skip="exists", include="f")
    print(loaded, "sqlite3" in sys.modules)
    storage.copy("a:f", "m:f", resume=True)
    print("sqlite3" in sys.modules)
"""
    root = str(Path(__file__).parents[2])
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}", str(tmp_path / "a")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[] False\nTrue\n"


def test_the_default_journal(tmp_path: Path, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synchronisation resumes by itself; it opens no journal where there is nothing to copy."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = plant(local)
    path = tmp_path / "state/genro_storage/journal.sqlite"
    transfer.copy(at(local, "d"), at(memory, "x"))
    assert not path.exists()
    interrupted("sync", local, memory, skip="never")
    assert path.exists()
    report = transfer.sync(at(local, "d"), at(memory, "e"), skip="never")
    assert (report.resumed, report.files_copied, report.bytes_resumed > 0) == (True, len(made), True)
    path.unlink()
    assert transfer.sync(at(local, "d"), at(memory, "e")).files_copied == 0
    assert not path.exists()


def test_no_default_journal_is_a_warning(
    tmp_path: Path, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    made = plant(local)
    report = transfer.sync(at(local, "d"), at(memory, "e"))
    assert files(memory, "e") == made
    (warning,) = report.warnings
    assert f"without resume: the journal '{tmp_path}/file/genro_storage/journal.sqlite' cannot be used" in warning


def test_a_python_without_sqlite(local: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(local)
    monkeypatch.setitem(sys.modules, "genro_storage.records.sqlite", None)
    monkeypatch.setattr("genro_storage.journal._defaults", {})
    assert "without resume" in transfer.sync(at(local, "d"), at(memory, "e")).warnings[0]


@pytest.mark.parametrize("fault", ["damaged", "folder", "missing"])
def test_a_journal_that_was_asked_for_is_needed(tmp_path: Path, memory: Mount, local: Mount, fault: str) -> None:
    """Nothing is written where what was asked for cannot be had; the error names the journal."""
    plant(local)
    path = tmp_path / fault / "journal.sqlite" if fault == "missing" else tmp_path / fault
    if fault == "damaged":
        path.write_bytes(b"no database " * 1000)
    elif fault == "folder":
        path.mkdir()
    with pytest.raises(StorageError, match=f"the journal '{path}' cannot be used"):
        transfer.copy(at(local, "d"), at(memory, "e"), journal=path)
    assert files(memory) == {}
    with pytest.raises(StorageConfigError if fault != "folder" else StorageUnavailableError):
        transfer.copy(at(local, "d"), at(memory, "e"), journal=str(path))


def test_a_journal_that_fails_on_the_way_loses_nothing(
    journal: Journal, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plant(local)
    local.put("d/large", DATA)
    monkeypatch.setattr(Job, "receipt", _full)
    report = transfer.copy(at(local, "d"), at(memory, "e"), journal=journal, **SMALL)
    assert files(memory, "e") == {**made, "large": DATA}
    (warning,) = report.warnings
    assert "without resume from here on" in warning
    assert "the disk is full" in warning
    assert memory.unfinished("", older_than=-60) == []


def _full(self: Job, *args: object) -> None:
    raise StorageUnavailableError("the disk is full")


def test_options_are_judged(tmp_path: Path, memory: Mount, local: Mount) -> None:
    with pytest.raises(ValueError, match="resume is True or False, not 'yes'"):
        CopyOptions(resume="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="journal is a RecordStore, a Journal or the path of a file, not 3"):
        CopyOptions(journal=3)
    with pytest.raises(ValueError, match="only with resume=True"):
        CopyOptions(journal="x", resume=False)
    with pytest.raises(TypeError, match="a comparison takes no resume"):
        transfer.compare(at(local, ""), at(memory, ""), resume=True)
    plant(local)
    store = MemoryRecordStore()
    transfer.copy(at(local, "d"), at(memory, "e"), journal=store)
    interrupted("copy", local, memory, journal=store)
    assert transfer.copy(at(local, "d"), at(memory, "e"), journal=store).resumed


def test_t40_a_dry_run_keeps_no_journal(tmp_path: Path, memory: Mount, local: Mount) -> None:
    plant(local)
    transfer.copy(at(local, "d"), at(memory, "e"), journal=tmp_path / "journal.sqlite", dry_run=True)
    assert not (tmp_path / "journal.sqlite").exists()


# --- what stays behind ---


def test_t39_recover(
    journal: Journal, tmp_path: Path, stopping: Callable[[int], Stop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old enough goes, with the rows that know it; what a transfer may go on with stays."""
    mounts = {"s": {"type": "memory"}, "t": {"type": "memory"}, "l": {"type": "local", "path": str(tmp_path)}}
    with StorageManager(mounts) as storage:
        source, target, local = (storage.node(f"{name}:").mount for name in "stl")
        source.put("f", DATA)
        half(journal, stopping, source, target)
        local.parts("a/b", part_size=PART).put(0, bytes(PART))  # nobody knows of it
        assert not storage.node("l:a").children()
        told = storage.recover(journal=journal)
        assert (told.aborted, told.jobs, told.ok) == ([], 0, True)
        told = storage.recover(journal=journal, older_than=0, dry_run=True)
        assert sorted(one.fullpath for one in told.aborted) == ["l:a/b", "t:g"]
        assert str(told) == "2 leftovers would be removed, 1 transfer would be forgotten"
        assert len(target.unfinished("", older_than=-60)) == 1
        monkeypatch.setattr("genro_storage.journal.journal.Journal.jobs", _nothing_is_old(Journal.jobs))
        assert [one.fullpath for one in storage.recover(journal=journal, older_than=0).aborted] == ["l:a/b"]
        monkeypatch.undo()
        told = storage.recover(journal=journal, older_than=0)
        assert ([one.fullpath for one in told.aborted], told.jobs) == (["t:g"], 1)
        assert str(told) == "1 leftover removed, 1 transfer forgotten"
        assert json.loads(json.dumps(told.to_dict()))["aborted"][0]["path"] == "t:g"
        for mount in (target, local):
            assert mount.unfinished("", older_than=-60) == []
        assert journal.jobs() == []


def _nothing_is_old(jobs: Any) -> Any:
    return lambda self, *, older_than=-1.0: [] if older_than >= 0 else jobs(self)


def test_recover_leaves_living_jobs_alone(
    journal: Journal, memory: Mount, local: Mount, stopping: Callable[[int], Stop]
) -> None:
    local.put("f", DATA)
    half(journal, stopping, local, memory)
    (info,) = journal.jobs()
    job = journal.open(info.kind, info.source, info.target, _identity(journal, local, memory))
    assert job.resumed
    assert recover([memory], lambda text: at(memory, text), older_than=0, journal=journal).aborted == []
    job.release()
    assert len(recover([memory], _find(memory), older_than=0, journal=journal).aborted) == 1


def _find(mount: Mount) -> Callable[[str], Any]:
    return lambda text: at(mount, text.partition(":")[2])


def _identity(journal: Journal, source: Mount, target: Mount) -> dict[str, Any]:
    from genro_storage.transfer.landing import landed
    from genro_storage.transfer.resume import Resume

    options = CopyOptions(journal=journal, **SMALL)
    landing = landed(at(source, "f"), at(target, "g"), options, slash=False)
    return Resume("copy", landing, options, TransferReport("copy", "", "", ""), crew.flow_of(options))._identity()


def test_recover_tells_what_it_could_not_do(local: Mount, tmp_path: Path) -> None:
    class Unreachable(LocalStorage):
        def unfinished(self, path: str, *, older_than: float) -> Any:
            raise StorageUnavailableError("no answer")

    broken = Mount("broken", Unreachable(local.backend.options))
    local.parts("x", part_size=PART).put(0, bytes(PART))
    told = recover([broken, local], _find(local), older_than=0, journal=Journal(MemoryRecordStore()))
    assert [path for path, _ in told.failures] == ["broken:"]
    assert [one.path for one in told.aborted] == ["x"]
    assert str(told).endswith("1 failed")


def test_recover_where_there_are_no_parts(local: Mount) -> None:
    """A file server: the hidden file itself goes. A mount that is read-only is left alone."""

    class Server(LocalStorage):
        @property
        def abilities(self) -> frozenset[str]:
            return super().abilities - {"parts"}

    hidden = Path(local.local_path("") or "") / "d/.genro-w-0123456789abcdef"
    hidden.parent.mkdir()
    hidden.write_bytes(b"half")
    server = Server(local.backend.options)
    journal = Journal(MemoryRecordStore())
    told = recover([Mount("r", server, level=Level.readonly)], _find(local), older_than=0, journal=journal)
    assert (told.aborted, told.ok, hidden.exists()) == ([], True, True)
    told = recover([Mount("s", server, level=Level.readwrite)], _find(local), older_than=0, journal=journal)
    assert ([one.path for one in told.aborted], hidden.exists()) == ([f"d/{hidden.name}"], False)


def test_recover_makes_no_journal(tmp_path: Path, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert recover([memory], _find(memory)).ok
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bad").write_bytes(b"no database " * 1000)
    with pytest.raises(StorageConfigError, match="bad' cannot be used"):
        recover([memory], _find(memory), journal=tmp_path / "bad")


def test_ages() -> None:
    assert [seconds_of(age) for age in (5, 0.5, "90s", "12h", "7d", "2w")] == [5, 0.5, 90, 43200, 604800, 1209600]
    for bad in ("soon", "-3d", "", -1, True, None):
        with pytest.raises(ValueError, match="an age is"):
            seconds_of(bad)  # type: ignore[arg-type]
