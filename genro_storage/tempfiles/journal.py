"""The journal of files outside the owner directory, by which a sweep deletes what a dead process tracked."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .identity import Identity, IdentityUnknown, Remover
from .lease import Owner
from .removal import Pace

NAME = ".journal"
_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Journal:
    """Lines ``[+|-, path, dev, ino, mark, time]`` in the directory of one owner; callers take turns."""

    def __init__(self, owner: Owner, fsync: bool) -> None:
        from json.encoder import encode_basestring_ascii  # what a line needs of json.dumps, at a quarter of its time

        self._text = encode_basestring_ascii
        self._owner = owner
        self._fsync = fsync
        self._torn = False
        self.lines = 0
        """How many lines it has, those that others made void included."""

    def add(self, files: Iterable[tuple[str, Identity]]) -> None:
        """Notes files as tracked, in one write; raises `OSError`."""
        self._append(self._tracked(files))

    def drop(self, paths: Iterable[str]) -> None:
        """Notes files as no longer tracked, in one write; raises `OSError`."""
        self._append([f'["-", {self._text(path)}]\n' for path in paths])

    def rewrite(self, files: Mapping[str, Identity]) -> None:
        """Makes it anew with these files only, in one step."""
        fresh = f"{NAME}.new"
        lines = self._tracked(files.items())
        owner = self._owner
        with owner.pen:
            self._check()
            fd = os.open(fresh, _WRITE | os.O_TRUNC, 0o600, dir_fd=owner.fd)
            try:
                self._write(fd, lines)
                os.rename(fresh, NAME, src_dir_fd=owner.fd, dst_dir_fd=owner.fd)
            except BaseException:
                os.close(fd)
                raise
            old, owner.journal = owner.journal, fd
            if old >= 0:
                os.close(old)
            self.lines, self._torn = len(lines), False

    def _append(self, lines: list[str]) -> None:
        owner = self._owner
        with owner.pen:
            self._check()
            if owner.journal < 0:
                owner.journal = os.open(NAME, _WRITE, 0o600, dir_fd=owner.fd)
            if self._torn:  # a line that a full disk cut short ends here, or it would spoil the next one
                lines = ["\n", *lines]
            self._torn = True
            self._write(owner.journal, lines)
            self._torn = False
            self.lines += len(lines)

    def _write(self, fd: int, lines: list[str]) -> None:
        data = "".join(lines).encode("ascii")
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._fsync:
            os.fsync(fd)

    def _tracked(self, files: Iterable[tuple[str, Identity]]) -> list[str]:
        now, text = f"{time.time():.3f}", self._text
        return [f'["+", {text(path)}, {file.dev}, {file.ino}, "{file.mark}", {now}]\n' for path, file in files]

    def _check(self) -> None:
        if self._owner.fd < 0:
            raise OSError(errno.EBADF, "this directory was released")


def read(fd: int) -> dict[str, Identity]:
    """What the journal in the directory open as `fd` says is tracked; a torn or foreign line says nothing."""
    files: dict[str, Identity] = {}
    for line in _lines(fd):
        match line:
            case ["+", str(path), int(dev), int(ino), str(mark), *_] if path.startswith("/") and mark:
                files[path] = Identity(dev, ino, mark)
            case ["-", str(path), *_]:
                files.pop(path, None)
    return files


def _lines(fd: int) -> Iterator[object]:
    try:
        journal = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return
    import json

    with os.fdopen(journal, "rb") as file:
        st = os.fstat(journal)
        if not stat.S_ISREG(st.st_mode) or st.st_uid != os.geteuid() or st.st_mode & 0o022:
            raise PermissionError(errno.EPERM, f"{NAME} is not a private file of this user")
        for line in file:
            if line.endswith(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


class Replayed(NamedTuple):
    """What resisted, path → reason; `again`: whether some of it may be gone another time."""

    failed: dict[str, str]
    again: bool


def replay(fd: int, roots: tuple[str, ...] | None, secure: bool, pace: Pace) -> Replayed:
    """Deletes what an owner, now dead, tracked outside its directory `fd`."""
    failed: dict[str, str] = {}
    again = False
    with Remover(roots, secure) as remover:
        for number, (path, identity) in enumerate(read(fd).items()):
            if number % pace.size == 0:
                pace.ask()
            try:
                remover.remove(path, identity)
            except OSError as error:
                failed[path] = str(error)
                again |= not isinstance(error, IdentityUnknown)
    return Replayed(failed, again)
