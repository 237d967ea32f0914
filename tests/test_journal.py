"""The journal: what survives a kill, who owns a job, what is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from genro_storage import journal as module
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageCorruptedError,
    StorageUnavailableError,
)
from genro_storage.journal import Done, Journal, Staged, default_journal, default_path, fingerprint
from genro_storage.journal.rows import JOBS
from genro_storage.records.base import Put, RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.testing import FaultyRecordStore, RecordFault
from genro_storage.types import Stat
from tests.test_bridge import in_child

COPY = ("copy", "disk:photos", "s3:backup")
UPLOAD = Staged("big.bin", "s3:backup/big.bin", "upload-7", 8 << 20, "99:abc")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RecordStore:
    return MemoryRecordStore() if request.param == "memory" else SQLiteRecordStore(tmp_path / "journal.db")


@pytest.fixture
def journal(store: RecordStore) -> Iterator[Journal]:
    journal = Journal(store, period=0.02)
    yield journal
    journal.close()


def spaces(store: RecordStore, job_id: str) -> dict[str, int]:
    """How many rows a job has, by kind."""
    names = {"done": f"journal/done/{job_id}", "staged": f"journal/staged/{job_id}"}
    names["receipts"] = f"journal/receipts/{job_id}#"
    return {kind: len(store.sync.scan(space)) for kind, space in names.items()}


def written_soon(store: RecordStore, job_id: str) -> None:
    """Returns when a file that is done is in the store, though nobody flushed."""
    deadline = time.monotonic() + 60
    while not spaces(store, job_id)["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_done_is_known_to_the_next_run(journal: Journal) -> None:
    with journal.open(*COPY) as job:
        assert not job.resumed
        for number in range(1200):
            job.commit(f"d/{number}", Done(f"{number}:e", "t"))
    with journal.open(*COPY) as job:
        assert job.resumed
        assert job.done(["d/7", "none", "d/1199"]) == {"d/7": Done("7:e", "t"), "d/1199": Done("1199:e", "t")}


def test_what_differs_is_another_job(journal: Journal) -> None:
    ids = set()
    jobs = [journal.open(*COPY), journal.open("move", *COPY[1:]), journal.open(*COPY, {"skip": "size"})]
    jobs += [journal.open(*COPY, {"skip": "mtime"}), journal.open("copy", "disk:photoss", "3:backup")]
    for job in jobs:
        assert not job.resumed
        ids.add(job.info.id)
        job.release()
    assert len(ids) == 5
    again = journal.open(*COPY, {"b": 1, "a": [2]})
    again.release()
    same = journal.open(*COPY, {"a": [2], "b": 1})
    assert same.info.id == again.info.id
    same.release()


def test_a_small_file_is_written_soon(journal: Journal, store: RecordStore) -> None:
    with journal.open(*COPY) as job:
        job.commit("a", Done("1:e"))
        written_soon(store, job.info.id)


def test_files_are_written_together(store: RecordStore) -> None:
    faulty = FaultyRecordStore(store)
    journal = Journal(faulty, period=60)
    with journal.open(*COPY) as job:
        before = len(faulty.calls)
        for number in range(10_000):
            job.commit(f"{number}", Done("1:e"))
        job.flush()
        assert len(faulty.calls) - before <= 21
    journal.close()


def test_staged_writes_and_receipts(journal: Journal, store: RecordStore) -> None:
    with journal.open(*COPY) as job:
        job.stage(UPLOAD)
        for number in (2, 0, 1):
            job.receipt("big.bin", number * UPLOAD.part_size, f'{number} "etag"')
        job.stage(msgspec.structs.replace(UPLOAD, path="big.bin2", token="other"))
        job.receipt("big.bin2", 0, "x")
    with journal.open(*COPY) as job:
        staged = job.staged("big.bin")
        assert staged is not None
        assert staged.receipts == {number * UPLOAD.part_size: f'{number} "etag"' for number in range(3)}
        assert abs(staged.created - time.time()) < 60
        assert msgspec.structs.replace(staged, receipts={}, created=0.0) == UPLOAD
        assert job.staged("none") is None
        assert [one.token for one in journal.staged(job.info.id)] == ["upload-7", "other"]
        job.commit("big.bin", Done("99:abc", "new"))
        assert job.staged("big.bin") is None
        assert job.done(["big.bin"]) == {"big.bin": Done("99:abc", "new")}
        assert spaces(store, job.info.id) == {"done": 1, "staged": 1, "receipts": 1}
        job.unstage("big.bin2")
        assert spaces(store, job.info.id) == {"done": 1, "staged": 0, "receipts": 0}


def test_staged_again_forgets_the_old_receipts(journal: Journal) -> None:
    with journal.open(*COPY) as job:
        job.stage(UPLOAD)
        job.receipt("big.bin", 0, "old")
        job.stage(msgspec.structs.replace(UPLOAD, token="upload-8"))
    with journal.open(*COPY) as job:
        staged = job.staged("big.bin")
        assert staged is not None
        assert (staged.token, staged.receipts) == ("upload-8", {})


def test_finished_jobs_leave_nothing(journal: Journal, store: RecordStore) -> None:
    with journal.open(*COPY) as job:
        for number in range(1500):
            job.commit(f"{number}", Done("1:e"))
        job.stage(UPLOAD)
        job.receipt("big.bin", 0, "x")
        job.finish()
        assert spaces(store, job.info.id) == {"done": 0, "staged": 0, "receipts": 0}
        with pytest.raises(StorageConflictError, match="not open"):
            job.commit("late", Done("1:e"))
    assert store.sync.scan(JOBS) == []
    assert journal.jobs() == []


def test_a_death_while_forgetting_starts_afresh(store: RecordStore) -> None:
    faulty = FaultyRecordStore(store, RecordFault(2, "before", on="scan"))
    journal = Journal(faulty, period=60)
    job = journal.open(*COPY)
    job.commit("a", Done("1:e"))
    job.stage(UPLOAD)
    job.flush()
    with pytest.raises(StorageUnavailableError):
        job.finish()
    assert spaces(store, job.info.id)["staged"] == 1
    again = journal.open(*COPY)
    assert not again.resumed
    assert again.done(["a"]) == {}
    assert spaces(store, job.info.id) == {"done": 0, "staged": 0, "receipts": 0}
    again.finish()
    journal.close()


@pytest.mark.parametrize("path", ["", "é/日本", "a\nb", "x" * 3000, "y" * 1500, "bad\udcff name", "=", "~"])
def test_any_path(journal: Journal, path: str) -> None:
    with journal.open("copy", f"disk:{path}", f"s3:{path}") as job:
        job.commit(path, Done("1:e"))
        job.stage(Staged(path + "s", f"s3:{path}", "t", 1, "1:e"))
        job.receipt(path + "s", 5, "r")
    with journal.open("copy", f"disk:{path}", f"s3:{path}") as job:
        assert job.done([path, path + "x"]) == {path: Done("1:e")}
        staged = job.staged(path + "s")
        assert staged is not None
        assert (staged.path, staged.target, staged.receipts) == (path + "s", f"s3:{path}", {5: "r"})
        job.finish()


def test_fingerprints() -> None:
    assert fingerprint(Stat("a", 3, etag="x", mtime=1.5)) == "3:x"
    assert fingerprint(Stat("a", 3, mtime=1.5)) == "3@1.5"
    assert fingerprint(Stat("a", 3, mtime=1.5)) != fingerprint(Stat("a", 4, mtime=1.5))
    assert fingerprint(Stat("a", 3)) == ""


# --- owners ---


def test_a_living_owner_is_respected(journal: Journal) -> None:
    with journal.open(*COPY) as job:
        with pytest.raises(StorageConflictError, match=f"process {os.getpid()} on"):
            journal.open(*COPY)
        with pytest.raises(StorageConflictError, match="is being done"):
            journal.forget(job.info.id)
        assert journal.is_owned(job.info.id)
    assert not journal.is_owned(job.info.id)
    journal.open(*COPY).release()


def test_a_dead_owner_is_followed_at_once(tmp_path: Path) -> None:
    """kill -9 in the middle: parts and flushed files are known, and the lease is not waited for."""
    path = tmp_path / "journal.db"
    code = f"""
