"""Copies inside Google and Azure: between buckets, mounts and roots, no byte of an object passes through here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.exceptions import StorageConflictError, StorageExistsError
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.transfer.places import At
from genro_storage.types import WriteOptions
from tests.servers.azure import AzureEndpoint
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer
from tests.servers.s3 import S3Endpoint

SIZE = 50_000


@pytest.fixture(params=["gcs", "azure"])
def cloud(request: pytest.FixtureRequest) -> Iterator[tuple[StorageManager, FaultProxy]]:
    """Mounts `one` and `below` (a root in the same place), and `other` in another bucket or container."""
    if request.param == "gcs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        endpoint, places = gcs.endpoint, [gcs.options(gcs.make_bucket()) for _ in range(2)]
    elif request.param == "s3":
        seaweedfs: S3Endpoint = request.getfixturevalue("seaweedfs")
        endpoint = seaweedfs.endpoint
        places = [seaweedfs.options(seaweedfs.make_bucket()) for _ in range(2)]
    else:
        azurite: AzureEndpoint = request.getfixturevalue("azurite")
        endpoint = azurite.endpoint.rpartition("/")[0]
        places = [azurite.options(azurite.make_container()) for _ in range(2)]
    with FaultProxy(endpoint) as proxy:
        entries: list[Mapping[str, Any]] = [
            {"name": name, "type": request.param, **place, "path": path}
            | {"endpoint": place["endpoint"].replace(endpoint, proxy.endpoint)}
            for name, place, path in (("one", places[0], ""), ("below", places[0], "r/s"), ("other", places[1], "r"))
        ]
        with StorageManager(entries) as storage:
            yield storage, proxy


def bytes_sent(proxy: FaultProxy) -> int:
    return sum(int(seen.headers.get("content-length", 0)) for seen in proxy.log)


@pytest.mark.parametrize(("source", "target"), [("one", "other"), ("other", "one"), ("one", "below"), ("below", "one")])
def test_the_server_copies(cloud: tuple[StorageManager, FaultProxy], source: str, target: str) -> None:
    storage, proxy = cloud
    for name in ("d/a", "d/b c/é"):
        storage.node(f"{source}:{name}").write_bytes(
            name.encode() * (SIZE // len(name.encode())), metadata={"k": name[0]}
        )
    proxy.forget()
    report = storage.copy(f"{source}:d", f"{target}:to/here")
    assert (report.files_copied, report.bytes_server_side) == (2, report.bytes_copied)
    assert bytes_sent(proxy) < SIZE
    for name in ("a", "b c/é"):
        copied = storage.node(f"{target}:to/here/{name}")
        assert copied.read_bytes() == storage.node(f"{source}:d/{name}").read_bytes()
        assert copied.get_metadata() == {"k": "d"}


def test_listings_go_on_after_a_key(cloud: tuple[StorageManager, FaultProxy]) -> None:
    """In pages, from any place: a file, a directory, a key that is not there."""
    storage, _ = cloud
    names = ["a", "a-", "a/x", "a/y", "b", "c/d/e", "d"]
    for name in names:
        storage.node(f"one:{name}").write_bytes(b"1")
    backend = storage.get_backend("one")
    for after in ("", "a", "a/", "a/x", "bb", "c/", "zz"):
        walked = [entry.path for page in backend.walk("", after=after) for entry in page if not entry.is_dir]
        assert walked == [name for name in sorted(names) if name > after]
        scanned = [entry.path + "/" * entry.is_dir for page in backend.scan("", after=after) for entry in page]
        assert scanned == [name for name in ("a", "a-", "a/", "b", "c/", "d") if name > after]
        assert sum(len(page) for page in backend.walk("", after=after, limit=2)) == min(2, len(walked))


# --- an answer that was lost ---

CONDITIONS = ["if_absent", "if_match"]
everywhere = pytest.mark.parametrize("cloud", ["gcs", "azure", "s3"], indirect=True)


def conditional(mount: Mount, condition: str) -> WriteOptions:
    """What lets the file `g` be made, or replaced."""
    if condition == "if_absent":
        return WriteOptions(if_absent=True)
    return WriteOptions(if_match=mount.put("g", b"old").etag)


def in_parts(mount: Mount, path: str, data: bytes) -> None:
    """A file of which some storages tell no hash."""
    with_parts = mount.parts(path, WriteOptions(size=len(data)), part_size=8 << 20)
    with_parts.put(0, data)
    with_parts.commit()


def copies(mount: Mount) -> Any:
    """Which requests copy inside this storage."""
    return {"method": "POST", "contains": "rewriteTo"} if mount.backend.storage_id[:3] == "gcs" else {"method": "PUT"}


@everywhere
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("parts", [False, True])
def test_a_lost_answer_to_a_conditional_copy(
    cloud: tuple[StorageManager, FaultProxy], condition: str, parts: bool
) -> None:
    """Retried, it is refused for what it made itself: that is no refusal."""
    storage, proxy = cloud
    mount = storage.node("one:").mount
    mount.guard.policy = RetryPolicy(2, 0)
    if parts:
        in_parts(mount, "f", b"content")
    else:
        mount.put("f", b"content")
    options = conditional(mount, condition)
    proxy.lose_answer(**copies(mount))
    assert mount.copy_from(mount, "f", "g", options).size == 7
    assert mount.get("g")[0] == b"content"


@everywhere
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_refused_copy_is_one(cloud: tuple[StorageManager, FaultProxy], condition: str) -> None:
    """What somebody else wrote meanwhile is not ours, of the same size as it may be."""
    storage, proxy = cloud
    mount = storage.node("one:").mount
    mount.put("f", b"content")
    options = conditional(mount, condition)
    mount.guard.policy = RetryPolicy(2, 0, lambda seconds: mount.without_retries().put("g", b"theirs!"))
    proxy.refuse(**copies(mount))
    with pytest.raises((StorageExistsError, StorageConflictError)):
        mount.copy_from(mount, "f", "g", options)
    assert mount.get("g")[0] == b"theirs!"


@everywhere
def test_a_transfer_knows_its_own_copy(cloud: tuple[StorageManager, FaultProxy]) -> None:
    storage, proxy = cloud
    mount = storage.node("one:").mount
    mount.put("f", b"content")
    proxy.lose_answer(**copies(mount))
    report = transfer.copy(At(mount, "f"), At(mount, "g"), overwrite=False)
    assert (report.files_copied, report.retries) == (1, 1)
    assert mount.get("g")[0] == b"content"


# --- a source that changes ---


@everywhere
def test_a_transfer_copies_what_it_saw(cloud: tuple[StorageManager, FaultProxy], monkeypatch: Any) -> None:
    """Replaced between the look and the copy, the source is refused by the server: nothing comes to the target."""
    storage, _ = cloud
    mount = storage.node("one:").mount
    mount.put("f", b"first")
    copy_from, seen = mount.backend.copied, []

    def changed(*args: Any) -> Any:
        if not seen:
            mount.put("f", b"second, longer")
        try:
            return copy_from(*args)
        finally:
            seen.append(mount.exists("g"))

    monkeypatch.setattr(type(mount.backend), "copied", lambda self, *args: changed(*args))
    report = transfer.copy(At(mount, "f"), At(mount, "g"))
    assert seen == [False, True]
    assert (report.retries, report.bytes_server_side) == (1, 14)
    assert mount.get("g")[0] == b"second, longer"
