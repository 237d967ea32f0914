"""Removing many objects of S3 with few requests, by exact keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from .client import Connection
from .facts import common

BATCH = 1000
"""Keys that one request takes (S3 API, DeleteObjects)."""


def deleted_many(connection: Connection, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    """Removes (path, key) pairs; yields path and error of those that stay."""
    pairs = iter(keys)
    while batch := list(islice(pairs, BATCH)):
        named = [(path, key) for path, key in batch if _fits_xml(key)]
        if named:
            yield from _batch(connection, named)
        for path, key in batch:
            if not _fits_xml(key):
                yield from _single(connection, path, key)


def _batch(connection: Connection, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    wanted = {"Objects": [{"Key": key} for _, key in pairs], "Quiet": True}
    answer = connection.run(connection.client.delete_objects(Delete=wanted, **common(connection.options)))
    paths = {key: path for path, key in pairs}
    for failed in answer.get("Errors", ()):
        if failed.get("Code") != "NoSuchKey":
            told: Any = {"Error": failed, "ResponseMetadata": {}}
            yield paths.get(failed.get("Key", ""), failed.get("Key", "")), ClientError(told, "DeleteObjects")


def _single(connection: Connection, path: str, key: str) -> Iterator[tuple[str, Exception]]:
    try:
        connection.run(connection.client.delete_object(Key=key, **common(connection.options)))
    except Exception as error:  # noqa: BLE001 - a driver call: the caller translates
        yield path, error


def _fits_xml(key: str) -> bool:
    """Whether XML 1.0 can say this key at all."""
    return not any(char < " " or char in "\ufffe\uffff" for char in key)
