"""Pure rules of paths: split ``mount:path``, normalise, join, compile patterns; the only place that judges ``..``."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from posixpath import splitext
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote

from .exceptions import StoragePathError

if TYPE_CHECKING:
    from .types import Features

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
RESERVED = ".genro"


class Rules(NamedTuple):
    """What a mount's names may hold beyond the common rules."""

    backslash: bool = False
    surrogates: bool = False
    literal: bool = False
    """A path is data and stays as it is."""


STRICT = Rules()


def split(text: str) -> tuple[str, str]:
    """``"m:a/b"`` → ``("m", "a/b")``, not yet normalised.

    Raises `StoragePathError` for "" and URLs, `TypeError` for other types.
    """
    if not isinstance(text, str):
        raise TypeError(f"a path is a str 'mount:path', not {type(text).__name__}")
    mount, _, path = text.partition(":")
    if path[:2] == "//" and SCHEME.match(text):
        raise StoragePathError(
            f"'{_without_userinfo(text)}' is a URL, not a 'mount:path'", path=_without_userinfo(text)
        )
    if not mount:
        raise StoragePathError(f"no mount name in '{text}'; write 'mount:path'", path=text)
    return mount, path


def full(mount: str, path: str) -> str:
    """How a place is written: ``mount:path``, or a URL where the mount is one (``s3://bucket``)."""
    if "://" not in mount:
        return f"{mount}:{path}"
    return f"{mount}/{quote(path, errors='surrogateescape') if mount.startswith('http') else path}"


def _without_userinfo(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)


def normalise(path: str, rules: Rules = STRICT) -> str:
    """The one spelling of a relative path: no empty or ``.`` segments, no slash at either end, "" for the root.

    Raises `StoragePathError` for ``..``, NUL, ``\\``, a reserved segment and undecodable text.
    """
    try:
        if (
            path[0] not in "./"
            and path[-1] != "/"
            and "/." not in path
            and "//" not in path
            and "\\" not in path
            and "\0" not in path
            and path.isascii()
        ):
            return path
    except (AttributeError, LookupError, TypeError):
        if path == "":
            return ""
    return _normalise(path, rules)


def _normalise(path: str, rules: Rules) -> str:
    if not isinstance(path, str):
        raise TypeError(f"a path is a str, not {type(path).__name__}")
    if rules.literal:
        return path
    if "\0" in path:
        _refuse("NUL in a path", path)
    if "\\" in path and not rules.backslash:
        _refuse("backslash in a path: use '/'", path)
    if not (encodable(path) or (rules.surrogates and _escaped(path))):
        _refuse("text that is not valid Unicode in a path", path)
    segments = [segment for segment in path.split("/") if segment and segment != "."]
    for segment in segments:
        if segment == "..":
            _refuse("Parent directory traversal ('..') is not allowed", path)
        if is_reserved(segment):
            _refuse(f"the name '{segment}' is reserved for genro_storage itself", path)
    return "/".join(segments)


def _refuse(reason: str, path: str) -> NoReturn:
    raise StoragePathError(f"{reason}: {path!r}", path=path)


def encodable(path: str) -> bool:
    """Whether `path` is real Unicode text, without the surrogates that stand for undecodable bytes."""
    if path.isascii():
        return True
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(path: str) -> bool:
    """Whether `path` is what undecodable bytes become when a listing shows them; other surrogates stand for nothing."""
    try:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == path
    except UnicodeEncodeError:
        return False


def is_reserved(segment: str) -> bool:
    """Whether a segment is one of ours: ``.genro`` or beginning ``.genro-``."""
    return segment == RESERVED or segment.startswith(".genro-")


def is_hidden(path: str) -> bool:
    """Whether any segment of a listed path is one of ours."""
    return RESERVED in path and any(is_reserved(segment) for segment in path.split("/"))


def is_addressable(path: str, rules: Rules = STRICT) -> bool:
    """Whether a key that a listing returned can be written as a path: it is its own normal form."""
    try:
        return path != "" and normalise(path, rules) == path
    except StoragePathError:
        return is_hidden(path)


def refuse_climbing(path: str) -> None:
    """Raises `StoragePathError` for a segment ``..``: the second look, by a driver where it would mean something."""
    if ".." in path and ".." in path.split("/"):
        _refuse("Parent directory traversal ('..') is not allowed", path)


def part(text: str, rules: Rules = STRICT) -> str:
    """Normalises one part for `child`; an absolute part raises `StoragePathError`."""
    if isinstance(text, str) and text.startswith("/"):
        _refuse("an absolute part cannot be joined", text)
    return normalise(text, rules)


def join(base: str, *parts: str, rules: Rules = STRICT) -> str:
    """Joins parts below a normalised base."""
    for text in parts:
        below = part(text, rules)
        if below:
            base = f"{base}/{below}" if base else below
    return base


def name(text: str, rules: Rules = STRICT) -> str:
    """One whole segment, as `with_name` takes it; anything else raises `StoragePathError`."""
    normal = part(text, rules)
    if not normal or normal != text or "/" in normal:
        _refuse("not a single name", text)
    return normal


def too_long(path: str, root: str, limits: Features) -> str | None:
    """Why a storage cannot hold a path for its length; None if it can."""
    longest = max(map(_length, path.split("/")))
    if limits.max_segment is not None and longest > limits.max_segment:
        return f"a name of {longest} bytes; this storage holds {limits.max_segment} at most"
    whole = _length(path) + (_length(root) + 1 if root else 0)
    if limits.max_key is not None and whole > limits.max_key:
        return f"a key of {whole} bytes; this storage holds {limits.max_key} at most"
    return None


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def parent(path: str) -> str:
    """The path above; the root's is the root."""
    return path.rpartition("/")[0]


