"""What only a real S3 server shows: its order, its requests, its times."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.backends.s3 import S3Backend
from genro_storage.mount import Mount
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .trees import at, files

S3Mount = Callable[..., Mount]


@pytest.fixture
def s3(seaweedfs: S3Endpoint) -> Iterator[S3Mount]:
    opened: list[Mount] = []

    def make(name: str = "s3", *, server: S3Endpoint = seaweedfs, bucket: str = "", **options: Any) -> Mount:
        entry = server.options(bucket or seaweedfs.make_bucket())
        opened.append(Mount(name, S3Backend(S3Backend.Options(**entry, **options))))
        return opened[-1]

    yield make
    for mount in opened:
        mount.backend.close()


@pytest.fixture
def proxy(seaweedfs: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


def requests(proxy: FaultProxy) -> Counter[str]:
    return Counter("LIST" if "list-type" in one.query else one.method for one in proxy.log)


def test_directory_order_repeats_nothing(s3: S3Mount, memory: Mount) -> None:
    """SeaweedFS lists `o/a/1` before `o/a-`."""
    mount = s3()
    wanted = {"a/1": b"1", "a-": b"2", "a.b": b"3", "b": b"4", "a/b/c": b"5", "a/b-": b"6"}
    for path, data in wanted.items():
        memory.put(f"o/{path}", data)
    for source, target in ((at(memory, "o"), at(mount, "p")), (at(mount, "p"), at(memory, "q"))):
        report = transfer.copy(source, target, overwrite=False)
        assert (report.files_copied, report.files_total) == (6, 6)
        assert files(target.mount, target.path) == wanted
    report = transfer.move(at(mount, "p"), at(memory, "r"))
    assert (report.files_copied, files(memory, "r")) == (6, wanted)
    assert not mount.is_dir("p")


def test_r32_requests_of_small_files(s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, local: Mount) -> None:
    mount = s3(server=seaweedfs.through(proxy.endpoint))
    for number in range(20):
        local.put(f"d/{number:02}", b"x" * 100)
    report = transfer.copy(at(local, "d"), at(mount, "d"))
    assert report.verified_checksum == 20
    seen = requests(proxy)
    assert (seen["PUT"], seen["GET"]) == (20, 0)
    assert seen["LIST"] <= 1
    assert seen["HEAD"] <= 1  # nothing is listed: that the target is no file
    proxy.forget()
    transfer.copy(at(mount, "d"), at(local, "e"))
    seen = requests(proxy)
    assert seen["LIST"] == 1
    assert seen["GET"] <= 21  # one tells that the source is no file
    assert seen["HEAD"] == 0
    assert files(local, "e") == files(local, "d")


def test_requests_of_a_single_file(s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, local: Mount) -> None:
    mount = s3(server=seaweedfs.through(proxy.endpoint))
    local.put("f", b"x")
    transfer.copy(at(local, "f"), at(mount, "f"))
    assert requests(proxy) == {"LIST": 1, "PUT": 1}
    proxy.forget()
    transfer.copy(at(mount, "f"), at(local, "g"))
    assert requests(proxy) == {"GET": 1}
    proxy.forget()
    transfer.move(at(mount, "f"), at(local, "h"))
    assert requests(proxy) in ({"GET": 1, "DELETE": 1}, {"GET": 1, "HEAD": 1, "DELETE": 1})


@pytest.mark.parametrize("tree", [True, False])
def test_t28_times_survive_a_copy_inside_s3(
    s3: S3Mount, seaweedfs: S3Endpoint, local: Mount, proxy: FaultProxy, tree: bool
) -> None:
    bucket = seaweedfs.make_bucket()
    here = s3("a", server=seaweedfs.through(proxy.endpoint), bucket=bucket)
    there = s3("b", server=seaweedfs.through(proxy.endpoint))
    local.put("d/f", b"own time")
    local.set_mtime("d/f", 1234567890.5)
    transfer.copy(at(local, "d"), at(here, "d"))
    seaweedfs.checked("PUT", bucket, "d/g", body=b"no time", headers={"content-type": "a/b", "x-amz-meta-k": "v"})
    uploaded = here.stat("d/g").mtime
    proxy.forget()
    if tree:
        report = transfer.copy(at(here, "d"), at(there, "e"))
        assert (report.bytes_server_side, report.verified_checksum) == (15, 2)
        assert requests(proxy)["HEAD"] <= 6
    else:
        for name in ("f", "g"):
            transfer.copy(at(here, f"d/{name}"), at(there, f"e/{name}"))
    assert not [one for one in proxy.log if one.method == "GET" and one.path.endswith(("/f", "/g"))]
    assert there.stat("e/f").mtime == 1234567890.5
    told = there.stat("e/g")
    assert (told.mtime, told.content_type, told.metadata) == (uploaded, "a/b", {"k": "v"})


def test_large_files_both_ways(s3: S3Mount, local: Mount, other: Mount, tmp_path: Path) -> None:
    mount = s3()
    data = os.urandom(20 << 20)
    local.put("d/f", data)
    local.put("d/g", data[: 9 << 20])
    up = transfer.copy(at(local, "d"), at(mount, "d"))
    down = transfer.copy(at(mount, "d"), at(other, "d"))
    assert (up.bytes_copied, down.bytes_copied) == (29 << 20, 29 << 20)
    assert files(other, "d") == {"f": data, "g": data[: 9 << 20]}
    inside = transfer.copy(at(mount, "d"), at(mount, "e"))
    assert (inside.bytes_server_side, inside.verified_size + inside.verified_checksum) == (29 << 20, 2)


def test_a_failing_upload_leaves_the_old_object_and_no_parts(
    s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, local: Mount
) -> None:
    bucket = seaweedfs.make_bucket()
    mount = s3(server=seaweedfs.through(proxy.endpoint), bucket=bucket)
    mount.put("f", b"old")
    local.put("f", os.urandom(20 << 20))
    proxy.answer(500, method="PUT", contains="partNumber=2", times=None)
    with pytest.raises(Exception, match="s3:f"):
        transfer.copy(at(local, "f"), at(mount, "f"), retries=1)
    proxy.clear()
    assert mount.get("f")[0] == b"old"
    assert b"<UploadId>" not in seaweedfs.checked("GET", bucket, query={"uploads": ""}).body


def test_requests_of_a_sync_where_nothing_changed(
    s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, local: Mount, other: Mount
) -> None:
    """§4: up from the listings alone; down one HEAD for each object that carries another time than it lists."""
    mount = s3(server=seaweedfs.through(proxy.endpoint))
    for number in range(20):
        local.put(f"d/{number:02}", b"x" * 100)
        local.set_mtime(f"d/{number:02}", 1e9 + number)
    for strategy in ("mtime", "newer", "hash"):
        transfer.sync(at(local, "d"), at(mount, "d"), skip=strategy)
        proxy.forget()
        report = transfer.sync(at(local, "d"), at(mount, "d"), skip=strategy)
        assert report.files_skipped == 20
        seen = requests(proxy)
        # A listing tells ETags but not whether they are hashes: that takes a look, and no byte.
        looks = 20 if strategy == "hash" else 0
        assert (seen["PUT"], seen["GET"], seen["HEAD"], seen["DELETE"]) == (0, 0, looks, 0), strategy
        assert seen["LIST"] <= 2
    transfer.sync(at(mount, "d"), at(other, "d"))
    proxy.forget()
    report = transfer.sync(at(mount, "d"), at(other, "d"))
    seen = requests(proxy)
    assert (report.files_skipped, seen["HEAD"]) == (20, 20)
    looks = [one.headers["user-agent"] for one in proxy.log if one.method == "HEAD"]
    assert all(agent.startswith("object_store") for agent in looks), "the cheap way"
    assert seen["GET"] <= 1  # one tells that the source is no file
    assert seen["LIST"] <= 2


def test_a_sync_deletes_in_one_request(s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, local: Mount) -> None:
    mount = s3(server=seaweedfs.through(proxy.endpoint))
    local.put("d/a", b"1")
    for number in range(15):
        mount.put(f"d/old/{number}", b"1")
    proxy.forget()
    report = transfer.sync(at(local, "d"), at(mount, "d"), delete=True)
    assert report.files_deleted == 15
    assert len([one for one in proxy.log if one.method in ("POST", "DELETE")]) == 1
    assert files(mount) == {"d/a": b"1"}


def test_t47_small_files_cost_one_request_on_each_side(
    s3: S3Mount, seaweedfs: S3Endpoint, proxy: FaultProxy, ministack: S3Endpoint
) -> None:
    """Also more than a batch of them, between two services: a GET here, a PUT there, and the listings."""
    source = s3("a", server=seaweedfs.through(proxy.endpoint))
    wanted = {f"{number:03}": b"x" * number for number in range(300)}
    for name, data in wanted.items():
        source.put(f"d/{name}", data)
    with FaultProxy(ministack.endpoint) as second:
        target = s3("b", server=ministack.through(second.endpoint), bucket=ministack.make_bucket())
        proxy.forget()
        report = transfer.copy(at(source, "d"), at(target, "e"))
        assert (report.files_copied, report.verified_checksum) == (300, 300)
        here, there = requests(proxy), requests(second)
        assert here["LIST"] <= 3
        assert here["GET"] + here["HEAD"] <= 301  # one tells that the source is no file
        assert here["GET"] >= 300
        assert there["PUT"] == 300
        assert there.total() - there["PUT"] <= 2  # what the target is
        second.forget()
        wanted = {name: data for name, data in wanted.items() if int(name) < 3}
        report = transfer.sync(at(source, "d"), at(target, "e"), include=list(wanted), delete=True, max_delete=0)
        assert report.files_deleted == 0
        for page in list(source.walk("d")):
            assert source.delete_many([stat.path for stat in page if stat.path[2:] not in wanted]) == []
        second.forget()
        assert transfer.sync(at(source, "d"), at(target, "e"), delete=True, max_delete=297).files_deleted == 297
        seen = requests(second)
        assert (seen["POST"], seen["DELETE"], seen["PUT"]) == (1, 0, 0)
        assert files(target, "e") == wanted


def test_t48_the_server_copies_with_all_that_belongs_to_a_file(
    seaweedfs: S3Endpoint, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Metadata, type and tags; through relative mounts and those with permissions; no byte passes here."""
    server, bucket = seaweedfs.through(proxy.endpoint), seaweedfs.make_bucket()
    entries: list[dict[str, Any]] = [
        {"name": "one", "type": "s3", **server.options(bucket)},
        {"name": "other", "type": "s3", **server.options(seaweedfs.make_bucket())},
        {"name": "shown", "path": "one:in", "permissions": "readonly"},
        {"name": "kept", "path": "other:deep/er", "permissions": "readwrite"},
    ]
    with StorageManager(entries) as storage:
        data = os.urandom(70_000)
        for name in ("f", "g h"):
            node = storage.node(f"one:in/d/{name}")
            node.write_bytes(data, content_type="text/x-own", metadata={"colour": "red"})
            node.mount.backend.set_tags(node.path, {"a": "b"})
        proxy.forget()
        for number, (source, target) in enumerate(
            [("one:in/d", "other:plain"), ("shown:d", "kept:t"), ("shown:d", "one:beside"), ("one:in/d", "kept:u")]
        ):
            report = storage.copy(source, target, preserve=("mtime", "content_type", "metadata", "tags"))
            assert (report.files_copied, report.bytes_server_side) == (2, 140_000), number
            for name in ("f", "g h"):
                copied = storage.node(f"{target}/{name}")
                assert copied.stat().content_type == "text/x-own"
                assert copied.get_metadata()["colour"] == "red"
                assert copied.mount.backend.get_tags(copied.path) == {"a": "b"}
        assert sum(int(one.headers.get("content-length", 0)) for one in proxy.log) < len(data)
        reads = [one for one in proxy.log if one.method == "GET" and one.path.endswith(("/f", "h"))]
        assert {one.query for one in reads} == {"tagging"}
        assert storage.node("other:deep/er/t/f").read_bytes() == data
        assert storage.copy("one:in/d/f", "other:through", server_side=False).bytes_server_side == 0
