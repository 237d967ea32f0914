"""The cases about conditional writes: judged at commit, one winner, never pretended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..backends.base import StorageBackend
from ..exceptions import StorageConflictError, StorageExistsError, UnsupportedOperation
from ..mount import Mount
from ..types import WriteOptions
from .reading import Cases, payload
from .suite import needs

Put = Callable[[Mount, str, bytes, WriteOptions], object]


def by_put(mount: Mount, path: str, data: bytes, options: WriteOptions = WriteOptions()) -> None:  # noqa: B008 - frozen
    mount.put(path, data, options)


def by_writer(mount: Mount, path: str, data: bytes, options: WriteOptions = WriteOptions()) -> None:  # noqa: B008
    writer = mount.writer(path, options)
    try:
        writer.write(data)
        writer.commit()
    finally:
        writer.discard()


both_ways = pytest.mark.parametrize("write", [by_put, by_writer])


class Conditions(Cases):
    @both_ways
    def test_conditions_are_never_pretended(self, backend: StorageBackend, mount: Mount, write: Put) -> None:
        if backend.features.if_absent == "none":
            with pytest.raises(UnsupportedOperation):
                write(mount, "f", b"1", WriteOptions(if_absent=True))
        if backend.features.if_match == "none":
            mount.put("g", b"old")
            with pytest.raises(UnsupportedOperation):
                write(mount, "g", b"1", WriteOptions(if_match="x"))
            assert mount.get("g")[0] == b"old"
        assert not mount.exists("f")

    @needs("if_absent")
    @both_ways
    @pytest.mark.parametrize("size", [3, 6 * 1024 * 1024])
    def test_if_absent(self, mount: Mount, write: Put, size: int) -> None:
        first, options = payload(size, 1), WriteOptions(if_absent=True)
        write(mount, "d/f", first, options)
        with pytest.raises(StorageExistsError):
            write(mount, "d/f", payload(size, 2), options)
        assert mount.get("d/f")[0] == first

    @needs("if_absent")
    def test_if_absent_is_judged_at_commit(self, mount: Mount) -> None:
        writer = mount.writer("f", WriteOptions(if_absent=True))
        writer.write(payload(6 * 1024 * 1024))
        mount.put("f", b"somebody else")
        with pytest.raises(StorageExistsError):
            writer.commit()
        writer.discard()
        assert mount.get("f")[0] == b"somebody else"

    @needs("if_match")
    @both_ways
    def test_if_match(self, mount: Mount, write: Put) -> None:
        mount.put("f", b"first")
        stale = mount.stat("f").etag
        write(mount, "f", b"second", WriteOptions(if_match=stale))
        assert mount.get("f")[0] == b"second"
        assert mount.stat("f").etag != stale
        with pytest.raises(StorageConflictError):
            write(mount, "f", b"third", WriteOptions(if_match=stale))
        with pytest.raises(StorageConflictError):
            write(mount, "absent", b"third", WriteOptions(if_match=stale))
        assert mount.get("f")[0] == b"second"
        assert not mount.exists("absent")

    @needs("if_match")
    def test_delete_if_match(self, mount: Mount) -> None:
        mount.put("f", b"first")
        stale = mount.stat("f").etag
        mount.put("f", b"second one")
        try:
            with pytest.raises(StorageConflictError):
                mount.delete("f", if_match=stale)
        except UnsupportedOperation:
            pass  # a server may know conditions on writes only, and say so
        assert mount.get("f")[0] == b"second one"

    @needs("atomic_if_absent")
    @both_ways
    def test_one_creator_wins(self, mount: Mount, write: Put) -> None:
        options = WriteOptions(if_absent=True)
        winners = race(8, lambda number: write(mount, "d/f", bytes([number]) * 1000, options), StorageExistsError)
        assert len(winners) == 1
        assert mount.get("d/f")[0] == bytes(winners) * 1000

    @needs("atomic_if_match")
    @both_ways
    def test_one_updater_wins(self, mount: Mount, write: Put) -> None:
        mount.put("f", b"old")
        options = WriteOptions(if_match=mount.stat("f").etag)
        winners = race(8, lambda number: write(mount, "f", bytes([number]) * 1000, options), StorageConflictError)
        assert len(winners) == 1
        assert mount.get("f")[0] == bytes(winners) * 1000


def race(count: int, act: Callable[[int], object], loss: type[Exception]) -> list[int]:
    """Lets `count` threads act at the same moment; the numbers of those that did not lose."""
    start = threading.Barrier(count)

    def run(number: int) -> bool:
        start.wait(30)
        try:
            act(number)
        except loss:
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        return [number for number, won in enumerate(pool.map(run, range(count))) if won]
