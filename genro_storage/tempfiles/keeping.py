"""The half of a manager that keeps account of files: registration, ages, cleanup."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from . import log
from .cleanup import CleanupReport, Clocks, Policy, Tally, clean_born, clean_tracked
from .counts import Counts
from .identity import allowed, identify
from .journal import Journal
from .lease import Owner
from .registry import Entry, Files, Registry
from .retries import Retries


class Keeper:
    """What `TempFileManager` knows of files that exist: its own by looking, others by their registration."""

    base_dir: str
    max_age: float
    max_files: int | None
    last_report: CleanupReport
    _interval: float
    _policy: Policy
    _journal_fsync: bool
    _owner: Owner | None
    _closed: bool

    def _own(self) -> Owner:
        raise NotImplementedError

    def _begin_keeping(self) -> None:
        """The state that belongs to one process."""
        self._clocks = Clocks()
        self._retries = Retries(self._clocks.monotonic, self._interval)
        self._registry = Registry(self._clocks.monotonic, self._retries)
        self._are_many = False
        self._journals: tuple[Owner, Journal] | None = None
        self._cleaning = threading.Lock()
        self._counts = Counts()
        self.last_report = CleanupReport()

    # --- registration

    @property
    def lock(self) -> Any:
        """The re-entrant lock of the registry; nothing is deleted and nothing waits while it is held by us."""
        return self._registry.lock

    @property
    def files(self) -> Files:
        """The live view path → time of registration (POSIX seconds); deleting an item stops managing that file.

        Assigning a mapping keeps exactly its paths.
        """
        clocks = self._clocks
        return Files(
            self._registry, lambda: clocks.wall() - clocks.monotonic(), self.register_file, self.unregister_file
        )

    @files.setter
    def files(self, wanted: Mapping[str, float]) -> None:
        with self.lock:
            self._registry.drop(self._journal(), [path for path in self._registry.entries if path not in wanted])
            view = self.files
            for path, since in wanted.items():
                view[path] = since

    @property
    def failed(self) -> dict[str, str]:
        """What could not be deleted so far: path → reason. It is tried again, ever more rarely, at last not at all."""
        return self._retries.reasons

    def register_file(self, file_path: str, *, evictable: bool = False) -> None:
        """Has an existing file, or a symbolic link itself, deleted when it is `max_age` old or this process is gone.

        Only exactly this file: another one put in its place stays. Its age starts anew when it is registered again.
        What is missing, no file, or outside `allowed_roots` is warned about and not tracked. `evictable`: may go
        before its time to make room. `TypeError` for what is no path.
        """
        self._register([file_path], evictable)

    def register_files(self, paths: Iterable[str]) -> int:
        """As `register_file` for many, with one write to the journal; returns how many are tracked."""
        return self._register(paths, False)

    def _register(self, paths: Iterable[str], evictable: bool) -> int:
        found = [(path, identity) for path in map(absolute, paths) if (identity := self._identified(path)) is not None]
        if found:
            self._registry.add(self._journal(), found, evictable)
            self._counts.count(registered=len(found))
            if self.max_files is not None and len(self._registry.entries) > self.max_files:
                self._warn_of_many(self.max_files)
            log.debug("Registered temporary file %s, %d in all", found[0][0], len(found))
        return len(found)

    def _warn_of_many(self, most: int) -> None:
        """Says so, once, when more are tracked than `max_files`; refused they would stay for ever."""
        if not self._are_many:
            self._are_many = True
            log.warning("More temporary files are registered than max_files, %d", most)

    def _identified(self, path: str) -> Entry | None:
        try:
            identity = identify(path, None, Entry)
        except (OSError, ValueError) as error:
            log.warning("Not registered, %s: %s", path, error)
            return None
        if identity is None:
            log.warning("Not registered, %s: neither a file nor a symbolic link", path)
        elif self._policy.roots is not None and not allowed(os.path.dirname(path), self._policy.roots):
            log.warning("Not registered, %s: outside allowed_roots", path)
            return None
        return identity

    def make_evictable(self, path: str) -> None:
        """Lets a file that was born here go before its time to make room."""
        entry = identify(path, None, Entry)
        if entry is not None:
            self._registry.add(self._journal(), [(path, entry)], True)

    def evictable(self) -> list[tuple[str, Entry]]:
        """What may go to make room, the least recently registered or written first."""
        found = [(self.get_file_age(item[0]) or 0.0, item) for item in self._registry.evictable()]
        return [item for _, item in sorted(found, key=lambda aged: -aged[0])]

    def unregister_file(self, file_path: str) -> bool:
        """Stops managing a file and keeps it; whether it was managed."""
        return bool(self._registry.drop(self._journal(), [absolute(file_path)]))

    def _journal(self) -> Journal:
        known = self._journals
        if known is not None and known[0] is self._owner:
            return known[1]
        owner = self._own()
        with self._registry.lock:
            if self._journals is None or self._journals[0] is not owner:
                self._journals = owner, Journal(owner, self._journal_fsync)
            return self._journals[1]

    def is_temp_file(self, file_path: str) -> bool:
        """Whether it is tracked or lies in this process's directory; there need be nothing."""
        path = absolute(file_path)
        return path in self._registry.entries or self.is_inside(path)

    def is_inside(self, path: str) -> bool:
        """Whether an absolute path lies in this process's own directory."""
        return self._owner is not None and path.startswith(f"{self._owner.path}/")

    def get_file_age(self, file_path: str) -> float | None:
        """Seconds since registration, or since the last change of a file born here; None: not managed."""
        path = absolute(file_path)
        if not self.is_inside(path):
            entry = self._registry.entries.get(path)
            return None if entry is None else max(0.0, self._clocks.monotonic() - entry.born)
        try:
            return self._clocks.age(os.lstat(path))
        except OSError:
            return None

    def get_file_ages(self, paths: Iterable[str]) -> dict[str, float | None]:
        """`get_file_age` of many: path as given → seconds or None."""
        return {path: self.get_file_age(path) for path in paths}

    # --- cleanup

    def cleanup(self, force: bool = False) -> int:
        """Deletes managed files that are `max_age` old, with `force` all; returns how many it unlinked.

        What resists stays managed and is tried again later; after `timeout` seconds the rest is left to the next
        call. `last_report` tells the details. Files under `scratch` are never touched.
        """
        owner = self._own()
        journal = self._journal()
        clock = self._clocks.monotonic
        with self._cleaning, owner.busy:
            if owner.fd < 0:
                return 0  # closed meanwhile
            begun = clock()
            deadline = begun + self._policy.timeout
            tally = Tally(self._counts.aged)
            clean_born(owner, self.max_age, force, self._policy, self._clocks, deadline, self._retries, tally)
            due = self._registry.due(self.max_age, force)
            if not force:
                due = [item for item in due if self._is_old(item[0])]
            clean_tracked(self._registry, journal, due, self._policy, clock, deadline, tally)
            self._retries.keep(lambda path: path in self._registry.entries or os.path.lexists(path))
            self._conclude(tally, clock() - begun)
        return tally.removed

    def _is_old(self, path: str) -> bool:
        """Whether it may go: what was born here is as young as its last change, whenever it was registered."""
        age = self.get_file_age(path)
        return age is None or age >= self.max_age

    def _conclude(self, tally: Tally, duration: float) -> None:
        self._are_many = self.max_files is not None and len(self._registry.entries) > self.max_files
        self._counts.cleaned_up(duration, tally.reasons)
        secure = "best effort" if self._policy.secure and tally.removed else ""
        self.last_report = CleanupReport(
            tally.removed, tally.gone, tally.replaced, tally.failed, tally.left, duration, secure
        )
        if tally.removed:
            log.info("Cleaned up %d temporary files", tally.removed)

    def clear_all(self) -> int:
        """`cleanup(force=True)`."""
        return self.cleanup(force=True)


def absolute(path: str) -> str:
    """The path from the root, its last part not resolved; before a ``..`` links are, or it would name another file."""
    if not isinstance(path, str):
        raise TypeError(f"a path is a str, not {type(path).__name__}")
    if path[:1] == "/" and path[-1:] != "/" and "//" not in path and "/." not in path:
        return path  # as nearly all are
    if ".." in path and ".." in path.split("/"):
        folder, name = os.path.split(path.rstrip("/"))
        if name not in ("", ".", ".."):
            return os.path.join(os.path.realpath(folder), name)
    return os.path.abspath(path)
