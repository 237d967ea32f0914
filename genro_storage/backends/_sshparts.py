"""Parts staged on an SFTP server: written into their places of one hidden file, which a rename makes visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..exceptions import StorageConflictError, StorageCorruptedError, UnsupportedOperation
from ..types import Stat, Unfinished, WriteOptions
from . import _ssh
from ._leftovers import HIDDEN, leftovers
from ._pool import Refused, Session
from ._staging import HIDDEN_PARTS, Receipt, Staged, Sums, fitting, gone, hidden_name, meant, pieces
from .handles import Part

if TYPE_CHECKING:
    from .sftp import SftpBackend


class SftpParts(Staged):
    """A staged write; its token is the hidden file's name. Each part has a connection of its own while it goes."""

    one_pass = True

    def __init__(
        self,
        storage: SftpBackend,
        path: str,
        options: WriteOptions,
        *,
        part_size: int,
        token: str | None,
        receipts: Mapping[int, str],
    ) -> None:
        super().__init__(path, options, fitting(part_size, options.size), receipts)
        if options.if_match is not None:
            raise UnsupportedOperation("this storage cannot judge that condition")
        self._storage = storage
        self._renamed = False
        with storage._session() as session:
            self._target, there = storage._target(session, path)
            self._mode = there if options.mode is None else options.mode
            lead, _, name = self._target.rpartition("/")
            self.token = hidden_name(name) if token is None else token
            self._hidden = f"{lead}/{self.token}"
            if token is None:
                self._begin(session)
            else:
                self._go_on(session)

    def _begin(self, session: Session) -> None:
        try:
            _ssh.of(session).create(self._hidden, self._mode)
        except (FileNotFoundError, Refused):
            self._storage._make_parents(session, self._target)  # or somebody else did meanwhile
            _ssh.of(session).create(self._hidden, self._mode)

    def _go_on(self, session: Session) -> None:
        """Reads what the receipts tell of: a server that went down may have less."""
        if "/" in self.token or not self.token.startswith((HIDDEN_PARTS, HIDDEN)):
            raise gone()
        try:
            opened = session.open(self._hidden, self.path)
        except FileNotFoundError:
            raise gone() from None
        try:
            for offset, receipt in list(self._receipts.items()):
                sums, size = Sums(), 0
                for piece in opened.read(offset, min(offset + receipt.size, opened.stat.size or 0)):
                    sums.passed(piece)
                    size += len(piece)
                if sums.receipt(size) != receipt:
                    self._forget(offset)
        finally:
            opened.close()

    def _store(self, offset: int, data: Part) -> Receipt:
        self._check()
        sums = Sums()

        def passing() -> Iterator[bytes | bytearray | memoryview]:
            for piece in pieces(data):
                sums.passed(piece)
                yield piece

        with self._storage._session() as session:
            _ssh.of(session).fill(self._hidden, offset, passing())
        return sums.receipt(len(data))

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        with self._storage._session() as session:
            try:
                found = session.look(self._hidden, self.path).size
            except FileNotFoundError:
                if self._renamed and self._is_there(session, size):
                    return Stat(self.path, size)
                raise gone() from None
            if found != size:
                raise StorageCorruptedError(f"the server holds {found} bytes where {size} were written")
            _ssh.of(session).change(self._hidden, self._mode, self.options.mtime)
            self._renamed = True
            self._storage._rename(session, self._hidden, self._target, self.path, self.options.if_absent)
        return Stat(self.path, size)

    def _is_there(self, session: Session, size: int) -> bool:
        """Whether an earlier try did it, whose answer was lost."""
        try:
            return session.look(self._target, self.path).size == size
        except (FileNotFoundError, StorageConflictError):
            return False

    def _drop(self) -> None:
        with self._storage._session() as session:
            session.remove(self._hidden)


def unfinished(storage: SftpBackend, path: str, older_than: float) -> Iterator[Unfinished]:
    """What is staged at or below `path`."""
    yield from leftovers(storage, path, older_than)
    name = path.rpartition("/")[2]
    if name:
        above = leftovers(storage, path.rpartition("/")[0], older_than, deep=False)
        yield from (found for found in above if meant(found.token) == name)
