"""The proof of a small file that came in one piece: as `Proof`, and what a driver has proven is not computed again."""

from __future__ import annotations

from collections.abc import Mapping

from .. import hashing
from ..exceptions import StorageCorruptedError
from ..types import Place, Proven, Stat
from .job import Copied, Job
from .proof import agree, cheapest, corrupted, judge_unchanged, remove_wrong


class Piece:
    """The bytes of one file between its source (`facts`) and its target, for every `verify` but ``read``."""

    __slots__ = ("_by_checksum", "_data", "_digests", "_facts", "_job", "_verify")

    def __init__(self, job: Job, verify: str, facts: Stat, data: bytes) -> None:
        self._job, self._verify, self._facts, self._data = job, verify, facts, data
        self._by_checksum = False
        self._digests: dict[str, str] = {}

    def judge_source(self) -> None:
        """All bytes came, they are one state of the source, and what it says they are."""
        source, facts = self._job.source, self._facts
        judge_unchanged(source, facts)
        if self._verify == "none":
            return
        if facts.size is not None and facts.size != len(self._data):
            raise corrupted(f"{len(self._data)} bytes came where {facts.size} should", source)
        self._by_checksum = self._agrees(facts.hashes, "its stored hash says otherwise", source)

    def judge_target(self, stat: Stat) -> Copied:
        """What the target tells of itself is what was sent; a file that is proven wrong is taken away again."""
        size, checked = len(self._data), self._verify != "none"
        if checked:
            try:
                told = self._job.target.mount.stat_file(self._job.target.path) if stat.size is None else stat
                if told.size != size:
                    reason = f"it holds {told.size} bytes where {size} were written"
                    raise corrupted(reason, self._job.target)
                if self._agrees(told.hashes, "it holds other bytes than were sent", self._job.target):
                    self._by_checksum = True
            except StorageCorruptedError:
                remove_wrong(self._job.target, stat)
                raise
        by_size = checked and not self._by_checksum
        return Copied(self._facts, size, False, False, self._by_checksum, by_size, written=stat)

    def _agrees(self, stored: Mapping[str, str], otherwise: str, place: Place) -> bool:
        """Whether a stored hash says that these are its bytes; one that says otherwise → `StorageCorruptedError`."""
        if not stored or self._verify != "checksum":
            return False
        if type(stored) is Proven:
            return True
        name = cheapest(frozenset(stored))
        if name is None:
            return False
        if name not in self._digests:
            hasher = hashing.new(name)
            hasher.update(self._data)
            self._digests[name] = hasher.hexdigest()
        return agree(stored, self._digests, otherwise, place)
