"""The last phase of a synchronisation: what the source has no more goes from the target."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import lru_cache

from ..exceptions import (
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
)
from ..mount import Mount
from ..paths import below
from ..retry import RetryPolicy
from .backup import Backup
from .deletion import Deletions
from .events import Teller
from .flow import Flow
from .options import CopyOptions
from .places import At, fault
from .plan import IN_THE_WAY, Action
from .report import TransferReport

AT_ONCE = 8
"""Deletions under way at once, one request each."""

Failed = Callable[[StorageError, str], object]


class Purge:
    """Removes files, then directories that are empty, deepest first; a backup keeps the files."""

    def __init__(
        self, source: At, target: At, options: CopyOptions, report: TransferReport, flow: Flow, teller: Teller
    ) -> None:
        self._target = At(target.mount.without_retries(), target.path)
        self._source = source
        self._report = report
        self._flow = flow
        self._teller = teller
        self._dry = options.dry_run
        self._retry = RetryPolicy(options.retries, sleep=flow.wait)
        backup = options.backup
        self._backup = None if backup is None or isinstance(backup, str) else Backup(backup, flow)
        self._twins = None if target.mount.features.case_sensitive else Twins(source)

    def run(self, deletions: Deletions, failed: Failed) -> None:
        """Removes all; what cannot be removed is told to `failed` with its relative path."""
        for chunk in deletions.files():
            self._flow.poll()
            if self._flow.cancelled:
                return
            left = dict(self._removed(self._without_twins(chunk)))
            for relpath in chunk:
                if relpath in left:
                    failed(left[relpath], relpath)
                    self._teller.failed_at(relpath, left[relpath])
                else:
                    self._report.files_deleted += 1
                    self._told(relpath)
        for chunk in deletions.directories():
            for relpath in self._without_twins(chunk):
                self._flow.poll()
                if self._flow.cancelled:  # the first failure under errors="stop"
                    return
                if (error := self._tried(self._rmdir, relpath)) is not None:
                    failed(error, relpath)
                    self._teller.failed_at(relpath, error)

    def _without_twins(self, chunk: list[str]) -> list[str]:
        """Without those that are, for the target, something that the source has by a name that looks different."""
        if self._twins is not None:
            chunk[:] = [relpath for relpath in chunk if not self._twins.has(relpath)]
        return chunk

    def _told(self, relpath: str) -> None:
        if self._dry:
            self._report.note("delete", relpath)
        self._teller.deleted(relpath)

    # --- files ---

    def _removed(self, chunk: list[str]) -> Iterator[tuple[str, StorageError]]:
        """Yields what could not be removed, after as many tries as may help."""
        if self._dry or not chunk:
            return
        if self._backup is not None:
            backup = self._backup
            for relpath in chunk:
                self._flow.poll()
                error = self._tried(lambda one: backup.take(self._at(one), one), relpath)
                if error is not None:
                    yield relpath, error
            return
        names = {self._at(relpath).path: relpath for relpath in chunk}
        attempt = 0
        while names:
            again: dict[str, StorageError] = {}
            for path, error in self._asked(list(names)):
                if self._retry.allows(attempt, error):
                    again[path] = error
                else:
                    yield names[path], error
            if again:
                self._retry.wait(attempt, next(iter(again.values())))
            names, attempt = {path: names[path] for path in again}, attempt + 1

    def _asked(self, paths: list[str]) -> list[tuple[str, StorageError]]:
        try:
            return self._flow.waited(lambda: self._asked_at_once(paths))
        except StorageError as error:  # the request as a whole
            if error is self._flow.cause:
                raise
            return [(path, error) for path in paths]

    def _asked_at_once(self, paths: list[str]) -> list[tuple[str, StorageError]]:
        """In one request where the storage takes many, else several at once where each waits for an answer."""
        mount = self._target.mount
        if mount.can("delete_many") or mount.local_path("") is not None or len(paths) < AT_ONCE:
            return mount.delete_many(paths)
        from concurrent.futures import ThreadPoolExecutor  # brings logging along, which few need

        todo = deque(paths)
        with ThreadPoolExecutor(AT_ONCE, "genro-transfer-delete") as pool:  # in the caller's context, as `flow.thread`
            try:
                shares = [pool.submit(copy_context().run, self._share, todo) for _ in range(AT_ONCE)]
                return [failure for share in shares for failure in share.result()]
            finally:
                todo.clear()  # after Ctrl-C nothing is left to take

    def _share(self, todo: deque[str]) -> list[tuple[str, StorageError]]:
        """Removes files that nobody else of the pool has taken, one after the other, until it is stopped."""
        failures: list[tuple[str, StorageError]] = []
        while not self._flow.cancelled:
            try:
                path = todo.popleft()
            except IndexError:
                break
            failures += self._target.mount.delete_many([path])
        return failures

    # --- directories ---

    def _rmdir(self, relpath: str) -> None:
        if self._dry:
            return
        try:
            self._target.mount.rmdir(self._at(relpath).path)
        except (StorageNotEmptyError, StorageNotFoundError, StorageNotADirectoryError):
            return  # it holds what stays, or it was only implied by what it held
        self._teller.deleted(relpath)

    def _tried(self, do: Callable[[str], object], relpath: str) -> StorageError | None:
        attempt = 0
        while True:
            try:
                do(relpath)
            except StorageNotFoundError:
                return None  # somebody else was faster
            except StorageError as error:
                if not self._retry.allows(attempt, error) or self._flow.cancelled:
                    return error
                self._retry.wait(attempt, error)
                attempt += 1
                continue
            return None

    def _at(self, relpath: str) -> At:
        return At(self._target.mount, below(self._target.path, relpath))

    # --- what waited ---

    def released(self, waiting: Iterator[Action], done: bool) -> Iterator[Action]:
        """The actions that waited for an obstacle to go; those whose obstacle stays fail (T18)."""
        for action in waiting:
            try:
                error = None if self._dry and done else self._obstacle(action)
            except StorageError as unseen:
                error = unseen
            yield action if error is None else Action("fail", action.entry, error=error)

    def _obstacle(self, action: Action) -> StorageError | None:
        mount, relpath = self._target.mount, action.entry.relpath
        segments = relpath.split("/")
        place = self._at(relpath)
        if action.kind != "mkdir":
            if mount.is_dir(place.path):
                return fault(StorageIsADirectoryError, "the target has a directory where a file is to go", place)
            segments.pop()
        for depth in range(len(segments)):
            name = "/".join(segments[: depth + 1])
            above = self._at(name)
            if mount.is_symlink(above.path) or (mount.is_file(above.path) and not self._holds_both(name)):
                return fault(StorageNotADirectoryError, IN_THE_WAY, above)
        return None

    def _holds_both(self, relpath: str) -> bool:
        """Whether both sides may have a file and a directory of this name, and the source has."""
        source = self._source
        implied = not (self._target.mount.features.real_dirs or source.mount.features.real_dirs)
        return implied and source.mount.is_file(below(source.path, relpath))


class Twins:
    """Whether a source has something of another name that its target does not tell apart from a given one."""

    def __init__(self, source: At) -> None:
        self._mount: Mount = source.mount
        self._root = source.path
        self._names = lru_cache(maxsize=64)(self._listed)

    def has(self, relpath: str) -> bool:
        found = [self._root]
        for segment in relpath.split("/"):
            name = folded(segment)
            found = [path for directory in found for path in self._names(directory).get(name, ())]
        same = below(self._root, relpath)
        return any(path != same for path in found)  # of the very same name it is of another kind, and in the way

    def _listed(self, directory: str) -> dict[str, list[str]]:
        """The paths in a directory by their folded names."""
        names: dict[str, list[str]] = {}
        try:
            for page in self._mount.scan(directory, facts=False, odd=lambda stat: None):
                for stat in page:
                    names.setdefault(folded(stat.path.rpartition("/")[2]), []).append(stat.path)
        except (StorageNotFoundError, StorageNotADirectoryError):
            pass
        return names


def folded(name: str) -> str:
    """The name as a storage sees it that tells neither case nor Unicode forms apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
