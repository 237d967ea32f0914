"""A stream into an object store: what fits one part goes in one request, more of it part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .. import hashing
from ..exceptions import StorageConflictError, StorageCorruptedError, StorageError, StorageExistsError
from ..types import Stat, WriteOptions
from .base import check_size


class Target(Protocol):
    """The object to be written, as a driver names it."""

    @property
    def options(self) -> WriteOptions: ...

    def put(self, data: bytes) -> Stat:
        """All of it in one request; conditions that do not hold → `StorageExistsError`, `StorageConflictError`."""

    def holds(self, data: bytes) -> Stat | None:
        """Facts of what is there now, if these bytes are."""


class ObjectWriter:
    """Bytes for one object; nothing is visible before `commit`, which may be called again after an error.

    A driver writes `part`, `_begun`, `_ship`, `_complete` and `_abort`.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._buffer = bytearray()
        self._written = 0
        self._lost = False
        self._pid = os.getpid()
        self._open = True

    # --- what a driver knows ---

    @property
    def part(self) -> int:
        """Bytes that are held; also the largest object that goes in one request."""
        raise NotImplementedError

    @property
    def _begun(self) -> bool:
        """Whether a part was sent, or tried to be."""
        raise NotImplementedError

    def _ship(self) -> None:
        """Moves the beginning of the buffer on; called when more than a part is there."""
        raise NotImplementedError

    def _complete(self) -> Stat:
        """Sends the rest and makes the object visible."""
        raise NotImplementedError

    def _abort(self) -> None:
        """Gives up what was sent; never raises."""

    def _passed(self, view: memoryview) -> None:
        """Some bytes came."""

    def _judge(self, hashes: Mapping[str, str]) -> None:
        """Before the end: other bytes than announced → `StorageCorruptedError`."""

    # --- what follows ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes all of `data`, whether or not sending a part fails meanwhile."""
        self._check_open()
        view = memoryview(data).cast("B")
        self._written += len(view)
        self._passed(view)
        try:
            while len(self._buffer) + len(view) > self.part:
                room = max(0, self.part - len(self._buffer))
                self._buffer += view[:room]
                view = view[room:]
                self._ship()
        finally:
            self._buffer += view

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._check_open()
        check_size(self._target.options.size, self._written)
        self._judge(hashes)
        stat = self._complete() if self._begun else self._put(hashes)
        self._open = False
        self._buffer = bytearray()
        return stat

    def _put(self, hashes: Mapping[str, str]) -> Stat:
        data, target = bytes(self._buffer), self._target
        check_hashes(data, hashes)
        return self._settled(lambda: target.put(data), lambda: target.holds(data))

    def _settled(self, make: Callable[[], Stat], ours: Callable[[], Stat | None]) -> Stat:
        """`make()`; after a lost answer the object in the way may be our own, which `ours` tells."""
        try:
            return make()
        except (StorageExistsError, StorageConflictError):
            if self._lost and (stat := ours()) is not None:
                return stat
            raise
        except Exception:  # a driver call that was not refused: what it asked for may have been done
            self._lost = True
            raise

    def _first(self, size: int) -> bytes:
        """The first `size` bytes of the buffer."""
        with memoryview(self._buffer) as view, view[:size] as first:
            return bytes(first)

    def discard(self) -> None:
        if self._open and self._pid == os.getpid():
            self._open = False
            self._buffer = bytearray()
            self._abort()

    def _check_open(self) -> None:
        if not self._open:
            raise StorageError("the writer is finished")
        check_process(self._pid)


def check_process(pid: int) -> None:
    """An open file does not survive a fork: its connection belongs to the parent."""
    if pid != os.getpid():
        raise StorageError("this file was opened before the process forked; open it again")


def check_hashes(data: bytes, hashes: Mapping[str, str]) -> None:
    """Other bytes than announced → `StorageCorruptedError`."""
    for algorithm, expected in hashes.items():
        hasher = hashing.new(algorithm)
        hasher.update(data)
        if hasher.hexdigest() != expected:
            raise StorageCorruptedError(f"the {algorithm} of the bytes is not {expected}", retryable=True)
