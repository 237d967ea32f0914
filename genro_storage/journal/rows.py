"""The rows of the journal, and their names in the record store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec
from msgspec import Struct

from ..exceptions import StorageCorruptedError
from ..records.base import Put, Record
from ..records.owner import Owner
from ..types import Stat

Row = TypeVar("Row", bound=Struct)
JOBS = "journal/jobs"
ROOM = 1500
"""Bytes of a path that is a key as it is."""


class JobInfo(Struct, frozen=True):
    """A job as the journal lists it; times in POSIX seconds."""

    id: str
    kind: str
    source: str
    target: str
    created: float
    seen: float
    owner: Owner | None = None
    finished: bool = False


class Done(Struct, frozen=True):
    """A file that was committed: fingerprints of the source that was read and of the target that was written."""

    source: str
    target: str = ""


class Staged(Struct, frozen=True):
    """A staged write that is open: what `StorageBackend.parts` needs to go on with it, or to discard it.

    `target`: the full path in the words of whoever wrote it (``mount:path``); `receipts`: offset → receipt.
    """

    path: str
    target: str
    token: str
    part_size: int
    source: str
    created: float = 0.0
    receipts: Mapping[int, str] = {}


def fingerprint(stat: Stat) -> str:
    """What tells one state of a file from another: its size and etag, else size and mtime; "" where it has neither."""
    if stat.etag is not None:
        return f"{stat.size}:{stat.etag}"
    return "" if stat.mtime is None else f"{stat.size}@{stat.mtime!r}"


def encode(row: Struct) -> bytes:
    """JSON; with escapes for a name that is no UTF-8: it travels as lone surrogates, which only they can express."""
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:  # ten times as slow, and rare
        return json.dumps(msgspec.to_builtins(row)).encode()


def decode(record: Record, kind: type[Row]) -> Row:
    """The row in a record; `StorageCorruptedError` if it is none."""
    try:
        return msgspec.convert(json.loads(record.data), type=kind)
    except (ValueError, msgspec.ValidationError) as error:
        raise StorageCorruptedError(f"the journal's row {record.space} {record.key} is damaged: {error}") from None


def done_space(job_id: str) -> str:
    """Where the committed files of a job are: `key` of the path → `Done`."""
    return f"journal/done/{job_id}"


def staged_space(job_id: str) -> str:
    """Where its open staged writes are: `key` of the path → `Staged` without receipts."""
    return f"journal/staged/{job_id}"


def receipt_space(job_id: str) -> str:
    """Where their receipts are: `digest` of the path, a dash, the offset in 20 digits → the receipt."""
    return f"journal/receipts/{job_id}#"


def digest(path: str) -> str:
    """40 hexadecimal digits of a path."""
    return blake2b(path.encode(errors="surrogateescape"), digest_size=20).hexdigest()


def key(path: str) -> str:
    """A path as a key: itself where a key can be it, so that neighbours stay neighbours, else a digest."""
    try:
        return f"={path}" if len(path.encode()) <= ROOM and "\0" not in path else f"~{digest(path)}"
    except UnicodeEncodeError:  # a name that is no UTF-8 travels as surrogates
        return f"~{digest(path)}"


def row(info: JobInfo, expect: int) -> Put:
    """The write of a job's own row, which holds its owner."""
    return Put(JOBS, info.id, encode(info), expect=expect)


def owned(info: JobInfo) -> str:
    """The sentence of a refusal."""
    return f"{info.kind} {info.source} → {info.target} is being done by {info.owner}"


def taken(info: JobInfo) -> str:
    """The sentence of a loss."""
    return f"{info.kind} {info.source} → {info.target} was taken over by another process"
