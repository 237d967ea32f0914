"""Listings of S3, one page at a time."""

from __future__ import annotations

from ...types import Stat
from .. import _pages
from .._objects import unquoted
from .client import Answer, Connection
from .facts import common
from .plain import Object, Page


def page_of(connection: Connection, asked: _pages.Asked) -> _pages.Page:
    """The answer to one ListObjectsV2."""
    request: Answer = common(connection.options) | {"Prefix": asked.prefix, "MaxKeys": asked.limit}
    for word, value in (("Delimiter", "/" if asked.delimiter else ""), ("StartAfter", asked.start)):
        if value:
            request[word] = value
    if asked.token:
        request["ContinuationToken"] = asked.token
    page, cut = connection.plain.page(connection, request), asked.cut
    if page is None:
        page = _told(connection.run(connection.client.list_objects_v2(**request)))
    found = [
        Stat(key[cut:], size, mtime=modified, etag=etag or None, storage_class=stored)
        for key, size, modified, etag, stored in page.objects
    ]
    return _pages.Page(found, page.prefixes, page.token)


def _told(answer: Answer) -> Page:
    """A page as the client tells it."""
    objects = [
        Object(
            found["Key"],
            found["Size"],
            float(int(found["LastModified"].timestamp())),
            unquoted(found.get("ETag")) or "",
            found.get("StorageClass"),
        )
        for found in answer.get("Contents", ())
    ]
    prefixes = [common["Prefix"] for common in answer.get("CommonPrefixes", ())]
    token = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
    return Page(objects, prefixes, token or "")
