"""Copies by the storage itself, where an etag is what proves them (T48)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import transfer
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import StorageCorruptedError
from genro_storage.mount import Mount
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .stores import ObjectStore
from .trees import at, files


class Uploads(ObjectStore):
    """Lists etags and times of upload as S3 does; an etag is the MD5 of the bytes, or is `opaque`."""

    def __init__(self, *, opaque: bool = False) -> None:
        super().__init__(copies=True, id="one", lists_mtime=False)
        self.opaque = opaque
        self.damages = False

    @staticmethod
    def _listed(stat: Stat) -> Stat:
        return replace(ObjectStore._listed(stat), hashes={}, mtime=stat.mtime and 99.0)

    def _store(self, key: str, data: bytes, options: WriteOptions) -> Stat:
        if self.damages:
            data = data[:-1] + b"!"
        stat = super()._store(key, data, options)
        if not self.opaque:
            stat = replace(stat, etag=hashlib.md5(data).hexdigest())
            self.keys[key] = (data, stat)
        return stat


def pair(**how: Any) -> tuple[Mount, Uploads, Mount, Uploads]:
    origin, store = Uploads(**how), Uploads(**how)
    for name in ("d/f", "d/g"):
        origin.set(name, b"bytes", content_type="x/y", metadata={"k": "v"})
    return Mount("s", origin), origin, Mount("t", store), store


def test_an_etag_that_is_the_hash_of_the_copy_proves_it() -> None:
    here, origin, there, store = pair()
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.bytes_server_side, report.verified_checksum, report.verified_size) == (10, 2, 0)
    assert origin.calls.count(("stat", "d/f")) == 1  # for the time that its source had
    assert [call for call in store.calls if call[1].startswith("e/")] == [("copy_from", "e/f"), ("copy_from", "e/g")]
    assert {(stat.content_type, stat.metadata["k"]) for _, stat in store.keys.values() if stat.metadata} == {
        ("x/y", "v")
    }


def test_by_size_it_is_the_size_that_counts() -> None:
    here, _, there, _ = pair()
    report = transfer.copy(at(here, "d"), at(there, "e"), verify="size")
    assert (report.verified_checksum, report.verified_size) == (0, 2)


def test_where_the_etag_is_no_hash_both_sides_tell_theirs() -> None:
    here, origin, there, _ = pair(opaque=True)
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.bytes_server_side, report.verified_checksum) == (10, 2)
    assert origin.calls.count(("stat", "d/f")) == 2


@pytest.mark.parametrize("opaque", [False, True])
def test_a_copy_of_other_bytes_is_found_and_taken_away(opaque: bool) -> None:
    here, _, there, store = pair(opaque=opaque)
    store.damages = True
    report = transfer.copy(at(here, "d"), at(there, "e"), errors="report", retries=0)
    assert [type(one.error) for one in report.failures] == [StorageCorruptedError] * 2
    assert store.keys == {}


@pytest.mark.parametrize("preserve", [("mtime",), ("metadata",), ()])
def test_what_shall_stay_behind_has_to_be_looked_at(preserve: tuple[str, ...]) -> None:
    here, origin, there, store = pair()
    transfer.copy(at(here, "d"), at(there, "e"), preserve=preserve)
    assert ("stat", "d/f") in origin.calls
    assert store.keys["e/f"][1].metadata == ({"k": "v"} if "metadata" in preserve else {})


# --- a real server ---


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def s3(seaweedfs: S3Endpoint, proxy: FaultProxy) -> Iterator[tuple[Mount, Mount]]:
    """Two buckets of one server, through the proxy."""
    server = seaweedfs.through(proxy.endpoint)
    one, other = (S3Backend(S3Backend.Options(**server.options(seaweedfs.make_bucket()))) for _ in range(2))
    yield Mount("one", one), Mount("other", other)
    one.close()
    other.close()


def test_t48_each_object_costs_a_look_and_a_copy(s3: tuple[Mount, Mount], proxy: FaultProxy) -> None:
    here, there = s3
    for number in range(30):
        how = WriteOptions(metadata={"n": str(number)}, content_type="text/x-own", mtime=1e9 + number)
        here.put(f"d/{number:02}", os.urandom(number), how)
    proxy.forget()
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.files_copied, report.verified_checksum) == (30, 30)
    puts = [one for one in proxy.log if one.method == "PUT"]
    assert len(puts) == 30
    assert all("x-amz-copy-source-if-match" in one.headers for one in puts)
    looks = [one.method for one in proxy.log if one.path.rpartition("/")[2].isdigit() and one.method != "PUT"]
    assert looks == ["HEAD"] * 30
    assert len(proxy.log) <= 60 + 5  # listings, and what the two places are
    assert files(there, "e") == files(here, "d")
    stat = there.stat("e/07")
    assert (stat.mtime, stat.content_type, stat.metadata) == (1e9 + 7, "text/x-own", {"n": "7"})


def test_t32_an_object_that_was_replaced_after_it_was_listed(
    s3: tuple[Mount, Mount], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = s3
    here.put("d/f", b"first")
    copied, seen = S3Backend.copied, list[bool]()

    def changed(self: S3Backend, *args: Any) -> Stat:
        if not seen:
            here.put("d/f", b"second, longer")
        try:
            return copied(self, *args)
        finally:
            seen.append(there.exists("e/f"))

    monkeypatch.setattr(S3Backend, "copied", changed)
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert seen == [False, True]
    assert (report.retries, report.bytes_server_side) == (1, 14)
    assert there.get("e/f")[0] == b"second, longer"


def test_objects_that_came_in_parts_are_copied_and_proven_by_their_size(s3: tuple[Mount, Mount]) -> None:
    here, there = s3
    data = os.urandom(9 << 20)
    with_parts = here.parts("d/f", WriteOptions(size=len(data)), part_size=8 << 20)
    with_parts.put(0, data[: 8 << 20])
    with_parts.put(8 << 20, data[8 << 20 :])
    etag = with_parts.commit().etag
    assert etag is not None
    assert etag.endswith("-2")
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.bytes_server_side, report.verified_size + report.verified_checksum) == (9 << 20, 1)
    assert there.get("e/f")[0] == data
