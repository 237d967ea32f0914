"""The errors: one tree, each class also the builtin it means, each saying where it happened and if a retry may help."""

from __future__ import annotations

import errno
import io
from typing import Any, ClassVar

__all__ = [
    "CommitOutcomeUnknownError",
    "RecordTooLargeError",
    "SessionConflictError",
    "SessionNotFoundError",
    "StaleSessionError",
    "StorageConfigError",
    "StorageConfigNotFoundError",
    "StorageConflictError",
    "StorageConnectionError",
    "StorageCorruptedError",
    "StorageDriverError",
    "StorageError",
    "StorageExistsError",
    "StorageIsADirectoryError",
    "StorageMountNotFoundError",
    "StorageNotADirectoryError",
    "StorageNotEmptyError",
    "StorageNotFoundError",
    "StoragePathError",
    "StoragePermissionError",
    "StorageQuotaError",
    "StorageSchemaError",
    "StorageTimeoutError",
    "StorageTransferError",
    "StorageUnavailableError",
    "StorageVersionNotFoundError",
    "StorageWarning",
    "TransferCancelled",
    "UnsupportedOperation",
    "VersionConflictError",
]


class StorageWarning(UserWarning):
    """Something was passed over that a person should know of."""


class StorageError(Exception):
    """The root of the tree.

    `operation`, `mount` and `path` say what was attempted and where, in the user's own terms (None where unknown);
    `retryable` says whether the same call may succeed later; `retry_after` is the server's wish in seconds, if it
    told one. The driver's exception, if there was one, is `__cause__`.
    """

    default_retryable: ClassVar[bool] = False
    default_errno: ClassVar[int | None] = None

    errno: int | None
    operation: str | None
    mount: str | None
    path: str | None
    retryable: bool
    retry_after: float | None

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        mount: str | None = None,
        path: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.mount = mount
        self.path = path
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        if isinstance(self, OSError):
            self.errno = self.default_errno

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own __reduce__ loses keyword state; the cause stays behind, as with every pickled exception.
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(cls: type[StorageError], message: str, state: dict[str, Any]) -> StorageError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class StorageNotFoundError(StorageError, FileNotFoundError):
    """No such file or directory."""

    default_errno = errno.ENOENT


class StorageMountNotFoundError(StorageNotFoundError, KeyError):
    """No mount of that name."""


class StorageVersionNotFoundError(StorageNotFoundError, IndexError):
    """No such version of this file."""


class StorageExistsError(StorageError, FileExistsError):
    """Something is there already and must not be replaced."""

    default_errno = errno.EEXIST


class StorageIsADirectoryError(StorageError, IsADirectoryError, ValueError):
    """A file was needed, a directory is there."""

    default_errno = errno.EISDIR


class StorageNotADirectoryError(StorageError, NotADirectoryError, ValueError):
    """A directory was needed, a file is there."""

    default_errno = errno.ENOTDIR


class StorageNotEmptyError(StorageError, OSError):
    """A directory that was to be empty is not."""

    default_errno = errno.ENOTEMPTY


class StoragePermissionError(StorageError, PermissionError):
    """The mount's permissions, the server, or a link or address policy forbid it."""

    default_errno = errno.EACCES


class UnsupportedOperation(StorageError, PermissionError, io.UnsupportedOperation):
    """This place cannot do that at all."""

    default_errno = errno.ENOTSUP


class StoragePathError(StorageError, ValueError):
    """Not a path this place can mean."""


class StorageConfigError(StorageError, ValueError):
    """A configuration that cannot be used; nothing of it was applied."""


class StorageConfigNotFoundError(StorageConfigError, FileNotFoundError):
    """The configuration file is not there."""

    default_errno = errno.ENOENT


class StorageDriverError(StorageConfigError, ImportError):
    """The library behind a mount type is not installed; the message names the extra that brings it."""


class StorageConflictError(StorageError, RuntimeError):
    """The place was changed by somebody else meanwhile."""


class StorageUnavailableError(StorageError, ConnectionError):
    """The storage could not be reached or did not answer as it should; another try may succeed."""

    default_retryable = True
    default_errno = errno.EHOSTUNREACH


StorageConnectionError = StorageUnavailableError
"""The same class by the name that session stores use."""


class StorageTimeoutError(StorageUnavailableError, TimeoutError):
    """No answer in time; `report` (a TransferReport) where it was the deadline of a transfer."""

    report: Any = None

    default_errno = errno.ETIMEDOUT


