"""Listings of S3 without its client: signed and read as botocore would, and by the client where that is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from genro_storage.backends._s3 import plain
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageNotFoundError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

Open = Callable[..., S3Backend]
KEYS = ["a b", "a%2Fb", "a+b", "é/ü", "d/", "d/f", "m&<n", "q=?#"]


def entries(pages: Any) -> list[Stat]:
    return [entry for page in pages for entry in page]


def by_client(proxy: FaultProxy) -> set[bool]:
    """Whether the requests since `forget` came from the client."""
    return {"Botocore" in seen.headers.get("user-agent", "") for seen in proxy.log}


@pytest.mark.parametrize("token", [None, "tok/en+=="])
@pytest.mark.parametrize("headers", [{}, {"x-amz-request-payer": "requester"}, {"x-amz-meta-k": "two  spaces,\t one "}])
def test_signatures_are_those_of_botocore(
    monkeypatch: pytest.MonkeyPatch, token: str | None, headers: dict[str, str]
) -> None:
    now = plain.clock()
    monkeypatch.setattr(plain, "clock", lambda: now)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    query = {"list-type": "2", "prefix": "a b/é~*+&=", "max-keys": "1000", "delimiter": "/"}
    who = {"access_key_id": "KEY", "secret_access_key": "s3cr/et+", "token": token}
    url = f"http://127.0.0.1:8333/tub?{plain.encoded(query)}"
    request = AWSRequest("GET", url, headers=dict(headers))
    botocore.auth.S3SigV4Auth(Credentials("KEY", "s3cr/et+", token), "s3", "eu-south-7").add_auth(request)
    ours = plain.signature(plain.Request("GET", "127.0.0.1:8333", "/tub", query, headers), who, "eu-south-7")
    assert ours["Authorization"] == request.headers["Authorization"]


@pytest.mark.parametrize("name", ["seaweedfs", "ministack", "moto", "rclone_s3"])
def test_pages_are_those_of_the_client(request: pytest.FixtureRequest, opened: Open, name: str) -> None:
    server: S3Endpoint = request.getfixturevalue(name)
    quick = opened(server, bucket=server.make_bucket(), path="")
    for key in KEYS:
        server.request("PUT", quick.options.bucket, key)
    exact = opened(server, bucket=quick.options.bucket, path="", client_options={"user_agent_extra": "client"})
    for facts in (
        lambda backend: entries(backend.walk("")),
        lambda backend: entries(backend.scan("")),
        lambda backend: entries(backend.walk("", after="a+b")),
        lambda backend: [len(page) for page in backend.walk("", limit=3)],
    ):
        assert facts(quick) == facts(exact)
    assert len(entries(quick.walk(""))) >= 6


@pytest.mark.parametrize("name", ["seaweedfs", "ministack"])
def test_facts_are_those_of_the_client(request: pytest.FixtureRequest, opened: Open, name: str) -> None:
    server: S3Endpoint = request.getfixturevalue(name)
    bucket = server.make_bucket(versioning=True)
    quick = opened(server, bucket=bucket, path="")
    exact = opened(server, bucket=bucket, path="", client_options={"user_agent_extra": "client"})
    options = WriteOptions(content_type="text/x", metadata={"a": "né", "b": "2"}, mtime=12.5)
    for key in ("a b", "marked/", "é/ü", "q=?#&%2F+~", "m'(n)*!", "d/.hidden..f"):
        first = exact.put(key, b"123", options)
        exact.put(key, b"4567")
        assert quick.stat(key) == exact.stat(key)
        assert quick.stat(key, version=first.version_id) == exact.stat(key, version=first.version_id)
    assert quick._connection._client is None
    with pytest.raises(StorageNotFoundError):
        quick.stat("absent")
    with pytest.raises(StorageVersionNotFoundError):
        quick.stat("a b", version="0123")


@pytest.mark.parametrize(
    ("key", "same"),
    [("a", True), ("a/.b", True), ("a..", True), ("a//b", False), ("/a", False), ("./a", False), ("a/..", False),
     ("a/./b", False), ("..", False), ("a\nb", False), ("a/", True), ("é ?#", True)],
)  # fmt: skip
def test_keys_that_stay_as_they_are(key: str, same: bool) -> None:
    assert (plain.UNCHANGED.fullmatch(key) is not None) is same


def test_no_client_is_made_for_a_listing(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("f", b"1")
    assert [entry.path for entry in entries(backend.walk(""))] == ["f"]
    assert backend._connection._client is None
    assert by_client(proxy) == {False}


def test_small_work_imports_no_client(seaweedfs: S3Endpoint) -> None:
    """It would take longer to import than a thousand files to copy."""
    options = seaweedfs.options(seaweedfs.make_bucket())
    code = f"""if True:
        import sys
        from genro_storage.backends.s3 import S3Backend
        backend = S3Backend(S3Backend.Options(**{options!r}))
        backend.put("f", b"1")
        assert backend.get("f")[0] == b"1"
        assert [entry.path for page in backend.walk("") for entry in page] == ["f"]
        assert backend.stat("f").size == 1
        backend.close()
        print(sorted({{"aiobotocore", "aiohttp", "asyncio", "fsspec.asyn"}} & sys.modules.keys()))
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "keys", [{"client_options": {"user_agent_extra": "mine"}}, {"bucket": "arn:aws:s3:us-east-1:1:accesspoint/x"}]
)
def test_what_is_not_plain_goes_by_the_client(proxied: Open, keys: dict[str, Any]) -> None:
    assert not plain.suits(proxied(**keys).options)


