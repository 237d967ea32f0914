"""What sftp, ftp and smb share where nothing is changed: connections, paths, facts, listings, reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from ..exceptions import (
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..paths import refuse_climbing
from ..types import Stat
from ._fsspec import SPOOL, span
from ._pool import Pool, Refused, ServerReader, Session, survives
from ._portable import PortableBackend
from .base import PAGE, BackendReader, BytesReader, no_version, order
from .options import Context


class ServerFiles(PortableBackend):
    """A directory of a file server, as it is read; a driver makes `Session`s."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        self._pool = Pool(self.connect, options.max_connections, options.timeout)

    def connect(self) -> Session:
        """A new connection."""
        raise NotImplementedError

    def rooted(self, path: str) -> Self:
        refuse_climbing(path)
        return super().rooted(path)

    def close(self) -> None:
        self._pool.close()

    def native_path(self, path: str) -> str:
        return self._at(path)

    def _at(self, path: str) -> str:
        """The server's own path; ``..`` is refused here too, and what the server has no name for."""
        refuse_climbing(path)
        return "/" + "/".join(part for part in (self.root, path) if part)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._pool.session() as session:
            yield self._claimed(session)

    def _claimed(self, session: Session) -> Session:
        """The connection, told for which mount it works now: mounts of one server share theirs."""
        return session

    def translate(self, error: Exception) -> StorageError | None:
        if isinstance(error, Refused):
            return StorageError(f"the server refuses: {error}")
        if isinstance(error, EOFError):
            return StorageUnavailableError("the server closed the connection")
        return None

    # --- facts and listing ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        with self._session() as session:
            return self._look(session, path)

    def _look(self, session: Session, path: str) -> Stat:
        try:
            return session.look(self._at(path), path)
        except FileNotFoundError:
            if path:
                raise
            return Stat("", is_dir=True)  # a mount's root is there, and nothing may be in it yet

    def _there(self, session: Session, path: str) -> Stat | None:
        try:
            return self._look(session, path)
        except FileNotFoundError:
            return None

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        """The level is read whole before the first page, so that nobody's pause holds a connection."""
        native = self._at(path)
        with self._session() as session:
            try:
                found = session.listing(native, f"{path}/" if path else "")
            except (FileNotFoundError, Refused):
                try:
                    there = session.look(native, path)
                except FileNotFoundError:
                    if path:
                        raise StorageNotFoundError("No such directory") from None
                    found = []  # a mount's root is there, and nothing may be in it yet
                else:
                    if not there.is_dir:
                        raise StorageNotADirectoryError("Not a directory") from None
                    raise
        least = after.encode("utf-8", "surrogateescape")
        found = [stat for stat in sorted(found, key=order) if order(stat) > least][:limit]
        for start in range(0, len(found), PAGE):
            yield found[start : start + PAGE]

    # --- reading ---

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        plain_read(version, if_match)
        with self._session() as session:
            opened = session.open(self._at(path), path)
            try:
                return b"".join(opened.read(*span(opened.stat.size, start, end))), opened.settled()
            finally:
                opened.close()

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        """A span of up to 8 MiB is read at once and frees its connection, a longer one keeps it."""
        plain_read(version, if_match)
        session = self._claimed(self._pool.take())
        whole, kept = False, False
        try:
            opened = session.open(self._at(path), path)
            first, last = span(opened.stat.size, start, end)
            if last - first > SPOOL:
                kept = True
                return ServerReader(self._pool, session, opened, first, last)
            try:
                data = b"".join(opened.read(first, last))
                stat = opened.settled()
            finally:
                opened.close()
            whole = True
            return BytesReader(data, stat)
        except BaseException as error:
            whole = survives(error)
            raise
        finally:
            if not kept:
                self._pool.give(session, whole=whole)


def plain_read(version: str | None, if_match: str | None) -> None:
    """Refuses the conditions that no file server can judge."""
    no_version(version)
    if if_match is not None:
        raise UnsupportedOperation("this storage has no etags")
