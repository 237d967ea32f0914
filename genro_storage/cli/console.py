"""What the command prints: lines, JSON objects, notes and errors, each on its stream."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from .failures import UsageError, exit_code, local_names, sentence

PROGRAM = "genro-storage"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


class Console:
    """The two streams. `json`: one object per line; `quiet`: neither reports nor notes; `verbose`: 1 details, 2 tracebacks."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: int = 0, progress: bool = True) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.may_progress = progress and not quiet and not json and is_terminal(sys.stdout) and is_terminal(sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name the terminal cannot show is no failure

    def line(self, text: str) -> None:
        """One line of the result."""
        print(text)

    def record(self, facts: Mapping[str, Any]) -> None:
        """One object of the result."""
        print(_json(facts))

    def result(self, text: str, facts: Mapping[str, Any]) -> None:
        """One result, in the form that was asked for."""
        if self.json:
            self.record(facts)
        else:
            self.line(text)

    def note(self, text: str) -> None:
        """Something worth knowing that is no failure."""
        if not self.quiet:
            text = local_names(text)
            sys.stdout.flush()
            print(_json({"note": text}) if self.json else f"{PROGRAM}: {escaped(text)}", file=sys.stderr)

    def error(self, error: BaseException, about: str = "") -> int:
        """Tells of a failure and returns its exit code; `about` is the name it concerns, if the error does not say."""
        code = exit_code(error) if isinstance(error, Exception) else 1
        sys.stdout.flush()
        if self.json:
            print(_json(error_facts(error, code, about)), file=sys.stderr)
        else:
            print(f"{PROGRAM}: {about and about + ': '}{escaped(sentence(error))}", file=sys.stderr)
            if self.verbose and error.__cause__ is not None:
                cause = error.__cause__
                print(f"  caused by {type(cause).__name__}: {escaped(str(cause))}", file=sys.stderr)
        if self.verbose > 1 and not isinstance(error, UsageError):
            print("".join(traceback.format_exception(error)), end="", file=sys.stderr)
        return code


def error_facts(error: BaseException, code: int, about: str = "") -> dict[str, Any]:
    """An error as a JSON object."""
    told = {key: getattr(error, key, None) for key in ("operation", "mount", "path")}
    where = {"name": about} if about else {}
    message = sentence(error)
    return {
        "error": type(error).__name__,
        "message": message,
        **where,
        "exit": code,
        **{k: v for k, v in told.items() if v},
    }


def _json(facts: Mapping[str, Any]) -> str:
    import json

    return json.dumps(facts, default=str)


def is_terminal(stream: Any) -> bool:
    """Whether a person sits at the other end."""
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


def escaped(name: str) -> str:
    """A name fit for a terminal: control, direction and undecodable characters as escapes, then a backslash is doubled."""
    if name.isascii() and name.isprintable():
        return name
    if all(char.isprintable() or char.isspace() and char >= "\xa0" for char in name):
        return name
    return "".join(_visible(char) for char in name)


def _visible(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def human_size(size: int | None, exact: bool = False) -> str:
    """Bytes in binary units, or as they are."""
    if size is None:
        return "-"
    if exact or size < 1024:
        return str(size) if exact else f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} EiB"


def local_time(moment: float | None) -> str:
    """A time as ISO 8601 with the local offset."""
    return "-" if moment is None else _iso(moment, local=True)


def utc_time(moment: float | None) -> str | None:
    """A time as ISO 8601 in UTC, to the microsecond where it is known so."""
    return None if moment is None else _iso(moment, local=False)


def _iso(moment: float, *, local: bool) -> str:
    from datetime import UTC, datetime

    try:
        when = datetime.fromtimestamp(moment, UTC)
        return when.astimezone().isoformat(timespec="seconds") if local else when.isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a calendar ends in the year 9999, a file system does not
        return str(moment)
