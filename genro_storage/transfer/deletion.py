"""What a synchronisation deletes: collected in a file, judged when everything else is done, then removed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any

from .options import share_of
from .plan import Action

IN_MEMORY = 1 << 20
CHUNK = 1000
"""Paths read back at once: as many as one request of an object store deletes."""
ALWAYS_ALLOWED = 100
"""A part of the target's files never stops fewer deletions."""
NOT_DELETED = "not deleted: errors"


class Deletions:
    """Paths relative to the target, files and directories apart, on disk where they are many; read last first.

    A listing tells a directory before what is below it, so that backwards is deepest first.
    """

    def __init__(self, told: Callable[[Action], object] = lambda action: None) -> None:
        """`told` hears of each action that waits."""
        self._files, self._directories = _Paths(), _Paths()
        self._waiting = _Waiting()
        self._told = told
        self.waiting_files = self.waiting_bytes = 0

    # --- as `listing.Later` ---

    def add(self, action: Action) -> None:
        """A deletion, or an action that waits for one."""
        stat = action.entry.stat
        if action.kind != "delete":
            self._waiting.add(action)
            self.waiting_files += action.kind != "mkdir"
            self.waiting_bytes += (stat.size or 0) if action.kind == "copy" else 0
            self._told(action)
        elif stat.is_dir and not stat.is_symlink:
            self._directories.add(action.entry.relpath)
        else:
            self._files.add(action.entry.relpath)

    def clear(self) -> None:
        """Forgets all."""
        for part in (self._files, self._directories, self._waiting):
            part.clear()
        self.waiting_files = self.waiting_bytes = 0

    def close(self) -> None:
        for part in (self._files, self._directories, self._waiting):
            part.close()

    # --- what was collected ---

    @property
    def count(self) -> int:
        """Files, and links; directories go only when they are empty and are not counted."""
        return self._files.count

    def __bool__(self) -> bool:
        return bool(self._files.count or self._directories.count)

    def files(self) -> Iterator[list[str]]:
        return self._files.backwards()

    def directories(self) -> Iterator[list[str]]:
        return self._directories.backwards()

    @property
    def waiting(self) -> int:
        return self._waiting.count

    def waiting_actions(self) -> Iterator[Action]:
        """The actions that waited, in order."""
        return iter(self._waiting)


def refusal(count: int, files: int, max_delete: int | str) -> str | None:
    """Why so many deletions among so many files of the target are too many (T27); None where they are not."""
    most, part = share_of(max_delete)
    if most is None and part is not None:
        most = max(int(part * files), ALWAYS_ALLOWED - 1)
    if most is None or count <= most:
        return None
    return f"would delete {count} of {files} files, more than max_delete={max_delete!r} allows"


class _Spool:
    """Bytes that wait, in memory while they are few."""

    def __init__(self) -> None:
        self.file: Any = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self.count = 0

    def clear(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.count = 0

    def close(self) -> None:
        self.file.close()


class _Paths(_Spool):
    """Paths, each ended by a NUL, which no path contains."""

    def __init__(self) -> None:
        super().__init__()
        self._starts: list[int] = []

    def add(self, path: str) -> None:
        if self.count % CHUNK == 0:
            self._starts.append(self.file.tell())
        self.file.write(path.encode("utf-8", "surrogateescape") + b"\0")
        self.count += 1

    def clear(self) -> None:
        super().clear()
        self._starts.clear()

    def backwards(self) -> Iterator[list[str]]:
        self.file.seek(0, os.SEEK_END)
        end = self.file.tell()
        for start in reversed(self._starts):
            self.file.seek(start)
            names = self.file.read(end - start).split(b"\0")[:-1]
            yield [name.decode("utf-8", "surrogateescape") for name in reversed(names)]
            end = start


class _Waiting(_Spool):
    """Whole actions, with the facts that a copy needs."""

    def add(self, action: Action) -> None:
        pickle.dump(action, self.file)
        self.count += 1

    def __iter__(self) -> Iterator[Action]:
        self.file.seek(0)
        for _ in range(self.count):
            yield pickle.load(self.file)
