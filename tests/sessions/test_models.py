"""The forms in which a session is shown and exchanged, and the keys under which it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.sessions import keys
from genro_storage.sessions.models import deserialize_session, serialize_message, serialize_session, shown_time

moments = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3))]))
sessions = st.fixed_dictionaries(
    {
        "session_id": st.text(min_size=1),
        "user_id": st.text(min_size=1),
        "created_at": moments,
        "updated_at": moments,
        "status": st.sampled_from(["active", "completed"]),
        "metadata": st.dictionaries(st.text(), st.integers() | st.text()),
        "request_count": st.integers(min_value=0),
        "total_processing_time": st.floats(min_value=0, allow_infinity=False),
        "error_count": st.integers(min_value=0),
    }
)


@given(sessions)
def test_flat_and_nested_forms_are_inverse(flat: dict[str, Any]) -> None:
    nested = serialize_session(flat)
    assert deserialize_session(nested) == flat
    assert serialize_session(deserialize_session(nested)) == nested


def test_the_nested_form_has_metrics_and_iso_times() -> None:
    nested = serialize_session(
        {
            "session_id": "s",
            "user_id": "u",
            "created_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
            "updated_at": "2026-01-31T12:00:01Z",
            "status": "active",
            "request_count": 2,
        }
    )
    assert nested["created_at"] == "2026-01-31T12:00:00+00:00"
    assert nested["updated_at"] == "2026-01-31T12:00:01+00:00"
    assert nested["metrics"] == {"request_count": 2, "total_processing_time": 0.0, "error_count": 0}
    assert nested["metadata"] == {}


def test_reading_tolerates_missing_metrics_and_naive_times() -> None:
    flat = deserialize_session(
        {"session_id": "s", "user_id": "u", "created_at": "2026-01-31T12:00:00", "updated_at": "2026-01-31T12:00:00Z"}
    )
    assert flat["created_at"] == flat["updated_at"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (flat["request_count"], flat["error_count"], flat["metadata"]) == (0, 0, {})


def test_a_message_is_stamped() -> None:
    message = serialize_message("user", "hello")
    assert (message["role"], message["content"], message["metadata"]) == ("user", "hello", {})
    assert datetime.fromisoformat(message["timestamp"]).tzinfo is not None


def test_times_are_shown_with_their_microseconds() -> None:
    assert shown_time(1769860800000000) == "2026-01-31T12:00:00.000000+00:00"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_different_names_are_different_keys(names: list[str]) -> None:
    one, other = map(keys.quoted, names)
    assert one != other
    assert max(len(one), len(other)) <= 200
    assert not set(one + other) & set("/:\0")


def test_long_names_end_in_a_digest() -> None:
    one, other = keys.quoted("é" * 200 + "a"), keys.quoted("é" * 200 + "b")
    assert one[:121] == other[:121]
    assert one[120] == "~"
    assert one != other


@pytest.mark.parametrize(
    ("bad", "error"), [("", ValueError), ("a\nb", ValueError), ("x" * 513, ValueError), (7, TypeError)]
)
def test_bad_ids_are_refused_by_name(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="session_id"):
        keys.judged_id(bad, "session_id")


@pytest.mark.parametrize("odd", ["a/b:c", "..", "%2F", "🙂", "a" * 512])
def test_any_other_id_is_good(odd: str) -> None:
    assert keys.judged_id(odd, "session_id") == odd
