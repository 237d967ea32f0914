"""Removing many objects of Google Cloud Storage with few requests: batches of a hundred deletes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email import message_from_bytes

from ...exceptions import StorageError, StorageUnavailableError
from .._rest.web import Answer
from .client import Client
from .errors import answered

BATCH = 100
"""Calls that one request takes (Cloud Storage, "Batch requests")."""

_STATUS = re.compile(rb"HTTP/[\d.]+ (\d{3})")
_NUMBER = re.compile(r"response-.*?(\d+)>?$")
_BOUNDARY = "===genro-batch==="
"""No target holds it: "=" is percent-encoded there."""


def deleted_many(client: Client, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    """Removes (path, key) pairs; yields path and error of those that stay."""
    for start in range(0, len(keys), BATCH):
        yield from _batch(client, keys[start : start + BATCH])


def _batch(client: Client, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
    calls = "".join(
        f"--{_BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <call-{number}>\r\n\r\n"
        f"DELETE {client.object(key)} HTTP/1.1\r\n\r\n\r\n"
        for number, (_, key) in enumerate(pairs)
    )
    headers = {"Content-Type": f'multipart/mixed; boundary="{_BOUNDARY}"'}
    answer = client.send("POST", "/batch/storage/v1", headers, f"{calls}--{_BOUNDARY}--".encode())
    told = _answers(answer)
    for number, (path, _) in enumerate(pairs):
        status, data = told.get(number, (0, b""))
        if status == 0:
            yield path, StorageUnavailableError("the server did not answer this part of a batch")
        elif status >= 300 and status != 404:
            error: StorageError = answered(Answer(status, {}, data), client.options.bucket)
            yield path, error


def _answers(answer: Answer) -> dict[int, tuple[int, bytes]]:
    """Status and body of each call by its number."""
    told = message_from_bytes(f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode() + answer.data)
    found = {}
    for place, part in enumerate(told.get_payload() if told.is_multipart() else ()):
        number = _NUMBER.search(str(part.get("Content-ID", "")))
        data: bytes = part.get_payload(decode=True) or b""
        status = _STATUS.match(data.lstrip())
        if status:
            found[int(number[1]) if number else place] = int(status[1]), data.partition(b"\r\n\r\n")[2]
    return found
