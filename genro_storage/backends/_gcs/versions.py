"""Generations of an object of Google Cloud Storage, and the deletion after the last of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ...exceptions import StorageExistsError, StorageNotFoundError
from ...types import Version, WriteOptions
from .client import Client
from .copying import copy_object
from .facts import seconds
from .writer import Target

DELETED = "-deleted"
"""Ends the id of a deletion; before it stands the generation that was current then."""

_FIELDS = "items(name,generation,size,timeCreated,timeDeleted),nextPageToken"


def listed(client: Client, key: str) -> Iterator[Version]:
    """Newest first; where nothing is current a deletion comes before all others.

    Former deletions are not told: a generation that was erased leaves the same gap.
    """
    found = _generations(client, key)[::-1]
    ended = seconds(found[0].get("timeDeleted")) if found else None
    if ended is not None:
        yield Version(found[0]["generation"] + DELETED, True, ended, is_delete_marker=True)
    for place, item in enumerate(found):
        number = item["generation"]
        newest = place == 0 and ended is None
        yield Version(number, newest, seconds(item["timeCreated"]), int(item["size"]), etag=number)


def _generations(client: Client, key: str) -> list[Any]:
    """Oldest first, of exactly this key."""
    found: list[Any] = []
    token: str | None = None
    while True:
        # Of the longer names that begin with this one only those before "!" follow.
        target = client.objects(prefix=key, endOffset=key + "!", versions="true", fields=_FIELDS, pageToken=token)
        page = json.loads(client.send("GET", target).data)
        found += [item for item in page.get("items", ()) if item["name"] == key]
        token = page.get("nextPageToken")
        if token is None:
            return sorted(found, key=lambda item: int(item["generation"]))


def restore(client: Client, key: str, path: str, version: str) -> None:
    """Takes a deletion back: the generation that was current is so again, under a new number.

    Where something is there again, or that generation is gone, there is nothing to take back.
    """
    number = version.removesuffix(DELETED)
    target = Target(client, key, path, WriteOptions(if_absent=True))
    try:
        copy_object(target, client, key, number, lambda n: None)
        client.send("DELETE", client.object(key, generation=number))
    except (StorageExistsError, StorageNotFoundError):
        return