def basename(path: str) -> str:
    """The last segment; "" for the root."""
    return path.rpartition("/")[2]


def below(path: str, relpath: str) -> str:
    """What lies at `relpath` below `path`, of which both are taken as they are; "" is `path` itself, or the root."""
    return f"{path}/{relpath}" if path and relpath else path or relpath


def is_below(path: str, ancestor: str) -> bool:
    """Whether `path` is `ancestor` or lies below it; everything lies below the root ""."""
    return not ancestor or path == ancestor or path.startswith(ancestor + "/")


_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
}
_UNKNOWN_TYPE = "application/octet-stream"


_guessing = threading.Lock()


def content_type(path: str) -> str:
    """The media type that a name stands for, case-blind; a compressed file is what it is: ``a.csv.gz`` is gzip."""
    name = basename(path).lower()
    first, _, last = name.rpartition(".")
    if not first:
        return _UNKNOWN_TYPE
    if last and "." not in first:  # almost every name, and several times faster
        return _type_of("." + last)
    stem, suffix = splitext(name)
    return _type_of(splitext(stem)[1] + suffix) if suffix else _UNKNOWN_TYPE


@lru_cache(1024)
def _type_of(suffixes: str) -> str:
    """The media type of a name that ends like this; two suffixes say all there is to know."""
    import mimetypes  # reads the system's tables: only when a type is asked for

    with _guessing:  # which every thread that comes first would do
        guessed, encoding = mimetypes.guess_type("file:///x" + suffixes)
    if encoding:
        return _ENCODINGS.get(encoding, _UNKNOWN_TYPE)
    return guessed or _UNKNOWN_TYPE


# Patterns: `*`, `?`, `[…]`, `[!…]` stay inside a segment, `**` spans any number of segments, none included.

_MAGIC = re.compile(r"[*?[]")
_CLASS = r"\[!?+(?:\][^\]]*|[^\]]+)\]"
_TOKEN = re.compile(f"{_CLASS}|.", re.DOTALL)


def has_magic(text: str) -> bool:
    """Whether a pattern segment matches more than its own text."""
    return _MAGIC.search(text) is not None


def pattern_segments(pattern: str, *, strict: bool = False) -> tuple[str, ...]:
    """The segments of a pattern; empty, absolute or with ``..`` it is a `StoragePathError` (a `ValueError`).

    `strict` also refuses an unbalanced ``[``, which otherwise means itself, as in `fnmatch`.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is a str, not {type(pattern).__name__}")
    if not pattern or pattern.startswith("/"):
        _refuse("a pattern is relative and not empty", pattern)
    if "\0" in pattern:
        _refuse("NUL in a pattern", pattern)
    segments = tuple(segment for segment in pattern.split("/") if segment and segment != ".")
    segments = tuple(
        one for one, before in zip(segments, ("", *segments), strict=False) if (one, before) != ("**", "**")
    )
    if ".." in segments:
        _refuse("Parent directory traversal ('..') is not allowed in a pattern", pattern)
    if strict and any("[" in re.sub(_CLASS, "", segment) for segment in segments):
        _refuse("unbalanced '[' in a pattern", pattern)
    return segments


@lru_cache(maxsize=512)
def compile_pattern(segments: tuple[str, ...], case_sensitive: bool = True) -> re.Pattern[str]:
    """A regular expression for `fullmatch` over a whole relative path; its time is bounded for any pattern and path."""
    first, *others = _runs(segments, "**")
    regex = "/".join(map(_segment_regex, first))
    if others:
        glue = "/" if first else ""
        for run in others[:-1]:  # atomic: the nearest place for a run of segments leaves most room for what follows
            regex += f"{glue}(?>(?:[^/]+/)*?{'/'.join(map(_segment_regex, run))}(?![^/]))"
            glue = "/"
        if others[-1]:
            regex += f"{glue}(?:[^/]+/)*{'/'.join(map(_segment_regex, others[-1]))}"
        else:
            regex += "(?:/.*)?" if glue else ".*"
    return re.compile(regex, re.DOTALL if case_sensitive else re.DOTALL | re.IGNORECASE)


_T = TypeVar("_T")


def _runs(items: Iterable[_T], separator: _T) -> list[list[_T]]:
    """As `str.split`, for sequences."""
    runs: list[list[_T]] = [[]]
    for item in items:
        if item == separator:
            runs.append([])
        else:
            runs[-1].append(item)
    return runs


def _segment_regex(segment: str) -> str:
    pieces = [_piece(token) for token in _TOKEN.findall(segment)]
    first, *others = ("".join(run) for run in _runs(pieces, "*"))
    middle = "".join(f"(?>[^/]*?{run})" for run in others[:-1] if run)
    return first + middle + (f"[^/]*{others[-1]}" if others else "")


def _piece(token: str) -> str:
    if token in ("*", "?"):
        return "*" if token == "*" else "[^/]"
    if len(token) == 1:
        return re.escape(token)
    negated, inside = token[1] == "!", token[1:-1]
    chars, position = "", int(negated)
    while position < len(inside):
        low, high = inside[position], inside[position + 2 : position + 3]
        if high and inside[position + 1] == "-":
            chars += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
            position += 3
        else:
            chars += re.escape(low)
            position += 1
    if negated:
        return f"[^/{chars}]"
    return f"(?!/)[{chars}]" if chars else "(?!)"
