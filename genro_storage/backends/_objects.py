"""What object stores have in common: metadata as headers carry it, ETags, ranges, and directories implied by keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from math import isfinite

from ..exceptions import StorageQuotaError
from ..types import Stat, WriteOptions

METADATA_LIMIT = 2048
"""Bytes of keys and values together, as sent (S3 User Guide, "Working with object metadata")."""
MTIME = "mtime"
"""The metadata key that carries a source's time of last change, POSIX seconds as rclone and s3fs-fuse write it."""

_KEY = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_PLAIN = re.compile(r"[!-~]([ -~]*[!-~])?")


# --- metadata and ETags ---


def unquoted(etag: str | None) -> str | None:
    """An ETag as `Stat` shows it, without the quotes of HTTP."""
    return etag.strip('"') if etag else None


def quoted(etag: str) -> str:
    """An ETag as a condition sends it."""
    return etag if etag.startswith(('"', "W/")) else f'"{etag}"'


def metadata_of(given: Mapping[str, str]) -> tuple[dict[str, str], float | None]:
    """Plain metadata, and the time of last change that was kept among it."""
    metadata = {key.lower(): decoded(value) if "=?" in value else value for key, value in given.items()}
    if MTIME not in metadata:
        return metadata, None
    try:
        mtime = float(metadata[MTIME])
    except ValueError:
        return metadata, None
    if not isfinite(mtime):
        return metadata, None
    del metadata[MTIME]
    return metadata, mtime


def decoded(value: str) -> str:
    """A header value with its RFC 2047 words read."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def sent_metadata(options: WriteOptions, limit: int = METADATA_LIMIT) -> dict[str, str]:
    """Metadata as headers carry it; more than `limit` bytes → `StorageQuotaError`, a bad key → `ValueError`."""
    sent: dict[str, str] = {}
    if not options.metadata:
        return sent if options.mtime is None else {MTIME: repr(options.mtime)}
    for key, value in options.metadata.items():
        name = key.lower()
        if not _KEY.fullmatch(name):
            raise ValueError(f"metadata key {key!r}: use letters, digits, '.', '_' and '-'")
        sent[name] = encoded(value)
    if options.mtime is not None:
        sent[MTIME] = repr(options.mtime)
    length = sum(len(key) + len(value) for key, value in sent.items())
    if length > limit:
        raise StorageQuotaError(f"{length} bytes of metadata; {limit} are the most")
    return sent


def encoded(value: str) -> str:
    """A value as a header can carry it: itself, or RFC 2047 where it is not plain or would be taken for that.

    Nothing at all is not plain either: some servers drop a header without a value.
    """
    if _PLAIN.fullmatch(value) and "=?" not in value:
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


# --- keys and ranges ---


def prefix_of(path: str) -> str:
    """What the keys below a directory begin with, relative to the root: ``"d"`` → ``"d/"``.

    A first segment that is empty cannot be told from the root, so directories below one keep their slash: ``"/"``.
    """
    return path if not path or path[0] == "/" else path + "/"


def directory_of(prefix: str) -> str:
    """The reverse of `prefix_of`."""
    return prefix if prefix[0] == "/" else prefix[:-1]


def position(entry: Stat) -> str:
    """Where an entry stands in the bytewise order of listings."""
    return prefix_of(entry.path) if entry.is_dir else entry.path


def range_header(start: int, end: int | None) -> str | None:
    """The Range header for [start, end): None for the whole, "" where no byte can be in it (RFC 9110, 14.1.2)."""
    if start < 0:
        return f"bytes={start}" if end is None or end > 0 else ""
    if end is None:
        return f"bytes={start}-" if start else None
    return f"bytes={start}-{end - 1}" if end > start else ""
