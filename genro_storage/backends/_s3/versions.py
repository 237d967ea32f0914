"""The versions of one key of S3, in the order in which the server tells them."""

from __future__ import annotations

from collections.abc import Iterator

from ...types import Version
from .._objects import unquoted
from .client import Answer, Connection
from .facts import common
from .order import KINDS, ORDER


def versions_of(connection: Connection, key: str) -> Iterator[Version]:
    """Newest first. A prefix is all that can be asked for: what else begins with this key comes behind it."""
    request = common(connection.options) | {"Prefix": key}
    while True:
        answer: Answer = connection.run(connection.client.list_object_versions(**request))
        lists = {kind: iter(answer.get(kind, ())) for kind in KINDS.values()}
        for kind in answer.get(ORDER, ()):
            found = next(lists[kind])
            if found["Key"] == key:
                yield _version(found, kind == "DeleteMarkers")
        if not answer.get("IsTruncated") or answer.get("NextKeyMarker") != key:
            return
        request["KeyMarker"], request["VersionIdMarker"] = key, answer.get("NextVersionIdMarker", "")


def _version(found: Answer, deletion: bool) -> Version:
    return Version(
        found["VersionId"],
        found["IsLatest"],
        found["LastModified"].timestamp(),
        None if deletion else found.get("Size"),
        unquoted(found.get("ETag")),
        deletion,
    )
