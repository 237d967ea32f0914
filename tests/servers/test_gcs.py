"""Our GCS server, driven by google-cloud-storage and by bare requests."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.request import Request, urlopen

import google_crc32c
import pytest
from google.api_core import exceptions as google_errors
from google.cloud import storage
from google.oauth2 import service_account

from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer

PART = 5 << 20


@pytest.fixture
def bucket(gcs: GcsServer) -> str:
    return gcs.make_bucket()


@pytest.fixture
def versioned(gcs: GcsServer) -> str:
    return gcs.make_bucket(versioning=True)


@pytest.fixture(scope="module")
def client(gcs: GcsServer) -> Iterator[storage.Client]:
    """google-cloud-storage with a real service account: it signs, asks our server for a token, and uses it."""
    account = service_account.Credentials.from_service_account_info(
        gcs.credentials, scopes=["https://www.googleapis.com/auth/devstorage.full_control"]
    )
    made = storage.Client("genro-test", account, client_options={"api_endpoint": gcs.endpoint})
    yield made
    made.close()


# --- google-cloud-storage ---


def test_bytes_facts_and_metadata(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    data = os.urandom(100_000)
    blob = client.bucket(bucket).blob("a b/ü#?%41.bin")
    blob.metadata, blob.custom_time = {"owner": "me", "x-y": "è"}, datetime(2001, 2, 3, tzinfo=UTC)
    blob.upload_from_string(data, "text/x-test")
    assert gcs.objects(bucket) == {"a b/ü#?%41.bin": data}
    found = client.bucket(bucket).get_blob("a b/ü#?%41.bin")
    assert (found.size, found.content_type, found.metadata) == (100_000, "text/x-test", {"owner": "me", "x-y": "è"})
    assert found.md5_hash == base64.b64encode(hashlib.md5(data).digest()).decode()
    assert found.crc32c == base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    assert found.custom_time == datetime(2001, 2, 3, tzinfo=UTC)
    assert found.download_as_bytes() == data
    assert found.download_as_bytes(start=10, end=19) == data[10:20]
    assert client.bucket(bucket).get_blob("a b") is None


def test_metadata_is_patched_and_the_metageneration_grows(client: storage.Client, bucket: str) -> None:
    blob = client.bucket(bucket).blob("k")
    blob.upload_from_string(b"x")
    first = blob.metageneration
    blob.metadata = {"a": "1", "b": "2"}
    blob.patch()
    blob.metadata = {"b": None, "c": "3"}
    blob.patch(if_metageneration_match=first + 1)
    assert client.bucket(bucket).get_blob("k").metadata == {"a": "1", "c": "3"}
    with pytest.raises(google_errors.PreconditionFailed):
        blob.patch(if_metageneration_match=first)


def test_conditions(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    blob = client.bucket(bucket).blob("k")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(google_errors.PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    former = blob.generation
    blob.upload_from_string(b"2", if_generation_match=former)
    with pytest.raises(google_errors.PreconditionFailed):
        client.bucket(bucket).blob("k").delete(if_generation_match=former)
    with pytest.raises(google_errors.NotModified):
        client.bucket(bucket).blob("k").reload(if_generation_not_match=blob.generation)
    with pytest.raises(google_errors.NotFound):
        client.bucket(bucket).blob("absent").delete()
    assert gcs.objects(bucket) == {"k": b"2"}


def test_one_of_many_creators_wins(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    won, gate = [], threading.Barrier(8)

    def create(number: int) -> None:
        gate.wait()
        try:
            client.bucket(bucket).blob("k").upload_from_string(str(number), if_generation_match=0)
        except google_errors.PreconditionFailed:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gcs.objects(bucket) == {"k": str(won[0]).encode()}
    assert len(won) == 1


def test_versions(client: storage.Client, versioned: str) -> None:
    held, made = client.bucket(versioned), []
    for text in ("one", "two", "three"):
        blob = held.blob("k")
        blob.upload_from_string(text)
        made.append(blob.generation)
    assert made == sorted(made)
    held.blob("k").delete()
    assert held.get_blob("k") is None
    listed = list(client.list_blobs(versioned, versions=True))
    assert [blob.generation for blob in listed] == made
    assert all(blob.time_deleted for blob in listed)
    assert held.blob("k", generation=made[1]).download_as_bytes() == b"two"
    held.blob("k", generation=made[0]).delete()
    restored = held.copy_blob(held.blob("k"), held, "k", source_generation=made[1])
    assert [blob.generation for blob in client.list_blobs(versioned, versions=True)] == [*made[1:], restored.generation]
    assert [blob.time_deleted is None for blob in client.list_blobs(versioned, versions=True)] == [False, False, True]
    assert held.get_blob("k").download_as_bytes() == b"two"


def test_without_versioning_nothing_is_kept(client: storage.Client, bucket: str) -> None:
    for text in ("one", "two"):
        client.bucket(bucket).blob("k").upload_from_string(text)
    assert len(list(client.list_blobs(bucket, versions=True))) == 1
    assert client.get_bucket(bucket).versioning_enabled is False


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_listing_in_pages(client: storage.Client, gcs: GcsServer, versioned: str, limit: int) -> None:
    names = ["a", "a-b", "a/", "a/b", "a/c/d", "aé", "b//x", "z"]
    for name in names:
        gcs.put(versioned, name, b"1")
    gcs.put(versioned, "a/b", b"2")
    client.bucket(versioned).blob("z").delete()
    gcs.page_limit = limit
    try:
        assert [blob.name for blob in client.list_blobs(versioned)] == sorted(names[:-1], key=str.encode)
        versions = list(client.list_blobs(versioned, versions=True, prefix="a/b"))
        assert [blob.name for blob in versions] == ["a/b", "a/b"]
        assert versions[0].generation < versions[1].generation
        level = client.list_blobs(versioned, delimiter="/")
        assert [blob.name for blob in level] == ["a", "a-b", "aé"]
        assert sorted(level.prefixes) == ["a/", "b/"]
        level = client.list_blobs(versioned, delimiter="/", prefix="a/")
        assert ([blob.name for blob in level], sorted(level.prefixes)) == (["a/", "a/b"], ["a/c/"])
        bounded = client.list_blobs(versioned, start_offset="a/b", end_offset="aé")
        assert [blob.name for blob in bounded] == ["a/b", "a/c/d"]
        marked = client.list_blobs(versioned, delimiter="/", include_trailing_delimiter=True)
        assert "a/" in [blob.name for blob in marked]
        assert sorted(marked.prefixes) == ["a/", "b/"]
    finally:
        gcs.page_limit = 1000


def test_resumable_upload_in_chunks(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    data = os.urandom((1 << 20) + 7)
    blob = client.bucket(bucket).blob("big", chunk_size=256 << 10)
    blob.upload_from_file(io.BytesIO(data), size=len(data), content_type="a/b", if_generation_match=0)
    assert gcs.objects(bucket) == {"big": data}
    assert gcs.unfinished(bucket) == []
    assert blob.content_type == "a/b"


def test_resumable_upload_asks_how_far_it_is_and_is_given_up(gcs: GcsServer, bucket: str) -> None:
    status, headers, _ = gcs.request("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=k", body=b"{}")
    target = headers["location"].removeprefix(gcs.endpoint)
    chunk = bytes(256 << 10)
    sent = {"Content-Range": f"bytes 0-{len(chunk) - 1}/*"}
    assert gcs.request("PUT", target, headers=sent, body=chunk)[0] == 308
    status, headers, _ = gcs.request("PUT", target, headers={"Content-Range": "bytes */*", "Content-Length": "0"})
    assert (status, headers["range"]) == (308, f"bytes=0-{len(chunk) - 1}")
    assert gcs.unfinished(bucket) == ["k"]
    odd = {"Content-Range": f"bytes {len(chunk)}-{len(chunk) + 9}/*"}
    assert gcs.request("PUT", target, headers=odd, body=b"0123456789")[0] == 400
    assert gcs.request("DELETE", target, headers={"Content-Length": "0"})[0] == 499
    assert gcs.objects(bucket) == {}
    assert gcs.unfinished(bucket) == []


def test_wrong_hashes_are_refused(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    wrong = base64.b64encode(bytes(16)).decode()
    boundary = "multipart/related; boundary=B"
    for claim in ({"md5Hash": wrong}, {"crc32c": "AAAAAA=="}):
        body = f"--B\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': 'k', **claim})}"
        body += "\r\n--B\r\nContent-Type: a/b\r\n\r\nsome bytes\r\n--B--\r\n"
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
        assert gcs.request("POST", target, headers={"Content-Type": boundary}, body=body.encode())[0] == 400
    assert gcs.request("PUT", f"/{bucket}/k", headers={"Content-MD5": wrong}, body=b"x")[0] == 400
    assert gcs.request("PUT", f"/{bucket}/k", headers={"x-goog-hash": "crc32c=AAAAAA=="}, body=b"x")[0] == 400
    assert gcs.objects(bucket) == {}
    client.bucket(bucket).blob("k").upload_from_string(b"x", checksum="md5")
    assert gcs.objects(bucket) == {"k": b"x"}


def test_compose_and_rewrite(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    held = client.bucket(bucket)
    for name in "abc":
        held.blob(name).upload_from_string(name * 3)
    whole = held.blob("whole")
    whole.compose([held.blob(name) for name in "abc"], if_generation_match=0)
    assert (whole.download_as_bytes(), whole.component_count, whole.md5_hash) == (b"aaabbbccc", 3, None)
    source = held.get_blob("whole")
    source.metadata = {"k": "v"}
    source.patch()
    gcs.json.rewrite_step = 4
    try:
        copy, steps, token = held.blob("copy"), 0, None
        while True:
            token, done, total = copy.rewrite(source, token=token, if_source_generation_match=source.generation)
            steps += 1
            if token is None:
                break
    finally:
        gcs.json.rewrite_step = 1 << 40
    assert (steps, done, total) == (3, 9, 9)
    assert held.get_blob("copy").metadata == {"k": "v"}
    with pytest.raises(google_errors.PreconditionFailed):
        held.blob("other").rewrite(source, if_source_generation_match=1)
    with pytest.raises(google_errors.BadRequest):
        held.blob("many").compose([held.blob("a")] * 33)


def test_deletes_in_a_batch(client: storage.Client, gcs: GcsServer, bucket: str) -> None:
    for name in ("a", "b", "c/d"):
        gcs.put(bucket, name, b"")
    with pytest.raises(google_errors.NotFound), client.batch():
        for name in ("a", "absent", "c/d"):
            client.bucket(bucket).delete_blob(name)
    assert gcs.objects(bucket) == {"b": b""}


@pytest.mark.parametrize("name", ["x" * 1025, ".", "..", "a\nb"])
def test_names_that_google_refuses(client: storage.Client, bucket: str, name: str) -> None:
    with pytest.raises(google_errors.BadRequest):
        client.bucket(bucket).blob(name).upload_from_string(b"")


# --- who may ---


def test_credentials_are_checked(client: storage.Client, gcs: GcsServer) -> None:
    private = gcs.make_bucket(access="private")
    client.bucket(private).blob("k").upload_from_string(b"1")
    target = f"/storage/v1/b/{private}/o/k"
    assert gcs.request("GET", target)[0] == 401
    assert gcs.request("GET", target, headers={"Authorization": "Bearer ya29.wrong"})[0] == 401
    gcs.authority.revoke()  # the client asks for a new token by itself
    assert client.bucket(private).blob("k").download_as_bytes() == b"1"
    gcs.bucket(private).access = "readonly"
    assert client.bucket(private).blob("k").download_as_bytes() == b"1"
    with pytest.raises(google_errors.Forbidden):
        client.bucket(private).blob("k").upload_from_string(b"2")
    gcs.bucket(private).access = "denied"
    with pytest.raises(google_errors.Forbidden):
        list(client.list_blobs(private))


def test_a_foreign_service_account_gets_no_token(gcs: GcsServer) -> None:
    with GcsServer() as other:
        forged = gcs.credentials | {"private_key": other.credentials["private_key"]}
        account = service_account.Credentials.from_service_account_info(
            forged, scopes=["https://www.googleapis.com/auth/devstorage.full_control"]
        )
        client = storage.Client("p", account, client_options={"api_endpoint": gcs.endpoint})
        with pytest.raises(Exception, match="Invalid JWT Signature"):
            client.bucket(gcs.make_bucket()).blob("k").upload_from_string(b"", retry=None)
        client.close()


def test_signed_urls(client: storage.Client, gcs: GcsServer) -> None:
    private = gcs.make_bucket(access="private")
    gcs.put(private, "a b/ü.txt", b"text")
    blob = client.bucket(private).blob("a b/ü.txt")

    def sign(**keys: Any) -> str:
        return blob.generate_signed_url(version="v4", api_access_endpoint=gcs.endpoint, **({"expiration": 60} | keys))

    assert urlopen(sign()).read() == b"text"
    put = sign(method="PUT", content_type="a/b")
    assert urlopen(Request(put, b"new", {"Content-Type": "a/b"}, method="PUT")).status == 200
    assert gcs.objects(private) == {"a b/ü.txt": b"new"}
    for url, headers in ((put, {"Content-Type": "c/d"}), (sign().replace("a%20b", "other"), {}), (sign() + "0", {})):
        target = url.removeprefix(gcs.endpoint)
        assert gcs.request("PUT" if headers else "GET", target, headers=headers)[0] == 403
    expired = sign(expiration=1).replace("X-Goog-Expires=1", "X-Goog-Expires=-1")
    assert gcs.request("GET", expired.removeprefix(gcs.endpoint))[0] == 400


# --- the server ---


def test_a_proxy_in_front_gives_faults(gcs: GcsServer, bucket: str, client: storage.Client) -> None:
    gcs.put(bucket, "k", b"1")
    with FaultProxy(gcs.endpoint) as proxy:
        through = storage.Client("p", client._credentials, client_options={"api_endpoint": proxy.endpoint})
        proxy.answer(503, method="GET", contains="/o?")
        with pytest.raises(google_errors.ServiceUnavailable):
            list(through.list_blobs(bucket, retry=None))
        assert [blob.name for blob in through.list_blobs(bucket, retry=None)] == ["k"]
        through.close()


def test_options_are_mount_keys_and_a_stopped_server_refuses(gcs: GcsServer) -> None:
    assert set(gcs.options("b")) == {"bucket", "endpoint", "credentials", "project"}
    with GcsServer() as other:
        assert other.request("GET", "/storage/v1/b")[0] == 200
        endpoint = other.endpoint
        before = other.count("GET")
    assert before == 1
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{endpoint}/storage/v1/b")
