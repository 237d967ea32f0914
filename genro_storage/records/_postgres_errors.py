"""What the driver of PostgreSQL raises, in our words."""

from __future__ import annotations

from ..exceptions import (
    StorageConfigError,
    StorageError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from . import _postgres_sql as sql

AGAIN = {"40001", "40P01", sql.RACE}
"""PostgreSQL undid it because of another transaction: it may be tried again."""


class NotSentError(StorageUnavailableError):
    """The connection was found broken before anything was sent."""


_CLASSES: tuple[tuple[str, type[StorageError], str], ...] = (
    ("08", StorageUnavailableError, "the connection to PostgreSQL was lost"),
    ("57014", StorageTimeoutError, "PostgreSQL did not answer in time"),
    ("57P", StorageUnavailableError, "PostgreSQL is starting or stopping"),
    ("40", StorageUnavailableError, "PostgreSQL undid the transaction because of others"),
    ("55P03", StorageTimeoutError, "somebody holds a lock"),
    ("53300", StorageUnavailableError, "PostgreSQL has too many connections"),
    ("53", StorageQuotaError, "PostgreSQL is out of disk or memory"),
    ("28", StoragePermissionError, "PostgreSQL refuses the user or the password"),
    ("42501", StoragePermissionError, "the user lacks a right in the database"),
    ("25006", StoragePermissionError, "the database is read-only"),
    ("3D000", StorageConfigError, "there is no such database"),
)


def translated(error: Exception) -> StorageError | None:
    """Our error for one of the driver's; None for what must be tried again or is a fault of ours."""
    state = getattr(error, "sqlstate", None)
    if state in AGAIN:
        return None
    if state is not None:
        for prefix, kind, meaning in _CLASSES:
            if state.startswith(prefix):
                return kind(f"{meaning} ({error})")
        return StorageError(f"PostgreSQL: {error}")
    if isinstance(error, TimeoutError):
        return StorageTimeoutError("PostgreSQL did not answer in time")
    if type(error).__name__ == "InternalClientError":  # the server's farewell arrived and was not looked at yet
        return NotSentError("the connection to PostgreSQL was lost")
    if isinstance(error, OSError):  # it names the server and nothing secret
        return StorageUnavailableError(f"PostgreSQL cannot be reached ({type(error).__name__}: {error})")
    if type(error).__name__ in ("InterfaceError", "ConnectionDoesNotExistError"):
        return StorageUnavailableError(f"PostgreSQL cannot be reached ({type(error).__name__})")
    return None
