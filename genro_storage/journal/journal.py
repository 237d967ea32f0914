"""The jobs of a record store: opened, taken over from the dead, listed, forgotten."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import msgspec

from ..exceptions import StorageConflictError, VersionConflictError
from ..records.base import Delete, Record, RecordStore
from ..records.owner import Owner
from .job import PAGE, Job
from .rows import JOBS, JobInfo, Staged, decode, digest, done_space, owned, receipt_space, row, staged_space

LEASE = 30.0
"""Seconds after which an owner on another host that says nothing is taken for dead."""
PERIOD = 0.5
"""Seconds between two flushes."""


class Journal:
    """Jobs over one record store, which may be shared by processes and hosts. Thread-safe.

    A job is known by what it does: `kind`, source, target and the options that change what is written. Opening one
    takes it over from a process that died; from one that lives it is refused.

    >>> from genro_storage.records.memory import MemoryRecordStore
    >>> journal = Journal(MemoryRecordStore())
    >>> with journal.open("copy", "disk:photos", "s3:backup", {"overwrite": True}) as job:
    ...     job.resumed, job.done(["a.jpg"])
    ...     job.commit("a.jpg", Done("1024:abc"))
    (False, {})
    >>> with journal.open("copy", "disk:photos", "s3:backup", {"overwrite": True}) as job:
    ...     job.resumed, job.done(["a.jpg", "b.jpg"])
    ...     job.finish()
    (True, {'a.jpg': Done(source='1024:abc', target='')})
    >>> journal.jobs()
    []
    """

    def __init__(self, store: RecordStore, *, lease: float = LEASE, period: float = PERIOD) -> None:
        self.store = store
        self.lease = lease
        self.period = period
        self._open: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._ticker: threading.Thread | None = None
        self._wake = threading.Event()
        self._pid = os.getpid()

    def open(self, kind: str, source: str, target: str, options: Mapping[str, Any] = {}) -> Job:
        """Takes the job of this identity; `options` are plain values (JSON). Use it as a context, or `release` it.

        Raises:
            StorageConflictError: another process works on it, or another thread of this one.
        """
        identity = json.dumps([kind, source, target, options], sort_keys=True)
        name = digest(identity)
        while True:
            record, info = self._read(name)
            if info is not None and self._is_owned(info):
                raise StorageConflictError(owned(info), operation=kind)
            if info is not None and info.finished:  # its process died while it forgot the rows
                self._purge(name)
                info = None
            at = time.time()
            mine = JobInfo(name, kind, source, target, info.created if info else at, at, Owner.me())
            try:
                (version,) = self.store.sync.commit([row(mine, record.version if record else 0)])
            except VersionConflictError:
                continue
            job = Job(self, mine, version, resumed=info is not None)
            self.began(job)
            return job

    def jobs(self, *, older_than: float = 0.0) -> list[JobInfo]:
        """Jobs that are not finished and were not worked on for `older_than` seconds, oldest first."""
        before = time.time() - older_than
        rows = [decode(record, JobInfo) for record in self.store.sync.scan(JOBS)]
        return sorted((info for info in rows if info.seen <= before), key=lambda info: info.seen)

    def is_owned(self, job_id: str) -> bool:
        """Whether a living process works on it."""
        _, info = self._read(job_id)
        return info is not None and self._is_owned(info)

    def staged(self, job_id: str) -> Iterator[Staged]:
        """The staged writes that a job left open."""
        for record in self._pages(staged_space(job_id)):
            staged = decode(record, Staged)
            yield msgspec.structs.replace(staged, receipts=self.receipts(job_id, staged.path))

    def receipts(self, job_id: str, path: str) -> dict[int, str]:
        """The receipts of one staged write: offset → receipt."""
        prefix = digest(path)
        found = self._pages(receipt_space(job_id), f"{prefix}-", f"{prefix}.")
        return {int(record.key.rpartition("-")[2]): record.data.decode() for record in found}

    def forget(self, job_id: str) -> None:
        """Drops all that is known of a job; its staged writes are the caller's to discard before.

        Raises:
            StorageConflictError: a living process works on it.
        """
        record, info = self._read(job_id)
        if record is None or info is None:
            return
        if self._is_owned(info):
            raise StorageConflictError(owned(info), operation="forget")
        finished = msgspec.structs.replace(info, owner=None, finished=True)
        try:
            (version,) = self.store.sync.commit([row(finished, record.version)])
        except VersionConflictError:
            raise StorageConflictError(f"{info.kind} {info.source} was opened meanwhile", operation="forget") from None
        self.drop(job_id, version)

    def close(self) -> None:
        """Releases the jobs that are open and closes the store."""
        self._in_this_process()
        with ExitStack() as ends:
            ends.callback(self.store.sync.close)
            for job in list(self._open.values()):
                ends.callback(job.release)

    # --- inside ---

    def _read(self, job_id: str) -> tuple[Record | None, JobInfo | None]:
        record = self.store.sync.get(JOBS, job_id)
        if record is None:
            return None, None
        return record, decode(record, JobInfo)

    def _is_owned(self, info: JobInfo) -> bool:
        if info.owner is None:
            return False
        alive = info.owner.is_alive
        return time.time() < info.seen + self.lease if alive is None else alive

    def _pages(self, space: str, after: str = "", until: str | None = None) -> Iterator[Record]:
        while page := self.store.sync.scan(space, after=after, until=until, limit=PAGE):
            yield from page
            after = page[-1].key

    def drop(self, job_id: str, version: int) -> None:
        """Removes the rows of a job that is marked as finished, that mark last."""
        self._purge(job_id)
        self.store.sync.commit([Delete(JOBS, job_id, expect=version)])
        self.store.sync.sweep()  # a large job leaves much room, which goes back to the file system

    def _purge(self, job_id: str) -> None:
        for space in (done_space(job_id), staged_space(job_id), receipt_space(job_id)):
            while page := self.store.sync.scan(space, limit=PAGE):
                self.store.sync.commit([Delete(space, record.key) for record in page])

    def began(self, job: Job) -> None:
        """A job is open: from now on it is flushed and renewed."""
        self._in_this_process()
        with self._lock:
            self._open[job.info.id] = job
            self._wake.clear()
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, name="genro-journal", daemon=True)
                self._ticker.start()

    def ended(self, job: Job) -> None:
        """A job is not ours any more."""
        self._in_this_process()
        with self._lock:
            self._open.pop(job.info.id, None)
            if not self._open:
                self._wake.set()

    def _in_this_process(self) -> None:
        """In a forked child the parent's jobs, its thread and its locks, perhaps held, are not ours."""
        if self._pid != os.getpid():
            self._pid, self._open, self._ticker = os.getpid(), {}, None
            self._lock, self._wake = threading.Lock(), threading.Event()

    def _tick(self) -> None:
        """Writes what waits and renews what is owned, until no job is open."""
        while True:
            self._wake.wait(self.period)
            with self._lock:
                jobs = list(self._open.values())
                if not jobs:
                    self._ticker = None
                    return
            for job in jobs:
                job.tick()
