"""What S3 keeps beside the newest bytes: versions in the server's order, metadata, tags; and signed requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request, urlopen

import pytest

from genro_storage.backends._s3 import copying, versions
from genro_storage.backends._s3.tags import tag_header
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.types import SignedRequest, SignOptions, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

MIB = 1 << 20
Open = Callable[..., S3Backend]
OWN = WriteOptions(
    metadata={"old": "x"}, content_type="text/x-own", tags={"t": "u", "gr\u00fc\u00dfe": "1+1=2 @:/"}, mtime=5.5
)


@pytest.fixture(scope="module")
def versioned_bucket(seaweedfs: S3Endpoint) -> str:
    return seaweedfs.make_bucket(versioning=True)


@pytest.fixture
def versioned(opened: Open, versioned_bucket: str) -> S3Backend:
    return opened(bucket=versioned_bucket)


@pytest.fixture
def versioned_proxied(proxied: Open, versioned_bucket: str) -> S3Backend:
    return proxied(bucket=versioned_bucket)


def history(backend: S3Backend, path: str = "f") -> list[bytes | None]:
    """The bytes of every version, newest first; None for a deletion."""
    return [
        None if one.is_delete_marker else backend.get(path, version=one.version_id)[0] for one in backend.versions(path)
    ]


# --- versions ---


def test_deletions_stand_where_they_happened(versioned: S3Backend) -> None:
    """R07: all within a second or two, so that no time tells the order."""
    for data in (b"1", None, b"2", b"3", None, None, b"4"):
        if data is None:
            versioned.delete("f")
        else:
            versioned.put("f", data)
    assert history(versioned) == [b"4", None, None, b"3", b"2", None, b"1"]


@pytest.mark.parametrize(("server", "page"), [("seaweedfs", 1000), ("ministack", 3)])
def test_pages_of_versions(
    request: pytest.FixtureRequest, opened: Open, monkeypatch: pytest.MonkeyPatch, s3_proxy: Any, server: str, page: int
) -> None:
    """R08: the next page begins where the last ended, and nothing is asked of longer names behind it.

    SeaweedFS lists versions beyond the first page by another order than its own, and so not all of them.
    """
    endpoint: S3Endpoint = request.getfixturevalue(server)
    proxy = s3_proxy(endpoint)
    backend = opened(endpoint.through(proxy.endpoint), bucket=endpoint.make_bucket(versioning=True))
    real = versions.common
    monkeypatch.setattr(versions, "common", lambda own: real(own) | {"MaxKeys": page})
    for number in range(5):
        backend.put("a b+\u00e9%20", b"%d" % number)
        backend.put("a b+\u00e9%20/longer", b"x")
    backend.delete("a b+\u00e9%20")
    for number in range(9):
        backend.put(f"a b+\u00e9%20-{number}", b"y")
    proxy.forget()
    found = list(backend.versions("a b+\u00e9%20"))
    assert [one.is_delete_marker for one in found] == [True] + [False] * 5
    assert [one.is_latest for one in found] == [True] + [False] * 5
    assert proxy.count() <= 3
    assert history(backend, "a b+\u00e9%20")[1:] == [b"4", b"3", b"2", b"1", b"0"]


def test_a_failing_listing_of_versions_raises(
    versioned_proxied: S3Backend, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R09: denied, unreachable or cut on the second page it is an error, never `[]`."""
    real = versions.common
    monkeypatch.setattr(versions, "common", lambda own: real(own) | {"MaxKeys": 2})
    mount = Mount("m", versioned_proxied, retry=NO_RETRY)
    for number in range(4):
        mount.put("f", b"%d" % number)
    proxy.answer(403, "AccessDenied", contains="versions")
    with pytest.raises(StoragePermissionError):
        list(mount.versions("f"))
    for cut in (50, 0):
        proxy.truncate(cut, contains="key-marker")
        with pytest.raises(StorageUnavailableError):
            list(mount.versions("f"))
    assert len(list(mount.versions("f"))) == 4


def test_without_versions(opened: Open) -> None:
    """A bucket that keeps none has one of each file; a mount that wants none has no such ability."""
    backend = opened()
    backend.put("f", b"1")
    assert [one.is_latest for one in backend.versions("f")] == [True]
    blind = opened(version_aware=False)
    assert not blind.abilities & {"versions"}
    with pytest.raises(UnsupportedOperation, match="version_aware"):
        list(blind.versions("f"))


# --- metadata and tags ---


