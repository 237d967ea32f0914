"""Connections to a file server: one for each call, kept for the next; long reads and writes of a file over them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from ..exceptions import StorageConflictError, StorageError, StorageUnavailableError
from ..types import Stat, WriteOptions
from ._fsspec import FsspecWriter, Spool
from .handles import BackendEditor

T = TypeVar("T")

HANDSHAKES = 4
"""Connections that are made at once: sshd turns away who comes with ten and more (MaxStartups)."""


class Refused(OSError):
    """The server said no, and not why."""


class Opened(Protocol):
    """A file that is read: its facts, then one span of it."""

    stat: Stat

    def read(self, start: int, stop: int) -> Iterator[bytes]: ...
    def settled(self) -> Stat:
        """After a read of up to `SPOOL` bytes: the facts, `Steady` where they are known to have held meanwhile."""

    def close(self) -> None: ...


class Session(Protocol):
    """One connection, used by one thread at a time; paths are the server's own.

    What is not there is `FileNotFoundError`, what is refused without a reason `Refused`; after any other `OSError` the
    connection is not used again.
    """

    def alive(self) -> bool: ...
    def close(self) -> None: ...
    def abandon(self) -> None:
        """Lets go in a fork's child, without a word to the server."""

    def look(self, native: str, path: str) -> Stat: ...
    def listing(self, native: str, prefix: str) -> list[Stat]: ...
    def open(self, native: str, path: str) -> Opened: ...
    def send(self, native: str, spool: Spool, mode: int | None, mtime: float | None) -> None: ...
    def rename(self, native: str, target: str, *, replace: bool) -> None: ...
    def remove(self, native: str) -> None: ...
    def mkdir(self, native: str) -> None: ...
    def rmdir(self, native: str) -> None: ...
    def set_mtime(self, native: str, mtime: float) -> None: ...


class Pool:
    """At most `most` connections of this process; those that rest are used again, those of a parent never."""

    def __init__(self, connect: Callable[[], Session], most: int, patience: float) -> None:
        self._connect, self._most, self._patience = connect, most, patience
        self.unknown: set[str] = set()
        """What the server was found not to know."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Session] = []
        self._used = 0
        self._changed = threading.Condition()
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)

    def take(self) -> Session:
        """A connection for one caller; none in `patience` seconds → `StorageUnavailableError`."""
        if self._pid != os.getpid():
            inherited = self._idle
            self._begin()  # a lock may belong to a thread that is not here
            for session in inherited:
                session.abandon()
        deadline = time.monotonic() + self._patience
        with self._changed:
            while self._used >= self._most:
                if not self._changed.wait(deadline - time.monotonic()):
                    reason = f"all {self._most} connections are in use; close files, or raise 'max_connections'"
                    raise StorageUnavailableError(reason)
            self._used += 1
            kept = self._idle.pop() if self._idle else None
        try:
            if kept is not None:
                if kept.alive():
                    return kept
                kept.close()
            with self._handshakes:
                return self._connect()
        except BaseException:
            self._leave(None)
            raise

    def give(self, session: Session, *, whole: bool) -> None:
        """Takes a connection back; one that is not `whole` is closed."""
        if self._pid != os.getpid():
            return
        if not whole:
            with suppress(Exception):  # a driver call on what is broken already
                session.close()
        self._leave(session if whole else None)

    def _leave(self, session: Session | None) -> None:
        with self._changed:
            self._used -= 1
            if session is not None:
                self._idle.append(session)
            self._changed.notify()

    def close(self) -> None:
        """Closes those that rest; the next use connects anew."""
        if self._pid != os.getpid():
            return
        with self._changed:
            resting, self._idle = self._idle, []
        for session in resting:
            session.close()

    @contextmanager
    def session(self) -> Iterator[Session]:
        session, whole = self.take(), False
        try:
            yield session
            whole = True
        except BaseException as error:
            whole = survives(error)
            raise
        finally:
            self.give(session, whole=whole)


def survives(error: BaseException) -> bool:
    """Whether a connection can still be used after an error: one that the server sent, or ours about what it sent."""
    told = isinstance(error, (FileNotFoundError, PermissionError, Refused, StorageError))
    return told and not isinstance(error, ConnectionError)


class ServerReader:
    """A long span of a file, front to back; has a connection of its own until it is closed."""

    def __init__(self, pool: Pool, session: Session, opened: Opened, first: int, last: int) -> None:
        self.stat = opened.stat
        self._pool, self._session, self._opened = pool, session, opened
        self._pieces = opened.read(first, last)
        self._rest = b""
        self._pid = os.getpid()
        self._ended = False
        self._whole = True

    def read(self, size: int = -1) -> bytes:
        if self._ended:
            raise ValueError("read of a closed reader")
        if self._pid != os.getpid():
            raise StorageError("this file was opened before the process forked; open one of its own")
        parts, have = [self._rest], len(self._rest)
        try:
            while (size < 0 or have < size) and (piece := next(self._pieces, b"")):
                parts.append(piece)
                have += len(piece)
        except BaseException:
            self._whole = False
            raise
        data = b"".join(parts)
        size = have if size < 0 else size
        self._rest = data[size:]
        return data[:size]

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._pid != os.getpid():
            return
        try:
            self._opened.close()
        except Exception:  # noqa: BLE001 - a driver call: nothing more is wanted of this connection
            self._whole = False
        finally:
            self._pool.give(self._session, whole=self._whole)

    __del__ = close


class ServerWriter(FsspecWriter):
    """A file that is sent at its commit, which may be repeated after a failure; of the process that began it."""

    def __init__(self, store: Callable[[str, Spool], object], path: str, options: WriteOptions) -> None:
        super().__init__(store, path, options)
        self._pid = os.getpid()

    def _open(self) -> Spool:
        if self._pid != os.getpid():
            raise StorageError("this writer was opened before the process forked; open one of its own")
        return super()._open()

    def __del__(self) -> None:
        self.discard()


class ServerEditor:
    """A file open in place; has a connection of its own until it is closed."""

    def __init__(self, pool: Pool, session: Session, opened: BackendEditor) -> None:
        self._pool, self._session, self._opened = pool, session, opened
        self._pid = os.getpid()
        self._whole, self._ended = True, False

    def _call(self, method: Callable[..., T], *args: Any) -> T:
        if self._ended:
            raise ValueError("I/O on a closed file")
        if self._pid != os.getpid():
            raise StorageError("this file was opened before the process forked; open one of its own")
        try:
            return method(*args)
        except BaseException as error:
            self._whole = self._whole and survives(error)
            raise

    def readinto(self, buffer: memoryview) -> int:
        return self._call(self._opened.readinto, buffer)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return self._call(self._opened.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._call(self._opened.seek, offset, whence)

    def tell(self) -> int:
        return self._call(self._opened.tell)

    def truncate(self, size: int) -> int:
        return self._call(self._opened.truncate, size)

    def flush(self) -> None:
        self._call(self._opened.flush)

    def close(self) -> None:
        if self._ended or self._pid != os.getpid():
            return
        try:
            self._call(self._opened.close)
        finally:
            self._ended = True
            self._pool.give(self._session, whole=self._whole)

    def __del__(self) -> None:
        with suppress(Exception):  # a driver call on what nobody holds any more
            self.close()


def shrunk() -> StorageConflictError:
    """The error for a file that ended before the size it had when it was opened."""
    return StorageConflictError("changed while it was read", retryable=True)
