"""What a file answers to an HTTP request: status, headers, and a body that is read as it is sent."""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from email.utils import formatdate
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from .. import paths
from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..types import Stat
from . import httprules

if TYPE_CHECKING:
    from ..backends.base import BackendReader
    from ..mount import Mount
    from ..nodes import StorageNode

CHUNK = 1 << 16
_TRIES = 3
_MISSING = (StorageNotFoundError, StorageIsADirectoryError, StorageNotADirectoryError, StoragePathError)
_CONDITIONS = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "range")
_STRONG_HASHES = ("sha256", "blake2b", "sha512", "sha1", "md5")
_FINE = 1e-6
"""Seconds: a clock that tells changes apart at least this well makes a strong entity tag."""


class Request(NamedTuple):
    """What is asked: the method, and the headers by their names in lower case."""

    method: str
    headers: Mapping[str, str]


class Look(NamedTuple):
    """How a file is to be shown; see `StorageNode.serve`."""

    download: bool = False
    download_name: str | None = None
    cache_max_age: int | None = None
    content_type: str | None = None
    charset: str | None = None

    def checked(self) -> Look:
        """Refuses what would not be one valid header."""
        for key in ("content_type", "charset"):
            value = getattr(self, key)
            if value is not None and not _is_header(value):
                raise ValueError(f"{key} is not a header value: {value!r}")
        age = self.cache_max_age
        if age is not None and (isinstance(age, bool) or not isinstance(age, int) or age < 0):
            raise ValueError(f"cache_max_age is seconds, 0 or more, not {age!r}")
        return self


class Answer(NamedTuple):
    """A response whose body is iterated once and closed."""

    status: int
    headers: list[tuple[str, str]]
    body: Body


class Body:
    """Chunks of bytes, read as they are asked for, from any one thread at a time; `len()` is their number.

    `pieces` are bytes of our own or ranges [start, end) of the file; `end` None is the end of a file of unknown size.
    """

    def __init__(self, pieces: list[bytes | tuple[int, int | None]], source: Source | None = None) -> None:
        self._pieces, self._source = pieces, source
        self._chunks = self._read()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        if any(isinstance(piece, tuple) and piece[1] is None for piece in self._pieces):
            raise TypeError("the size of this file is not known")
        return sum(_count(piece) for piece in self._pieces)

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            return next(self._chunks)

    def close(self) -> None:
        """Releases the file. Idempotent; waits for a chunk that is just being read."""
        with self._lock:
            self._chunks.close()
            if self._source is not None:
                self._source.close()

    def _read(self) -> Generator[bytes, None, None]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                assert self._source is not None
                yield from self._source.chunks(*piece)


def _count(piece: bytes | tuple[int, int | None]) -> int:
    return 1 if isinstance(piece, bytes) else math.ceil(((piece[1] or 0) - piece[0]) / CHUNK)


class Source:
    """The file behind a body: the same object in every range, or an error."""

    def __init__(self, node: StorageNode, stat: Stat, first: BackendReader | None) -> None:
        self._mount, self._path, self._version = node.mount, node.path, node.version
        self._stat, self._reader = stat, first

    def chunks(self, start: int, end: int | None) -> Iterator[bytes]:
        """Exactly these bytes; a file that ends before them is an error, for the answer has promised its length."""
        reader = self._reader or opened(self._mount, self._path, self._version, self._stat, start, end)
        self._reader = reader
        left = math.inf if end is None else end - start
        while left > 0:
            data = self._filled(reader, int(min(left, CHUNK)))
            if not data:
                if end is None:
                    break
                raise StorageConflictError(
                    f"'{paths.full(self._mount.name, self._path)}' became shorter while it was sent",
                    operation="serve", mount=self._mount.name, path=self._path,
                )  # fmt: skip
            left -= len(data)
            yield data
        self.close()

    def _filled(self, reader: BackendReader, size: int) -> bytes:
        data = reader.read(size)
        while 0 < len(data) < size and (more := reader.read(size - len(data))):
            data += more
        return data

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def opened(mount: Mount, path: str, version: str | None, stat: Stat, start: int, end: int | None) -> BackendReader:
    """A reader of the object that `stat` tells of; another one meanwhile → `StorageConflictError`."""
    reader = mount.reader(path, start, end, version=version, if_match=stat.etag)
    same = (reader.stat.size, reader.stat.mtime) == (stat.size, stat.mtime)
    if stat.etag is None and not same:
        reader.close()
        raise StorageConflictError("changed meanwhile", operation="serve", mount=mount.name, path=path)
    return reader


