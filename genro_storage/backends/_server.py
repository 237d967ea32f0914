"""What sftp, ftp and smb share: a file is sent under a hidden name and renamed, a refusal told by what is there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..types import PLAIN, Stat, Unfinished, WriteOptions
from ._fsspec import Spool
from ._leftovers import HIDDEN, leftovers
from ._pool import Refused, ServerWriter, Session, survives
from ._serverfiles import ServerFiles, plain_read
from .base import StorageBackend


class ServerStorage(ServerFiles):
    """A directory of a file server that is written, too; a driver says what its server can."""

    def _new(self, path: str) -> str:
        """The server's own path of something that is to be made."""
        return self._at(path)

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
        plain_read(version, if_match)
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
