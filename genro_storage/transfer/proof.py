"""The proof that a copy is what its source was: sizes, hashes, a source that did not change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property, lru_cache

from .. import hashing
from ..backends.base import BackendReader
from ..exceptions import StorageConflictError, StorageCorruptedError, StorageError
from ..types import Place, Stat, Steady
from .flow import Flow
from .job import Copied, Job
from .options import CopyOptions
from .places import fault

CHUNK = 1 << 20


class Proof:
    """Follows the bytes of one file from its source (`facts`) to its target, as far as `verify` asks for."""

    def __init__(self, job: Job, options: CopyOptions, flow: Flow, facts: Stat) -> None:
        self._job = job
        self._flow = flow
        self._verify = options.verify
        self._facts = facts
        self._size = 0
        self._by_source = False
        self._parted: Mapping[str, str] | None = None
        self.digests: Mapping[str, str] = {}
        """Hashes of all bytes that passed, after `judge_source`; those that the source says before."""

    @cached_property
    def _hashers(self) -> dict[str, hashing.Hasher]:
        asked = self._job.target.mount.features.hashes
        return {name: hashing.new(name) for name in _hashes(self._verify, frozenset(self._facts.hashes), asked)}

    def add(self, data: bytes) -> None:
        """Some bytes went from the source to the target."""
        self._size += len(data)
        for hasher in self._hashers.values():
            hasher.update(data)

    # --- before anything is visible ---

    def judge_parts(self, size: int, digests: Mapping[str, str]) -> None:
        """As `judge_source`, for bytes that came in no order; `digests` are what follows from those of the parts."""
        self._size, self._parted = size, digests
        self.judge_source()

    def judge_source(self) -> None:
        """All bytes came, they are one state of the source, and what it says they are."""
        source, facts = self._job.source, self._facts
        if self._parted is None:
            self.digests = {name: hasher.hexdigest() for name, hasher in self._hashers.items()}
        else:
            self.digests = self._parted
        judge_unchanged(source, facts)
        if self._verify == "none":
            return
        if facts.size is not None and facts.size != self._size:
            raise corrupted(f"{self._size} bytes came where {facts.size} should", source)
        self._by_source = agree(facts.hashes, self.digests, "its stored hash says otherwise", source)

    # --- after ---

    def judge_target(self, stat: Stat) -> Copied:
        """What the target tells of itself is what was sent; a file that is proven wrong is taken away again."""
        with _removed_if_wrong(self._job.target, stat):
            by_checksum = self._agrees(stat, self._size, self.digests)
            if self._verify == "read":
                by_checksum = self._reads_as(self.digests["sha256"])
        return self._copied(stat, by_checksum or self._by_source, self._size)

    def judge_copy(self, stat: Stat, *, brief: bool = False) -> Copied:
        """As `judge_target`, for bytes that the storage itself has moved and nobody here has seen.

        `brief`: the facts of the source are those of a `look`, which leaves out hashes.
        """
        source, target = self._job.source, self._job.target
        judge_unchanged(source, self._facts)
        if self._verify in ("size", "checksum") and self._facts.etag in stat.hashes.values():
            # What the source is known by is a hash of what came: no other bytes, and no other number of them.
            return self._copied(stat, self._verify == "checksum", self._facts.size or 0, server_side=True)
        if brief and stat.hashes and self._verify == "checksum":
            self._facts = _looked_at(source, self._facts)
        facts = self._facts
        if self._verify != "none" and not facts.hashes.keys() & stat.hashes.keys():
            stat = target.mount.stat_file(target.path)  # a server that copies does not say how much it was
        with _removed_if_wrong(target, stat):
            try:
                by_checksum = self._agrees(stat, facts.size, facts.hashes)
            except StorageCorruptedError:
                judge_unchanged(source, facts, doubted=True)  # another state of the source came over, whole
                raise
            if self._verify == "read":
                reader = source.mount.reader(source.path, version=source.version)
                by_checksum = self._reads_as(sha256(reader, self._flow))
        return self._copied(stat, by_checksum, facts.size or 0, server_side=True)

    def _agrees(self, stat: Stat, size: int | None, digests: Mapping[str, str]) -> bool:
        target = self._job.target
        if self._verify == "none":
            return False
        if stat.size is None:
            stat = target.mount.stat_file(target.path)
        if size is not None and stat.size != size:
            raise corrupted(f"it holds {stat.size} bytes where {size} were written", target)
        return self._verify != "size" and agree(stat.hashes, digests, "it holds other bytes than were sent", target)

    def _reads_as(self, expected: str) -> bool:
        target = self._job.target
        if sha256(target.mount.reader(target.path), self._flow) != expected:
            raise corrupted("it reads otherwise than it was written", target)
        return True

    def _copied(self, stat: Stat, by_checksum: bool, size: int, server_side: bool = False) -> Copied:
        by_size = not by_checksum and self._verify != "none"
        return Copied(self._facts, size, False, server_side, by_checksum, by_size, written=stat)


@lru_cache(256)
def _hashes(verify: str, told: frozenset[str], asked: frozenset[str]) -> frozenset[str]:
    """What is to be computed on the way: the cheapest hash that both ends know, else one of each."""
    if verify not in ("checksum", "read"):
        return frozenset()
    wanted = {"sha256"} if verify == "read" else set()
    for choice in (told & asked,), (told, asked):
        found = {name for names in choice if (name := cheapest(names)) is not None}
        if found:
            return frozenset(wanted | found)
    return frozenset(wanted)


@lru_cache(256)
def cheapest(names: frozenset[str]) -> str | None:
    """The hash among these that is computed with the least work."""
    return next((name for name in hashing.ALGORITHMS if name in names and hashing.computable(name)), None)


def agree(stored: Mapping[str, str], digests: Mapping[str, str], otherwise: str, place: Place) -> bool:
    """Whether there is a hash on both sides; two that differ → `StorageCorruptedError`."""
    common = stored.keys() & digests.keys()
    for name in common:
        if stored[name].lower() != digests[name].lower():
            raise corrupted(f"{otherwise} ({name} {digests[name]}, stored {stored[name]})", place)
    return bool(common)


def judge_unchanged(source: Place, before: Stat, *, doubted: bool = False) -> None:
    """Raises `StorageConflictError` if the source is not what it was.

    Stores with atomic conditions answer each request from one object: they need no look unless the bytes are `doubted`,
    nor does what the driver has looked at itself.
    """
    if type(before.hashes) is Steady and not doubted:
        return
    if source.version is not None or (source.mount.features.if_match == "atomic" and not doubted):
        return
    _looked_at(source, before)


def _looked_at(source: Place, before: Stat) -> Stat:
    """The facts of the source now; other ones than `before` → `StorageConflictError`."""
    after = source.mount.stat_file(source.path)
    facts: list[tuple[object, object]] = [(before.size, after.size), (before.etag, after.etag)]
    if None in facts[1]:  # an etag says more than the time, which a listing may tell otherwise
        facts.append((before.mtime, after.mtime))
    if any(None not in pair and pair[0] != pair[1] for pair in facts):
        raise fault(StorageConflictError, "the source was changed while it was read", source)
    return after


def same_bytes(source: Place, target: Place, flow: Flow) -> bool:
    """Whether both hold the same bytes now, by reading them."""
    one = source.mount.reader(source.path, version=source.version)
    return sha256(one, flow) == sha256(target.mount.reader(target.path), flow)


def sha256(reader: BackendReader, flow: Flow) -> str:
    """The hash of all that a reader gives; closes it."""
    hasher = hashing.new("sha256")
    with closing(reader):
        while chunk := reader.read(CHUNK):
            hasher.update(chunk)
            flow.tick()
    return hasher.hexdigest()


def corrupted(reason: str, place: Place) -> StorageCorruptedError:
    """The error for wrong bytes at a place; another try may bring the right ones."""
    error = fault(StorageCorruptedError, reason, place)
    error.retryable = True
    return error


@contextmanager
def _removed_if_wrong(target: Place, stat: Stat) -> Iterator[None]:
    """Takes away a file that was proven wrong only after it was visible: no wrong bytes may look right."""
    try:
        yield
    except StorageCorruptedError:
        remove_wrong(target, stat)
        raise


def remove_wrong(target: Place, stat: Stat) -> None:
    """Takes away what was written as `stat` tells, if it is still that."""
    if_match = stat.etag if target.mount.features.if_match != "none" else None
    try:
        target.mount.delete(target.path, if_match=if_match)
    except StorageError:
        pass  # not ours any more, or not allowed: the error that is under way says what is wrong
