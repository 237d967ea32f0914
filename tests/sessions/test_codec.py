"""Tagged JSON: what goes in comes out, what cannot is named by its place."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.sessions.codec import decode, encode

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
hashable = st.text() | st.integers() | st.binary() | st.tuples(st.integers(), st.text()) | st.frozensets(st.integers())
keys = st.text() | st.sampled_from(["$", "v"])
values = st.recursive(
    leaves | st.sets(hashable) | st.frozensets(hashable),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, datetime | time):
        return one == other and one.utcoffset() == other.utcoffset()
    return bool(one == other) and repr(one) == repr(other) if not isinstance(one, set | frozenset) else one == other


@given(values)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_plain_values_are_plain_json() -> None:
    assert encode({"a": [1, 2.5, None, True, "ü"]}) == '{"a":[1,2.5,null,true,"ü"]}'.encode()


def test_a_dict_that_looks_like_a_tag_is_a_dict() -> None:
    value = {"$": "datetime", "v": "no date", "x": {"$": 1}}
    assert decode(encode(value)) == value


def test_equal_sets_are_equal_bytes() -> None:
    assert encode({"c", "a", "b"}) == encode({"b", "c", "a"})


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        ({"tags": [1, 2, 3, object()]}, TypeError, r"metadata\.tags\[3\]: builtins\.object"),
        ({"a": {"b": float("nan")}}, ValueError, r"metadata\.a\.b: nan"),
        ({"a": float("-inf")}, ValueError, r"metadata\.a: -inf"),
        ({"a": {1: 2}}, TypeError, r"metadata\.a: the key 1 is not a str"),
        ({"a": "\ud800"}, ValueError, "surrogate"),
        ({"a": Colour.RED}, TypeError, r"metadata\.a: .*Colour"),
        ({"a": {object()}}, TypeError, r"metadata\.a: builtins\.object"),
    ],
)
def test_what_cannot_travel_is_named_by_its_place(value: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        encode(value, "metadata")


def test_a_value_inside_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="inside itself"):
        encode(value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"$": "eval", "v": "1"}', b'{"$": "UUID"}', b'{"$": "Decimal", "v": "x"}']
)
def test_damaged_data_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


def test_examples_of_every_type() -> None:
    value = {
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "day": date(2026, 1, 31),
        "clock": time(12, 30),
        "took": timedelta(days=-1, microseconds=3),
        "price": Decimal("1.10"),
        "id": UUID(int=7),
        "raw": b"\0\xff",
        "pair": (1, (2,)),
        "set": {1, 2},
        "big": 1 << 80,
    }
    assert same(decode(encode(value)), value)
