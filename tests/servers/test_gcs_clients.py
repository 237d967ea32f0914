"""Our GCS server, driven by gcsfs and obstore, and the parts of its XML API by bare requests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable

import obstore
import pytest
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError

from tests.servers.gcs.server import GcsServer

PART = 5 << 20


@pytest.fixture
def bucket(gcs: GcsServer) -> str:
    return gcs.make_bucket()


@pytest.fixture
def versioned(gcs: GcsServer) -> str:
    return gcs.make_bucket(versioning=True)


@pytest.fixture(scope="module")
def fs(gcs: GcsServer) -> GCSFileSystem:
    """gcsfs, without its caches."""
    keys = {"token": gcs.credentials, "endpoint_url": gcs.endpoint, "project": "genro-test"}
    return GCSFileSystem(use_listings_cache=False, skip_instance_cache=True, **keys)


# --- gcsfs ---


def test_gcsfs(fs: GCSFileSystem, gcs: GcsServer, bucket: str) -> None:
    data = os.urandom(300_000)
    fs.pipe_file(f"{bucket}/d/k", data, metadata={"m": "1"}, content_type="a/b")
    assert fs.cat_file(f"{bucket}/d/k", start=5, end=10) == data[5:10]
    assert fs.info(f"{bucket}/d/k")["size"] == len(data)
    assert fs.info(f"{bucket}/d/k")["metadata"] == {"m": "1"}
    assert [entry["name"] for entry in fs.ls(f"{bucket}/", detail=True)] == [f"{bucket}/d"]
    with fs.open(f"{bucket}/big", "wb", block_size=256 << 10) as file:
        file.write(data)
        file.write(data)
    assert gcs.objects(bucket)["big"] == data + data
    fs.cp_file(f"{bucket}/big", f"{bucket}/copy")
    fs.rm([f"{bucket}/big", f"{bucket}/d/k"])
    assert list(gcs.objects(bucket)) == ["copy"]
    with pytest.raises(FileNotFoundError):
        fs.info(f"{bucket}/big")


def test_gcsfs_generations_and_conditions(gcs: GcsServer, versioned: str) -> None:
    keys = {"token": gcs.credentials, "endpoint_url": gcs.endpoint}
    fs = GCSFileSystem(version_aware=True, skip_instance_cache=True, use_listings_cache=False, **keys)
    first = gcs.put(versioned, "k", b"1")
    gcs.put(versioned, "k", b"2")
    assert fs.cat_file(f"{versioned}/k#{first}") == b"1"
    assert len(fs.find(versioned, versions=True)) == 2
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{versioned}/k", b"3", mode="create")
    assert gcs.objects(versioned) == {"k": b"2"}


def test_gcsfs_cannot_upload_its_own_delimiter(fs: GCSFileSystem, gcs: GcsServer, bucket: str) -> None:
    with pytest.raises(HttpError):
        fs.pipe_file(f"{bucket}/k", b"before\n--==0==--\nafter")
    assert gcs.objects(bucket) == {}


def test_gcsfs_is_refused(fs: GCSFileSystem, gcs: GcsServer) -> None:
    denied = gcs.make_bucket(access="denied")
    for call in (lambda: fs.exists(f"{denied}/k"), lambda: fs.ls(denied), lambda: fs.pipe_file(f"{denied}/k", b"")):
        with pytest.raises(OSError, match="Forbidden") as caught:
            call()
        assert caught.value.errno is None


# --- obstore, by the XML API ---


@pytest.fixture
def store(gcs: GcsServer) -> Callable[..., obstore.store.GCSStore]:
    def make(bucket: str, *, oauth: bool = False) -> obstore.store.GCSStore:
        account = gcs.credentials | {"gcs_base_url": gcs.endpoint}
        key = json.dumps(account if oauth else account | {"disable_oauth": True})
        return obstore.store.GCSStore(bucket, service_account_key=key, client_options={"allow_http": True})

    return make


def test_obstore(store: Callable[..., obstore.store.GCSStore], gcs: GcsServer, bucket: str) -> None:
    reached, data = store(bucket), os.urandom(100_000)
    obstore.put(reached, "d/ü b", data, attributes={"Content-Type": "a/b", "m": "1"})
    assert bytes(obstore.get(reached, "d/ü b").bytes()) == data
    assert bytes(obstore.get_range(reached, "d/ü b", start=5, end=10)) == data[5:10]
    assert gcs.bucket(bucket).find("d/ü b").fields == {"contentType": "a/b", "metadata": {"m": "1"}}
    assert [entry["path"] for page in obstore.list(reached, chunk_size=1) for entry in page] == ["d/ü b"]
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(reached, "d/ü b", b"", mode="create")
    obstore.copy(reached, "d/ü b", "copy")
    obstore.delete(reached, "d/ü b")
    assert gcs.objects(bucket) == {"copy": data}
    with pytest.raises(FileNotFoundError):
        obstore.get(reached, "absent")


def test_obstore_in_parts_with_tokens_it_signs_itself(
    store: Callable[..., obstore.store.GCSStore], gcs: GcsServer
) -> None:
    private, data = gcs.make_bucket(access="private"), os.urandom(2 * PART + 3)
    obstore.put(store(private, oauth=True), "big", data, use_multipart=True, chunk_size=PART)
    assert gcs.objects(private) == {"big": data}
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(store(private), "big")


def test_parts_of_an_upload_are_listed_and_checked(gcs: GcsServer, bucket: str) -> None:
    def call(method: str, query: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        status, _, answer = gcs.request(method, f"/{bucket}/k?{query}", headers=headers, body=body)
        return status, answer.decode()

    identity = call("POST", "uploads", **{"x-goog-meta-a": "1"})[1].split("<UploadId>")[1].split("<")[0]
    for number, body in ((2, b"end"), (1, bytes(PART))):
        assert call("PUT", f"partNumber={number}&uploadId={identity}", body)[0] == 200
    assert call("PUT", f"partNumber=3&uploadId={identity}", b"x", **{"x-goog-hash": "crc32c=AAAAAA=="})[0] == 400
    assert call("GET", f"uploadId={identity}")[1].count("<PartNumber>") == 2
    assert identity in gcs.request("GET", f"/{bucket}?uploads")[2].decode()
    assert gcs.unfinished(bucket) == ["k"]
    etags = [hashlib.md5(body).hexdigest() for body in (bytes(PART), b"end")]

    def complete(*pairs: tuple[int, str]) -> tuple[int, str]:
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;{e}&quot;</ETag></Part>" for n, e in pairs)
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        assert "NotImplemented" in call("POST", f"uploadId={identity}", body, **{"x-goog-if-generation-match": "0"})[1]
        return call("POST", f"uploadId={identity}", body)

    assert "InvalidPart" in complete((1, etags[0]), (2, "0" * 32))[1]
    assert "EntityTooSmall" in complete((2, etags[1]), (1, etags[0]))[1]
    assert gcs.objects(bucket) == {}
    assert complete((1, etags[0]), (2, etags[1]))[0] == 200
    assert gcs.objects(bucket) == {"k": bytes(PART) + b"end"}
    stored = gcs.bucket(bucket).find("k")
    assert (stored.md5, stored.components, stored.fields["metadata"]) == (None, 2, {"a": "1"})
    assert call("POST", f"uploadId={identity}")[0] == 404
