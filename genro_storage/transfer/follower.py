"""The hash of a file whose parts come in no order: what lies there without a gap is read back where it is staged."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from .. import hashing
from ..backends.base import PartWriter
from ..types import Stat
from .flow import Flow
from .proof import CHUNK, cheapest


class Follower:
    """Hashes a staged file from its beginning, part by part, in whatever thread has just put one; thread-safe."""

    def __init__(self, name: str, writer: PartWriter, size: int, flow: Flow) -> None:
        self._name, self._hasher = name, hashing.new(name)
        self._writer, self._size, self._flow = writer, size, flow
        self._at = 0
        self._turn = threading.Lock()

    def follow(self) -> None:
        """Goes as far as parts are there; a thread that does so already is left to it."""
        while self._at in self._writer.held and self._turn.acquire(blocking=False):
            try:
                if self._at in self._writer.held:
                    self._pass(min(self._at + self._writer.part_size, self._size))
            finally:
                self._turn.release()

    def _pass(self, end: int) -> None:
        at = self._at
        while at < end and (data := self._writer.reread(at, min(at + CHUNK, end))):
            self._hasher.update(data)
            self._flow.tick()
            at += len(data)
        self._at = end

    @property
    def digests(self) -> Mapping[str, str]:
        """The hash, where all of it went by."""
        return {self._name: self._hasher.hexdigest()} if self._at >= self._size else {}


def follower(verify: str, facts: Stat, writer: PartWriter, flow: Flow) -> Follower | None:
    """What holds a hash that the source tells against its parts, where it does not follow from theirs.

    None where nobody asked, the source tells none, or what is staged cannot be read back: then the size is all that is
    compared. A hash in order costs what the algorithm does, 1.5 s of a processor for 1 GiB by MD5.
    """
    known = frozenset(facts.hashes)
    name = None if verify != "checksum" or "crc32c" in known & frozenset(hashing.ALGORITHMS) else cheapest(known)
    if name is None or writer.reread(0, 0) is None:
        return None
    return Follower(name, writer, facts.size or 0, flow)
