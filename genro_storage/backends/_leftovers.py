"""What writers that were killed leave on a file server: hidden files, told by their names and times."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..types import Unfinished
from ._staging import HIDDEN_PARTS, meant
from .base import StorageBackend

HIDDEN = ".genro-w-"
"""Begins the names of files being written."""


def leftovers(backend: StorageBackend, path: str, older_than: float, *, deep: bool = True) -> Iterator[Unfinished]:
    """The hidden files below a directory whose last change, by the server's clock, is so many seconds ago.

    Names of files in parts say what they were to become; else `path` is their own, and `delete` removes them. Nothing
    where the directory is missing, or none. `deep`: those in directories below too.
    """
    latest = time.time() - older_than
    waiting = [path]
    while waiting:
        try:
            entries = [entry for page in backend.scan(waiting.pop()) for entry in page]
        except (FileNotFoundError, NotADirectoryError):
            continue  # it went meanwhile
        for entry in entries:
            name = entry.path.rpartition("/")[2]
            if entry.is_dir:
                waiting += [entry.path] if deep and not entry.is_symlink else []
            elif name.startswith((HIDDEN, HIDDEN_PARTS)) and entry.mtime is not None and entry.mtime <= latest:
                lead = entry.path[: -len(name)]
                yield Unfinished(lead + (meant(name) or name), name, entry.mtime)
