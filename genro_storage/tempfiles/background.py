"""The thread that cleans and sweeps now and then, and does not keep its manager alive."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from ..exceptions import StorageError
from . import log

PATIENCE = 1.0
"""Seconds to wait for a round to end."""


class Cleaner(Protocol):
    """What is cleaned."""

    def cleanup(self) -> int: ...
    def sweep(self, *, patient: bool) -> object: ...


def start(manager: Cleaner, interval: float) -> Callable[[], None]:
    """Starts the thread; returns what ends it. `interval` in seconds, which each round varies by a tenth."""
    stop = threading.Event()
    found = weakref.ref(manager)
    thread = threading.Thread(target=_run, args=(found, stop, interval), name="genro-storage-temp", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        if thread is not threading.current_thread():
            thread.join(PATIENCE)

    return end


def _run(found: weakref.ref[Cleaner], stop: threading.Event, interval: float) -> None:
    while not stop.wait(max(0.01, interval * (0.9 + 0.2 * os.urandom(1)[0] / 255))):
        if not _round(found):
            return


def _round(found: weakref.ref[Cleaner]) -> bool:
    """Whether there is somebody to clean for; in a function of its own, so that nothing refers to the manager after."""
    manager = found()
    if manager is None:
        return False
    try:
        manager.cleanup()
        manager.sweep(patient=True)
    except (StorageError, OSError, RuntimeError) as error:  # closed, or the interpreter ends and starts no threads
        log.warning("Failed to clean up: %s", error)
    return True
