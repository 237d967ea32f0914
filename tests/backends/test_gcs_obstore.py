"""obstore beside the exact path to Google: what is read by it, and that both ways tell the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage.backends._gcs.client import GcsOptions
from genro_storage.backends.gcs import GcsBackend
from genro_storage.exceptions import StorageError, StorageNotFoundError, StorageTimeoutError, StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer

from .processes import forks, in_children

Open = Callable[..., GcsBackend]


@pytest.fixture
def proxy(gcs: GcsServer) -> Iterator[FaultProxy]:
    with FaultProxy(gcs.endpoint) as running:
        yield running


@pytest.fixture
def opened(gcs: GcsServer, proxy: FaultProxy) -> Iterator[Open]:
    """Makes backends over one bucket, through the proxy; closes them."""
    bucket, made = gcs.make_bucket(), []

    def make(**keys: Any) -> GcsBackend:
        made.append(GcsBackend(GcsOptions(**gcs.options(bucket) | {"endpoint": proxy.endpoint} | keys)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def ways(proxy: FaultProxy) -> list[str]:
    """Who sent the reads since `forget`."""
    reads = [seen for seen in proxy.log if seen.method == "GET"]
    return ["fast" if seen.headers.get("user-agent", "").startswith("object_store") else "exact" for seen in reads]


def same(one: tuple[bytes, Stat], other: tuple[bytes, Stat]) -> bool:
    """Bytes and facts but for the storage class, which obstore does not tell."""
    return one == (other[0], replace(other[1], storage_class=None))


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_whole_reads_are_the_same(opened: Open, proxy: FaultProxy, size: int) -> None:
    quick, exact = opened(), opened(engine="exact")
    options = WriteOptions(content_type="text/x-one", metadata={"Owner": "né", "content-length": "7"}, mtime=12.5)
    for key in ("a b/é", "plain", "q?#%+~"):
        exact.put(key, bytes(size), options)
        assert same(quick.get(key), exact.get(key))
    exact.put("bare", b"1")
    assert same(quick.get("bare"), exact.get("bare"))
    assert ways(proxy) == ["fast", "exact"] * 4


@pytest.mark.parametrize(
    "read",
    [
        lambda backend: backend.get("f", 0, 2),
        lambda backend: backend.get("f", -2),
        lambda backend: backend.get("f", version=backend.stat("f").version_id),
        lambda backend: backend.get("f", if_match=backend.stat("f").etag),
        lambda backend: backend.reader("f").read(),
    ],
)
def test_other_reads_go_the_exact_way(opened: Open, proxy: FaultProxy, read: Callable[[GcsBackend], object]) -> None:
    backend = opened()
    backend.put("f", b"12345")
    proxy.forget()
    read(backend)
    assert set(ways(proxy)) == {"exact"}


@pytest.mark.parametrize("key", ["a//b", "a/./b", "a/../b"])
def test_keys_that_are_not_clean_go_the_exact_way(opened: Open, proxy: FaultProxy, key: str) -> None:
    backend = opened()
    backend.put(key, b"1")
    assert backend.get(key)[0] == b"1"
    assert ways(proxy) == ["exact"]


def test_bytes_that_no_etag_proves_are_read_the_exact_way(opened: Open, proxy: FaultProxy, gcs: GcsServer) -> None:
    """The ETag of a composed object is no MD5; one such object is enough."""
    backend = opened()
    backend.put("f", b"12345")
    backend._fast._store.get = lambda key: _obstore_fetched(b"12345")  # type: ignore[method-assign]
    assert backend.get("f")[1].hashes.keys() == {"md5", "crc32c"}
    assert ways(proxy) == ["exact"]
    assert backend.get("f")[0] == b"12345"
    assert ways(proxy) == ["exact"] * 2


def _obstore_fetched(data: bytes) -> Any:
    return data, {"e_tag": '"CMjs7uGm6IADEAE="', "version": "1", "size": len(data), "last_modified": None}, {}


def test_refusals_have_their_class(opened: Open, proxy: FaultProxy) -> None:
    mount = Mount("m", opened(timeout=1.5), retry=NO_RETRY)
    mount.put("f", b"1")
    with pytest.raises(StorageNotFoundError, match="No such file"):
        mount.get("absent")
    missing = Mount("m", opened(bucket="genro-absent"), retry=NO_RETRY)
    with pytest.raises(StorageNotFoundError, match="bucket 'genro-absent' does not exist"):
        missing.get("f")
    proxy.forget()
    proxy.blackhole(method="GET")
    with pytest.raises(StorageTimeoutError):
        mount.get("f")
    proxy.clear()
    proxy.answer(503, method="GET")
    with pytest.raises(StorageUnavailableError):
        mount.get("f")
    assert mount.get("f")[0] == b"1"
    assert ways(proxy) == ["fast", "fast", "exact"], "a busy server is heard by the exact way"


def test_a_token_is_fetched_once_for_both(opened: Open, proxy: FaultProxy) -> None:
    backend = opened()
    backend.put("f", b"1")
    tokens = {seen.headers.get("authorization") for seen in proxy.log if seen.method == "PUT"}
    backend.get("f")
    assert {seen.headers.get("authorization") for seen in proxy.log if seen.method == "GET"} == tokens


@forks
@pytest.mark.timeout(200)
def test_a_child_goes_the_exact_way(opened: Open, proxy: FaultProxy) -> None:
    backend = opened()
    backend.put("f", b"1")
    backend.get("f")
    proxy.forget()

    def child(number: int) -> None:
        assert backend.get("f")[0] == b"1"
        backend.close()

    assert in_children(2, child) == [0, 0]
    assert ways(proxy) == ["exact"] * 2


def test_exact_is_exact(opened: Open, proxy: FaultProxy) -> None:
    backend = opened(engine="exact")
    backend.put("f", b"1")
    backend.get("f")
    with pytest.raises(StorageError):
        backend.get("absent")
    assert set(ways(proxy)) == {"exact"}