def plain(status: int, text: bytes, method: str, *headers: tuple[str, str]) -> Answer:
    """An answer that says why there is no file."""
    told = [*headers, ("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
    return Answer(status, [*told, ("X-Content-Type-Options", "nosniff")], Body([b"" if method == "HEAD" else text]))


def answer(node: StorageNode, request: Request, look: Look) -> Answer:
    """The response to a request for this file; only what nobody can foresee is raised."""
    if request.method not in ("GET", "HEAD"):
        return plain(405, b"Method Not Allowed", request.method, ("Allow", "GET, HEAD"))
    try:
        for _ in range(_TRIES):
            try:
                return _found(node, request, look)
            except StorageConflictError:  # replaced between its facts and its bytes: the new file is as good
                continue
        return plain(503, b"Service Unavailable", request.method, ("Retry-After", "1"))
    except _MISSING:
        return missing(request.method)
    except (StoragePermissionError, UnsupportedOperation):
        return plain(403, b"Forbidden", request.method)
    except StorageUnavailableError as error:
        return plain(503, b"Service Unavailable", request.method, ("Retry-After", str(math.ceil(_wait(error)))))


def missing(method: str) -> Answer:
    """404."""
    return plain(404, b"Not Found", method)


def _wait(error: StorageError) -> float:
    return max(1.0, error.retry_after or 1.0)


def _found(node: StorageNode, request: Request, look: Look) -> Answer:
    mount, path, version = node.mount, node.path, node.version
    if request.method == "GET" and not any(name in request.headers for name in _CONDITIONS):
        reader = mount.reader(path, version=version)  # its facts come with the bytes: one request for all
        return _whole(node, reader.stat, request, look, reader)
    stat = mount.stat_file(path, version=version)
    if not stat.is_file:
        return missing(request.method)
    facts = _facts(mount, stat)
    status = httprules.judge(request.headers, facts)
    if status == 412:
        return plain(412, b"Precondition Failed", request.method, *_validators(facts))
    if status == 304:
        return Answer(304, [*_validators(facts), *_caching(look)], Body([b""]))
    if request.method == "GET" and httprules.range_holds(request.headers, facts):
        wanted = httprules.ranges(request.headers.get("range"), stat.size)
        if wanted is not None:
            return _partial(node, stat, wanted, look)
    return _whole(node, stat, request, look, None)


def _whole(node: StorageNode, stat: Stat, request: Request, look: Look, reader: BackendReader | None) -> Answer:
    headers = _headers(node, stat, look)
    if stat.size is not None:
        headers.append(("Content-Length", str(stat.size)))
    if request.method == "HEAD" or stat.size == 0:
        if reader is not None:
            reader.close()
        return Answer(200, headers, Body([b""]))
    first = reader or opened(node.mount, node.path, node.version, stat, 0, None)
    return Answer(200, headers, Body([(0, stat.size)], Source(node, stat, first)))


def _partial(node: StorageNode, stat: Stat, wanted: httprules.Ranges, look: Look) -> Answer:
    size = stat.size
    if not wanted:
        return plain(416, b"Range Not Satisfiable", "GET", ("Content-Range", f"bytes */{size}"))
    first = opened(node.mount, node.path, node.version, stat, *wanted[0])
    source, headers = Source(node, stat, first), _headers(node, stat, look)
    if len(wanted) == 1:
        start, end = wanted[0]
        headers += [("Content-Range", f"bytes {start}-{end - 1}/{size}"), ("Content-Length", str(end - start))]
        return Answer(206, headers, Body([wanted[0]], source))
    boundary = secrets.token_hex(16)
    kind = dict(headers)["Content-Type"]
    pieces: list[bytes | tuple[int, int | None]] = []
    for start, end in wanted:
        head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n"
        pieces += [head.encode("latin-1"), (start, end)]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    length = sum(len(piece) if isinstance(piece, bytes) else (piece[1] or 0) - piece[0] for piece in pieces)
    headers = [pair for pair in headers if pair[0] != "Content-Type"]
    headers += [("Content-Type", f"multipart/byteranges; boundary={boundary}"), ("Content-Length", str(length))]
    return Answer(206, headers, Body(pieces, source))


# --- headers ---


def _headers(node: StorageNode, stat: Stat, look: Look) -> list[tuple[str, str]]:
    headers = [("Content-Type", _media_type(node, stat, look)), ("X-Content-Type-Options", "nosniff")]
    headers.append(("Accept-Ranges", "none" if stat.size is None else "bytes"))
    headers += [*_validators(_facts(node.mount, stat)), *_caching(look)]
    if look.download or look.download_name is not None:
        headers.append(("Content-Disposition", httprules.disposition(look.download_name or node.basename)))
    return headers


def _media_type(node: StorageNode, stat: Stat, look: Look) -> str:
    stored = stat.content_type
    usable = stored is not None and _is_header(stored) and not stored.endswith("/octet-stream")
    kind = look.content_type or (stored if usable and stored else paths.content_type(node.path))
    return kind if look.charset is None else f"{kind.partition(';')[0].strip()}; charset={look.charset}"


def _is_header(value: str) -> bool:
    return re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", value) is not None


def _caching(look: Look) -> list[tuple[str, str]]:
    return [] if look.cache_max_age is None else [("Cache-Control", f"max-age={look.cache_max_age}")]


def _validators(facts: httprules.Facts) -> list[tuple[str, str]]:
    headers = [] if facts.etag is None else [("ETag", facts.etag)]
    if facts.modified is not None:
        headers.append(("Last-Modified", formatdate(facts.modified, usegmt=True)))
    return headers


def _facts(mount: Mount, stat: Stat) -> httprules.Facts:
    now = time.time()
    # RFC 9110 §8.8.2.1: never later than the answer itself.
    modified = None if stat.mtime is None else math.floor(min(stat.mtime, now))
    return httprules.Facts(_entity_tag(mount, stat), modified, stat.size, now)


def _entity_tag(mount: Mount, stat: Stat) -> str | None:
    """From the storage's own etag, which every answer carries, else a true hash, a version, or time and size."""
    if stat.etag is not None:
        weak, text = stat.etag.startswith("W/"), stat.etag.removeprefix("W/").strip('"')
        return ("W/" if weak else "") + _quoted(text)
    hashed = next((f"{name}-{stat.hashes[name]}" for name in _STRONG_HASHES if name in stat.hashes), stat.version_id)
    if hashed is not None:
        return _quoted(hashed)
    if stat.mtime is None or stat.size is None:
        return None
    resolution = mount.features.mtime_resolution
    fine = resolution is not None and resolution <= _FINE
    return ("" if fine else "W/") + _quoted(f"{round(stat.mtime * 1e9):x}-{stat.size:x}")


def _quoted(text: str) -> str:
    if re.fullmatch(r"[\x21\x23-\x7e]+", text) is None:
        text = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f'"{text}"'
