"""Fixtures of the tests over S3: backends over SeaweedFS, straight or through a proxy, each in its own place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from genro_storage.backends._s3 import writer
from genro_storage.backends.s3 import S3Backend
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

_roots = itertools.count(1)
Open = Callable[..., S3Backend]


@pytest.fixture(scope="module")
def bucket(seaweedfs: S3Endpoint) -> str:
    return seaweedfs.make_bucket()


@pytest.fixture
def opened(seaweedfs: S3Endpoint, bucket: str) -> Iterator[Open]:
    """Makes backends over SeaweedFS (or `server=`), each below a root of its own unless told; closes them."""
    made = []

    def make(server: S3Endpoint = seaweedfs, **keys: Any) -> S3Backend:
        keys = {"path": f"t/{next(_roots)}"} | keys
        options = server.options(keys.pop("bucket", bucket)) | keys
        made.append(S3Backend(S3Backend.Options(**options)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(opened: Open) -> S3Backend:
    return opened()


@pytest.fixture
def proxy(seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy]) -> FaultProxy:
    return s3_proxy(seaweedfs)


@pytest.fixture
def proxied(opened: Open, seaweedfs: S3Endpoint, proxy: FaultProxy) -> Open:
    """As `opened`, through the proxy."""
    return lambda **keys: opened(seaweedfs.through(proxy.endpoint), **keys)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as S3 allows."""
    monkeypatch.setattr(writer, "PART", 5 << 20)
