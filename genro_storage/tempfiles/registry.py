"""Which files outside its own directory a manager tracks, and since when; kept in memory and in the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TypeVar

from . import log
from .identity import Identity
from .journal import Journal
from .retries import Retries

AT_ONCE = 200
T = TypeVar("T")


class Entry(Identity):
    """One tracked file; `born` is on the manager's monotonic clock."""

    __slots__ = ("born", "evictable")

    def __init__(self, dev: int, ino: int, mark: str) -> None:
        self.dev, self.ino, self.mark, self.born, self.evictable = dev, ino, mark, 0.0, False


class Registry:
    """Tracked files by path; each method takes the lock, which is re-entrant and never held over a deletion."""

    def __init__(self, clock: Callable[[], float], retries: Retries) -> None:
        self.lock = threading.RLock()
        self.entries: dict[str, Entry] = {}
        self._retries = retries
        self._clock = clock
        self._devices: dict[int, int] = {}

    def add(self, journal: Journal, files: list[tuple[str, Entry]], evictable: bool) -> None:
        """Tracks files from now on; the journal is written before."""
        with self.lock:
            now, one = self._clock(), self._devices.setdefault
            self._write(journal.add, files)
            for _, entry in files:
                entry.born, entry.evictable, entry.dev = now, evictable, one(entry.dev, entry.dev)
            self.entries.update(files)
            if self._retries:
                for path, _ in files:
                    self._retries.forgive(path)

    def drop(self, journal: Journal, paths: Iterable[str]) -> int:
        """Stops tracking; returns how many of the paths were tracked."""
        with self.lock:
            known = [path for path in paths if self.entries.pop(path, None) is not None]
            for path in known:
                self._retries.forgive(path)
            self._shorten(journal, known)
            return len(known)

    def set_born(self, path: str, born: float) -> None:
        """Changes since when a file is tracked, which is not the future; `KeyError` if it is not tracked."""
        with self.lock:
            self.entries[path].born = min(born, self._clock())

    def due(self, max_age: float, force: bool) -> list[tuple[str, Entry]]:
        """What is to be deleted now, the oldest first."""
        with self.lock:
            entries = list(self.entries.items())
        if not force:
            latest, may = self._clock() - max_age, self._retries.due
            entries = [(path, entry) for path, entry in entries if entry.born <= latest and may(path)]
        return sorted(entries, key=lambda item: item[1].born)

    def evictable(self) -> list[tuple[str, Entry]]:
        """What may go to make room."""
        with self.lock:
            return [(path, entry) for path, entry in self.entries.items() if entry.evictable]

    def settle(self, ended: list[tuple[str, Entry]], failed: Mapping[str, OSError]) -> None:
        """Forgets what is gone, unless it was registered again meanwhile, and puts off what resisted."""
        with self.lock:
            entries = self.entries
            for path, entry in ended:
                if entries.get(path) is entry:
                    del entries[path]
                    if self._retries:
                        self._retries.forgive(path)
            resisting = [item for item in failed.items() if item[0] in entries]
        for path, error in resisting:
            self._retries.put_off(path, str(error))

    def conclude(self, journal: Journal, ended: list[str]) -> None:
        """Has the journal follow after `settle`, some at a time: nobody waits for long to register a file.

        Until then it names files that are gone, and a sweep finds nothing there.
        """
        for start in range(0, len(ended), AT_ONCE):
            with self.lock:
                gone = [path for path in ended[start : start + AT_ONCE] if path not in self.entries]
                if not self._shorten(journal, gone):
                    return

    def _shorten(self, journal: Journal, dropped: list[str]) -> bool:
        """False if the journal now names nothing but what is tracked."""
        if journal.lines > 1000 + 4 * len(self.entries):
            self._write(journal.rewrite, self.entries)
            return False
        if dropped:
            self._write(journal.drop, dropped)
        return True

    def _write(self, write: Callable[[T], None], what: T) -> None:
        try:
            write(what)
        except OSError as error:  # tracked none the less: an untracked file would be left even by a process that lives
            log.warning("Failed to write the journal; a killed process would leave its files behind: %s", error)


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
