"""The objects of the mount store: where they are, what is in them, and what it needs of a place to keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from ..exceptions import StorageCorruptedError

LOG = "log"
RECORDS = "r"
SUFFIX = ".rec"
LONGEST = 200
"""Bytes of a name; a longer one is cut and gets a digest, and the full one is in the object."""
_DIGEST = 20
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_.-")


class Objects(Protocol):
    """A directory of small objects with conditions, and a clock: all that the protocol does goes through this."""

    async def get(self, path: str) -> tuple[bytes, str]:
        """(bytes, etag); missing → `StorageNotFoundError`."""

    async def look(self, paths: Sequence[str]) -> list[bytes | None]:
        """The bytes of each, None where nothing is; read in any order, at once if that is faster."""

    async def create(self, path: str, data: bytes) -> str:
        """The etag of a new object; something is there → `StorageExistsError`."""

    async def replace(self, path: str, data: bytes, etag: str) -> str:
        """The new etag; another one is there, or none → `StorageConflictError`."""

    async def delete(self, path: str, etag: str | None = None) -> None:
        """Removes it; another `etag` is there → `StorageConflictError`; nothing is there: nothing happens."""

    async def names(self, folder: str, after: str = "") -> list[str]:
        """The names in a folder above `after`, in bytewise order; none if there is no such folder."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Held(Struct, frozen=True, array_like=True):
    """One record as its object holds it. `data` None: deleted, and the object stays to say so.

    `sticky`: another owner may still be about to write this key, so that it must never be absent. `nonce` makes the
    bytes, and so the etag, of every write its own.
    """

    space: str
    key: str
    version: int
    expires_at: int | None
    data: bytes | None
    sticky: bool = False
    nonce: bytes = b""


class LogEntry(Struct, frozen=True, array_like=True):
    """All writes of some commits; a take-over entry has none. Versions follow from the place."""

    owner: str
    writes: Sequence[Held] = ()
    takes_over: bool = False


def encoded(value: Held | LogEntry) -> bytes:
    """The bytes of an object, which begin with a digest of the rest."""
    body = msgspec.msgpack.encode(value)
    return blake2b(body, digest_size=_DIGEST).digest() + body


def record_of(data: bytes, path: str) -> Held:
    """What an object in `RECORDS` holds."""
    return _checked(data, path, _HELD)


def entry_of(data: bytes, path: str) -> LogEntry:
    """What an object in `LOG` holds."""
    return _checked(data, path, _ENTRY)


_HELD = msgspec.msgpack.Decoder(Held)
_ENTRY = msgspec.msgpack.Decoder(LogEntry)
Kind = TypeVar("Kind")


def _checked(data: bytes, path: str, decoder: msgspec.msgpack.Decoder[Kind]) -> Kind:
    body = data[_DIGEST:]
    if data[:_DIGEST] != blake2b(body, digest_size=_DIGEST).digest():
        raise StorageCorruptedError("the record is damaged: its digest does not match", path=path)
    return decoder.decode(body)


def log_path(seq: int) -> str:
    """Where a log entry is."""
    return f"{LOG}/{seq:020}"


def seq_of(name: str) -> int:
    """The number in the name of a log entry; 0 for a name that is none."""
    return int(name) if len(name) == 20 and name.isdigit() else 0


def folder_of(space: str) -> str:
    """The folder of the records of a space."""
    return f"{RECORDS}/{_quoted(space) or '%'}"


def path_of(space: str, key: str) -> str:
    """Where a record is."""
    # Without a suffix where the listing is to be in order of the keys: "a-.rec" comes before "a.rec".
    return f"{folder_of(space)}/{key if space.endswith('#') else _quoted(key) + SUFFIX}"


def key_of(name: str) -> str | None:
    """The key in the name of a record; None where the object must be asked."""
    stem = name.removesuffix(SUFFIX)
    return None if "~" in stem else re.sub(rb"%([0-9a-f]{2})", _byte, stem.encode()).decode()


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])


def _quoted(name: str) -> str:
    """Only lowercase letters, digits, ``_``, ``-``, ``.`` inside, and ``%xx``: alike on every file system."""
    quoted = "".join(_safe(name.encode()))
    if quoted.startswith("."):
        quoted = f"%2e{quoted[1:]}"
    if len(quoted) <= LONGEST:
        return quoted
    return f"{quoted[:120]}~{blake2b(name.encode(), digest_size=_DIGEST).hexdigest()}"


def _safe(name: bytes) -> Iterator[str]:
    return (chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in name)
