"""The record port: small keyed records in ordered spaces, with compare-and-set, expiry and commits that are whole."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from msgspec import Struct

from .._bridge import settled
from ..exceptions import RecordTooLargeError, StorageTimeoutError, VersionConflictError
from ..observe import RecordMeter

if TYPE_CHECKING:
    from .blocking import BlockingRecords

MAX_CHANGES = 1000
MAX_COMMIT = 128 << 20
"""Bytes of data in one commit."""
MAX_SPACE = 512
MAX_KEY = 1536
"""Bytes of UTF-8."""
_PLAIN_KEY = re.compile(r"[0-9a-z-]{1,128}")

_MAKING = threading.Lock()

Clock = Callable[[], int]
"""Microseconds since the epoch, UTC."""


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Record(Struct, frozen=True, gc=False):
    """One record as a store holds it; `expires_at` in microseconds since the epoch, None: never.

    `version` is positive and never used twice for one (space, key), not even after a deletion.
    """

    space: str
    key: str
    data: bytes
    version: int
    expires_at: int | None = None


class Put(Struct, frozen=True, gc=False):
    """Writes a record. `expect`: None does not care, 0 must be absent (or expired), n must be at version n."""

    space: str
    key: str
    data: bytes
    expect: int | None = None
    expires_at: int | None = None


class Delete(Struct, frozen=True, gc=False):
    """Removes a record; one that is absent is no fault unless `expect` says so."""

    space: str
    key: str
    expect: int | None = None


class Check(Struct, frozen=True, gc=False):
    """Asserts a version and writes nothing."""

    space: str
    key: str
    expect: int


Change = Put | Delete | Check


class RecordFeatures(Struct, frozen=True):
    """Facts about one store that are not methods."""

    durable: bool = False
    """What is acknowledged survives the end of the process."""
    shared: bool = False
    """Several processes may use it at once."""
    snapshot_scan: bool = False
    """`scan` and `get_many` show one moment."""
    reverse_scan: bool = True
    """`scan(reverse=True)` costs what `scan` costs; otherwise it reads the whole range first."""
    max_data: int = 64 << 20
    """Most bytes in one record."""


class RecordStore(ABC):
    """Records by (space, key); keys inside a space are ordered bytewise by their UTF-8.

    May be called from any event loop and thread; a forked child opens its own connections on first use. A driver writes
    `_get`, `_scan` and `_commit`, which are called with judged arguments only, and what it needs of `initialize`,
    `close`, `sweep` and `ping`. Unreachable: `StorageUnavailableError`; too slow: `StorageTimeoutError`.
    """

    name: ClassVar[str] = ""
    """The word for this kind in configuration, health and metrics."""
    features: RecordFeatures = RecordFeatures()
    outlasts: ClassVar[bool] = False
    """`_commit` itself waits for its outcome when it is cancelled; otherwise it runs in a task of its own."""
    durability: str = "none"
    """What an acknowledged write survives, in the words of the store; for people and health checks."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the server behind it, and does not stop it; known after `initialize`."""
    digest_key: bytes = b""
    """The key of digests of data in names, so that a store that hides data does not tell it by its digest."""

    def __init__(self, *, clock: Clock = now) -> None:
        self.clock = clock
        self.meter: RecordMeter | None = None
        """Set by whoever wants to know what is asked of this store."""
        self._blocking: BlockingRecords | None = None

    # --- the calls ---

    async def get(self, space: str, key: str) -> Record | None:
        """The record, None where it is absent or expired."""
        judge_name(space, key)
        call = self._get(space, key)
        return await (call if self.meter is None else self.meter.measured("get", call))

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        """As `get`, for each (space, key); one moment where `features.snapshot_scan`."""
        for space, key in keys:
            judge_name(space, key)
        call = self._get_many(keys)
        return await (call if self.meter is None else self.meter.measured("get", call))

    async def scan(
        self, space: str, *, after: str = "", until: str | None = None, limit: int | None = None, reverse: bool = False
    ) -> list[Record]:
        """Records with after < key < until, in order of their keys, from the end if `reverse`.

        Args:
            limit: most records to return; None is all, 0 none.

        Raises:
            ValueError: a negative limit, or a name that cannot be one.
        """
        judge_bound(space, MAX_SPACE, "space")
        judge_bound(after, MAX_KEY, "after")
        judge_bound(until or "", MAX_KEY, "until")
        if limit is not None and limit < 0:
            raise ValueError(f"limit is a number of records or None, not {limit}")
        if limit == 0 or until == "":
            return []
        call = self._scan(space, after, until, limit, reverse)
        return await (call if self.meter is None else self.meter.measured("scan", call))

    async def commit(self, changes: Sequence[Change]) -> list[int]:
        """All changes or none; returns the version of each (`Delete` 0, `Check` its `expect`).

        When it returns, every later read sees them, from any process where `features.shared`. Cancelled while it runs,
        it waits for its outcome and then raises CancelledError.

        Raises:
            VersionConflictError: an `expect` did not hold; nothing was applied.
            CommitOutcomeUnknownError: the connection was lost; read, then decide.
            RecordTooLargeError: a record above `features.max_data`, or more than 128 MiB together.
            ValueError: none or more than 1000 changes, one (space, key) twice, a name that cannot be one.
        """
        judge_changes(changes, self.features.max_data)
        call = self._commit(changes) if self.outlasts else settled(self._commit(changes))
        if self.meter is None:
            return await call
        return await self.meter.measured("commit", call, len(changes))

    async def initialize(self) -> None:
        """Connects, and makes or upgrades what is kept; idempotent.

        Raises:
            StorageUnavailableError: it cannot be reached. Nothing else is used in its place, ever.
            StorageSchemaError: it was written by a newer release.
        """

    async def close(self) -> None:
        """Lets go of connections and threads; the store opens again on the next call. Idempotent."""

    async def ping(self, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - the name of the port
        """Seconds that one real request took; `StorageTimeoutError` after `timeout` seconds."""
        return await timed(self.get("ping", "ping"), timeout)

    async def sweep(self, limit: int = 500) -> int:
        """Removes at most `limit` expired records for good; returns how many. The absence was seen long before."""
        return 0

    async def approximate_count(self) -> int | None:
        """How many records there are, about, found without counting them; None where the store cannot tell."""
        return None

    @property
    def sync(self) -> BlockingRecords:
        """The same calls, blocking, from any thread, also one whose event loop is running."""
        if self._blocking is None:
            from .blocking import BlockingRecords

            with _MAKING:
                if self._blocking is None:
                    self._blocking = BlockingRecords(self)
        return self._blocking

    # --- what a driver writes ---

    @abstractmethod
    async def _get(self, space: str, key: str) -> Record | None: ...

    @abstractmethod
    async def _scan(
        self, space: str, after: str, until: str | None, limit: int | None, reverse: bool
    ) -> list[Record]: ...

    @abstractmethod
    def _commit(self, changes: Sequence[Change]) -> Awaitable[list[int]]: ...

    async def _get_many(self, keys: Sequence[tuple[str, str]]) -> list[Record | None]:
        return [await self._get(space, key) for space, key in keys]


async def timed(call: Coroutine[Any, Any, object], seconds: float) -> float:
    """Seconds until an awaitable was done; `StorageTimeoutError` after that many."""
    start = time.perf_counter()
    try:
        await asyncio.wait_for(call, seconds)
    except StorageTimeoutError:
        raise
    except TimeoutError as error:
        raise StorageTimeoutError(f"no answer within {seconds} s", operation="ping") from error
    return time.perf_counter() - start


# --- what can be a name, and what can be a commit ---


def judge_name(space: str, key: str) -> None:
    """Raises ValueError unless these can be the names of a record."""
    if not (space.isascii() and len(space) <= MAX_SPACE and "\0" not in space):
        judge_bound(space, MAX_SPACE, "space")
    if space.endswith("#"):
        if _PLAIN_KEY.fullmatch(key) is None:
            raise ValueError(f"keys of the space {space!r} are 1 to 128 of 0-9 a-z -, not {key!r}")
    elif not (key.isascii() and 0 < len(key) <= MAX_KEY and "\0" not in key):
        if not key:
            raise ValueError("a key cannot be empty")
        judge_bound(key, MAX_KEY, "key")


def judge_bound(text: str, most: int, what: str) -> None:
    """Raises ValueError unless a text is UTF-8 without NUL of at most so many bytes."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} {text!r} is not UTF-8") from None
    if size > most:
        raise ValueError(f"{what} has {size} bytes, at most {most} are allowed: {text[:40]!r}…")
    if "\0" in text:
        raise ValueError(f"{what} {text!r} holds a NUL")


def judge_changes(changes: Sequence[Change], max_data: int) -> None:
    """Raises unless these can be one commit."""
    if not 0 < len(changes) <= MAX_CHANGES:
        raise ValueError(f"a commit has 1 to {MAX_CHANGES} changes, not {len(changes)}")
    total, seen = 0, set()
    for change in changes:
        name = change.space, change.key
        judge_name(*name)
        seen.add(name)
        if change.expect is not None and change.expect < 0:
            raise ValueError(f"expect is None, 0 or a version, not {change.expect}")
        if type(change) is Put:
            if type(change.data) is not bytes:
                raise TypeError(f"data of {change.space!r} {change.key!r} is {type(change.data).__name__}, not bytes")
            size = len(change.data)
            total += size
            if size > max_data:
                _too_large(f"record {change.key!r}", size, max_data)
    if len(seen) < len(changes):
        raise ValueError("one (space, key) stands twice in a commit")
    if total > MAX_COMMIT:
        _too_large("a commit", total, MAX_COMMIT)


def _too_large(what: str, size: int, most: int) -> NoReturn:
    raise RecordTooLargeError(f"{what} has {size} bytes, at most {most} are allowed", operation="commit")


def conflict(changes: Sequence[Change], index: int, actual: int) -> VersionConflictError:
    """The error of a change whose `expect` does not hold; `actual` is 0 where the record is absent."""
    change = changes[index]
    found = f"it is at version {actual}" if actual else "it is absent"
    wanted = f"version {change.expect}" if change.expect else "no record"
    error = VersionConflictError(
        f"expected {wanted} at {change.space!r} {change.key!r}, but {found}", operation="commit"
    )
    error.index, error.space, error.key = index, change.space, change.key
    error.expected, error.actual = change.expect, actual
    return error
