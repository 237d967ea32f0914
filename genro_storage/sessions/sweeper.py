"""The thread that sweeps a session store now and then, and lets go of a store that nobody holds any more."""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from typing import TYPE_CHECKING

from ..exceptions import StorageError

if TYPE_CHECKING:
    from .store import SessionStore

log = logging.getLogger("genro_storage.sessions")


class Sweeper:
    """Sweeps every `interval` seconds ± 10 % once started; holds only a weak reference to its store."""

    def __init__(self, store: SessionStore, interval: float) -> None:
        self._store = weakref.ref(store)
        self._interval = interval
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Idempotent; a forked child starts its own."""
        self._begun_here()
        with self._lock:
            if self._stop is not None:
                return
            stop = threading.Event()
            args = (self._store, self._interval, stop)
            try:
                threading.Thread(target=_sweep, args=args, name="genro-sessions-sweep", daemon=True).start()
            except RuntimeError as error:  # what was just stored is stored: the next one may have a thread again
                log.warning("Nobody sweeps these sessions: %s", error)
            else:
                self._stop = stop
                store = self._store()
                if store is not None:  # its thread does not outlast it
                    weakref.finalize(store, stop.set).atexit = False

    def stop(self) -> None:
        """Ends the thread before its next sweep; idempotent."""
        self._begun_here()
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None

    def _begun_here(self) -> None:
        if self._pid != os.getpid():  # forked: the parent's thread is not here, and its lock may be held for ever
            self._lock, self._stop, self._pid = threading.Lock(), None, os.getpid()


def _sweep(ref: weakref.ref[SessionStore], interval: float, stop: threading.Event) -> None:
    while not stop.wait(min(interval * random.uniform(0.9, 1.1), threading.TIMEOUT_MAX)):
        store = ref()
        if store is None:
            return
        try:
            store.sync.sweep_alone()
        except Exception as error:  # noqa: BLE001 - a store may be foreign code: one fault must not end all sweeping
            if isinstance(error, RuntimeError) and not isinstance(error, StorageError):  # the interpreter is going down
                return
            log.warning("A sweep of sessions failed, the next one tries again: %s", error)
        del store
