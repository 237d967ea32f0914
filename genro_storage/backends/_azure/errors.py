"""What Azure Blob storage, azure-identity and urllib3 mean by their errors, in our tree."""

from __future__ import annotations

from azure.core.exceptions import AzureError, ClientAuthenticationError

from ...exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    UnsupportedOperation,
)
from .._refusals import BY_STATUS, Meaning, element, marked, meant, retry_after, sentence
from .._rest.web import Answer
from .._rest.web import translate as translate_http

_BY_CODE: dict[str, Meaning] = {
    "Md5Mismatch": (StorageCorruptedError, "the bytes were damaged on the way"),
    "InvalidResourceName": (StoragePathError, "Azure refuses this name"),
    "OutOfRangeInput": (StoragePathError, "Azure refuses this name; 1024 characters are the most"),
    "InvalidMetadata": (StoragePathError, "Azure refuses this metadata"),
    "MetadataTooLarge": (StorageQuotaError, "too much metadata; Azure holds 8 KiB"),
    "RequestBodyTooLarge": (StorageQuotaError, "too large for one request"),
    "SnapshotsPresent": (StorageConflictError, "the blob has snapshots; delete them first"),
    "BlobImmutableDueToPolicy": (StoragePermissionError, "a policy of the container keeps it as it is"),
    "BlobArchived": (StoragePermissionError, "the blob is archived; rehydrate it first"),
    "InvalidBlockList": (StorageConflictError, "somebody else wrote this blob during the upload"),
    "LeaseIdMissing": (StoragePermissionError, "somebody holds a lease on it"),
    "UnsupportedHeader": (UnsupportedOperation, "this server cannot do that"),
    "FeatureNotSupported": (UnsupportedOperation, "this account cannot do that"),
}
_BY_STATUS: dict[int, Meaning] = BY_STATUS | {
    413: (StorageQuotaError, "too large for one request"),
    501: (UnsupportedOperation, "this server cannot do that"),
}


def answered(answer: Answer, container: str) -> StorageError:
    """Our error for a refusal; status and code stay with it for those who judge conditions."""
    text = answer.data.decode(errors="replace")
    code = answer.headers.get("x-ms-error-code", "") or element("Code", text)
    return marked(_meant(answer, container, code, element("Message", text)), answer.status, code)


def _meant(answer: Answer, container: str, code: str, message: str) -> StorageError:
    if code == "ContainerNotFound":
        return StorageNotFoundError(f"the container '{container}' does not exist; check 'container'")
    known = meant(_BY_CODE.get(code) or _BY_STATUS.get(answer.status), answer.status)
    if known is None:
        return StorageError(f"the server refuses it ({answer.status} {code}: {' '.join(message.split())[:200]})")
    cls, text = known
    if cls is StoragePermissionError and code:
        text = f"{text} ({code})"
    retryable = True if cls is StorageCorruptedError else None
    return cls(text, retryable=retryable, retry_after=retry_after(answer.headers))


def translate(error: Exception) -> StorageError | None:
    """Our error for one of the driver's; None where it is none of them."""
    if isinstance(error, (ClientAuthenticationError, AzureError)):
        reason = f"no usable credentials ({sentence(error)}); set 'account_key', 'sas_token' or 'credential: anon'"
        return StoragePermissionError(reason)
    return translate_http(error)
