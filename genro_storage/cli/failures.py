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


class CommandError(Exception):
    """A failure of the command line's own; `code` is the exit code."""

    code = FAILED


class UsageError(CommandError):
    """The command line itself makes no sense."""

    code = USAGE


class Refused(CommandError):
    """A guard says no: a root, or a question that was not answered with yes."""

    code = REFUSED


class Interrupted(CommandError):
    """A signal ended the command; `remedy` says how to go on."""

    def __init__(self, code: int, remedy: str = "") -> None:
        told = "interrupted" if code == 130 else "terminated"
        super().__init__(f"{told}; {remedy}" if remedy else told)
        self.code = code


def exit_code(error: Exception) -> int:
    """The exit code that an error means."""
    if isinstance(error, CommandError):
        return error.code
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)


def common_code(codes: Collection[int]) -> int:
    """One code for several: failures of different kinds are 1."""
    failures = set(codes) - {OK}
    return failures.pop() if len(failures) == 1 else FAILED if failures else OK


def sentence(error: Exception) -> str:
    """What went wrong, in the user's own terms: a local file is called by its path."""
    if isinstance(error, (StorageError, CommandError)):
        return local_names(str(error)) or type(error).__name__
    if isinstance(error, OSError):
        where = "standard input or output" if error.filename is None else repr(error.filename)
        return f"{error.strerror or error}: {where}"
    return f"internal error, {type(error).__name__}: {error}; -vv shows where it happened"


def local_names(text: str) -> str:
    """Text in which the unnamed mount of local files does not show."""
    return text.replace("file:///", "/")
