"""What a transfer did, in numbers and, up to a bound, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from ..exceptions import StorageError
from .skips import SAME_CONTENT, SAME_LINK, SAME_SIZE, SAME_TIME

KEPT_FAILURES = 1000
KEPT_WARNINGS = 100
KEPT_ACTIONS = 10_000
DIFFERS, ONLY_SOURCE, ONLY_DESTINATION = "differs", "only in the source", "only in the destination"
COMPARED = {
    **dict.fromkeys((SAME_SIZE, SAME_TIME, SAME_CONTENT, SAME_LINK), "same"),
    DIFFERS: "differ",
    ONLY_SOURCE: "only_source",
    ONLY_DESTINATION: "only_destination",
}
"""What a comparison says of a file, and the field of the report that counts it."""


class Failure(Struct, frozen=True):
    """One entry that did not go: its path relative to the source, what was tried, the last error, how many tries."""

    relpath: str
    operation: str
    error: StorageError
    attempts: int = 1

    def to_dict(self) -> dict[str, Any]:
        kind = type(self.error).__name__
        return {
            "relpath": self.relpath,
            "operation": self.operation,
            "error": kind,
            "message": str(self.error),
            "attempts": self.attempts,
        }


class ReportedAction(Struct, frozen=True):
    """What a dry run would do, or what a comparison found, about one entry; `size` in bytes, None where unknown."""

    kind: str
    relpath: str
    reason: str = ""
    size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "relpath": self.relpath, "reason": self.reason, "size": self.size}


class TransferReport(Struct):
    """What a copy, a move or a synchronisation did, or would do if `dry_run`; or what a comparison found.

    Times are POSIX seconds, `duration` seconds, sizes bytes. `destination` is ``mount:path`` of the place where the
    source went, `target_path` that path alone: it may be below the one asked for (a file into a directory).
    `files_total = files_copied + files_skipped + files_failed`. Of `failures`, directories and listings among them, the
    first 1,000 are kept; `failed` counts all. `complete`: every listing was read to its end. `cancelled`: it was
    stopped before its end, by `cancel`, the deadline, Ctrl-C or a callback that raised. `actions`: the first 10,000
    of a dry run or a comparison. `bytes_hashed`: read only to see whether files are equal. `resumed`: an earlier run
    began it; `bytes_resumed`: bytes of those copied that were at the target already. `same`, `differ`,
    `only_source`, `only_destination`: files, for a comparison.
    """

    operation: str
    source: str
    destination: str
    target_path: str
    dry_run: bool = False
    started: float = field(default_factory=time.time)
    finished: float | None = None
    files_copied: int = 0
    files_skipped: int = 0
    files_failed: int = 0
    files_deleted: int = 0
    directories_created: int = 0
    bytes_copied: int = 0
    bytes_skipped: int = 0
    bytes_server_side: int = 0
    bytes_resumed: int = 0
    bytes_hashed: int = 0
    retries: int = 0
    verified_checksum: int = 0
    verified_size: int = 0
    skip_reasons: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    warnings: list[str] = field(default_factory=list)
    actions: list[ReportedAction] = field(default_factory=list)
    same: int = 0
    differ: int = 0
    only_source: int = 0
    only_destination: int = 0
    resumed: bool = False
    complete: bool = True
    cancelled: bool = False

    @property
    def files_total(self) -> int:
        compared = self.same + self.differ + self.only_source + self.only_destination
        return self.files_copied + self.files_skipped + self.files_failed + compared

    @property
    def ok(self) -> bool:
        """Nothing failed, nobody stopped it."""
        return not self.failed and not self.cancelled

    @property
    def duration(self) -> float:
        return max(0.0, (time.time() if self.finished is None else self.finished) - self.started)

    @property
    def rate(self) -> float:
        """Bytes copied per second, without those of an earlier run."""
        return (self.bytes_copied - self.bytes_resumed) / self.duration if self.duration else 0.0

    # --- how it is filled; by the caller's thread only ---

    def skip(self, reason: str, size: int | None) -> None:
        """Counts a file that stays as it is, or what a comparison says of it."""
        if self.operation == "compare" and (name := COMPARED.get(reason)) is not None:
            setattr(self, name, getattr(self, name) + 1)
            return
        self.files_skipped += 1
        self.bytes_skipped += size or 0
        self.skip_reasons[reason] = self.skip_reasons.get(reason, 0) + 1

    def fail(
        self, relpath: str, operation: str, error: StorageError, attempts: int = 1, *, is_file: bool = True
    ) -> None:
        """Counts a failure; only the first one keeps its traceback, and the buffers that this holds."""
        self.failed += 1
        self.files_failed += is_file
        if self.failed > 1:  # the first one is raised
            _forget_tracebacks(error)
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(Failure(relpath, operation, error, attempts))

    def warn(self, message: str) -> None:
        """Keeps a warning once."""
        if message not in self.warnings and len(self.warnings) < KEPT_WARNINGS:
            self.warnings.append(message)

    def note(self, kind: str, relpath: str, reason: str = "", size: int | None = None) -> None:
        """Keeps what would be done or was found; what is the same on both sides is only counted."""
        if self.operation == "compare":
            kind = COMPARED.get(reason, kind)
        if kind != "same" and len(self.actions) < KEPT_ACTIONS:
            self.actions.append(ReportedAction(kind, relpath, reason, size))

    # --- how it is shown ---

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["failures"] = [failure.to_dict() for failure in self.failures]
        shown["actions"] = [action.to_dict() for action in self.actions]
        extra = {"files_total": self.files_total, "ok": self.ok, "duration": self.duration, "rate": self.rate}
        return shown | extra

    def __str__(self) -> str:
        return self.sentence(lambda size: f"{size} bytes")

    def sentence(self, shown: Callable[[int], str]) -> str:
        """All that counts in one line; `shown` gives a number of bytes its form."""
        comparing = self.operation == "compare"
        what = f"{self.operation}{' (dry run)' if self.dry_run and not comparing else ''}"
        what += f" {self.source} → {self.destination}: "
        if comparing:
            what += f"{self.same} same, {self.differ} differ, {self.only_source} only in the first"
            what += f", {self.only_destination} only in the second"
        else:
            what += f"{self.files_copied} file{'' if self.files_copied == 1 else 's'}, {shown(self.bytes_copied)}"
        counts = ((self.files_deleted, "deleted"), (self.files_skipped, "skipped"), (self.failed, "failed"))
        told = [what, *(f"{count} {name}" for count, name in counts if count)]
        return f"{', '.join(told)}{', cancelled' if self.cancelled else ''} in {self.duration:.2f} s"


def _forget_tracebacks(error: BaseException) -> None:
    """Lets go of the frames, and so of what they hold. Clearing them instead would end generators that still run."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.__traceback__ = None
        current = current.__cause__ or current.__context__
