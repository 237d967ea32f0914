"""Tagged JSON: values of programs as bytes and back, exactly, without naming a class to import."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from ..exceptions import StorageCorruptedError

TAG = "$"
"""The key that marks a tagged value: ``{"$": tag, "v": …}``; a dict that has this key itself travels as tag "dict"."""

_INT64 = 1 << 63
_AS_IS = frozenset({str, bool, type(None)})
_MARK = b'"$"'


class _Unfit(Exception):
    """A value that has no form in JSON, and where it was found, from the inside out."""

    def __init__(self, kind: type[Exception], reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason
        self.steps: list[str] = []


def encode(value: Any, name: str = "value") -> bytes:
    """`value` as JSON; what cannot travel → `TypeError` or `ValueError` naming where it is (``metadata.tags[3]``).

    JSON's own types, and datetime, date, time, timedelta, Decimal, UUID, bytes, tuple, set and frozenset come back as
    they were. Exact types only: a subclass would come back as something else.
    """
    try:
        return msgspec.json.encode(_tagged(value))
    except _Unfit as unfit:
        raise unfit.kind(f"{name}{''.join(reversed(unfit.steps))}: {unfit.reason}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: text with a lone surrogate has no form in UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deeply, or inside itself") from error


def decode(data: bytes) -> Any:
    """What `encode` was given; damaged or unknown data → `ValueError`."""
    try:
        value = msgspec.json.decode(data)
        return _untagged(value) if _MARK in data else value
    except (msgspec.DecodeError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"not tagged JSON: {error}") from error


def decode_stored(data: bytes) -> Any:
    """As `decode`, of what a store gave back: damaged → `StorageCorruptedError`."""
    try:
        return decode(data)
    except ValueError as error:
        raise StorageCorruptedError(f"stored data is damaged: {error}") from error


def _tagged(value: Any) -> Any:
    """The value itself where JSON holds it as it is, else a copy with tags; never changes what it was given."""
    kind = type(value)
    if kind in _AS_IS:
        return value
    tagger = _TAGGERS.get(kind)
    if tagger is None:
        raise _Unfit(TypeError, f"{kind.__module__}.{kind.__qualname__} has no form in JSON")
    return tagger(value)


def _int(value: int) -> Any:
    return value if -_INT64 <= value < _INT64 else {TAG: "int", "v": str(value)}


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise _Unfit(ValueError, f"{value} has no form in JSON")
    return value


def _list(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    told: list[Any] = []
    for item in value:
        try:
            told.append(_tagged(item))
        except _Unfit as unfit:
            unfit.steps.append(f"[{len(told)}]")
            raise
    return told


def _dict(value: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise _Unfit(TypeError, f"the key {key!r} is not a str")
        try:
            told[key] = _tagged(item)
        except _Unfit as unfit:
            unfit.steps.append(f".{key}")
            raise
    return {TAG: "dict", "v": told} if TAG in told else told


def _as(tag: str, form: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {TAG: tag, "v": form(value)}


def _unordered(value: set[Any] | frozenset[Any]) -> list[Any]:
    """The members in the order of their JSON, so that equal sets are equal bytes."""
    return sorted((_tagged(item) for item in value), key=msgspec.json.encode)


_TAGGERS: Mapping[type, Callable[[Any], Any]] = {
    int: _int,
    float: _float,
    list: _list,
    dict: _dict,
    tuple: _as("tuple", _list),
    set: _as("set", _unordered),
    frozenset: _as("frozenset", _unordered),
    bytes: _as("bytes", lambda value: base64.b64encode(value).decode()),
    datetime: _as("datetime", datetime.isoformat),
    date: _as("date", date.isoformat),
    time: _as("time", time.isoformat),
    timedelta: _as("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: _as("Decimal", str),
    UUID: _as("UUID", str),
}

_BUILDERS: Mapping[str, Callable[[Any], Any]] = {
    "int": int,
    "dict": lambda v: {key: _untagged(item) for key, item in v.items()},
    "tuple": lambda v: tuple(map(_untagged, v)),
    "set": lambda v: set(map(_untagged, v)),
    "frozenset": lambda v: frozenset(map(_untagged, v)),
    "bytes": lambda v: base64.b64decode(v, validate=True),
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda v: timedelta(*v),
    "Decimal": Decimal,
    "UUID": UUID,
}


def _untagged(value: Any) -> Any:
    if type(value) is list:
        return [_untagged(item) for item in value]
    if type(value) is not dict:
        return value
    if TAG in value:
        return _BUILDERS[value[TAG]](value["v"])
    return {key: _untagged(item) for key, item in value.items()}
