"""Runs of neighbouring parts: each part goes once, few requests bring many, an error repeats only what is missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.transfer import parallel
from genro_storage.transfer.runs import Run, Runs
from genro_storage.types import Stat
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .trees import at

PART = 20_000
DATA = random.Random(6).randbytes(40 * PART + 17)


def taken(runs: Runs) -> list[list[int]]:
    return list(iter(runs.take, []))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("gaps", [(), (0,), (3, 4, 17), tuple(range(0, 100, 2))])
def test_every_part_goes_once_in_runs_of_neighbours(gaps: tuple[int, ...], threads: int, alone: bool) -> None:
    starts = [number * 10 for number in range(100) if number not in gaps]
    found = taken(Runs(starts, 10, threads, 160, alone=alone))
    assert [start for run in found for start in run] == starts
    assert all(later - start == 10 for run in found for start, later in pairwise(run))
    assert max(map(len, found)) <= 16
    if alone:
        assert len(found[0]) == 1


def test_runs_are_long_at_first_and_short_at_the_end() -> None:
    lengths = [len(run) for run in taken(Runs(range(0, 1000, 10), 10, 4, 80))]
    assert lengths[0] == 8
    assert lengths[-8:] == [1] * 8
    assert lengths == sorted(lengths, reverse=True)
    assert taken(Runs(range(0, 50, 10), 10, 1, 0)) == [[0], [10], [20], [30], [40]]
    assert taken(Runs((), 10, 4, 80)) == []


def test_threads_share_the_parts() -> None:
    runs, found, together = Runs(range(5000), 1, 4, 7), list[int](), threading.Barrier(4)

    def take() -> None:
        together.wait(60)
        for run in taken(runs):
            found.extend(run)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found) == list(range(5000))


class Source:
    """Counts what is opened of some bytes, and what is still open."""

    stat = Stat("")

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.open = 0
        self.fails_at = -1

    def opened(self, start: int, end: int) -> Any:
        self.asked.append((start, end))
        self.open += 1
        return Reader(self, start, end)


class Reader:
    stat = Stat("")

    def __init__(self, source: Source, start: int, end: int) -> None:
        self._source, self._at, self._end = source, start, end

    def read(self, size: int = -1) -> bytes:
        if self._at == self._source.fails_at:
            self._source.fails_at = -1
            raise StorageUnavailableError("it broke")
        data = DATA[self._at : min(self._at + size, self._end)]
        self._at += len(data)
        return data

    def close(self) -> None:
        self._source.open -= 1


def test_one_reader_goes_through_a_run() -> None:
    source = Source()
    run = Run(3000, source.opened)
    assert b"".join(run.read(at, 1000) for at in (0, 1000)) == DATA[:2000]
    assert (source.asked, source.open) == ([(0, 3000)], 1)
    assert run.read(2000, 5000) == DATA[2000:3000]
    assert source.open == 0  # its connection may be wanted by who stores this
    assert run.read(1000, 500) == DATA[1000:1500]  # the part is wanted again
    run.close()
    run.close()
    assert (source.asked, source.open) == ([(0, 3000), (1000, 3000)], 0)


def test_a_reader_that_broke_is_not_used_again() -> None:
    source = Source()
    source.fails_at = 1000
    run = Run(3000, source.opened)
    run.read(0, 1000)
    with pytest.raises(StorageUnavailableError):
        run.read(1000, 1000)
    assert source.open == 0
    assert run.read(1000, 1000) == DATA[1000:2000]
    assert source.asked == [(0, 3000), (1000, 3000)]


# --- what a server sees of it ---


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as running:
        yield running


@pytest.fixture
def s3(seaweedfs: S3Endpoint, proxy: FaultProxy) -> Iterator[Mount]:
    """A bucket behind the proxy, with a file of 41 parts."""
    backend = S3Backend(S3Backend.Options(**seaweedfs.through(proxy.endpoint).options(seaweedfs.make_bucket())))
    backend.put("f", DATA)
    proxy.forget()
    yield Mount("s3", backend)
    backend.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LARGE", 100_000)
    monkeypatch.setattr("genro_storage.transfer.stream.SMALL", 50_000)
    monkeypatch.setattr(parallel, "RetryPolicy", lambda retries, sleep: RetryPolicy(retries, 0.0, sleep))


def spans(proxy: FaultProxy) -> list[tuple[int, int]]:
    """The ranges that were asked for, in order of their place."""
    asked = [one.headers["range"].removeprefix("bytes=").split("-") for one in proxy.log if one.status == 206]
    return sorted((int(first), int(last) + 1) for first, last in asked)


@pytest.mark.parametrize("resume", [False, True])
def test_few_requests_bring_many_parts(s3: Mount, proxy: FaultProxy, local: Mount, tmp_path: Any, resume: bool) -> None:
    how: Any = {"resume": True, "journal": str(tmp_path / "journal.sqlite")} if resume else {}
    transfer.copy(at(s3, "f"), at(local, "f"), part_size=PART, parts=2, **how)
    found = spans(proxy)
    assert local.get("f")[0] == DATA
    assert len(found) < 25  # of 41 parts
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == len(DATA)


def test_what_breaks_in_a_run_is_asked_for_from_the_part_that_broke(s3: Mount, proxy: FaultProxy, local: Mount) -> None:
    """Parts of the run that are there already do not go again."""
    s3.put("d/f", DATA)
    proxy.forget()
    proxy.truncate(5 * PART // 2, method="GET", contains="/d/f")
    report = transfer.copy(at(s3, "d"), at(local, "e"), part_size=PART, parts=1)
    assert local.get("e/f")[0] == DATA
    found = spans(proxy)
    assert found[:2] == [(0, 20 * PART), (2 * PART, 20 * PART)]
    assert report.retries == 1
