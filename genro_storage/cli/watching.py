"""Who watches a transfer: a person by a line on the terminal, a program by objects, a dry run by what would be done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..transfer.report import COMPARED, DIFFERS, ONLY_DESTINATION, ONLY_SOURCE
from .console import Console, error_facts, escaped
from .failures import exit_code
from .places import name_of
from .progress import Progress

if TYPE_CHECKING:
    from ..transfer import TransferEvent

FLUSH = 0.1
"""Seconds that an object may wait for others."""
SIDES = {DIFFERS: "differs", ONLY_SOURCE: "only in the first", ONLY_DESTINATION: "only in the second"}
"""What a comparison says of a file, in the words of `check`."""
OnEvent = Callable[["TransferEvent"], None]


@contextmanager
def watched(console: Console, verb: str, *, place: str = "", dry_run: bool = False) -> Iterator[dict[str, OnEvent]]:
    """The fields that make a transfer tell what this console is to show while it runs."""
    if console.json:
        yield {"on_event": Objects(console)} if console.wants_progress else {}
    elif dry_run:
        yield {} if console.quiet else {"on_event": Rehearsal(console, verb)}
    else:
        with drawn(console, verb, place) as progress:
            yield {} if progress is None else {"on_event": progress.update}


@contextmanager
def drawn(console: Console, verb: str, place: str = "") -> Iterator[Progress | None]:
    """The progress line, if this console shows one; what the console prints meanwhile stands above it."""
    if not console.may_progress:
        yield None
        return
    with Progress(verb, place) as progress:
        console.aside = progress.aside
        try:
            yield progress
        finally:
            console.aside = nullcontext


class Objects:
    """Each event as an object, `event` being its kind."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._flushed = 0.0

    def __call__(self, event: TransferEvent) -> None:
        self._console.record(event_facts(event))
        now = time.monotonic()
        if now - self._flushed >= FLUSH:
            self._flushed = now
            sys.stdout.flush()


def event_facts(event: TransferEvent) -> dict[str, Any]:
    """An event as JSON has it: what happened to what, then how far it all is; what does not apply is left out."""
    about: dict[str, Any] = {
        "source": None if event.node is None else name_of(event.node),
        "destination": None if event.dest is None else name_of(event.dest),
        "path": event.relpath,
        "reason": event.reason,
        "attempt": event.attempt,
        "error": None if event.error is None else error_facts(event.error, exit_code(event.error)),
    }
    far = ("files_done", "files_total", "bytes_done", "bytes_total", "total_known", "rate", "eta", "elapsed")
    told = {key: value for key, value in about.items() if value}
    return {"event": event.kind, **told, **{name: getattr(event, name) for name in far}}


class Rehearsal:
    """Tells of each thing that would be done, one line each; with ``-v`` also of what would stay as it is."""

    def __init__(self, console: Console, verb: str) -> None:
        self._console = console
        self._done = "move" if verb == "mv" else "copy"

    def __call__(self, event: TransferEvent) -> None:
        told = None
        if event.kind == "file_done":
            told = f"would {self._done} {name_of(event.node)} → {name_of(event.dest)}"
        elif event.kind == "mkdir":
            told = f"would make {name_of(event.dest)}"
        elif event.kind == "delete":
            told = f"would delete {name_of(event.dest)}"
        elif event.kind == "skip" and self._console.verbose:
            told = f"would skip {name_of(event.node)}: {event.reason}" if event.node else None
        if told is not None:
            self._console.line(escaped(told))


class Differences:
    """Tells of each file that is not the same on both sides."""

    def __init__(self, console: Console, progress: Progress | None, *, one_way: bool) -> None:
        self._console = console
        self._progress = progress
        self._one_way = one_way

    def __call__(self, event: TransferEvent) -> None:
        if self._progress is not None:
            self._progress.update(event)
        side = SIDES.get(event.reason) if event.kind == "skip" else None
        if side is None or (self._one_way and event.reason == ONLY_DESTINATION):
            return
        path = event.relpath
        self._console.result(f"{side}: {escaped(path)}", {"path": path, "difference": COMPARED[event.reason]})
