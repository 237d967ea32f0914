"""What the answers of HTTP servers mean: facts, bodies with ranges, refusals."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import httpx

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..types import Stat
from ._refusals import BY_STATUS, Meaning, meant, retry_after
from .base import BackendReader, BytesReader, cut

_BY_STATUS: dict[int, Meaning] = BY_STATUS | {
    404: (StorageNotFoundError, "No such file or directory"),
    405: (UnsupportedOperation, "this server cannot do that here"),
    407: (StoragePermissionError, "the proxy asks for credentials"),
    408: (StorageTimeoutError, "the server waited too long for the request"),
    409: (StorageConflictError, "the server is in another state than the request needs"),
    410: (StorageNotFoundError, "No such file or directory any more"),
    413: (StorageQuotaError, "too large for this server"),
    414: (StoragePathError, "the name is too long for this server"),
    423: (StorageConflictError, "locked by somebody else"),
    501: (UnsupportedOperation, "this server cannot do that"),
    507: (StorageQuotaError, "the server's space is used up; free some and try again"),
}
_REFUSED: Meaning = (StorageError, "the server refuses the request")


def refusal(response: httpx.Response) -> StorageError:
    """Our error for an answer that is none."""
    status = response.status_code
    cls, message = meant(_BY_STATUS.get(status), status) or _REFUSED
    error = cls(f"{message} (HTTP {status})")
    if error.retryable:
        error.retry_after = retry_after(response.headers)
    return error


def timestamp(text: str | None) -> float | None:
    """POSIX seconds of an HTTP date; None where there is none, or none that can be understood."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def translate(error: Exception) -> StorageError | None:
    """Our error for one of httpx."""
    if isinstance(error, httpx.TimeoutException):
        return StorageTimeoutError("no answer in time")
    if isinstance(error, httpx.TransportError):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = f"the TLS certificate cannot be verified ({error}); see 'verify_tls'"
            return StorageUnavailableError(reason, retryable=False)
        return StorageUnavailableError(f"the server cannot be reached ({str(error) or type(error).__name__})")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return StoragePathError(f"this name cannot be written as a URL ({error})")
    if isinstance(error, httpx.HTTPError):
        return StorageError(f"the answer cannot be understood ({error})")
    return None


def described(path: str, answer: httpx.Response) -> Stat:
    """Facts from the headers of an answer; an ETag is an etag and never a hash."""
    headers = answer.headers
    length = "" if "Transfer-Encoding" in headers else headers.get("Content-Length", "")
    if "Content-Range" in headers:
        length = headers["Content-Range"].rpartition("/")[2]
    return Stat(
        path,
        int(length) if length.isdecimal() else None,
        mtime=timestamp(headers.get("Last-Modified")),
        etag=headers.get("ETag"),
        content_type=headers.get("Content-Type"),
    )


def spanned(answer: httpx.Response, stat: Stat, start: int, end: int | None) -> BackendReader:
    """The bytes [start, end), by an answer of those (206) or of the whole file."""
    size = stat.size
    if start < 0 and size is None:
        data = b"".join(answer.iter_raw())
        return BytesReader(cut(data, start, end), stat)
    first = max(0, (size or 0) + start) if start < 0 else start
    last = size if end is None or (size is not None and size < end) else end
    left = None if last is None else max(0, last - first)
    if answer.status_code != 206:
        return HttpReader(answer, stat, first, left)
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {first}-"):
        raise StorageError("the server answers another range than the one asked for")
    return HttpReader(answer, stat, 0, left)


class HttpReader:
    """The body of an answer, without its first `skip` bytes and up to `left` bytes of the rest (None: all)."""

    def __init__(self, answer: httpx.Response, stat: Stat, skip: int, left: int | None) -> None:
        self.stat = stat
        self._answer, self._skip, self._left = answer, skip, left
        self._chunks = answer.iter_raw()
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [], size
        while wanted:
            if not self._rest and not self._fill():
                break
            part = self._rest if wanted < 0 else self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            wanted -= len(part) if wanted > 0 else 0
        return b"".join(parts)

    def _fill(self) -> bool:
        """Whether there are more bytes, which are in `_rest` then."""
        while self._left != 0:
            data = next(self._chunks, b"")
            if not data:
                if self._left:
                    raise StorageUnavailableError(f"the answer ended {self._left} bytes early")
                return False
            data, self._skip = data[self._skip :], max(0, self._skip - len(data))
            self._rest = data if self._left is None else data[: self._left]
            if self._left is not None:
                self._left -= len(self._rest)
            if self._left == 0 and self._answer.num_bytes_downloaded == _length(self._answer):
                next(self._chunks, b"")  # the end is read, too: the connection may serve another request
            if self._rest:
                return True
        return False

    def close(self) -> None:
        self._answer.close()


def _length(answer: httpx.Response) -> int:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else -1
