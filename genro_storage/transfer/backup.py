"""Where files go that a transfer is about to replace or delete (T49)."""

from __future__ import annotations

import itertools

from .. import paths
from ..exceptions import (
    StorageConfigError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..mount import Level
from ..types import Place, WriteOptions
from .flow import Flow
from .job import Job
from .options import CopyOptions
from .places import At, contains, fault
from .stream import copy_file

KEEPING = CopyOptions(overwrite=False, preserve=("mtime", "content_type", "metadata", "mode"))


def judge_backup(backup: Place | str | None, source: Place, target: Place) -> None:
    """Before the first byte: it is a place that may be written, apart from both sides → else `StoragePathError`."""
    if backup is None:
        return
    if isinstance(backup, str):
        raise StorageConfigError("a backup named by text needs a manager: give a node")
    if backup.version is not None:
        raise fault(UnsupportedOperation, "Cannot write to versioned snapshot", backup, "write")
    for place in (source, target):
        if contains(place, backup) or contains(backup, place):
            raise fault(StoragePathError, "the backup must be outside of source and target", backup, "backup")
    backup.mount.require(Level.readwrite, "backup", backup.path)


class Backup:
    """Files of the target, kept under their relative paths; one that is there already stays, the next gets ``.1``."""

    def __init__(self, root: Place, flow: Flow) -> None:
        self._root = At(root.mount.without_retries(), root.path)
        self._flow = flow

    def keep(self, file: At, relpath: str) -> None:
        """Copies a file that is about to be replaced: it is never missing at its own place. None there: nothing."""
        try:
            facts = file.mount.stat(file.path)
        except StorageNotFoundError:
            return
        if not facts.is_file:
            return
        for number in itertools.count():
            place = self._place(relpath, number)
            if place.mount.exists(place.path):
                continue
            try:
                copy_file(Job(file, place, facts, exact=True, apart=True), KEEPING, self._flow)
                return
            except (StorageExistsError, StorageIsADirectoryError):
                continue  # somebody else took this name meanwhile

    def take(self, file: At, relpath: str) -> None:
        """Moves a file that is about to be deleted: by a rename where that is possible."""
        for number in itertools.count():
            place = self._place(relpath, number)
            if place.mount.exists(place.path):
                continue
            try:
                place.mount.rename_from(file.mount, file.path, place.path, WriteOptions(if_absent=True))
                return
            except StorageExistsError:
                continue
            except UnsupportedOperation:
                break
        self.keep(file, relpath)
        file.mount.delete(file.path)

    def _place(self, relpath: str, number: int) -> At:
        root, name = self._root, f"{relpath}.{number}" if number else relpath
        return At(root.mount, paths.below(root.path, name))