class StorageQuotaError(StorageError, OSError):
    """A quota, a size limit or the disk itself is full; the old bytes stay."""

    default_errno = errno.ENOSPC


class VersionConflictError(StorageConflictError):
    """A record was not at the version that a change of a commit expected; nothing of the commit was applied.

    `index` is the place of that change in the commit; `actual` is 0 where the record is absent.
    """

    index: int = -1
    space: str = ""
    key: str = ""
    expected: int | None = None
    actual: int = 0


class CommitOutcomeUnknownError(StorageUnavailableError):
    """The connection was lost after a commit was sent: it happened or it did not. Read before trying again."""

    default_retryable = False


class RecordTooLargeError(StorageQuotaError, ValueError):
    """A record, or a commit of records, above its limit."""


class StorageSchemaError(StorageConfigError):
    """The store was written by a newer release, whose layout this one does not know."""


class SessionNotFoundError(StorageNotFoundError, LookupError):
    """A message or a context for a session that does not exist."""


class SessionConflictError(StorageConflictError, ValueError):
    """A session that belongs to another user, has ended, or would be replaced by something different."""


class StaleSessionError(StorageConflictError):
    """A session is not at the version that a change expected; `current` is the one it has."""

    current: int = 0


class StorageCorruptedError(StorageError, ValueError):
    """The bytes are not what a checksum or a format says they must be."""


class StorageTransferError(StorageError):
    """A transfer ended with failures; `report` (a TransferReport) tells all of it."""

    report: Any = None


class TransferCancelled(StorageError):
    """A transfer was stopped on request; `report` (a TransferReport) tells how far it came."""

    report: Any = None


_BY_ERRNO: dict[int, tuple[type[StorageError], str]] = {
    errno.ENOENT: (StorageNotFoundError, "No such file or directory"),
    errno.EEXIST: (StorageExistsError, "Already exists"),
    errno.EISDIR: (StorageIsADirectoryError, "Is a directory"),
    errno.ENOTDIR: (StorageNotADirectoryError, "Not a directory"),
    errno.ENOTEMPTY: (StorageNotEmptyError, "Directory not empty"),
    errno.EACCES: (StoragePermissionError, "Permission denied"),
    errno.EPERM: (StoragePermissionError, "Operation not permitted"),
    errno.EROFS: (StoragePermissionError, "The file system is read-only"),
    errno.ELOOP: (StoragePermissionError, "Too many or forbidden symbolic links"),
    errno.ENAMETOOLONG: (StoragePathError, "The name is too long"),
    errno.EINVAL: (StoragePathError, "The storage refuses this name or value"),
    errno.ENOSPC: (StorageQuotaError, "No space left; free some and try again"),
    errno.EDQUOT: (StorageQuotaError, "The disk quota is used up; free some and try again"),
    errno.EFBIG: (StorageQuotaError, "The file is too large for this file system"),
    errno.ENOTSUP: (UnsupportedOperation, "The file system cannot do this"),
    errno.ESTALE: (StorageUnavailableError, "The network file system lost this file"),
    errno.ETIMEDOUT: (StorageTimeoutError, "No answer in time"),
}
_BY_CLASS: tuple[tuple[type[BaseException], type[StorageError], str], ...] = (
    (TimeoutError, StorageTimeoutError, "No answer in time"),
    (ConnectionError, StorageUnavailableError, "The storage cannot be reached"),
    (FileNotFoundError, StorageNotFoundError, "No such file or directory"),
    (FileExistsError, StorageExistsError, "Already exists"),
    (IsADirectoryError, StorageIsADirectoryError, "Is a directory"),
    (NotADirectoryError, StorageNotADirectoryError, "Not a directory"),
    (PermissionError, StoragePermissionError, "Permission denied"),
    (NotImplementedError, UnsupportedOperation, "The driver cannot do this"),
    (UnicodeError, StoragePathError, "This name cannot be written in the storage's encoding"),
)


def from_builtin(error: Exception) -> StorageError:
    """Our error for one of Python's own, by errno first, then by class."""
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        cls, message = _BY_ERRNO[error.errno]
        return cls(message)
    for builtin, cls, message in _BY_CLASS:
        if isinstance(error, builtin):
            return cls(message)
    if isinstance(error, OSError):
        return StorageError(error.strerror or str(error) or type(error).__name__)
    return StorageError(f"{type(error).__name__}: {error}")
