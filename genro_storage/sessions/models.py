"""The records of a session, and the forms in which its facts are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..exceptions import StorageCorruptedError
from ..records.base import Record
from . import codec

K = TypeVar("K")

ACTIVE = "active"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StorageType(StrEnum):
    """Where records may live."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    REDIS = "redis"
    MOUNT = "mount"


class Cold(Struct, frozen=True, array_like=True):
    """What of a session changes rarely; times in µs since the epoch, `metadata` tagged JSON.

    `inc` tells this session from an earlier one of the same id; `version` counts changes of status and metadata.
    """

    session_id: str
    user_id: str
    status: str
    metadata: bytes
    created_at: int
    updated_at: int
    inc: str
    version: int = 1
    ended_at: int | None = None


class Hot(Struct, frozen=True, array_like=True, gc=False):
    """What of a session changes with each use.

    Its record expires `ttl` µs after `last_activity`. Messages `first_seq` to `last_seq` are kept. `writers`: the
    number of the last commit of each of the last writers, so that one whose answer was lost can tell what came of it.
    """

    inc: str
    last_activity: int
    ttl: int | None = None
    first_seq: int = 1
    last_seq: int = 0
    request_count: int = 0
    error_count: int = 0
    total_processing_time: float = 0.0
    context_seq: int = 0
    writers: dict[str, int] = {}

    @property
    def expires_at(self) -> int | None:
        return None if self.ttl is None else self.last_activity + self.ttl


pack = msgspec.msgpack.Encoder().encode


def reader(kind: type[K]) -> Callable[[bytes], K]:
    """What reads stored data that `pack` made of this kind; damaged → `StorageCorruptedError`."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def read(data: bytes) -> K:
        try:
            return decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageCorruptedError(f"a stored {kind.__name__} is damaged: {error}") from error

    return read


cold_of = reader(Cold)
hot_of = reader(Hot)


@lru_cache(4096)
def _second(text: str) -> str:
    return (_EPOCH + timedelta(seconds=int(text))).strftime("%Y-%m-%dT%H:%M:%S.")


def shown_time(at: int | None) -> str | None:
    """µs since the epoch as ISO 8601, UTC, always with its microseconds."""
    if at is None:
        return None
    text = f"{at:07}"  # cutting text is twice as fast as dividing: a history shows many times
    return f"{_second(text[:-6])}{text[-6:]}+00:00"


def shown_session(cold: Cold, hot: Hot) -> dict[str, Any]:
    """What `get_session` tells."""
    return {
        "session_id": cold.session_id,
        "user_id": cold.user_id,
        "status": cold.status,
        "metadata": codec.decode_stored(cold.metadata),
        "created_at": shown_time(cold.created_at),
        "updated_at": shown_time(cold.updated_at),
        "last_activity": shown_time(hot.last_activity),
        "ended_at": shown_time(cold.ended_at),
        "expires_at": shown_time(hot.expires_at),
        "request_count": hot.request_count,
        "error_count": hot.error_count,
        "total_processing_time": hot.total_processing_time,
        "version": cold.version,
    }


def packed_message(role: str, content: bytes, at: int, metadata: bytes) -> bytes:
    """One message as a JSON list; `content` and `metadata` are tagged JSON, `at` µs."""
    return b"[%b,%b,%d,%b]" % (msgspec.json.encode(role), content, at, metadata)


def shown_messages(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What `get_conversation_history` tells of these, read in one go."""
    told = codec.decode_stored(b"[%b]" % b",".join([record.data for record in records]))
    try:
        return [
            {"seq": int(one.key), "role": role, "content": content, "timestamp": shown_time(at), "metadata": metadata}
            for one, (role, content, at, metadata) in zip(records, told, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise StorageCorruptedError(f"a stored message is damaged: {error}") from error


# --- the forms of programs that keep sessions themselves ---

_TIMES = ("created_at", "updated_at", "last_activity", "ended_at", "expires_at")
_METRICS: Mapping[str, Any] = {"request_count": 0, "total_processing_time": 0.0, "error_count": 0}


def serialize_session(session_data: Mapping[str, Any]) -> dict[str, Any]:
    """A session's flat facts, times as datetimes or ISO text, in the nested form with ISO text and ``metrics``."""
    nested = {key: value for key, value in session_data.items() if key not in _METRICS}
    nested |= {key: _moment(nested[key]).isoformat() for key in _TIMES if nested.get(key) is not None}
    nested["metadata"] = session_data.get("metadata") or {}
    nested["metrics"] = {key: session_data.get(key, default) for key, default in _METRICS.items()}
    return nested


def deserialize_session(data: Mapping[str, Any]) -> dict[str, Any]:
    """The flat facts of a nested form, times as aware datetimes; a time without a zone is UTC."""
    flat = {key: value for key, value in data.items() if key != "metrics"}
    flat |= {key: _moment(flat[key]) for key in _TIMES if flat.get(key) is not None}
    flat["metadata"] = data.get("metadata") or {}
    metrics = data.get("metrics") or {}
    return flat | {key: metrics.get(key, default) for key, default in _METRICS.items()}


def serialize_message(role: str, content: Any, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A message in the form that programs exchange, stamped with the time of now."""
    now = datetime.now(UTC).isoformat()
    return {"role": role, "content": content, "timestamp": now, "metadata": dict(metadata or {})}


def _moment(value: datetime | str) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)
