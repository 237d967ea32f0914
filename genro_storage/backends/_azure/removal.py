"""Removing many blobs with few requests: batches of 256 deletes, each signed for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...exceptions import StorageError, StorageNotFoundError, StoragePathError, StorageUnavailableError
from .._refusals import no_bucket, status_of
from .._rest import batches
from .client import Client
from .errors import answered

BATCH = 256
"""Calls that one request takes (Azure, Blob Batch)."""
_NO_BATCHES = (400, 404, 405, 501)
"""What servers answer that do not know batches."""


def deleted_many(client: Client, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    """Removes (path, key) pairs; yields path and error of those that stay."""
    named: list[tuple[str, str]] = []
    for path, key in keys:
        try:
            named.append((path, client.blob(key)))
        except StoragePathError as error:
            yield path, error
    for start in range(0, len(named), BATCH):
        yield from _batch(client, named[start : start + BATCH])


def _batch(client: Client, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    body = batches.body(client.call("DELETE", target) for _, target in pairs)
    try:
        answer = client.send("POST", client.container(comp="batch"), {"Content-Type": batches.CONTENT_TYPE}, body)
    except StorageError as error:
        if status_of(error) not in _NO_BATCHES or no_bucket(error):
            raise
        yield from _one_by_one(client, pairs)
        return
    told = batches.answers(answer)
    if not told:
        yield from _one_by_one(client, pairs)
        return
    for number, (path, _) in enumerate(pairs):
        found = told.get(number)
        if found is None:
            yield path, StorageUnavailableError("the server did not answer this part of a batch")
        elif found.status >= 300:
            refusal = answered(found, client.options.container)
            if no_bucket(refusal):
                raise refusal
            if found.status != 404:
                yield path, refusal


def _one_by_one(client: Client, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    for path, target in pairs:
        try:
            client.send("DELETE", target)
        except StorageNotFoundError:
            pass
        except Exception as error:  # noqa: BLE001 - a driver call: the caller translates
            yield path, error
