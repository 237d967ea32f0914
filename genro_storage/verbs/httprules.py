"""Pure rules of HTTP: entity tags, dates, preconditions and ranges of RFC 9110, file names of RFC 6266."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..backends._disposition import disposition as disposition

MAX_RANGES = 32
_LONGEST_RANGE = 4096
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_CLOCK = r"(?P<h>[01]\d|2[0-3]):(?P<m>[0-5]\d):(?P<s>[0-5]\d|60)"
_DATES = [
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_CLOCK} GMT"),
    re.compile(rf"[A-Z][a-z]+day, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_CLOCK} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})"),
]


class Facts(NamedTuple):
    """What conditions are judged by: the entity tag as sent, the last change and now in POSIX seconds, the bytes."""

    etag: str | None
    modified: int | None
    size: int | None
    now: float


Ranges = list[tuple[int, int]]
"""Bytes [start, end), within the file."""


# --- conditions, RFC 9110 §13 ---


def judge(headers: Mapping[str, str], facts: Facts) -> int | None:
    """The status that the preconditions demand, in the order of §13.2.2; None to go on. Header names in lower case."""
    if (given := headers.get("if-match")) is not None:
        if not _matches(given, facts.etag, strong=True):
            return 412
    elif _later(facts, _date(headers, "if-unmodified-since")):
        return 412
    if (given := headers.get("if-none-match")) is not None:
        return 304 if _matches(given, facts.etag, strong=False) else None
    date = _date(headers, "if-modified-since")
    if date is not None and facts.modified is not None and facts.modified <= date:
        return 304
    return None


def _later(facts: Facts, date: int | None) -> bool:
    """Whether the file changed after a date; False where either is not known."""
    return date is not None and facts.modified is not None and facts.modified > date


def _matches(given: str, etag: str | None, *, strong: bool) -> bool:
    if given.strip() == "*":
        return True
    if etag is None:
        return False
    if strong:
        return not etag.startswith("W/") and etag in _TAG.findall(given)
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in _TAG.findall(given)}


def range_holds(headers: Mapping[str, str], facts: Facts) -> bool:
    """Whether `If-Range` lets the range be answered: it is absent, or matches strongly (§13.1.5)."""
    given = headers.get("if-range")
    if given is None:
        return True
    if '"' in given:
        return _matches(given, facts.etag, strong=True) and given.strip() == facts.etag
    # A date is strong only once its second is over: until then the file may change without it.
    return facts.modified is not None and parse_date(given) == facts.modified and facts.now >= facts.modified + 1


def _date(headers: Mapping[str, str], name: str) -> int | None:
    return parse_date(headers[name]) if name in headers else None


def parse_date(text: str) -> int | None:
    """POSIX seconds of an HTTP date in any of its three forms (§5.6.7); None if it is not one."""
    found = next((match for form in _DATES if (match := form.fullmatch(text.strip()))), None)
    if found is None or found["month"] not in _MONTHS:
        return None
    year, month, day = int(found["year"]), _MONTHS.index(found["month"]) + 1, int(found["day"])
    if len(found["year"]) == 2:
        year += 2000 if year < 70 else 1900
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, int(found["h"]), int(found["m"]), int(found["s"])))


# --- ranges, RFC 9110 §14 ---


def ranges(header: str | None, size: int | None) -> Ranges | None:
    """What a `Range` header asks for of so many bytes; None where it is to be ignored, [] where nothing is there."""
    if header is None or not size or len(header) > _LONGEST_RANGE:
        return None
    unit, equals, listed = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    specs = [spec.strip(" \t") for spec in listed.split(",")]
    specs = [spec for spec in specs if spec]
    if not specs or len(specs) > MAX_RANGES:
        return None
    found: Ranges = []
    for spec in specs:
        match = re.fullmatch(r"([0-9]*)-([0-9]*)", spec)
        if match is None or spec == "-":
            return None
        first, last = match[1], match[2]
        if first and last and int(first) > int(last):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start < end:
            found.append((start, end))
    if sum(end - start for start, end in found) > size:
        found = _coalesced(found)
    return found


def _coalesced(found: Ranges) -> Ranges:
    """Ranges without overlap, so that many large ones cannot make the answer larger than the file."""
    joined: Ranges = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
