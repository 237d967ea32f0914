"""Parts staged on a local disk: written into their places of one hidden file, which a rename makes visible."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from ..types import Stat, Unfinished, WriteOptions
from ._localfile import HIDDEN, LocalWriter
from ._nofollow import KIND, REGULAR, Tree
from ._staging import HIDDEN_PARTS, PIECE, Receipt, Staged, Sums, gone, hidden_name, meant, pieces
from .handles import Part

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StagedFile(LocalWriter):
    """A writer of a hidden file that stays when it is let go: `token` is its name, given to go on with it."""

    def __init__(self, *args: Any, token: str | None, **keywords: Any) -> None:
        self._token = token
        super().__init__(*args, **keywords)

    @property
    def token(self) -> str:
        return os.path.basename(self._hidden)

    def _new_hidden(self) -> str:
        folder, name = os.path.split(self._name)
        return os.path.join(folder, hidden_name(name))

    def _born(self, named: bool) -> int:
        if self._token is None:
            return super()._born(True)
        if "/" in self._token or not self._token.startswith((HIDDEN_PARTS, HIDDEN)):
            raise gone()
        hidden = os.path.join(os.path.dirname(self._name), self._token)
        try:
            fd = os.open(hidden, _OPEN, dir_fd=self._at)
        except FileNotFoundError:
            raise gone() from None
        if os.fstat(fd).st_mode & KIND != REGULAR:
            os.close(fd)
            raise gone()
        self._hidden = hidden
        return fd

    def leave(self) -> None:
        """Lets go of the file and keeps it."""
        self._hidden = ""
        self.discard()

    __del__ = leave


class LocalParts(Staged):
    """A staged write into a `StagedFile`; parts that are still missing are holes."""

    one_pass = True

    def __init__(
        self, file: StagedFile, path: str, options: WriteOptions, part_size: int, receipts: Mapping[int, str]
    ) -> None:
        super().__init__(path, options, part_size, receipts)
        self._file = file
        self.token = file.token
        for offset, receipt in list(self._receipts.items()):
            if self._read(offset, receipt.size) != receipt:
                self._forget(offset)

    @property
    def fd(self) -> int:
        """The file that the parts are written into."""
        return self._file.fd

    def reread(self, start: int, end: int) -> bytes | None:
        return os.pread(self._file.fd, end - start, start)

    def _store(self, offset: int, data: Part) -> Receipt:
        with self._lock:  # a descriptor of our own: the number of a closed one may soon be another file's
            self._check()
            fd = os.dup(self._file.fd)
        try:
            at, sums = offset, Sums()
            for piece in pieces(data):
                at += _write_at(fd, piece, at)
                sums.passed(piece)
        finally:
            os.close(fd)
        return sums.receipt(at - offset)

    def _read(self, offset: int, size: int) -> Receipt:
        """The receipt of what is there now."""
        at, sums = offset, Sums()
        while at < offset + size and (data := os.pread(self._file.fd, min(PIECE, offset + size - at), at)):
            at += len(data)
            sums.passed(data)
        return sums.receipt(at - offset)

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        file = self._file
        file.holds(size)
        return file.commit(hashes)

    def _drop(self) -> None:
        with self._lock:
            self._file.discard()


def _write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        written += os.pwrite(fd, view[written:], offset + written)
    return written


# --- what was never finished ---


def unfinished(tree: Tree, path: str, older_than: float) -> Iterator[Unfinished]:
    """The hidden files at or below `path` whose last change is that long ago."""
    latest = time.time() - older_than
    try:
        yield from _below(tree, path, latest)
    except (FileNotFoundError, NotADirectoryError):  # a file, or what was to become one
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from [found for found in _level(tree, path.rpartition("/")[0], latest)[0] if found.path == path]


def _below(tree: Tree, path: str, latest: float) -> Iterator[Unfinished]:
    found, directories = _level(tree, path, latest)
    yield from found
    for directory in directories:
        with suppress(FileNotFoundError, NotADirectoryError):  # it went meanwhile
            yield from _below(tree, directory, latest)


def _level(tree: Tree, path: str, latest: float) -> tuple[list[Unfinished], list[str]]:
    """What is unfinished in one directory, and the directories in it, links not among them."""
    lead = f"{path}/" if path else ""
    found: list[Unfinished] = []
    directories: list[str] = []
    fd = tree.open_directory(path)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(lead + entry.name)
                elif entry.name.startswith((HIDDEN_PARTS, HIDDEN)) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        changed = entry.stat(follow_symlinks=False).st_mtime
                        if changed <= latest:
                            found.append(Unfinished(lead + (meant(entry.name) or entry.name), entry.name, changed))
    finally:
        os.close(fd)
    return sorted(found, key=lambda one: (one.path, one.token)), sorted(directories)
