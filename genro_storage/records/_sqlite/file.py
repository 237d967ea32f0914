"""The database file: where it may be, how a connection is opened and prepared, and what its errors mean."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from ...exceptions import (
    RecordTooLargeError,
    StorageConfigError,
    StorageCorruptedError,
    StorageError,
    StoragePermissionError,
    StorageQuotaError,
    StorageSchemaError,
    StorageTimeoutError,
    StorageUnavailableError,
)

LAYOUT = 1
LOGGED = 4000
"""Pages in the write-ahead log from which it is brought into the database: a page that is written often goes once."""
OLDEST_SQLITE = (3, 40)
NETWORK = re.compile(r"nfs\d*|cifs|smb\d*|smbfs|ncpfs|9p|afs|ceph|glusterfs|lustre|fuse|fuse\..*")
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    space TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, expires_at INTEGER, data BLOB NOT NULL,
    PRIMARY KEY (space, key));
CREATE INDEX IF NOT EXISTS expiring ON records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('rev', 0);
"""


class SQLiteOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a database is used; seconds and MiB.

    `synchronous`: FULL survives power loss, NORMAL may lose the last commits to it and OFF more. `cache_mb`: page
    cache of all connections together.
    """

    path: str
    synchronous: str = "FULL"
    busy_timeout: float = 10
    readers: int = 4
    cache_mb: int = 20
    allow_network_fs: bool = False

    def __post_init__(self) -> None:
        if self.synchronous not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise ValueError(f"synchronous is OFF, NORMAL, FULL or EXTRA, not {self.synchronous!r}")
        if self.readers < 1 or self.busy_timeout < 0 or self.cache_mb < 1:
            raise ValueError("readers and cache_mb are 1 or more, busy_timeout is 0 or more")
        if not self.path or self.path == ":memory:" or "\0" in self.path:
            raise ValueError(f"path is that of a file, not {self.path!r}; the store 'memory' has none")


class DatabaseFile:
    """One database as one process sees it. `connect` prepares the file once, whoever comes first."""

    def __init__(self, options: SQLiteOptions) -> None:
        self.options = options
        self.path = os.path.abspath(options.path)
        self.prepared = False
        self._lock = threading.Lock()

    def connect(self, *, busy_timeout: float | None = None) -> sqlite3.Connection:
        """A connection in autocommit mode that any one thread may use at a time."""
        with translating(self.path):
            with self._lock:
                if not self.prepared:
                    self._prepare()
                    self.prepared = True
            return self._open(busy_timeout)

    def _open(self, busy_timeout: float | None = None) -> sqlite3.Connection:
        options = self.options
        patience = options.busy_timeout if busy_timeout is None else busy_timeout
        connection = sqlite3.connect(self.path, patience, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA synchronous={options.synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
            connection.execute(
                f"PRAGMA wal_autocheckpoint={4 * LOGGED}"
            )  # the writer does it sooner, after its answers
            connection.execute(f"PRAGMA cache_size=-{options.cache_mb * 1024 // (options.readers + 2)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        """WAL and the tables, under a lock file: `busy_timeout` does not cover the switch to WAL."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StorageConfigError(f"SQLite {sqlite3.sqlite_version} is too old, 3.40 is needed")
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise StorageConfigError(f"the folder of the database does not exist: {folder}")
        kind = None if self.options.allow_network_fs else file_system(folder)
        if kind is not None and NETWORK.fullmatch(kind):
            raise StorageConfigError(
                f"{folder} is on {kind}, where SQLite's locks do not hold; use postgresql or redis, or set "
                "allow_network_fs if only one host ever uses it"
            )
        with locked(self.path + "-lock", self.options.busy_timeout):
            connection = self._open()
            try:
                self._create(connection)
            finally:
                connection.close()

    def _create(self, connection: sqlite3.Connection) -> None:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout > LAYOUT:
            raise StorageSchemaError(f"{self.path} has layout {layout}, this release knows {LAYOUT}")
        if not layout:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty database takes it
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StorageConfigError(f"{self.path} cannot use a write-ahead log, its journal mode is {mode}")
        if layout < LAYOUT:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={LAYOUT}; COMMIT;")


@contextmanager
def locked(path: str, patience: float) -> Iterator[None]:
    """Holds a lock file; it stays, because a lock on a file that may go is none."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageTimeoutError(f"somebody holds {path} for more than {patience} s") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def file_system(folder: str) -> str | None:
    """The type of file system that holds a folder, as the kernel names it; None where it does not tell."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            lines = table.readlines()
    except OSError:
        return None
    real, best, found = os.path.realpath(folder), "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two mounts on one point the later hides the other
            best, found = point, rest.split(" ")[0]
    return found


_CLASSES: dict[int, tuple[type[StorageError], str]] = {
    sqlite3.SQLITE_BUSY: (StorageTimeoutError, "somebody else holds the database"),
    sqlite3.SQLITE_LOCKED: (StorageTimeoutError, "somebody else holds the database"),
    sqlite3.SQLITE_FULL: (StorageQuotaError, "the disk is full"),
    sqlite3.SQLITE_IOERR: (StorageUnavailableError, "the disk fails"),
    sqlite3.SQLITE_CANTOPEN: (StorageUnavailableError, "the file cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (StorageCorruptedError, "the file is damaged"),
    sqlite3.SQLITE_NOTADB: (StorageCorruptedError, "the file is no SQLite database"),
    sqlite3.SQLITE_READONLY: (StoragePermissionError, "the file cannot be written"),
    sqlite3.SQLITE_PERM: (StoragePermissionError, "the file cannot be written"),
    sqlite3.SQLITE_AUTH: (StoragePermissionError, "the file cannot be written"),
    sqlite3.SQLITE_TOOBIG: (RecordTooLargeError, "the record is too large for SQLite"),
}


@contextmanager
def translating(path: str) -> Iterator[None]:
    """Turns errors of SQLite and of the operating system into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, StorageError):
            raise
        raise translated(error, path) from error


def translated(error: sqlite3.Error | OSError, path: str) -> StorageError:
    """Our error for one of SQLite's or the operating system's."""
    if isinstance(error, PermissionError):
        return StoragePermissionError(f"{path}: {error.strerror}")
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF  # the extended codes keep the plain one in their low byte
    kind, meaning = _CLASSES.get(code, (StorageUnavailableError, type(error).__name__))
    return kind(f"{path}: {meaning} ({error})")
