"""Listings of Azure Blob storage: pages of blobs, and the versions of one of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ...exceptions import StorageExistsError, StorageUnavailableError
from ...types import Version, WriteOptions
from .._objects import unquoted
from .._pages import Asked, Page
from .client import Client, named
from .copying import copy_blob
from .facts import stat_of_listed
from .writer import Target

DELETED = "-deleted"
"""Ends the id of a deletion; before it stands the version that was current then."""


def page(client: Client, asked: Asked) -> Page:
    """One page of keys. Azure cannot begin a listing after a name: what comes before is left out by the caller."""
    versions = client.options.version_aware
    blobs, token = _listed(
        client,
        prefix=asked.prefix or None,
        delimiter="/" if asked.delimiter else None,
        maxresults=str(asked.limit),
        marker=asked.token or None,
        include="metadata",
    )
    found, prefixes = [], []
    for element in blobs:
        name = named(element.find("Name"))
        if element.tag == "BlobPrefix":
            prefixes.append(name)
        else:
            found.append(stat_of_listed(element, name[asked.cut :], versions=versions))
    return Page(found, prefixes, token)


def _listed(client: Client, **query: str | None) -> tuple[Any, str]:
    answer = client.send("GET", client.container(comp="list", **query))
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
        blobs, token = _listed(client, prefix=key, include="versions", marker=token or None)
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
