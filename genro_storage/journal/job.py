"""One job of the journal: what it has done and what it has begun, written while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from ..exceptions import StorageConflictError, VersionConflictError
from ..records.base import Change, Check, Delete, Put
from ..records.owner import Owner
from .rows import (
    JOBS,
    Done,
    JobInfo,
    Staged,
    decode,
    digest,
    done_space,
    encode,
    key,
    receipt_space,
    row,
    staged_space,
    taken,
)

if TYPE_CHECKING:
    from .journal import Journal

PAGE = 500
"""Rows that are written, or read, at once."""


class Job:
    """One job that this process owns. Thread-safe.

    Paths are relative to the job's source. `commit` is written within half a second, together with others; `stage` and
    `receipt` are durable when they return. `release` keeps all for a later run, `finish` forgets it. A journal that
    cannot be written, or a job that was taken over, is told by the next call: `StorageError`, `StorageConflictError`.
    """

    def __init__(self, journal: Journal, info: JobInfo, version: int, *, resumed: bool) -> None:
        self.journal = journal
        self.info = info
        self.resumed = resumed
        """An earlier run began it, so that `done` and `staged` may know something."""
        self._version = version
        self._records = journal.store.sync
        self._waiting: dict[str, Change] = {}
        self._staged: set[str] = set()
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._row = threading.Lock()
        self._released = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    # --- what is known ---

    def done(self, paths: Sequence[str]) -> dict[str, Done]:
        """Of these files, those that an earlier run committed."""
        self._judge()
        if not self.resumed:
            return {}
        space = done_space(self.info.id)
        found = self._records.get_many([(space, key(path)) for path in paths])
        return {path: decode(record, Done) for path, record in zip(paths, found, strict=True) if record is not None}

    def staged(self, path: str) -> Staged | None:
        """The staged write of this file that an earlier run left open, with its receipts."""
        self._judge()
        record = self._records.get(staged_space(self.info.id), key(path)) if self.resumed else None
        if record is None:
            return None
        self._staged.add(path)
        staged = decode(record, Staged)
        return msgspec.structs.replace(staged, receipts=self.journal.receipts(self.info.id, path))

    # --- what happens ---

    def commit(self, path: str, done: Done) -> None:
        """This file is at the target, whole; what was staged for it is forgotten."""
        self._judge()
        change = Put(done_space(self.info.id), key(path), encode(done))
        if path in self._staged:
            self._forget_staged(path, change)  # a large file: half a second of it may be worth minutes
            return
        with self._lock:
            self._waiting[change.key] = change
            full = len(self._waiting) >= PAGE
        if full:
            self.flush()

    def stage(self, staged: Staged) -> None:
        """A staged write was opened; call it before the first part is sent. Receipts of an earlier one are dropped."""
        self._judge()
        if self.resumed or staged.path in self._staged:
            self._forget_staged(staged.path)
        row = msgspec.structs.replace(staged, created=staged.created or time.time(), receipts={})
        self._write([Put(staged_space(self.info.id), key(staged.path), encode(row))])
        self._staged.add(staged.path)

    def receipt(self, path: str, offset: int, receipt: str) -> None:
        """The part at `offset` is stored."""
        self._judge()
        key = f"{digest(path)}-{offset:020}"
        self._write([Put(receipt_space(self.info.id), key, receipt.encode())])

    def unstage(self, path: str) -> None:
        """The staged write of this file was discarded, or is gone: its token and receipts are forgotten."""
        self._judge()
        self._forget_staged(path)

    def _forget_staged(self, path: str, *also: Change) -> None:
        space, prefix = receipt_space(self.info.id), digest(path)
        self._write([Delete(staged_space(self.info.id), key(path)), *also])
        while page := self._records.scan(space, after=f"{prefix}-", until=f"{prefix}.", limit=PAGE):
            self._write([Delete(space, record.key) for record in page])
        self._staged.discard(path)

    # --- the end ---

    def flush(self) -> None:
        """Writes what waits; durable when it returns."""
        with self._lock:
            changes, self._waiting = self._waiting, {}
        try:
            for start in range(0, len(changes), PAGE):
                self._write(list(changes.values())[start : start + PAGE])
        except BaseException:  # Ctrl-C, too: what is not written now goes with the next flush
            with self._lock:  # what is newer stays
                self._waiting = {**changes, **self._waiting}
            raise

    def release(self) -> None:
        """Lets go: another run, by any process, may go on with it. Idempotent; says nothing of a job that was taken."""
        if self._released:
            return
        try:
            if self.info.owner is not None and self.info.owner.is_me:
                self.flush()
                self._renew(owner=None)
        except StorageConflictError:
            pass
        finally:
            self._end()

    def finish(self) -> None:
        """All is done: forgets the job and its rows."""
        self._judge()
        with self._lock:
            self._waiting = {}
        self._renew(owner=None, finished=True)
        self._end()
        self.journal.drop(self.info.id, self._version)

    def _end(self) -> None:
        self._released = True
        self.journal.ended(self)

    # --- inside ---

    def tick(self) -> None:
        """Called by the journal's thread: a failure is told by the next call of a user."""
        try:
            self.flush()
            if time.time() > self.info.seen + self.journal.lease / 3:
                self._renew(owner=self.info.owner)
        except Exception as error:  # noqa: BLE001 - whatever the store raised belongs to the caller
            self._failure = error

    def _judge(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._released or self.info.owner is None or not self.info.owner.is_me:
            raise StorageConflictError(f"the job {self.info.kind} {self.info.source} is not open in this process")

    def _write(self, changes: list[Change]) -> None:
        """Commits on the condition that the job is still ours; a renewal in between is no fault."""
        while True:
            version = self._version
            try:
                self._records.commit([Check(JOBS, self.info.id, expect=version), *changes])
                return
            except VersionConflictError:
                with self._row:  # a renewal that is under way ends first
                    if self._version == version:
                        raise StorageConflictError(taken(self.info)) from None

    def _renew(self, *, owner: Owner | None, finished: bool = False) -> None:
        with self._row:
            if self._released:
                return
            self._released = owner is None
            info = msgspec.structs.replace(self.info, seen=time.time(), owner=owner, finished=finished)
            try:
                (self._version,) = self._records.commit([row(info, self._version)])
            except BaseException as error:
                self._released = False  # `release` ends it, and says so if the store lets it
                if isinstance(error, VersionConflictError):
                    raise StorageConflictError(taken(self.info)) from None
                raise
            self.info = info
