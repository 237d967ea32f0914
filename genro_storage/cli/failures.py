"""Exit codes, and the one sentence in which an error is told."""

from __future__ import annotations

from collections.abc import Collection

from ..exceptions import (
    StorageConfigError,
    StorageError,
    StorageNotFoundError,
    StoragePermissionError,
    UnsupportedOperation,
)

OK, FAILED, USAGE, NOT_FOUND, DENIED, CONFIGURATION, DIFFERENT, REFUSED = range(8)
CLOSED_PIPE = 141

_CODES = (
    (StorageConfigError, CONFIGURATION),
    (StorageNotFoundError, NOT_FOUND),
    ((StoragePermissionError, UnsupportedOperation), DENIED),
)


class UsageError(Exception):
    """The command line itself makes no sense."""


class Refused(Exception):
    """A guard says no: a root, or a question that was not answered with yes."""


def exit_code(error: Exception) -> int:
    """The exit code that an error means."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, Refused):
        return REFUSED
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)


def common_code(codes: Collection[int]) -> int:
    """One code for several: failures of different kinds are 1."""
    failures = set(codes) - {OK}
    return failures.pop() if len(failures) == 1 else FAILED if failures else OK


def sentence(error: BaseException) -> str:
    """What went wrong, in the user's own terms: a local file is called by its path."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}"
    if not isinstance(error, (StorageError, UsageError, Refused)):
        return f"internal error, {type(error).__name__}: {error}; -vv shows where it happened"
    return local_names(str(error)) or type(error).__name__


def local_names(text: str) -> str:
    """Text in which the unnamed mount of local files does not show."""
    return text.replace("file:///", "/").replace("file://:", "/")
