"""What a driver hands out: bytes being read, bytes nobody sees yet, a file open in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

from ..types import Stat

Tick = Callable[[int], object]
"""Called with bytes done; may wait (bandwidth) and may raise (cancel)."""


class BackendReader(Protocol):
    """Bytes of one object, front to back. `stat` are the facts of these very bytes."""

    stat: Stat

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that is left if negative); b"" at the end."""

    def close(self) -> None: ...


class BackendWriter(Protocol):
    """Bytes nobody sees before `commit`.

    After a retryable error, `write(b"")` or `commit()` may be called again: nothing given before is lost.
    """

    def write(self, data: bytes | bytearray | memoryview) -> object: ...

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        """Judges conditions and announced size, checks the hashes it can, makes the bytes visible in one step."""

    def discard(self) -> None:
        """Gives up: the old bytes stay. Idempotent, never raises, does nothing after a commit."""


class Pieces(Protocol):
    """Bytes too many to hold: each iteration fetches them anew, the same ones."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


Part: TypeAlias = bytes | bytearray | memoryview | Pieces


class PartWriter(Protocol):
    """A staged write: parts in any order, from any thread, that nobody sees before `commit`.

    `token` is text by which any process opens it again with `StorageBackend.parts`; who lets go of it without `commit`
    or `discard` leaves the parts where they are.
    """

    token: str
    part_size: int
    """Bytes of every part but the last; what was asked for, or what the storage needs."""
    one_pass: bool
    """`Pieces` are taken as they come; elsewhere they are fetched twice, once for a checksum."""

    @property
    def held(self) -> frozenset[int]:
        """Where the parts begin that are there: of given receipts, those that proved to be true."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Hashes of all that is held, in order, as far as they follow from those of the parts."""

    def reread(self, start: int, end: int) -> bytes | None:
        """Bytes of parts that are held, where reading them costs no more than memory does; None elsewhere, always."""

    def put(self, offset: int, data: Part) -> str:
        """Stores the part that begins at `offset`, again if it is there; its receipt, text for `parts(receipts=)`."""

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        """As of a writer; a part that never came → `StorageCorruptedError`. After an error it may be called again."""

    def discard(self) -> None:
        """As of a writer; call it when no `put` is under way."""


class PartsAround:
    """A part writer over another one, which does all that a subclass does not do itself."""

    def __init__(self, inner: PartWriter) -> None:
        self._inner = inner
        self.token, self.part_size, self.one_pass = inner.token, inner.part_size, inner.one_pass

    @property
    def held(self) -> frozenset[int]:
        return self._inner.held

    @property
    def digests(self) -> Mapping[str, str]:
        return self._inner.digests

    def reread(self, start: int, end: int) -> bytes | None:
        return self._inner.reread(start, end)

    def put(self, offset: int, data: Part) -> str:
        return self._inner.put(offset, data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._inner.commit(hashes)

    def discard(self) -> None:
        self._inner.discard()


class BackendEditor(Protocol):
    """A file changed in place: what `+` and `a` modes need."""

    def readinto(self, buffer: memoryview) -> int: ...
    def write(self, data: bytes | bytearray | memoryview) -> int: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...
    def truncate(self, size: int) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
