"""When a file that the target has already is kept as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from typing import NamedTuple

from .. import hashing
from ..exceptions import StorageError
from ..types import Features, Place, Stat
from .flow import Flow

SkipFn = Callable[..., object]
CHUNK = 1 << 20

EXISTS = "exists"
SAME_SIZE = "same size"
SAME_TIME = "same size and time"
NEWER = "newer"
SAME_CONTENT = "same content"
SAME_LINK = "same link"
CUSTOM = "custom"

FINEST = 1e-6
"""Seconds: a time that went through a float differs by less."""


class SkipStrategy(StrEnum):
    """What makes a file of the target good enough to stay."""

    NEVER = "never"
    EXISTS = "exists"
    SIZE = "size"
    MTIME = "mtime"
    NEWER = "newer"
    HASH = "hash"
    CUSTOM = "custom"


class Doubt(StrEnum):
    """What must be looked at, beyond the listings, before it is known whether a file is kept."""

    TIME = "time"
    """The listed time of an object is that of its upload; one HEAD tells the source's own."""
    CONTENT = "content"
    """No common stored hash is known."""
    LINK = "link"
    """Whether two links say the same."""


class Skips(NamedTuple):
    """A strategy for two storages; an unknown one is never made (`CopyOptions` judges it)."""

    strategy: SkipStrategy
    source: Features
    target: Features

    def judged(self, here: Stat, there: Stat) -> str | Doubt | None:
        """The reason to keep `there`, None to copy, or what must be looked at first; from listed facts alone.

        A fact that is None never makes two files equal. Not for `CUSTOM`.
        """
        strategy = self.strategy
        if strategy is SkipStrategy.NEVER:
            return None
        if strategy is SkipStrategy.EXISTS:
            return EXISTS
        if strategy is SkipStrategy.NEWER:
            if self.not_older(there, here):
                return NEWER
            return Doubt.TIME if self.upload_times and None not in (here.mtime, there.mtime) else None
        if here.size is None or here.size != there.size:
            return None
        if strategy is SkipStrategy.SIZE:
            return SAME_SIZE
        if strategy is SkipStrategy.MTIME:
            return self._by_time(here, there)
        return self._by_hash(here, there)

    @property
    def upload_times(self) -> bool:
        """The source lists times of upload, and the target those that its files had before."""
        return not self.source.lists_mtime and self.target.keeps_mtime and self.target.lists_mtime

    def not_older(self, there: Stat, here: Stat) -> bool:
        """Whether the target is not older; one of equal size whose clock is only too coarse to tell is not either."""
        if there.mtime is None or here.mtime is None:
            return False
        return there.mtime >= here.mtime or (
            here.size is not None and here.size == there.size and self.same_time(here.mtime, there.mtime)
        )

    def _by_time(self, here: Stat, there: Stat) -> str | Doubt | None:
        if here.mtime is None or there.mtime is None:
            return None
        if self.same_time(here.mtime, there.mtime):
            return SAME_TIME
        return Doubt.TIME if self.upload_times else None

    def same_time(self, here: float, there: float) -> bool:
        """Whether a target of that time need not be replaced by a source of this one, sizes being equal."""
        return self.equal_time(here, there) if _has_own_times(self.target) else there >= here

    def equal_time(self, here: float, there: float) -> bool:
        """Whether the two are one, as far as the coarser clock tells."""
        coarser = max(self.source.mtime_resolution or 0.0, self.target.mtime_resolution or 0.0, FINEST)
        return abs(here - there) <= coarser

    @staticmethod
    def _by_hash(here: Stat, there: Stat) -> str | Doubt | None:
        if here.size == 0:
            return SAME_CONTENT
        common = here.hashes.keys() & there.hashes.keys()
        if not common:
            return Doubt.CONTENT
        return SAME_CONTENT if _equal(here, there) else None


def _has_own_times(features: Features) -> bool:
    """Whether all files have the time they were given; an object that others made has that of its upload."""
    return features.keeps_mtime and features.real_dirs


def _equal(here: Stat, there: Stat) -> bool:
    common = here.hashes.keys() & there.hashes.keys()
    return bool(common) and all(here.hashes[name].lower() == there.hashes[name].lower() for name in common)


# --- a closer look, in any thread ---


class Seen(NamedTuple):
    """What a closer look found: the reason to keep the file, None to copy it, and the bytes read for that."""

    reason: str | None = None
    hashed: int = 0


def seen(
    doubt: Doubt, skips: Skips, here: tuple[Place, Stat], there: tuple[Place, Stat], flow: Flow, *, copies: bool = True
) -> Seen:
    """Looks at what the listings leave in doubt; both sides as (place, listed facts).

    `copies`: what cannot be read is copied, and that will tell why; else the error is raised.
    """
    if doubt is Doubt.CONTENT:
        try:
            return _seen_content(*here, *there, flow)
        except StorageError:
            if not copies:
                raise
            flow.tick()  # a cancelled transfer copies nothing either
            return Seen()
    if doubt is Doubt.TIME:
        return _seen_time(skips, here[0], there[1])
    (source, _), (target, _) = here, there
    return Seen(SAME_LINK if source.mount.readlink(source.path) == target.mount.readlink(target.path) else None)


def _seen_time(skips: Skips, source: Place, there: Stat) -> Seen:
    """By the time that an object says its source had: one request. An error is the entry's."""
    here = source.mount.look(source.path, version=source.version)
    if here.mtime is None or there.mtime is None:
        return Seen()
    if skips.strategy is SkipStrategy.NEWER:
        return Seen(NEWER if skips.not_older(there, here) else None)
    return Seen(SAME_TIME if here.size == there.size and skips.equal_time(here.mtime, there.mtime) else None)


def _seen_content(source: Place, here: Stat, target: Place, there: Stat, flow: Flow) -> Seen:
    """By a hash that both have or that reading gives."""
    hashed = 0
    here, there = _with_hashes(source, here), _with_hashes(target, there)
    if here.hashes.keys() & there.hashes.keys():
        return Seen(SAME_CONTENT if _equal(here, there) else None)
    algorithm = _algorithm(here, there)
    digests = []
    for place, stat in ((source, here), (target, there)):
        digest = stat.hashes.get(algorithm)
        if digest is None:
            digest, read = _digest(place, algorithm, flow)
            hashed += read
        digests.append(digest.lower())
    return Seen(SAME_CONTENT if digests[0] == digests[1] else None, hashed)


def _with_hashes(place: Place, stat: Stat) -> Stat:
    """Facts with the hashes that the storage has; one request where a listing may leave them out."""
    if stat.hashes or not place.mount.features.hashes:
        return stat
    return place.mount.stat_file(place.path, version=place.version)


def _algorithm(here: Stat, there: Stat) -> str:
    """What one side has stored and the other can compute, else the strongest that costs little."""
    stored = here.hashes.keys() | there.hashes.keys()
    return next((name for name in hashing.ALGORITHMS if name in stored and hashing.computable(name)), "sha256")


def _digest(place: Place, algorithm: str, flow: Flow) -> tuple[str, int]:
    hasher, count = hashing.new(algorithm), 0
    with closing(place.mount.reader(place.path, version=place.version)) as reader:
        while chunk := reader.read(CHUNK):
            hasher.update(chunk)
            count += len(chunk)
            flow.tick()
    return hasher.hexdigest(), count
