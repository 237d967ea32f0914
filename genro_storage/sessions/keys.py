"""The key layout of sessions, conversations and checkpoints over a record store; see ``docs/design/0015``."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from urllib.parse import quote_from_bytes

COLD, HOT = "s", "h"
THREAD, BUMP = "t", "tb"
ACTIVE, EXPIRY, THREADS = "x/active", "x/expiry", "x/threads"
SWEEP = "lease/sweep"
GARBAGE, DRAFTS, META = "gc", "drafts", "meta"
MIRROR = "mirror"
"""Where the journal of a failover store remembers sessions and threads that its fallback may have missed."""

_LONGEST, _KEPT = 200, 120
_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN = re.compile(rf"[A-Za-z0-9_.-]{{0,{_LONGEST}}}")
MAX_ID = 512


def judged_id(value: str, name: str) -> str:
    """`value` if it may name a session, user, thread or checkpoint; else `TypeError` or `ValueError`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has a lone surrogate: {value!r}") from error
    if not 1 <= size <= MAX_ID:
        raise ValueError(f"{name} takes 1 to {MAX_ID} bytes, not {size}")
    if _CONTROL.search(value):
        raise ValueError(f"{name} has a control character: {value!r}")
    return value


def quoted(value: str) -> str:
    """Percent-encodes every byte outside ``[A-Za-z0-9_.-]``; a long one ends in its digest instead.

    The digest makes different values different keys; the value itself is in the record's data.
    """
    if _PLAIN.fullmatch(value):
        return value
    raw = value.encode()
    text = quote_from_bytes(raw, safe="").replace("~", "%7E")
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_KEPT]}~{blake2b(raw, digest_size=20).hexdigest()}"


def incarnation() -> str:
    """16 random base32 characters, given to a session or thread at birth: its children hang under it."""
    return os.urandom(16).translate(_BASE32).decode()


def number(value: int) -> str:
    """A time in µs or a sequence number as 20 digits, so that the order of bytes is the order of numbers."""
    return f"{value:020d}"


def timed(at: int, name: str) -> str:
    """A key that sorts by time first."""
    return f"{number(at)}:{quoted(name)}"


def messages(inc: str) -> str:
    return f"m/{inc}#"


def contexts(inc: str) -> str:
    return f"c/{inc}#"


def by_user(user_id: str) -> str:
    return f"x/user/{quoted(user_id)}"


def by_status(status: str) -> str:
    return f"x/status/{quoted(status)}"


def checkpoints(inc: str) -> str:
    """Seed checkpoints in the order in which they were stored."""
    return f"d/{inc}#"


def checkpoint_ids(inc: str) -> str:
    """Where each checkpoint id is; one without a place only has writes."""
    return f"di/{inc}"


def checkpoint_writes(inc: str, id_key: str) -> str:
    return f"dw/{inc}/{id_key}"


def namespaces(inc: str) -> str:
    return f"n/{inc}"


def graph(inc: str, ns: str) -> str:
    """The checkpoints of a graph in one namespace, by id."""
    return f"k/{inc}/{quoted(ns)}"


def graph_writes(inc: str, ns: str, checkpoint_id: str) -> str:
    return f"w/{inc}/{quoted(ns)}/{quoted(checkpoint_id)}"


def blobs(inc: str) -> str:
    """Values of channels by their digest, once per thread."""
    return f"b/{inc}#"


def by_run(run_id: str) -> str:
    return f"r/{quoted(run_id)}"
