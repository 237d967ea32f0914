"""What a driver hands out: bytes being read, bytes nobody sees yet, a file open in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

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


class BackendEditor(Protocol):
    """A file changed in place: what `+` and `a` modes need."""

    def readinto(self, buffer: memoryview) -> int: ...
    def write(self, data: bytes | bytearray | memoryview) -> int: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...
    def truncate(self, size: int) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
