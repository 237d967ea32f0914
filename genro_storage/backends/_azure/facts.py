"""Between the words of Azure Blob storage and ours: headers and listings to `Stat`, `WriteOptions` to headers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from ...types import Stat, WriteOptions
from .._objects import metadata_of, quoted, sent_metadata, unquoted
from .._rest.body import extent
from .._staging import pieces
from ..handles import Part
from .labels import allowed

METADATA_LIMIT = 8192
"""Bytes of keys and values together (Azure, "Set Blob Metadata")."""
META = "x-ms-meta-"

_ODD = re.compile(r"[^a-z0-9_]|^[0-9]|_(?=x)")
_ESCAPED = re.compile(r"_x([0-9a-f]{2})_")


def stat_of(path: str, headers: Mapping[str, str], *, versions: bool) -> Stat:
    """Facts from the headers of a blob."""
    found = {name[len(META) :]: value for name, value in headers.items() if name.lower().startswith(META)}
    # Beside a range the hash of the whole has a name of its own, and Content-MD5 is that of the range.
    ranged = "content-range" in headers
    md5 = headers.get("x-ms-blob-content-md5") or (None if ranged else headers.get("content-md5"))
    facts = {
        "mtime": headers.get("last-modified"),
        "created": headers.get("x-ms-creation-time"),
        "etag": headers.get("etag"),
        "type": headers.get("content-type"),
        "md5": md5,
        "version": headers.get("x-ms-version-id"),
        "tier": headers.get("x-ms-access-tier"),
    }
    return _stat(path, extent(headers)[1], facts, found, versions)


def stat_of_listed(element: Any, name: str, *, versions: bool) -> Stat:
    """Facts from an entry of a listing."""
    properties = {child.tag: child.text for child in element.find("Properties") or ()}
    found = {child.tag: child.text or "" for child in element.find("Metadata") or ()}
    facts = {
        "mtime": properties.get("Last-Modified"),
        "created": properties.get("Creation-Time"),
        "etag": properties.get("Etag"),
        "type": properties.get("Content-Type"),
        "md5": properties.get("Content-MD5"),
        "version": element.findtext("VersionId"),
        "tier": properties.get("AccessTier"),
    }
    return _stat(name, int(properties.get("Content-Length") or 0), facts, found, versions)


def _stat(
    path: str, size: int | None, facts: Mapping[str, str | None], found: Mapping[str, str], versions: bool
) -> Stat:
    metadata, mtime = metadata_of({plain(name): value for name, value in found.items()})
    md5 = facts["md5"]
    return Stat(
        path,
        size,
        mtime=seconds(facts["mtime"]) if mtime is None else mtime,
        created=seconds(facts["created"]),
        etag=unquoted(facts["etag"]),
        content_type=facts["type"],
        hashes={"md5": base64.b64decode(md5).hex()} if md5 else {},
        version_id=facts["version"] if versions else None,
        storage_class=facts["tier"],
        metadata=metadata,
    )


def written(
    path: str, size: int, md5: bytes, headers: Mapping[str, str], options: WriteOptions, *, versions: bool
) -> Stat:
    """Facts from the answer to a write, completed by what was written."""
    return Stat(
        path,
        size,
        mtime=options.mtime,
        etag=unquoted(headers.get("etag")),
        content_type=options.content_type,
        hashes={"md5": md5.hex()},
        version_id=headers.get("x-ms-version-id") if versions else None,
        metadata=None if options.metadata is None else {key.lower(): value for key, value in options.metadata.items()},
    )


def seconds(date: str | None) -> float | None:
    """An HTTP date as POSIX seconds."""
    return None if not date else parsedate_to_datetime(date).timestamp()


# --- parameters ---


def headers_of(options: WriteOptions) -> dict[str, str]:
    """The headers that say what kind of blob a write makes, and its conditions."""
    sent = metadata_headers(options) | conditions(options)
    if options.content_type is not None:
        sent["x-ms-blob-content-type"] = options.content_type
    if options.tags:
        sent["x-ms-tags"] = urlencode(allowed(options.tags), quote_via=quote)
    return sent


def metadata_headers(options: WriteOptions) -> dict[str, str]:
    """Metadata and a kept time."""
    return {META + escaped(name): value for name, value in sent_metadata(options, METADATA_LIMIT).items()}


def conditions(options: WriteOptions) -> dict[str, str]:
    """The headers that judge a write at its end."""
    sent = {"If-None-Match": "*"} if options.if_absent else {}
    return sent if options.if_match is None else sent | {"If-Match": quoted(options.if_match)}


def escaped(name: str) -> str:
    """A metadata key as Azure takes it, an identifier: ``a-b`` → ``a_x2d_b``."""
    return _ODD.sub(lambda match: f"_x{ord(match[0]):02x}_", name)


def plain(name: str) -> str:
    """The reverse of `escaped`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name.lower())


def digest(data: Part) -> bytes:
    """The MD5 that goes with bytes for the server to check."""
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in pieces(data):
        md5.update(piece)
    return md5.digest()


def b64(data: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(data).decode()
