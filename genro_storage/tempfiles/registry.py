"""Which files outside its own directory a manager tracks, and since when; kept in memory and in the journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import NamedTuple

from .identity import Identity
from .journal import Journal

logger = logging.getLogger("genro_storage.tempfiles")

MOST_DELAY = 3600.0
ATTEMPTS = 10
"""After this many failures a file is left to the sweep of a later owner."""


class Entry(NamedTuple):
    """One tracked file; `born` is on the manager's monotonic clock."""

    born: float
    dev: int
    ino: int
    mark: str
    evictable: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(self.dev, self.ino, self.mark)


class Failure(NamedTuple):
    """How often the deletion of a file failed, and when it is tried again."""

    attempts: int
    due: float


class Registry:
    """Tracked files by path; each method takes the lock, which is re-entrant and never held over a deletion."""

    def __init__(self, clock: Callable[[], float], interval: float) -> None:
        self.lock = threading.RLock()
        self.entries: dict[str, Entry] = {}
        self.failed: dict[str, str] = {}
        self._failures: dict[str, Failure] = {}
        self._clock = clock
        self._interval = interval
        self._devices: dict[int, int] = {}

    def add(self, journal: Journal, files: list[tuple[str, Identity]], evictable: bool) -> None:
        """Tracks files from now on; the journal is written before."""
        with self.lock:
            now = self._clock()
            self._write(journal, lambda: journal.add(files))
            for path, (dev, ino, mark) in files:
                dev = self._devices.setdefault(dev, dev)
                self.entries[path] = Entry(now, dev, ino, mark, evictable)
                self._forgive(path)

    def drop(self, journal: Journal, paths: Iterable[str]) -> int:
        """Stops tracking; returns how many of the paths were tracked."""
        with self.lock:
            known = [path for path in paths if self.entries.pop(path, None) is not None]
            for path in known:
                self._forgive(path)
            self._shorten(journal, known)
            return len(known)

    def set_born(self, path: str, born: float) -> None:
        """Changes since when a file is tracked; `KeyError` if it is not."""
        with self.lock:
            self.entries[path] = self.entries[path]._replace(born=born)

    def due(self, max_age: float, force: bool) -> list[tuple[str, Entry]]:
        """What is to be deleted now, the oldest first."""
        with self.lock:
            now, failures = self._clock(), dict(self._failures)
            entries = list(self.entries.items())
        found = (
            (path, entry)
            for path, entry in entries
            if force or (now - entry.born >= max_age and (path not in failures or failures[path].due <= now))
        )
        return sorted(found, key=lambda item: item[1].born)

    def evictable(self) -> list[tuple[str, Entry]]:
        """What may go to make room, the least recently registered first."""
        with self.lock:
            found = [(path, entry) for path, entry in self.entries.items() if entry.evictable]
        return sorted(found, key=lambda item: item[1].born)

    def settle(self, journal: Journal, ended: list[tuple[str, Entry]], failed: Mapping[str, OSError]) -> None:
        """Forgets what is gone, unless it was registered again meanwhile, and puts off what resisted."""
        with self.lock:
            gone = [path for path, entry in ended if self.entries.get(path) is entry]
            for path in gone:
                del self.entries[path]
                self._forgive(path)
            self._shorten(journal, gone)
            for path, error in failed.items():
                if path in self.entries:
                    self._put_off(path, error)

    def _put_off(self, path: str, error: OSError) -> None:
        attempts = self._failures[path].attempts + 1 if path in self._failures else 1
        delay = min(MOST_DELAY, self._interval * 2.0 ** min(attempts - 1, 20))
        self._failures[path] = Failure(attempts, self._clock() + delay if attempts < ATTEMPTS else float("inf"))
        self.failed[path] = str(error)
        level = logging.ERROR if attempts == ATTEMPTS else logging.WARNING if attempts < ATTEMPTS else logging.DEBUG
        logger.log(level, "Failed to remove %s (attempt %d): %s", path, attempts, error)

    def _forgive(self, path: str) -> None:
        if self._failures.pop(path, None) is not None:
            self.failed.pop(path, None)

    def _shorten(self, journal: Journal, dropped: list[str]) -> None:
        if not dropped:
            return
        if journal.lines > 1000 + 4 * len(self.entries):
            live = {path: entry.identity for path, entry in self.entries.items()}
            self._write(journal, lambda: journal.rewrite(live))
        else:
            self._write(journal, lambda: journal.drop(dropped))

    def _write(self, journal: Journal, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:  # tracked none the less: an untracked file would be left even by a process that lives
            logger.warning("Failed to write the journal; a killed process would leave its files behind: %s", error)


class Files(MutableMapping[str, float]):
    """The live view path → time of registration in POSIX seconds; iteration goes over a snapshot."""

    def __init__(
        self,
        registry: Registry,
        offset: Callable[[], float],
        register: Callable[[str], None],
        unregister: Callable[[str], bool],
    ) -> None:
        self._registry = registry
        self._offset = offset
        self._register = register
        self._unregister = unregister

    def __getitem__(self, path: str) -> float:
        return self._registry.entries[path].born + self._offset()

    def __setitem__(self, path: str, time: float) -> None:
        """Registers the file if it is not tracked, and says since when."""
        with self._registry.lock:
            if path not in self._registry.entries:
                self._register(path)
            self._registry.set_born(path, time - self._offset())

    def __delitem__(self, path: str) -> None:
        if not self._unregister(path):
            raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        with self._registry.lock:
            return iter(list(self._registry.entries))

    def __len__(self) -> int:
        return len(self._registry.entries)

    def __repr__(self) -> str:
        return repr(dict(self))
