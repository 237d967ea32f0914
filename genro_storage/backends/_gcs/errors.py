"""What Google Cloud Storage, google-auth and urllib3 mean by their errors, in our tree."""

from __future__ import annotations

import json
import re

from google.auth.exceptions import GoogleAuthError, TransportError

from ...exceptions import (
    StorageCorruptedError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
)
from .._refusals import BUSY, BY_STATUS, Meaning, element, marked, meant, retry_after, sentence
from .._rest.web import Answer
from .._rest.web import translate as translate_http

_BY_STATUS: dict[int, Meaning] = BY_STATUS | {
    410: (StorageUnavailableError, "the upload has ended; begin it again"),
    413: (StorageQuotaError, "too large for one object of this server"),
}
_LIMITS = ("rateLimitExceeded", "userRateLimitExceeded")
_DIGEST = re.compile(r"hash|md5|crc32c|digest", re.IGNORECASE)
_NAME = re.compile(r"object name|not a valid name|invalid name", re.IGNORECASE)


def answered(answer: Answer, bucket: str) -> StorageError:
    """Our error for a refusal; status and code stay with it for those who judge conditions."""
    reason, message = told(answer)
    if answer.status == 404 and ("bucket does not exist" in message or reason == "NoSuchBucket"):
        error: StorageError = StorageNotFoundError(f"the bucket '{bucket}' does not exist; check 'bucket'")
        return marked(error, answer.status, "NoSuchBucket")
    return marked(_meant(answer, reason, message), answer.status, reason)


def _meant(answer: Answer, reason: str, message: str) -> StorageError:
    status = answer.status
    if status == 403 and reason in _LIMITS:
        return StorageUnavailableError(BUSY[1], retry_after=retry_after(answer.headers))
    if status == 400 and (reason == "BadDigest" or _DIGEST.search(message)):
        return StorageCorruptedError("the bytes were damaged on the way", retryable=True)
    if status == 400 and _NAME.search(message):
        return StoragePathError("Google refuses this name (1024 bytes with the mount's root, no line breaks)")
    known = meant(_BY_STATUS.get(status), status)
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
        return element("Code", text), element("Message", text)
    try:
        error = json.loads(text)["error"]
        return str(error.get("errors", [{}])[0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", " ".join(text.split())[:200]


def translate(error: Exception) -> StorageError | None:
    """Our error for one of the driver's; None where it is none of them."""
    if isinstance(error, TransportError):
        return StorageUnavailableError(f"the server of access tokens cannot be reached ({sentence(error)})")
    if isinstance(error, GoogleAuthError):
        reason = f"no usable credentials ({sentence(error)}); set 'credentials' to a key file, or to 'anon'"
        return StoragePermissionError(reason, retryable=bool(getattr(error, "retryable", False)))
    return translate_http(error)
