"""The words of WebDAV (RFC 4918): what is asked of a server, and the facts in its multistatus answers."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import IO, NamedTuple
from urllib.parse import unquote, urlsplit

from .. import hashing
from ..exceptions import StorageCorruptedError, StorageError, StorageUnavailableError
from ..types import Stat, WriteOptions
from ._httpanswers import timestamp
from .base import check_size

SPOOL = 8 << 20
"""Bytes of a write that are held in memory; more wait in a temporary file until the commit."""

FACTS = b"""<?xml version="1.0" encoding="utf-8"?>
<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><creationdate/><getetag/>\
<getcontenttype/></prop></propfind>"""


class Member(NamedTuple):
    """One entry of an answer: its path on the server, decoded and without a slash at its end, and its properties."""

    place: str
    is_dir: bool
    told: Mapping[str, str]

    def stat(self, path: str) -> Stat:
        """Its facts."""
        if self.is_dir:
            return Stat(path, is_dir=True)
        length = self.told.get("getcontentlength", "")
        return Stat(
            path,
            int(length) if length.isdecimal() else None,
            mtime=timestamp(self.told.get("getlastmodified")),
            created=_created(self.told.get("creationdate")),
            etag=_quoted(self.told.get("getetag")),
            content_type=self.told.get("getcontenttype"),
        )


def members(answer: bytes) -> Iterator[Member]:
    """The entries of a multistatus answer."""
    try:
        tree = ET.fromstring(answer)
    except ET.ParseError as error:
        raise StorageUnavailableError(f"the answer is not one of WebDAV ({error})", retryable=False) from error
    for response in tree.iter("{DAV:}response"):
        href = response.findtext("{DAV:}href", "").strip()
        told: dict[str, str] = {}
        is_dir = False
        for stat in response.iter("{DAV:}propstat"):
            if " 200" not in stat.findtext("{DAV:}status", " 200"):
                continue
            is_dir = is_dir or stat.find("{DAV:}prop/{DAV:}resourcetype/{DAV:}collection") is not None
            for prop in stat.iterfind("{DAV:}prop/*"):
                if prop.text and prop.text.strip():
                    told[prop.tag.rpartition("}")[2]] = prop.text.strip()
        yield Member(place_of(href), is_dir, told)


def place_of(href: str) -> str:
    """The decoded path of a URL or of a path."""
    return unquote(urlsplit(href).path, errors="surrogateescape").rstrip("/")


def failures(answer: bytes) -> list[str]:
    """The statuses inside a multistatus answer that are none of success."""
    statuses = [element.text or "" for element in ET.fromstring(answer).iter("{DAV:}status")]
    return [status for status in statuses if " 2" not in status]


def _quoted(etag: str | None) -> str | None:
    """As the header of a GET tells it; some servers leave the quotes out here."""
    return etag if etag is None or etag.endswith('"') else f'"{etag}"'


def _created(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return timestamp(text)


class DavWriter:
    """A file that is sent at its commit, which may be repeated after a failure."""

    def __init__(self, store: Callable[[IO[bytes], int], Stat], options: WriteOptions) -> None:
        self._store, self._options = store, options
        self._size = 0
        self._spool: IO[bytes] | None = tempfile.SpooledTemporaryFile(SPOOL, prefix="genro-")  # noqa: SIM115

    def _open(self) -> IO[bytes]:
        if self._spool is None:
            raise StorageError("the writer is finished")
        return self._spool

    def write(self, data: bytes | bytearray | memoryview) -> None:
        spool = self._open()
        size = memoryview(data).nbytes
        if size:
            spool.write(data)
            self._size += size

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        spool = self._open()
        check_size(self._options.size, self._size)
        for algorithm, expected in hashes.items():
            hasher = hashing.new(algorithm)
            spool.seek(0)
            while data := spool.read(1 << 20):
                hasher.update(data)
            if hasher.hexdigest() != expected:
                raise StorageCorruptedError(f"the {algorithm} of the bytes is not {expected}", retryable=True)
        stat = self._store(spool, self._size)
        self.discard()
        return stat

    def discard(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
