"""Removing many objects of Google Cloud Storage with few requests: batches of a hundred deletes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...exceptions import StorageUnavailableError
from .._refusals import no_bucket
from .._rest import batches
from .client import Client
from .errors import answered

BATCH = 100
"""Calls that one request takes (Cloud Storage, "Batch requests")."""


def deleted_many(client: Client, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    """Removes (path, key) pairs; yields path and error of those that stay."""
    for start in range(0, len(keys), BATCH):
        yield from _batch(client, keys[start : start + BATCH])


def _batch(client: Client, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    body = batches.body((f"DELETE {client.object(key)} HTTP/1.1\r\n" for _, key in pairs), "<call-{}>")
    told = batches.answers(client.send("POST", "/batch/storage/v1", {"Content-Type": batches.CONTENT_TYPE}, body))
    for number, (path, _) in enumerate(pairs):
        answer = told.get(number)
        if answer is None:
            yield path, StorageUnavailableError("the server did not answer this part of a batch")
        elif answer.status >= 300:
            error = answered(answer, client.options.bucket)
            if answer.status != 404:
                yield path, error
            elif no_bucket(error):
                raise error
