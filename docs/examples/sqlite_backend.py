"""Files as rows of one SQLite table: a complete backend for genro_storage."""

import os
import sqlite3
from contextlib import closing

from genro_storage import Stat, StorageError, StorageUnavailableError
from genro_storage.backends import StorageBackend

TABLE = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID"


class SqliteBackend(StorageBackend):
    """Connects anew for each call, so that threads and forks need no care."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self.database = os.path.realpath(database)

    @property
    def storage_id(self) -> str:
        return f"sqlite:{self.database}"

    def translate(self, error: Exception) -> StorageError | None:
        return (
            StorageUnavailableError(f"SQLite says '{error}'") if isinstance(error, sqlite3.OperationalError) else None
        )

    def _run(self, sql: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            connection.execute(TABLE)
            return connection.execute(sql, values).fetchall()

    def read_bytes(self, path: str) -> bytes:
        for (data,) in self._run("SELECT data FROM files WHERE path = ?", path):
            return data
        raise FileNotFoundError(path)

    def write_bytes(self, path: str, data: bytes) -> None:
        self._run("REPLACE INTO files VALUES (?, ?)", path, data)

    def exists(self, path: str) -> bool:
        return bool(self._run("SELECT 1 FROM files WHERE path = ?", path))

    def delete(self, path: str) -> None:
        self._run("DELETE FROM files WHERE path = ?", path)

    def list_dir(self, path: str) -> list[str | Stat]:
        start = f"{path}/" if path else ""
        entries: dict[str, str | Stat] = {}
        for key, size in self._run(
            "SELECT path, length(data) FROM files WHERE substr(path, 1, ?) = ?", len(start), start
        ):
            name, slash, _ = key[len(start) :].partition("/")
            entries[name + slash] = name + slash if slash else Stat(name, size)
        return list(entries.values())
