"""What sftp, ftp and smb share: a file is sent under a hidden name and renamed, a refusal told by what is there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..paths import join, refuse_climbing
from ..types import PLAIN, Stat, Unfinished, WriteOptions
from ._fsspec import SPOOL, Spool, span
from ._leftovers import HIDDEN, leftovers
from ._pool import Pool, Refused, ServerReader, ServerWriter, Session, survives
from .base import PAGE, BackendReader, BytesReader, StorageBackend, no_version, order
from .options import Context


class ServerStorage(StorageBackend):
    """A directory of a file server; a driver makes `Session`s and says what its server can."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self._pool = Pool(self.connect, options.max_connections, options.timeout)

    def connect(self) -> Session:
        """A new connection."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.options, self.context, self.root)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

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

    def _new(self, path: str) -> str:
        """As `_at`, of something that is to be made."""
        return self._at(path)

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
        _plain_read(version, if_match)
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
        _plain_read(version, if_match)
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

    # --- writing ---

    def writer(self, path: str, options: WriteOptions = PLAIN) -> ServerWriter:
        self._new(path)
        if options.if_match is not None or (options.if_absent and self.features.if_absent == "none"):
            raise UnsupportedOperation("this storage cannot judge that condition")
        return ServerWriter(lambda path, spool: self._store(path, spool, options), path, options)

    def _store(self, path: str, spool: Spool, options: WriteOptions) -> None:
        self._publish(path, options, lambda session, hidden, mode: session.send(hidden, spool, mode, options.mtime))

    def _publish(self, path: str, options: WriteOptions, fill: Callable[[Session, str, int | None], object]) -> None:
        """Fills a hidden file beside the target, then renames it: seen whole or not at all."""
        with self._session() as session:
            target, mode = self._target(session, path)
            mode = mode if options.mode is None else options.mode
            hidden = f"{target.rpartition('/')[0]}/{HIDDEN}{secrets.token_hex(6)}"
            try:
                try:
                    fill(session, hidden, mode)
                except (FileNotFoundError, Refused):
                    self._make_parents(session, target)  # or somebody else did meanwhile
                    fill(session, hidden, mode)
                self._rename(session, hidden, target, path, options.if_absent)
            except BaseException:
                self._forget(session, hidden)
                raise

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return leftovers(self, path, older_than)

    def _copied(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions,
        copy: Callable[[Session, str, str, int | None], int],
    ) -> Stat:
        """A copy by the server, to a hidden file that is then renamed."""
        if not isinstance(source, ServerStorage) or source.storage_id != self.storage_id:
            raise UnsupportedOperation("the other side is not on this server")
        if options.if_match is not None:
            raise UnsupportedOperation("this storage cannot judge that condition")
        old, sizes = source._at(source_path), [0]
        self._new(path)

        def fill(session: Session, hidden: str, mode: int | None) -> None:
            sizes.append(copy(session, old, hidden, mode))

        self._publish(path, options, fill)
        return Stat(path, sizes[-1])

    def _target(self, session: Session, path: str) -> tuple[str, int | None]:
        """Where a file of this name is to be, and the mode that the one there now has."""
        return self._at(path), None

    def _forget(self, session: Session, hidden: str) -> None:
        """Removes what was not finished, over another connection where this one is lost."""
        with suppress(Exception):  # after another failure, which is the one that is told
            if session.alive():
                session.remove(hidden)
            else:
                with self._session() as other:
                    other.remove(hidden)

    def _make_parents(self, session: Session, target: str) -> None:
        """Makes the directories above a path; a file among them is told."""
        above = target.rpartition("/")[0]
        if not above:
            return
        try:
            session.mkdir(above)
        except (FileNotFoundError, FileExistsError, PermissionError, Refused) as error:
            there = self._above(session, above, error)
        else:
            return
        if not there.is_dir:
            raise StorageNotADirectoryError("a directory above is a file")

    def _above(self, session: Session, above: str, error: Exception) -> Stat:
        """The directory that could not be made, because it is there, or because its own parent was missing."""
        try:
            return session.look(above, above)
        except FileNotFoundError:
            if isinstance(error, PermissionError):
                raise error from None
        self._make_parents(session, above)
        with suppress(FileExistsError, Refused):  # somebody else was faster
            session.mkdir(above)
        return session.look(above, above)

    def _rename(
        self,
        session: Session,
        source: str,
        target: str,
        path: str,
        if_absent: bool,
        origin: ServerStorage | None = None,
    ) -> None:
        """Gives a file or directory another name; a refusal is told by what is there. `origin`: the source's mount."""
        try:
            session.rename(source, target, replace=not if_absent)
        except (OSError, StorageError) as error:
            if not survives(error):
                raise
            try:
                there, moved = session.look(target, path), (origin or self)._claimed(session).look(source, path)
            except FileNotFoundError:
                raise error from None
            if if_absent:
                raise StorageExistsError("Already exists") from error
            if there.is_dir:
                told = StorageNotEmptyError if moved.is_dir else StorageIsADirectoryError
                raise told("a directory is there already") from error
            if moved.is_dir:
                raise StorageNotADirectoryError("a file is there already") from error
            raise

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        if not isinstance(source, ServerStorage) or source.storage_id != self.storage_id:
            raise UnsupportedOperation("the other side is not on this server")
        if options.if_match is not None or (options.if_absent and self.features.if_absent == "none"):
            raise UnsupportedOperation("this storage cannot judge that condition")
        old, new = source._at(source_path), self._new(path)
        if not source_path or not path or new.startswith(f"{old}/"):
            raise StoragePathError("a directory cannot become a part of itself")
        with self._session() as session:
            moved = source._claimed(session).look(old, path)
            self._claimed(session)
            if old == new:
                if options.if_absent:
                    raise StorageExistsError("Already exists")
                return moved
            there = self._there(session, path)
            if there is not None and there.is_dir and not moved.is_dir:
                raise StorageIsADirectoryError("a directory is there already")
            if there is not None and moved.is_dir and not there.is_dir:
                raise StorageNotADirectoryError("a file is there already")
            try:
                self._rename(session, old, new, path, options.if_absent, source)
            except (FileNotFoundError, Refused):
                if there is not None:
                    raise
                self._make_parents(session, new)  # or somebody else did meanwhile
                self._rename(session, old, new, path, options.if_absent, source)
            return moved

    def set_mtime(self, path: str, mtime: float) -> None:
        with self._session() as session:
            session.set_mtime(self._at(path), mtime)

    # --- removing and making ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        _plain_read(version, if_match)
        with self._session() as session, self._explained(session, path) as native:
            session.remove(native)

    def rmdir(self, path: str) -> None:
        if not path:
            raise StorageError("the root of a mount is not removed")
        with self._session() as session:
            try:
                session.rmdir(self._at(path))
            except (FileNotFoundError, PermissionError, Refused):
                there = self._there(session, path)
                if there is None:
                    raise StorageNotFoundError("No such directory") from None
                if not there.is_dir or there.is_symlink:
                    raise StorageNotADirectoryError("Not a directory") from None
                if session.listing(self._at(path), ""):
                    raise StorageNotEmptyError("Directory not empty") from None
                raise

    def mkdir(self, path: str) -> None:
        with self._session() as session:
            try:
                session.mkdir(self._new(path))
            except (FileNotFoundError, FileExistsError, PermissionError, Refused) as error:
                if self._there(session, path) is not None:
                    raise StorageExistsError("Already exists") from error
                above = self._there(session, path.rpartition("/")[0])
                if above is None:
                    raise StorageNotFoundError("the directory above is missing") from error
                if not above.is_dir:
                    raise StorageNotADirectoryError("the directory above is a file") from error
                raise

    @contextmanager
    def _explained(self, session: Session, path: str) -> Iterator[str]:
        """The server's path for an act on a file; a refusal is told by what is there."""
        try:
            yield self._at(path)
        except (PermissionError, Refused) as error:
            there = self._there(session, path)
            if there is None:
                raise StorageNotFoundError("No such file or directory") from error
            if there.is_dir and not there.is_symlink:
                raise StorageIsADirectoryError("Is a directory") from error
            raise


def _plain_read(version: str | None, if_match: str | None) -> None:
    no_version(version)
    if if_match is not None:
        raise UnsupportedOperation("this storage has no etags")


def below(root: str, path: str) -> str:
    """A path of a mount, below its root; what leads out is a `StoragePathError`."""
    return join(root, path)


def _rebuilt(cls: type[ServerStorage], options: Any, context: Context, root: str) -> ServerStorage:
    backend = cls(options, context)
    backend.root = root
    return backend
