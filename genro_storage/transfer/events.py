"""What a transfer tells while it runs: events and callbacks, one at a time, in the thread that called it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct

from ..exceptions import StorageError
from ..types import Place
from .flow import Flow
from .options import CopyOptions
from .places import below
from .plan import Action, Entry
from .report import TransferReport

EventKind = Literal[
    "start", "scan", "file_start", "bytes", "file_done", "skip", "error", "retry", "delete", "mkdir", "end"
]
PULSE = 0.1
"""Seconds between two `bytes` or `scan` events, at least."""
WINDOW = 10.0
"""Seconds over which the rate is an average."""


class TransferEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened, and how far the transfer is.

    `node` and `dest`: the entry's places, of the kind that the transfer was called with. `attempt`: tries that failed
    so far. Bytes are those of files to copy, without those that prove good enough; `bytes_done` includes files under
    way. Of a comparison they are those of the files it has seen. `total_known`: the plan is complete. `rate`: bytes per
    second over the last 10 seconds, `eta` and `elapsed` in seconds.
    """

    kind: EventKind
    node: Any = None
    dest: Any = None
    relpath: str = ""
    reason: str = ""
    error: Exception | None = None
    attempt: int = 0
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    total_known: bool = False
    rate: float = 0.0
    eta: float | None = None
    elapsed: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("node", "dest"):
            shown[name] = None if shown[name] is None else str(shown[name])
        return shown | {"error": None if self.error is None else f"{type(self.error).__name__}: {self.error}"}


