"""What Google Cloud Storage, google-auth and urllib3 mean by their errors, in our tree."""

from __future__ import annotations

import json
import re

from google.auth.exceptions import GoogleAuthError, TransportError

from ...exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from .._rest.web import Answer, retry_after, sentence
from .._rest.web import translate as translate_http

Meaning = tuple[type[StorageError], str]

_DENIED = "the server denies it; check the credentials and what they may do"
_BUSY = "the storage is not able to answer now"
_BY_STATUS: dict[int, Meaning] = {
    401: (StoragePermissionError, _DENIED),
    403: (StoragePermissionError, _DENIED),
    404: (StorageNotFoundError, "No such file"),
    408: (StorageTimeoutError, "the server waited too long for the upload"),
    409: (StorageConflictError, "changed by somebody else at this moment"),
    410: (StorageUnavailableError, "the upload has ended; begin it again"),
    412: (StorageConflictError, "changed meanwhile: the etag is another one"),
    413: (StorageQuotaError, "too large for one object of this server"),
    429: (StorageUnavailableError, _BUSY),
}
_LIMITS = ("rateLimitExceeded", "userRateLimitExceeded")
_DIGEST = re.compile(r"hash|md5|crc32c|digest", re.IGNORECASE)
_NAME = re.compile(r"object name|not a valid name|invalid name", re.IGNORECASE)


def answered(answer: Answer, bucket: str) -> StorageError:
    """Our error for a refusal; `status` stays with it for those who judge conditions."""
    reason, message = told(answer)
    error = _meant(answer, bucket, reason, message)
    error.status = answer.status  # type: ignore[attr-defined]
    return error


def status_of(error: StorageError) -> int:
    """The HTTP status of an answered error, else 0."""
    return int(getattr(error, "status", 0))


def _meant(answer: Answer, bucket: str, reason: str, message: str) -> StorageError:
    status = answer.status
    if status == 404 and ("bucket does not exist" in message or reason == "NoSuchBucket"):
        return StorageNotFoundError(f"the bucket '{bucket}' does not exist; check 'bucket'")
    if status == 403 and reason in _LIMITS:
        return StorageUnavailableError(_BUSY, retry_after=retry_after(answer.headers))
    if status == 400 and (reason == "BadDigest" or _DIGEST.search(message)):
        return StorageCorruptedError("the bytes were damaged on the way", retryable=True)
    if status == 400 and _NAME.search(message):
        return StoragePathError("Google refuses this name (1024 bytes with the mount's root, no line breaks)")
    known = _BY_STATUS.get(status)
    if known is None and status >= 500:
        known = StorageUnavailableError, _BUSY
    if known is None:
        return StorageError(f"the server refuses it ({status} {reason}: {message})")
    cls, text = known
    if cls is StoragePermissionError and message:
        text = f"{text} ({message.rstrip('.')})"
    return cls(text, retry_after=retry_after(answer.headers))


def told(answer: Answer) -> tuple[str, str]:
    """Reason and message of a refusal, in JSON or in XML."""
    text = answer.data.decode(errors="replace")
    if text.startswith("<"):
        return _element("Code", text), _element("Message", text)
    try:
        error = json.loads(text)["error"]
        return str(error.get("errors", [{}])[0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", " ".join(text.split())[:200]


def _element(tag: str, text: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found[1] if found else ""


def translate(error: Exception) -> StorageError | None:
    """Our error for one of the driver's; None where it is none of them."""
    if isinstance(error, TransportError):
        return StorageUnavailableError(f"the server of access tokens cannot be reached ({sentence(error)})")
    if isinstance(error, GoogleAuthError):
        reason = f"no usable credentials ({sentence(error)}); set 'credentials' to a key file, or to 'anon'"
        return StoragePermissionError(reason, retryable=bool(getattr(error, "retryable", False)))
    return translate_http(error)
