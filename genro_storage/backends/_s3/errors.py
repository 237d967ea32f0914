"""What botocore, aiohttp and the server mean by their errors, in our tree."""

from __future__ import annotations

from typing import Any

from botocore import exceptions as boto

from ...exceptions import (
    StorageCorruptedError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from .._refusals import BUSY, BY_STATUS, DENIED, Meaning, meant, retry_after, sentence

_BY_CODE: dict[str, Meaning] = {
    "NoSuchKey": (StorageNotFoundError, "No such file"),
    "NoSuchVersion": (StorageVersionNotFoundError, "No such version of this file"),
    "NoSuchUpload": (StorageNotFoundError, "the upload was ended by somebody else"),
    "InvalidObjectState": (StoragePermissionError, "the object is archived; restore it first"),
    "ExpiredToken": (StoragePermissionError, "the session token has expired; get a new one"),
    "KeyTooLongError": (StoragePathError, "the name is too long for S3 (1024 bytes with the mount's root)"),
    "InvalidURI": (StoragePathError, "the server refuses this name"),
    "EntityTooLarge": (StorageQuotaError, "too large for one object of this server"),
    "MetadataTooLarge": (StorageQuotaError, "too much metadata; S3 holds 2 KiB"),
    "QuotaExceeded": (StorageQuotaError, "the server's quota is used up"),
    "BadDigest": (StorageCorruptedError, "the bytes were damaged on the way"),
    "XAmzContentSHA256Mismatch": (StorageCorruptedError, "the bytes were damaged on the way"),
    "XAmzContentChecksumMismatch": (StorageCorruptedError, "the bytes were damaged on the way"),
    "IncompleteBody": (StorageUnavailableError, "the upload was cut short"),
    "OperationAborted": (StorageUnavailableError, "another operation is in the way"),
    "RequestTimeout": (StorageTimeoutError, "the server waited too long for the upload"),
    "PermanentRedirect": (StorageError, "the bucket is in another region; set 'region'"),
    "MethodNotAllowed": (StorageNotFoundError, "this version is a deletion"),
    "NotImplemented": (UnsupportedOperation, "this server cannot do that"),
}
_BY_CODE |= dict.fromkeys(
    [
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    ],
    DENIED,
)
_BY_CODE |= dict.fromkeys(
    ["InternalError", "RequestLimitExceeded", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"],
    BUSY,
)
_BY_STATUS: dict[int, Meaning] = BY_STATUS | {
    301: _BY_CODE["PermanentRedirect"],
    405: _BY_CODE["MethodNotAllowed"],
    413: _BY_CODE["EntityTooLarge"],
    501: _BY_CODE["NotImplemented"],
}
_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
)


def translate(error: Exception, bucket: str) -> StorageError | None:
    """Our error for one of the driver's; None where it is none of them."""
    if isinstance(error, boto.ClientError):
        return answered(error, bucket)
    if isinstance(error, (boto.ConnectTimeoutError, boto.ReadTimeoutError, TimeoutError)):
        return StorageTimeoutError("no answer in time")
    if isinstance(error, _CREDENTIALS):
        reason = f"no usable credentials ({sentence(error)}); set 'access_key' and 'secret_key', or 'anon: true'"
        return StoragePermissionError(reason)
    if isinstance(error, boto.SSLError):
        reason = f"the TLS certificate cannot be verified ({sentence(error)}); see 'verify_tls'"
        return StorageUnavailableError(reason, retryable=False)
    if isinstance(error, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)):
        return StorageUnavailableError(f"the storage cannot be reached ({sentence(error)})")
    if isinstance(error, boto.ParamValidationError):
        return StoragePathError(f"S3 refuses this name or value ({sentence(error)})")
    if isinstance(error, boto.BotoCoreError):
        return StorageError(f"the S3 client cannot work like this ({sentence(error)})")
    return _of_transports(error)


def _of_transports(error: Exception) -> StorageError | None:
    """Errors of the libraries below, which are imported only where somebody used them."""
    from aiohttp import ClientError
    from botocore.parsers import ResponseParserError

    from .._rest import web

    if isinstance(error, ClientError):
        return StorageUnavailableError(f"the storage cannot be reached ({sentence(error)})")
    if isinstance(error, ResponseParserError):
        return StorageUnavailableError("the answer is not one of S3")
    return web.translate(error)


def status_of(error: Exception) -> int:
    """The HTTP status of an answered error, else 0."""
    response: dict[str, Any] = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """The code of an answered error, else ""."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def answered(error: boto.ClientError, bucket: str) -> StorageError:
    """Our error for one that the server told."""
    status, code = status_of(error), code_of(error)
    if code == "NoSuchBucket":
        return StorageNotFoundError(f"the bucket '{bucket}' does not exist; check 'bucket'")
    known = meant(_BY_CODE.get(code) or _BY_STATUS.get(status), status)
    told = error.response.get("Error", {}).get("Message", "")
    if known is None:
        return StorageError(f"the server refuses it ({code}: {told})")
    cls, reason = known
    if cls in (StoragePermissionError, StorageUnavailableError) and not code.isdigit():
        reason = f"{reason} ({code})"
    retryable = True if cls is StorageCorruptedError else None
    headers: dict[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return cls(reason, retryable=retryable, retry_after=retry_after(headers))


def refused(error: boto.ClientError, bucket: str, version: str | None) -> StorageError:
    """As `answered`, for a request about one version or, with None, about what is there now."""
    if version is not None and status_of(error) in (400, 404, 405) and code_of(error) != "NoSuchBucket":
        return StorageVersionNotFoundError("No such version of this file")
    return answered(error, bucket)