def test_set_metadata_keeps_all_else(versioned_proxied: S3Backend, proxy: FaultProxy, seaweedfs: S3Endpoint) -> None:
    """R42: type, tags, time and the other headers; it is a new version made by the server, in two requests."""
    backend = versioned_proxied
    headers = {
        "content-type": "text/x-own",
        "cache-control": "max-age=5",
        "content-language": "it",
        "x-amz-tagging": "a=b",
    }
    seaweedfs.checked("PUT", backend.options.bucket, backend.key("f"), body=b"bytes", headers=headers)
    proxy.forget()
    backend.set_metadata("f", {"Key": "caf\u00e9"})
    assert [request.method for request in proxy.log] == ["HEAD", "PUT"]
    answer = seaweedfs.checked("HEAD", backend.options.bucket, backend.key("f"))
    assert [answer.headers[name] for name in headers if name != "x-amz-tagging"] == ["text/x-own", "max-age=5", "it"]
    assert (backend.stat("f").metadata, backend.get_tags("f")) == ({"key": "caf\u00e9"}, {"a": "b"})
    assert history(backend) == [b"bytes", b"bytes"]


def test_set_metadata_sends_what_the_mount_says_of_objects(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied(acl="private", storage_class="STANDARD_IA")
    backend.put("f", b"1", OWN)
    backend.set_metadata("f", {"new": "y"})
    sent = proxy.log[-1].headers
    assert (sent["x-amz-acl"], sent["x-amz-storage-class"]) == ("private", "STANDARD_IA")
    assert "x-amz-tagging" not in sent
    stat = backend.stat("f")
    assert (stat.metadata, stat.content_type, stat.mtime) == ({"new": "y"}, "text/x-own", 5.5)
    assert backend.get_tags("f") == OWN.tags


def test_set_metadata_loses_no_update(proxied: Open, proxy: FaultProxy) -> None:
    """Replaced between the look and the copy, the new bytes stay and it is a conflict."""
    backend = proxied()
    backend.put("f", b"old", OWN)
    proxy.answer(412, "PreconditionFailed", method="PUT")
    with pytest.raises(StorageConflictError):
        backend.set_metadata("f", {"new": "y"})
    assert "x-amz-copy-source-if-match" in proxy.log[-1].headers
    assert backend.stat("f").metadata == {"old": "x"}


def test_set_metadata_of_a_large_object(proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what one copy takes, in parts, with everything it had."""
    monkeypatch.setattr(copying, "ONE_REQUEST", 6 * MIB)
    monkeypatch.setattr(copying, "COPIED_PART", 5 * MIB)
    backend = proxied()
    data = bytes(range(256)) * (7 * MIB // 256)
    backend.put("f", data, OWN)
    backend.set_metadata("f", {"new": "y"})
    assert any(request.query == "uploads" for request in proxy.log)
    read, stat = backend.get("f")
    assert read == data
    assert (stat.metadata, stat.content_type, stat.mtime) == ({"new": "y"}, "text/x-own", 5.5)
    assert backend.get_tags("f") == OWN.tags


def test_too_much_metadata(opened: Open) -> None:
    backend = opened()
    backend.put("f", b"1", OWN)
    with pytest.raises(StorageQuotaError):
        backend.set_metadata("f", {"key": "x" * 2100})
    assert backend.stat("f").metadata == {"old": "x"}


def test_copies_keep_tags(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one request or in parts, unless the options have others."""
    backend = opened()
    backend.put("f", bytes(6 * MIB), OWN)
    backend.copy_from(backend, "f", "whole")
    backend.copy_from(backend, "f", "other", WriteOptions(tags={"own": "1"}))
    backend.copy_from(backend, "f", "none", WriteOptions(tags={}))
    monkeypatch.setattr(copying, "ONE_REQUEST", MIB)
    monkeypatch.setattr(copying, "COPIED_PART", 5 * MIB)
    backend.copy_from(backend, "f", "parts", WriteOptions(size=6 * MIB))
    found = [backend.get_tags(path) for path in ("f", "whole", "other", "none", "parts")]
    assert found == [OWN.tags, OWN.tags, {"own": "1"}, {}, OWN.tags]


def test_tags_on_the_wire(proxied: Open, proxy: FaultProxy, opened: Open, moto: S3Endpoint) -> None:
    assert tag_header({"a b": "c&d=e/\u00e9+~", "empty": ""}) == "a%20b=c%26d%3De%2F%C3%A9%2B~&empty="
    backend = proxied()
    backend.put("f", b"1", OWN)
    assert proxy.log[-1].headers["x-amz-tagging"] == tag_header(OWN.tags or {})
    other = opened(moto, bucket=moto.make_bucket())
    other.put("f", b"1", OWN)
    assert other.get_tags("f") == OWN.tags
    other.set_tags("f", {"x": "y"})
    assert other.get_tags("f") == {"x": "y"}


# --- signed requests ---


def answered(signed: SignedRequest, body: bytes | None = None) -> tuple[bytes, Any]:
    with urlopen(Request(signed.url, body, dict(signed.headers), method=signed.method), timeout=30) as answer:
        return answer.read(), answer.headers


def test_signing_sends_no_request(proxied: Open, proxy: FaultProxy) -> None:
    """Also while all connections are busy, and of what does not exist."""
    backend = proxied(max_connections=1)
    backend.put("f", bytes(3 * MIB))
    reader = backend.reader("f")
    proxy.forget()
    url = backend.sign("absent", "GET", 60, SignOptions()).url
    reader.close()
    assert proxy.count() == 0
    query = parse_qs(urlsplit(url).query)
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == (["AWS4-HMAC-SHA256"], ["60"])
    assert query["X-Amz-SignedHeaders"] == ["host"]


def test_a_signed_version_and_type(versioned: S3Backend) -> None:
    versioned.put("f", b"old")
    version = next(versioned.versions("f")).version_id
    versioned.put("f", b"new")
    data, headers = answered(versioned.sign("f", "GET", 60, SignOptions(version=version, content_type="text/x-shown")))
    assert (data, headers["content-type"]) == (b"old", "text/x-shown")
    assert answered(versioned.sign("f", "HEAD", 60, SignOptions()))[1]["content-length"] == "3"


def test_every_header_is_part_of_the_signature(opened: Open) -> None:
    backend = opened(acl="private", storage_class="STANDARD_IA", session_token=None)
    options = SignOptions(content_type="text/x-own", metadata={"Key": "caf\u00e9"}, content_length=3)
    signed = backend.sign("d/up", "PUT", 60, options)
    told = {name.lower() for name in signed.headers}
    assert told == {"content-type", "content-length", "x-amz-acl", "x-amz-storage-class", "x-amz-meta-key"}
    query = parse_qs(urlsplit(signed.url).query)
    assert set(query["X-Amz-SignedHeaders"][0].split(";")) == told | {"host"}
    for changed in ({"Content-Type": "text/html"}, {"x-amz-meta-key": "other"}):
        with pytest.raises(OSError, match="403"):
            answered(SignedRequest("PUT", signed.url, {**signed.headers, **changed}, 0), b"abc")
    with pytest.raises(StorageNotFoundError):
        backend.stat("d/up")
    answered(signed, b"abc")
    stat = backend.stat("d/up")
    assert (stat.size, stat.content_type, stat.metadata) == (3, "text/x-own", {"key": "caf\u00e9"})


def test_a_download_name_cannot_split_the_header(opened: Open) -> None:
    """R26."""
    backend = opened()
    backend.put("f", b"1")
    signed = backend.sign("f", "GET", 60, SignOptions(download_name='a"b\r\nSet-Cookie: x/\u65e5.txt'))
    _, headers = answered(signed)
    told = headers["Content-Disposition"]
    assert headers["Set-Cookie"] is None
    assert unquote(told.partition("filename*=UTF-8''")[2]) == 'a"b__Set-Cookie: x_\u65e5.txt'


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_limits_of_signing(opened: Open, seconds: float) -> None:
    with pytest.raises(ValueError, match="604800"):
        opened().sign("f", "GET", seconds, SignOptions())


def test_what_cannot_sign(opened: Open) -> None:
    assert "sign" not in opened(anon=True).abilities
    with pytest.raises(StoragePermissionError, match="'access_key'"):
        Mount("m", opened(access_key=None, secret_key=None)).use("sign", "f", "GET", 60, SignOptions())
    with pytest.raises(ValueError, match="'PUT'"):
        opened().sign("f", "DELETE", 60, SignOptions())


def test_signatures_end(opened: Open) -> None:
    backend = opened()
    backend.put("f", b"1")
    begun = time.time()
    signed = backend.sign("f", "GET", 604_800, SignOptions())
    assert begun + 604_800 <= signed.expires_at <= time.time() + 604_800
    stale = signed.url.replace("X-Amz-Expires=604800", "X-Amz-Expires=604799")
    with pytest.raises(OSError, match="403"):
        urlopen(stale, timeout=30)
