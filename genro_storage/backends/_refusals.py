"""Refusals of servers: what errors keep of an answer, and the statuses by which all of them mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageUnavailableError,
)

Meaning = tuple[type[StorageError], str]

DENIED: Meaning = (StoragePermissionError, "the server denies it; check the credentials and what they may do")
BUSY: Meaning = (StorageUnavailableError, "the storage is not able to answer now")
BY_STATUS: dict[int, Meaning] = {
    401: DENIED,
    403: DENIED,
    404: (StorageNotFoundError, "No such file"),
    408: (StorageTimeoutError, "the server waited too long for the upload"),
    409: (StorageConflictError, "changed by somebody else at this moment"),
    412: (StorageConflictError, "changed meanwhile: the etag is another one"),
    429: BUSY,
}
NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})


def meant(known: Meaning | None, status: int) -> Meaning | None:
    """What a status means where nothing else is known of it."""
    return BUSY if known is None and status >= 500 else known


def marked(error: StorageError, status: int, code: str) -> StorageError:
    """An error that keeps these for those who judge conditions."""
    error.status, error.code = status, code  # type: ignore[attr-defined]
    return error


def status_of(error: StorageError) -> int:
    """The HTTP status of a `marked` error, else 0."""
    return int(getattr(error, "status", 0))


def code_of(error: StorageError) -> str:
    """The code of a `marked` error, else ""."""
    return str(getattr(error, "code", ""))


def no_bucket(error: StorageError) -> bool:
    """Whether it is the bucket or container that does not exist."""
    return code_of(error) in NO_BUCKET


def element(tag: str, text: str) -> str:
    """What stands in an element of XML, as it stands there; "" without one."""
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found[1] if found else ""


def sentence(error: Exception) -> str:
    """What a foreign error says, on one line."""
    return " ".join(str(error).split()).rstrip(".")[:300]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
