"""The bytes of an object as an HTTP answer, the same in every API."""

from __future__ import annotations

from email.utils import format_datetime

from ..inprocess import Reply, Request, byte_range
from .store import Stored

HEADERS = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
}
TOLD = ("content-type", "content-disposition")
"""What a request may have told otherwise, by parameters such as response-content-type."""


def hashes(stored: Stored) -> str:
    """The x-goog-hash header."""
    return f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")


def media(request: Request, stored: Stored, etag: str) -> Reply:
    """The object, or the one range that is asked for.

    Unlike the real service, an object stored with `Content-Encoding: gzip` is never unpacked on the way.
    """
    size = len(stored.data)
    headers = {
        "Content-Type": stored.fields["contentType"],
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": format_datetime(stored.updated, usegmt=True),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": hashes(stored),
        "x-goog-stored-content-length": str(size),
        "x-goog-stored-content-encoding": stored.fields.get("contentEncoding", "identity"),
        "x-goog-storage-class": stored.fields.get("storageClass", "STANDARD"),
    }
    headers |= {header: stored.fields[key] for key, header in HEADERS.items() if key in stored.fields}
    headers |= {f"x-goog-meta-{name}": text for name, text in (stored.fields.get("metadata") or {}).items()}
    asked_for = {h: request.query[f"response-{h}"] for h in TOLD if f"response-{h}" in request.query}
    headers |= {header.title(): text for header, text in asked_for.items()}
    if "customTime" in stored.fields:
        headers["x-goog-custom-time"] = stored.fields["customTime"]
    try:
        asked = byte_range(request.headers.get("range"), size)
    except LookupError:
        return Reply(416, b"", {"Content-Range": f"bytes */{size}"})
    if asked is None:
        return Reply(200, stored.data, headers)
    start, end = asked
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Reply(206, stored.data[start:end], headers)
