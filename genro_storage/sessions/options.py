"""What a session store may be told, judged when it is said."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ..exceptions import StorageConfigError

MICRO = 1_000_000
LONGEST = 1000 * 365.25 * 86400
"""Seconds: what ends later than in a thousand years has no date."""


class SessionOptions(Struct, frozen=True, kw_only=True):
    """The options of a `SessionStore`; the defaults delete nothing. Times in seconds, sizes in bytes.

    `session_ttl`: a session ends so long after its last use. `checkpoint_ttl`: a thread, after its last checkpoint.
    `conversation_limit`: messages kept per session, the oldest go. `context_versions`: task contexts kept per session.
    `auto_create`: a message or context makes the session it names. `sweep_interval`: between two sweeps of what has
    ended.
    """

    session_ttl: float | None = None
    checkpoint_ttl: float | None = None
    conversation_limit: int | None = None
    context_versions: int = 10
    auto_create: bool = False
    sweep_interval: float = 300.0
    max_metadata: int = 64 << 10
    max_message: int = 1 << 20
    max_context: int = 16 << 20
    max_checkpoint: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("session_ttl", "checkpoint_ttl", "sweep_interval"):
            value = getattr(self, name)
            if value is not None and not is_duration(value):
                raise StorageConfigError(f"{name} takes seconds above 0, at most 1000 years, not {value!r}")
        whole = ("context_versions", "max_metadata", "max_message", "max_context", "max_checkpoint")
        for name in (*whole, *(("conversation_limit",) if self.conversation_limit is not None else ())):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise StorageConfigError(f"{name} takes a whole number from 1 up, not {value!r}")
        if not isinstance(self.auto_create, bool):
            raise StorageConfigError(f"auto_create is True or False, not {self.auto_create!r}")


def is_duration(value: object) -> bool:
    """Whether it is a number of seconds that something may last."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST


def session_options(given: Mapping[str, Any]) -> SessionOptions:
    """The options that these keys mean; an unknown one → `StorageConfigError` with the nearest known."""
    known = SessionOptions.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise StorageConfigError(f"a session store has no option {name!r}{hint}")
    return SessionOptions(**given)


def micros(seconds: float | None) -> int | None:
    """Seconds as µs."""
    return None if seconds is None else round(seconds * MICRO)