import time
from genro_storage.journal import *
from genro_storage.records.sqlite import SQLiteRecordStore
job = Journal(SQLiteRecordStore({str(path)!r})).open("copy", "disk:photos", "s3:backup")
job.commit("early", Done("1:e"))
job.stage(Staged("big.bin", "s3:backup/big.bin", "upload-7", 5, "99:abc"))
job.receipt("big.bin", 5, "r")
print("ready", flush=True)
time.sleep(600)
"""
    root = str(Path(__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    journal = Journal(SQLiteRecordStore(path))
    with pytest.raises(StorageConflictError, match=f"process {child.pid} on"):
        journal.open(*COPY)
    written_soon(journal.store, journal.jobs()[0].id)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    deadline = time.monotonic() + 60
    while True:
        try:
            job = journal.open(*COPY)  # while it is still a zombie: nobody has waited for it
            break
        except StorageConflictError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert child.wait() == -signal.SIGKILL
    assert job.resumed
    assert job.done(["early"]) == {"early": Done("1:e")}
    staged = job.staged("big.bin")
    assert staged is not None
    assert (staged.token, staged.receipts) == ("upload-7", {5: "r"})
    job.finish()
    journal.close()


def elsewhere(store: RecordStore, job_id: str, seen: float) -> None:
    """The job's owner is on a host of which nothing is known."""
    record = store.sync.get(JOBS, job_id)
    assert record is not None
    row = msgspec.json.decode(record.data)
    row["owner"] = {"space": "far away", "pid": 1, "started": "1", "turn": "x"}
    row["seen"] = seen
    store.sync.commit([Put(JOBS, job_id, msgspec.json.encode(row))])