class Teller:
    """Calls the callbacks of one transfer and knows how far it is; for the caller's thread only."""

    def __init__(
        self,
        options: CopyOptions,
        report: TransferReport,
        flow: Flow,
        source: Place,
        target: Place,
        *,
        single: bool = False,
    ) -> None:
        """`source` and `target` are the roots of the two trees, or if `single` the one file and where it goes."""
        self._single = single
        self._options = options
        self._report = report
        self._flow = flow
        self._source, self._target = source, target
        self._begun = self._pulsed = self._scanned = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._begun, 0)])
        self._told = 0
        self._settled = 0
        self.files_total = 0
        self.bytes_total = 0
        self.total_known = False

    @property
    def listens(self) -> bool:
        """Whether anybody wants events."""
        return self._options.on_event is not None

    @property
    def counts(self) -> bool:
        """Whether anybody is told a total, which is to be exact as far as may be."""
        return self.listens or self._options.progress is not None

    @property
    def quiet(self) -> bool:
        """Whether nobody is told anything of files that are copied, skipped or failed."""
        given = self._options
        return not self.counts and given.on_file is None and given.on_skip is None and given.on_error is None

    # --- the plan ---

    def planned(self, action: Action) -> None:
        """One more action; directories count no file, what stays behind no bytes."""
        self.files_total += action.kind != "mkdir"
        self.bytes_total += _size(action) if action.kind == "copy" else 0
        if self.listens and (now := time.monotonic()) - self._scanned >= PULSE:
            self._scanned = now
            self.event("scan")

    def planned_all(self) -> None:
        """Nothing more will come."""
        if not self.total_known:
            self.total_known = True
            if self.listens:
                self.event("scan")

    # --- what happens ---

    def settled(self, action: Action) -> None:
        """A file is through, whatever came of it: its bytes are not to be waited for any more."""
        self._settled += _size(action) if action.kind == "copy" else 0

    def copied(self, action: Action) -> None:
        self._about("file_done", action)
        if not self._options.dry_run:
            self._call(self._options.on_file, action)

    def skipped(self, action: Action, reason: str) -> None:
        if action.kind == "copy" and self._report.operation != "compare":  # it proved to be good enough
            self.bytes_total -= _size(action)
            self._settled -= _size(action)
        self._about("skip", action, reason=reason)
        self._call(self._options.on_skip, action, reason)

    def failed(self, action: Action, error: StorageError, attempt: int) -> None:
        self._about("error", action, error=error, attempt=attempt)
        self._call(self._options.on_error, action, error)

    def failed_at(self, relpath: str, error: StorageError) -> None:
        """Something failed that is no action: a listing, a removal."""
        node = below(self._source, relpath)
        if self.listens:
            self.event("error", node=node, relpath=relpath, error=error)
        if self._options.on_error is not None:
            self._options.on_error(node, error)

    def deleted(self, relpath: str) -> None:
        """An entry of the target was removed."""
        dest = below(self._target, relpath)
        if self.listens:
            self.event("delete", dest=dest, relpath=relpath)
        if self._options.on_delete is not None and not self._options.dry_run:
            self._options.on_delete(dest)

    def renamed(self, files: int, size: int, found: Iterable[Entry]) -> None:
        """All of it went in one step: tells of each file in `found`, as of a copy."""
        self.files_total, self.bytes_total, self.total_known = files, size, True
        if self.listens or self._options.on_file is not None:
            for entry in found:
                if not entry.stat.is_dir:
                    self.copied(Action("copy", entry))
        if self._options.progress is not None:
            for done in range(1, files + 1):
                self._options.progress(done, files)

    def made(self, action: Action) -> None:
        self._about("mkdir", action)

    def started(self, action: Action) -> None:
        self._about("file_start", action)

    def retried(self, action: Action, error: Exception | None, attempt: int) -> None:
        self._about("retry", action, error=error, attempt=attempt)

    def progress(self) -> None:
        """One more file is through."""
        if self._options.progress is not None:
            self._options.progress(self._report.files_total, self.files_total)

    def pulse(self) -> None:
        """A `bytes` event, if it is time for one and bytes came."""
        if not self.listens or (now := time.monotonic()) - self._pulsed < PULSE:
            return
        self._pulsed = now
        self._sample(now)
        if self.bytes_done != self._told:
            self._told = self.bytes_done
            self.event("bytes")

    # --- how far it is ---

    @property
    def bytes_done(self) -> int:
        if self._report.operation == "compare":
            return self._settled
        return min(self._report.bytes_copied + self._flow.under_way, max(self.bytes_total, self._report.bytes_copied))

    def rate(self, now: float) -> float:
        """Bytes per second, over the last 10 seconds."""
        since, before = self._samples[0]
        return max(0.0, (self._sent - before) / (now - since)) if now > since else 0.0

    @property
    def _sent(self) -> int:
        """Bytes done by this run: what an earlier one left says nothing of its speed."""
        return self.bytes_done - self._report.bytes_resumed

    def _sample(self, now: float) -> None:
        self._samples.append((now, self._sent))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    def _eta(self, rate: float) -> float | None:
        left = max(0, self.bytes_total - self._settled - self._flow.under_way)
        if not self.total_known or (left and not rate):
            return None
        return left / rate if left else 0.0

    def event(self, kind: EventKind, **facts: Any) -> None:
        """Calls `on_event`, if there is one."""
        if self._options.on_event is None:
            return
        now = time.monotonic()
        rate = self.rate(now)
        self._options.on_event(
            TransferEvent(
                kind=kind,
                files_done=self._report.files_total,
                files_total=self.files_total,
                bytes_done=self.bytes_done,
                bytes_total=self.bytes_total,
                total_known=self.total_known,
                rate=rate,
                eta=self._eta(rate),
                elapsed=now - self._begun,
                **facts,
            )
        )

    def _about(self, kind: EventKind, action: Action, **facts: Any) -> None:
        if self.listens:
            node, dest = self._places(action)
            self.event(kind, node=node, dest=dest, relpath=action.entry.relpath, **facts)

    def _call(self, callback: Any, action: Action, *more: object) -> None:
        if callback is not None:
            callback(self._places(action)[0], *more)

    def _places(self, action: Action) -> tuple[Place, Place]:
        relpath = "" if self._single else action.entry.relpath
        return below(self._source, relpath), below(self._target, relpath)


def _size(action: Action) -> int:
    return action.entry.stat.size or 0
