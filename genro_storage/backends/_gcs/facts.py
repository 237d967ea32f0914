"""Between the words of Google Cloud Storage and ours: resources and headers to `Stat`, `WriteOptions` to both."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ... import hashing
from ...exceptions import StorageConflictError
from ...types import Stat, WriteOptions
from .._objects import metadata_of, sent_metadata
from .._rest.body import extent

METADATA_LIMIT = 8192
"""Bytes of keys and values together (Cloud Storage quotas, "custom metadata")."""
META = "x-goog-meta-"
FIELDS = "name,size,updated,timeCreated,generation,md5Hash,crc32c,contentType,storageClass,metadata"

_GENERATION = re.compile(r"[1-9][0-9]*")


def stat_of(path: str, resource: Mapping[str, Any], *, versions: bool) -> Stat:
    """Facts from an object resource of the JSON API."""
    metadata, mtime = metadata_of(resource.get("metadata") or {})
    updated = seconds(resource.get("updated"))
    hashes = {"crc32c": resource.get("crc32c"), "md5": resource.get("md5Hash")}
    return Stat(
        path,
        int(resource["size"]) if "size" in resource else None,
        mtime=mtime if mtime is not None or updated is None else float(int(updated)),
        created=seconds(resource.get("timeCreated")),
        etag=resource.get("generation"),
        content_type=resource.get("contentType"),
        hashes={name: hexed(value) for name, value in hashes.items() if value},
        version_id=resource.get("generation") if versions else None,
        storage_class=resource.get("storageClass"),
        metadata=metadata,
    )


def stat_of_headers(path: str, headers: Mapping[str, str], *, versions: bool) -> Stat:
    """Facts from the headers of the XML API."""
    given = {name[len(META) :]: utf8(value) for name, value in headers.items() if name.lower().startswith(META)}
    metadata, mtime = metadata_of(given)
    modified = headers.get("last-modified")
    return Stat(
        path,
        extent(headers)[1],
        mtime=mtime if mtime is not None or not modified else parsedate_to_datetime(modified).timestamp(),
        etag=headers.get("x-goog-generation"),
        content_type=headers.get("content-type"),
        hashes=hashes_of(headers),
        version_id=headers.get("x-goog-generation") if versions else None,
        storage_class=headers.get("x-goog-storage-class"),
        metadata=metadata,
    )


def written(path: str, size: int, headers: Mapping[str, str], options: WriteOptions, *, versions: bool) -> Stat:
    """Facts from the answer to a PUT, completed by what was written."""
    generation = headers.get("x-goog-generation")
    return Stat(
        path,
        size,
        mtime=options.mtime,
        etag=generation,
        content_type=options.content_type,
        hashes=hashes_of(headers),
        version_id=generation if versions else None,
        metadata=None if options.metadata is None else {key.lower(): value for key, value in options.metadata.items()},
    )


def hashes_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The hashes of a whole object that its answer names."""
    pairs = (part.strip().partition("=") for part in headers.get("x-goog-hash", "").split(","))
    return {name: hexed(value) for name, _, value in pairs if name in ("md5", "crc32c")}


def hexed(value: str) -> str:
    """Base64 as hex."""
    return base64.b64decode(value).hex()


def utf8(value: str) -> str:
    """A header value as UTF-8, which Google sends where somebody stored it."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def seconds(stamp: str | None) -> float | None:
    """A time of RFC 3339 as POSIX seconds."""
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


# --- parameters ---


def generation(version: str) -> str | None:
    """A generation as requests name it; None for what is none."""
    return version if _GENERATION.fullmatch(version) else None


def condition(options: WriteOptions) -> str | None:
    """The generation that must be there at the end of a write: "0" is none, None any."""
    if options.if_absent:
        return "0"
    return None if options.if_match is None else expected(options.if_match)


def expected(if_match: str) -> str:
    """The generation of a condition; `StorageConflictError` where no object can have it."""
    if generation(if_match) is None:
        raise StorageConflictError(f"changed meanwhile: etag {if_match} was expected, which no object here has")
    return if_match


def headers_of(options: WriteOptions) -> dict[str, str]:
    """The headers of a PUT."""
    sent = {META + name: value for name, value in sent_metadata(options, METADATA_LIMIT).items()}
    if options.content_type is not None:
        sent["Content-Type"] = options.content_type
    if (needed := condition(options)) is not None:
        sent["x-goog-if-generation-match"] = needed
    return sent


def resource_of(options: WriteOptions) -> dict[str, Any]:
    """The resource that begins an upload or ends a copy."""
    sent: dict[str, Any] = {"metadata": sent_metadata(options, METADATA_LIMIT)}
    return sent | ({} if options.content_type is None else {"contentType": options.content_type})


def checked(data: bytes) -> dict[str, str]:
    """The header by which the server checks these bytes."""
    name = "crc32c" if hashing.computable("crc32c") else "md5"
    hasher = hashing.new(name)
    hasher.update(data)
    return {"x-goog-hash": f"{name}={base64.b64encode(bytes.fromhex(hasher.hexdigest())).decode()}"}