def test_an_owner_elsewhere_is_waited_for(journal: Journal, store: RecordStore) -> None:
    job = journal.open(*COPY)
    job.release()
    elsewhere(store, job.info.id, time.time() - 5)
    with pytest.raises(StorageConflictError, match="process 1 on far"):
        journal.open(*COPY)
    elsewhere(store, job.info.id, time.time() - 31)
    journal.open(*COPY).release()


def test_who_lost_a_job_is_told(journal: Journal, store: RecordStore) -> None:
    job = journal.open(*COPY)
    elsewhere(store, job.info.id, time.time())
    with pytest.raises(StorageConflictError, match="taken over"):
        job.stage(UPLOAD)
    job.release()
    record = store.sync.get(JOBS, job.info.id)
    assert record is not None
    assert b"far away" in record.data  # what is another's is left alone


def test_the_lease_is_renewed(store: RecordStore) -> None:
    """Parts are noted while it is renewed again and again: none of them is taken for a loss."""
    journal = Journal(store, lease=0.03, period=0.005)
    with journal.open(*COPY) as job:
        job.stage(UPLOAD)
        first, seen, ended = job._version, job.info.seen, threading.Event()
        threads = [threading.Thread(target=receipts, args=[job, number, ended]) for number in range(3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while job._version < first + 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        ended.set()
        for thread in threads:
            thread.join()
        assert job._version >= first + 10
        assert job.info.seen > seen
    journal.close()


def receipts(job: module.Job, number: int, ended: threading.Event) -> None:
    count = 0
    while not ended.is_set():
        job.receipt("big.bin", number * 10**9 + count, "x")
        count += 1


def test_a_forked_child_owns_nothing(journal: Journal) -> None:
    with journal.open(*COPY) as job:
        job.commit("a", Done("1:e"))

        def child() -> None:
            with pytest.raises(StorageConflictError):
                job.commit("b", Done("1:e"))
            job.release()
            if journal.store.features.shared:
                with pytest.raises(StorageConflictError):
                    journal.open(*COPY)

        assert in_child(child)
        job.commit("c", Done("1:e"))
    with journal.open(*COPY) as job:
        assert sorted(job.done(["a", "b", "c"])) == ["a", "c"]


def test_racing_openers(journal: Journal) -> None:
    won: list[module.Job] = []
    gate = threading.Barrier(6)

    def race() -> None:
        gate.wait()
        try:
            won.append(journal.open(*COPY))
        except StorageConflictError:
            pass

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()


# --- failures, listing, the default ---


def test_a_journal_that_fails_is_told(store: RecordStore) -> None:
    faulty = FaultyRecordStore(store, RecordFault(2, "before", on="commit"))
    journal = Journal(faulty, period=0.01)
    job = journal.open(*COPY)
    job.commit("a", Done("1:e"))
    deadline = time.monotonic() + 60
    with pytest.raises(StorageUnavailableError):
        while time.monotonic() < deadline:
            job.commit("b", Done("1:e"))
            time.sleep(0.01)
    job.release()
    with journal.open(*COPY) as job:
        assert "a" in job.done(["a", "b"])  # what could not be written was not dropped
    journal.close()


def test_what_an_interruption_kept_from_being_written_goes_next(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(changes: object) -> None:
        raise KeyboardInterrupt

    journal = Journal(store, period=60)
    with journal.open(*COPY) as job:
        job.commit("a", Done("1:e"))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(job, "_write", interrupted)
            job.flush()
    with journal.open(*COPY) as job:
        assert "a" in job.done(["a"])
    journal.close()


def test_listing_and_forgetting(journal: Journal, store: RecordStore) -> None:
    old = journal.open("copy", "a", "b")
    old.stage(UPLOAD)
    old.release()
    record = store.sync.get(JOBS, old.info.id)
    assert record is not None
    row = msgspec.json.decode(record.data)
    row["seen"] = time.time() - 8 * 86400
    store.sync.commit([Put(JOBS, old.info.id, msgspec.json.encode(row))])
    journal.open("sync", "c", "d").release()
    assert [(info.kind, info.source, info.target) for info in journal.jobs()] == [
        ("copy", "a", "b"),
        ("sync", "c", "d"),
    ]
    assert [info.id for info in journal.jobs(older_than=7 * 86400)] == [old.info.id]
    assert [staged.token for staged in journal.staged(old.info.id)] == ["upload-7"]
    journal.forget(old.info.id)
    journal.forget("none")
    assert [info.kind for info in journal.jobs()] == ["sync"]
    assert spaces(store, old.info.id) == {"done": 0, "staged": 0, "receipts": 0}


def test_a_damaged_row(journal: Journal, store: RecordStore) -> None:
    job = journal.open(*COPY)
    job.release()
    store.sync.commit([Put(JOBS, job.info.id, b"{")])
    with pytest.raises(StorageCorruptedError, match=JOBS):
        journal.open(*COPY)


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_path() == str(tmp_path / "state/genro_storage/journal.sqlite")
    journal = default_journal()
    assert default_journal() is journal
    folder = tmp_path / "state/genro_storage"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []
    with journal.open(*COPY) as job:
        job.finish()
    assert (folder / "journal.sqlite").exists()
    journal.close()
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == str(tmp_path / ".local/state/genro_storage/journal.sqlite")
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(StorageConfigError, match="XDG_STATE_HOME"):
        default_path()


def test_speed(journal: Journal, soak: Callable[[int], int]) -> None:
    """Many small files: a fraction of what the file itself costs, in seconds of the processor."""
    count = soak(100_000)
    with journal.open(*COPY) as job:
        start = time.process_time()
        for number in range(count):
            job.commit(f"dir/{number:06}", Done("1:e"))
        assert (time.process_time() - start) / count < 500e-6


def test_a_job_whose_end_fails_is_let_go() -> None:
    """The store says no when the job is to be marked as finished: somebody else may take it once it is released."""
    before = set(threading.enumerate())
    journal = Journal(FaultyRecordStore(MemoryRecordStore(), RecordFault(2, "before", on="commit")), period=0.02)
    job = journal.open(*COPY)
    with pytest.raises(StorageUnavailableError):
        job.finish()
    job.release()
    with journal.open(*COPY) as again:
        assert again.resumed
        again.finish()
    assert journal.jobs() == []
    deadline = time.monotonic() + 60
    while "genro-journal" in {one.name for one in set(threading.enumerate()) - before}:  # nothing is left to renew
        assert time.monotonic() < deadline
        time.sleep(0.01)
    journal.close()


def test_closing_lets_go_of_all_whatever_happens_to_one() -> None:
    inner, before = MemoryRecordStore(), set(threading.enumerate())
    journal = Journal(FaultyRecordStore(inner, RecordFault(3, "before", on="commit")))
    for source in ("disk:a", "disk:b"):
        journal.open("copy", source, "s3:backup")
    with pytest.raises(StorageUnavailableError):
        journal.close()
    assert "genro-records-faulty" not in {one.name for one in set(threading.enumerate()) - before}
    later = Journal(inner)
    assert sum(later.is_owned(job.id) for job in later.jobs()) == 1
    later.close()
