"""Copies inside Google and Azure: between buckets, mounts and roots, no byte of an object passes through here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from genro_storage import StorageManager
from tests.servers.azure import AzureEndpoint
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer

SIZE = 50_000


@pytest.fixture(params=["gcs", "azure"])
def cloud(request: pytest.FixtureRequest) -> Iterator[tuple[StorageManager, FaultProxy]]:
    """Mounts `one` and `below` (a root in the same place), and `other` in another bucket or container."""
    if request.param == "gcs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        endpoint, places = gcs.endpoint, [gcs.options(gcs.make_bucket()) for _ in range(2)]
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
