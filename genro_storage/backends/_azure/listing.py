"""Listings of Azure Blob storage: pages of blobs, and the versions of one of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ...exceptions import StorageError, StorageExistsError, StorageUnavailableError
from ...types import Version, WriteOptions
from .._objects import unquoted
from .._pages import Asked, Page
from .._refusals import status_of
from .client import Client, named
from .copying import copy_blob
from .facts import stat_of_listed
from .writer import Target

DELETED = "-deleted"
"""Ends the id of a deletion; before it stands the version that was current then."""
STARTS = "2026-02-06"
"""Of the REST API: the first version in which a listing may begin at a name (List Blobs, `startFrom`)."""
MOST = 5000
"""Entries that one request gives at most (List Blobs, `maxresults`)."""


def page(client: Client, asked: Asked) -> Page:
    """One page of keys; where the service cannot begin at a name, what comes before is passed over in large pages."""
    if not (asked.start and client.begins):
        return _page(client, asked, MOST if asked.start else asked.limit)
    try:
        return _page(client, asked, asked.limit, asked.start)
    except StorageError as error:
        if status_of(error) != 400:
            raise
        found = _page(client, asked, MOST)
        client.begins = False  # an older service: it was the start that it refused
        return found


def _page(client: Client, asked: Asked, limit: int, start: str | None = None) -> Page:
    versions, cut = client.options.version_aware, asked.cut
    blobs, token = _listed(
        client,
        {} if start is None else {"x-ms-version": STARTS},
        prefix=asked.prefix or None,
        delimiter="/" if asked.delimiter else None,
        startFrom=start,
        maxresults=str(limit),
        marker=asked.token or None,
        include="metadata",
    )
    found, prefixes = [], []
    for element in blobs:
        name = named(element.find("Name"))
        if name < asked.start and not asked.start.startswith(name):
            client.begins = False  # an emulator that does not know the start ignores it
        elif element.tag == "BlobPrefix":
            prefixes.append(name)
        else:
            found.append(stat_of_listed(element, name[cut:], versions=versions))
    return Page(found, prefixes, token)


def _listed(client: Client, headers: Mapping[str, str], **query: str | None) -> tuple[Any, str]:
    answer = client.send("GET", client.container(comp="list", **query), headers)
    try:
        told = ET.fromstring(answer.data)
    except ET.ParseError as error:
        raise StorageUnavailableError("the listing holds a name that XML cannot say, or is not one") from error
    return told.find("Blobs") if told.find("Blobs") is not None else (), told.findtext("NextMarker") or ""


def versions(client: Client, key: str) -> Iterator[Version]:
    """Newest first; where nothing is current a deletion, whose time Azure does not tell, comes before all others."""
    found = _versions(client, key)[::-1]
    current = any(element.findtext("IsCurrentVersion") == "true" for element in found)
    if found and not current:
        yield Version(f"{found[0].findtext('VersionId')}{DELETED}", True, is_delete_marker=True)
    for element in found:
        number = element.findtext("VersionId")
        yield Version(
            number,
            element.findtext("IsCurrentVersion") == "true",
            datetime.fromisoformat(number[:26] + "+00:00").timestamp(),
            int(element.findtext("Properties/Content-Length") or 0),
            etag=unquoted(element.findtext("Properties/Etag")),
        )


def _versions(client: Client, key: str) -> list[Any]:
    """Oldest first, of exactly this key, which comes before all longer ones."""
    found: list[Any] = []
    token = ""
    while True:
        blobs, token = _listed(client, {}, prefix=key, include="versions", marker=token or None)
        mine = [blob for blob in blobs if blob.findtext("VersionId") and named(blob.find("Name")) == key]
        found += mine
        if not token or len(mine) < len(blobs):
            return sorted(found, key=lambda blob: str(blob.findtext("VersionId")))


def restore(client: Client, key: str, path: str, version: str) -> None:
    """Takes a deletion back: the version that was current is so again, under a new id.

    Where something is there again, or that version is gone, there is nothing to take back.
    """
    former = version.removesuffix(DELETED)
    target = Target(client, key, path, WriteOptions(if_absent=True))
    try:
        copy_blob(target, client, key, former, lambda n: None)
        client.send("DELETE", client.blob(key, versionid=former))
    except (StorageExistsError, FileNotFoundError):
        return