def test_a_proxy_of_the_environment_goes_by_the_client(proxied: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not plain.suits(proxied().options)


def test_a_redirect_goes_by_the_client(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("f", b"1")
    proxy.forget()
    proxy.answer(301, "PermanentRedirect")
    assert [entry.path for entry in entries(backend.walk(""))] == ["f"]
    assert by_client(proxy) == {False, True}


@pytest.mark.parametrize("body", [b"", b"<html/>", b"<ListBucketResult><Contents/></ListBucketResult>", b"\xff"])
def test_what_is_no_listing_is_left_to_the_client(body: bytes) -> None:
    assert plain.parsed(body) is None


@pytest.mark.parametrize("fault", ["refuse", "reset", "truncate", "blackhole", "lose_answer"])
def test_a_listing_never_ends_early_in_silence(proxied: Open, proxy: FaultProxy, fault: str) -> None:
    Mount("m", proxied(path=f"one/{fault}")).put("f", b"1")
    mount = Mount("m", proxied(path=f"one/{fault}", timeout=0.5, connect_timeout=0.5), retry=NO_RETRY)
    getattr(proxy, fault)(times=None)
    with pytest.raises(StorageUnavailableError):
        entries(mount.walk(""))


def test_anonymous_listings_are_not_signed(proxied: Open, proxy: FaultProxy) -> None:
    with pytest.raises(StorageError):
        entries(proxied(anon=True).walk(""))
    assert [seen for seen in proxy.log if "authorization" in seen.headers] == []


@pytest.mark.parametrize("name", ["seaweedfs", "ministack", "moto"])
def test_copies_are_those_of_the_client(request: pytest.FixtureRequest, opened: Open, name: str) -> None:
    server: S3Endpoint = request.getfixturevalue(name)
    bucket = server.make_bucket()
    quick = opened(server, bucket=bucket, path="")
    exact = opened(server, bucket=bucket, path="", client_options={"user_agent_extra": "client"})
    for number, key in enumerate(("a b", "a%2Fb", "a+b", "é/ü", "m&n", "q=?#")):
        kept = WriteOptions(metadata={"who": "ü"}, mtime=1.5, content_type="text/x-mine")
        etag = quick.put(key, key.encode(), kept).etag
        for how in (WriteOptions(source_match=etag), WriteOptions(metadata={"other": "1"}, mtime=2.5)):
            one = quick.copy_from(quick, key, f"q{number}", how)
            other = exact.copy_from(exact, key, f"e{number}", how)
            assert (one.etag, one.hashes, one.size) == (other.etag, other.hashes, other.size)
            here, there = exact.stat(f"q{number}"), exact.stat(f"e{number}")
            assert (here.metadata, here.mtime, here.content_type) == (there.metadata, there.mtime, there.content_type)
        assert quick.get(f"q{number}")[0] == key.encode()
    with pytest.raises(StorageNotFoundError):
        Mount("m", quick, retry=NO_RETRY).copy_from(Mount("m", quick), "absent", "x")


def test_a_copy_makes_no_client_and_is_of_the_very_source(seaweedfs: S3Endpoint, opened: Open) -> None:
    backend = opened(seaweedfs, bucket=seaweedfs.make_bucket(), path="")
    etag = backend.put("f", b"old").etag
    backend.copy_from(backend, "f", "g", WriteOptions(source_match=etag))
    assert backend._connection._client is None
    backend.put("f", b"new")
    mount = Mount("m", backend, retry=NO_RETRY)
    with pytest.raises(StorageConflictError):
        mount.copy_from(mount, "f", "g", WriteOptions(source_match=etag))
    assert backend.get("g")[0] == b"old"
