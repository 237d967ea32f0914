"""What the command prints: lines, JSON objects, notes and errors, each on its stream."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .failures import CommandError, exit_code, local_names, sentence

PROGRAM = "genro-storage"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


class Console:
    """The standard streams.

    `json`: one object per line; `quiet`: neither reports nor notes; `verbose`: 1 details, 2 tracebacks.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: int = 0, progress: bool = True) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.wants_progress = progress and not quiet
        self.may_progress = progress and not quiet and not json and is_terminal(sys.stderr)
        self.aside: Callable[[], AbstractContextManager[None]] = nullcontext
        """Within it something is printed while a progress line may stand on the same terminal."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name the terminal cannot show is no failure

    def line(self, text: str) -> None:
        """One line of the result."""
        with self.aside():
            print(text)

    def record(self, facts: Mapping[str, Any]) -> None:
        """One object of the result."""
        self.line(_json(facts))

    def result(self, text: str, facts: Mapping[str, Any]) -> None:
        """One result, in the form that was asked for."""
        if self.json:
            self.record(facts)
        else:
            self.line(text)

    def note(self, text: str) -> None:
        """Something worth knowing that is no failure."""
        if not self.quiet:
            self._aside(_json({"note": local_names(text)}) if self.json else f"{PROGRAM}: {escaped(local_names(text))}")

    def error(self, error: Exception, about: str = "", more: str = "") -> int:
        """Tells of a failure and returns its exit code; `about` is the name it concerns, if the error does not say.

        `more` ends the sentence, which an object does not need.
        """
        code = exit_code(error)
        if self.json:
            self._aside(_json(error_facts(error, code, about)))
        else:
            self._aside(f"{PROGRAM}: {escaped(about and about + ': ')}{escaped(sentence(error))}{more}")
            if self.verbose and error.__cause__ is not None:
                cause = error.__cause__
                self._aside(f"  caused by {type(cause).__name__}: {escaped(str(cause))}")
        if self.verbose > 1 and not isinstance(error, CommandError):
            import traceback

            self._aside("".join(traceback.format_exception(error)).rstrip())
        return code

    def _aside(self, text: str) -> None:
        """A line beside the result, after what was printed before it."""
        with self.aside():
            sys.stdout.flush()
            print(text, file=sys.stderr)


def error_facts(error: Exception, code: int, about: str = "") -> dict[str, Any]:
    """An error as a JSON object."""
    known = {"name": about, **{key: getattr(error, key, None) for key in ("operation", "mount", "path")}}
    told = {key: value for key, value in known.items() if value}
    return {"error": type(error).__name__, "message": sentence(error), "exit": code, **told}


def _json(facts: Mapping[str, Any]) -> str:
    import json

    return json.dumps(facts, default=str)


def flush() -> None:
    """Makes what was printed go out, or tells that it cannot."""
    sys.stdout.flush()
    sys.stderr.flush()


def is_terminal(stream: Any) -> bool:
    """Whether a person sits at the other end."""
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


def escaped(name: str) -> str:
    """A name fit for a terminal: itself, or control, direction and undecodable characters and ``\\`` as escapes."""
    if name.isprintable() or all(_is_harmless(char) for char in name):
        return name
    return "".join(_visible(char) for char in name)


def _is_harmless(char: str) -> bool:
    """Also the spaces of other scripts, which names of pictures and documents are full of."""
    return char.isprintable() or (char.isspace() and char >= "\xa0" and char not in "\u2028\u2029")


def _visible(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if _is_harmless(char):
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPE = re.compile(r"\\(?:([tnr\\])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def unescaped(text: str) -> str:
    """The name that `escaped` showed with escapes."""

    def char(match: re.Match[str]) -> str:
        if match[1]:
            return next(char for char, shown in _SHORT.items() if shown == match[0])
        code = int(match[2] or match[3] or match[4], 16)
        return chr(code + 0xDC00 if match[2] and code >= 0x80 else code)

    return _ESCAPE.sub(char, text)


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


def counted(number: int, one: str, many: str = "") -> str:
    """So many of them, in words."""
    return f"{number} {one if number == 1 else many or one + 's'}"


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
