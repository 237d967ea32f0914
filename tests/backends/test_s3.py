"""What only S3 has: options, odd keys, metadata, multipart uploads, copies, versions, processes and threads.

The acceptance suite runs over S3 in `tests/test_suites.py`, requests are counted in `test_s3_requests.py`.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genro_storage import hashing
from genro_storage.backends._objects import decoded, encoded
from genro_storage.backends._s3.facts import hashes_of
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageCorruptedError,
    StorageIsADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

MIB = 1 << 20
Open = Callable[..., S3Backend]


def entries(pages: Any) -> list[Stat]:
    return [entry for page in pages for entry in page]


def listed(pages: Any) -> list[tuple[str, bool]]:
    return [(entry.path, entry.is_dir) for entry in entries(pages)]


def written(backend: S3Backend, path: str, *chunks: bytes, **options: Any) -> Stat:
    writer = backend.writer(path, WriteOptions(**options))
    for chunk in chunks:
        writer.write(chunk)
    return writer.commit()


# --- options: each is seen on the wire ---


def test_aliases_are_names_of_options() -> None:
    assert set(S3Backend.aliases.values()) <= set(S3Backend.Options.__struct_fields__)


@pytest.mark.parametrize(
    ("keys", "header", "value"),
    [
        ({"region": "eu-south-7"}, "authorization", r".*/eu-south-7/s3/aws4_request.*"),
        ({"session_token": "tok/en=="}, "x-amz-security-token", r"tok/en=="),
        ({"storage_class": "STANDARD_IA"}, "x-amz-storage-class", "STANDARD_IA"),
        ({"sse": "AES256"}, "x-amz-server-side-encryption", "AES256"),
        ({"sse": "aws:kms", "sse_kms_key_id": "k1"}, "x-amz-server-side-encryption-aws-kms-key-id", "k1"),
        ({"acl": "bucket-owner-full-control"}, "x-amz-acl", "bucket-owner-full-control"),
        ({"requester_pays": True}, "x-amz-request-payer", "requester"),
        ({"client_options": {"user_agent_extra": "genro-test/1"}}, "user-agent", ".*genro-test/1.*"),
    ],
)
def test_option_is_sent(proxied: Open, proxy: FaultProxy, keys: dict[str, Any], header: str, value: str) -> None:
    proxy.answer(503)
    with pytest.raises(StorageUnavailableError):
        proxied(**keys).put("f", b"1")
    assert re.fullmatch(value, proxy.log[-1].headers[header])


def test_option_of_objects_is_sent_by_every_kind_of_write(proxied: Open, proxy: FaultProxy, small_parts: None) -> None:
    backend = proxied(storage_class="STANDARD_IA")
    written(backend, "big", bytes(5 * MIB + 1))
    backend.copy_from(backend, "big", "copy")
    made = [request for request in proxy.log if request.query == "uploads" or "x-amz-copy-source" in request.headers]
    assert [request.headers["x-amz-storage-class"] for request in made] == ["STANDARD_IA"] * 2


def test_anon_is_not_signed(proxied: Open, proxy: FaultProxy) -> None:
    proxy.answer(404, "NoSuchKey")
    with pytest.raises(StorageNotFoundError):
        proxied(anon=True).get("f")
    assert "authorization" not in proxy.log[-1].headers


def test_profile(
    opened: Open, proxy: FaultProxy, seaweedfs: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    proxy.answer(404, "NoSuchKey", times=None)
    backend = opened(seaweedfs.through(proxy.endpoint), access_key=None, secret_key=None, profile="work")
    with pytest.raises(StorageNotFoundError):
        backend.get("f")
    assert "Credential=PROFILEKEY/" in proxy.log[-1].headers["authorization"]
    absent = Mount("m", opened(access_key=None, secret_key=None, profile="absent"))
    with pytest.raises(StoragePermissionError, match="'access_key'"):
        absent.get("f")


def test_no_credentials_name_the_remedy(opened: Open) -> None:
    mount = Mount("m", opened(access_key=None, secret_key=None))
    with pytest.raises(StoragePermissionError, match="set 'access_key' and 'secret_key', or 'anon: true'"):
        mount.exists("f")


def test_addressing(opened: Open, proxy: FaultProxy, seaweedfs: S3Endpoint) -> None:
    """The host name of a bucket is sent to a proxy, which needs no name server."""
    proxy.answer(404, "NoSuchKey", times=None)
    here = S3Endpoint("http://s3.test", "k", "s")
    for addressing, host, path in (("virtual", "tub.s3.test", "/f"), ("path", "s3.test", "/tub/f")):
        options = {"proxies": {"http": proxy.endpoint}, "s3": {"payload_signing_enabled": True}}
        backend = opened(here, bucket="tub", path="", addressing=addressing, client_options=options)
        with pytest.raises(StorageNotFoundError):
            backend.get("f")
        assert (proxy.log[-1].headers["host"], proxy.log[-1].path.removeprefix(f"http://{host}")) == (host, path)


@pytest.mark.parametrize(
    ("checksum", "header"),
    [
        ("auto", "x-amz-checksum-crc32c"),
        ("crc32c", "x-amz-checksum-crc32c"),
        ("sha256", "x-amz-checksum-sha256"),
        ("md5", "content-md5"),
    ],
)
def test_checksum_goes_with_the_bytes(
    proxied: Open, proxy: FaultProxy, checksum: str, header: str, small_parts: None
) -> None:
    """Of the whole in one PUT, of each part of more; and what was sent is what the server kept."""
    backend = proxied(checksum=checksum, engine="exact")
    algorithm = header.rpartition("-")[2]
    small, large = os.urandom(1000), os.urandom(5 * MIB + 1)
    backend.put("small", small)
    assert written(backend, "large", large).size == len(large)
    sent = [request.headers[header] for request in proxy.log if request.method == "PUT"]
    expected = []
    for data in (small, large[: 5 * MIB], large[5 * MIB :]):
        hasher = hashing.new(algorithm)
        hasher.update(data)
        expected.append(base64.b64encode(bytes.fromhex(hasher.hexdigest())).decode())
    assert sent == expected
    assert backend.get("large")[0] == large


def test_checksum_none(proxied: Open, proxy: FaultProxy) -> None:
    proxied(checksum="none").put("f", b"1")
    assert not [name for name in proxy.log[-1].headers if "checksum" in name or "md5" in name]


@pytest.mark.parametrize("name", ["ministack", "rclone_s3"])
def test_auto_falls_back_to_md5(request: pytest.FixtureRequest, opened: Open, s3_proxy: Any, name: str) -> None:
    """A server that refuses CRC32C, and one that ignores it: from the second object on each gets MD5 at once."""
    server = request.getfixturevalue(name)
    proxy = s3_proxy(server)
    backend = opened(server.through(proxy.endpoint), bucket=server.make_bucket(), engine="exact")
    backend.put("f", b"1")
    proxy.forget()
    backend.put("g", b"2")
    assert (proxy.count(), proxy.log[0].headers["content-md5"]) == (1, "yB5yjZ1ML2NvBn+JzBSGLA==")
    assert (backend.get("f")[0], backend.get("g")[0]) == (b"1", b"2")


def test_auto_falls_back_in_every_thread(ministack: S3Endpoint, opened: Open) -> None:
    backend = opened(ministack, bucket=ministack.make_bucket(), engine="exact")
    start = threading.Barrier(8)

    def put(number: int) -> None:
        start.wait(60)
        backend.put(f"f{number}", b"1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    assert len(entries(backend.scan(""))) == 8


def test_damage_is_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(engine="exact")
    monkeypatch.setattr(backend._checksums, "of", lambda data: {"ContentMD5": "yB5yjZ1ML2NvBn+JzBSGLA=="})
    with pytest.raises(StorageCorruptedError) as caught:
        backend.put("f", b"1")
    assert caught.value.retryable
    with pytest.raises(StorageNotFoundError):
        backend.stat("f")


def test_markers(opened: Open) -> None:
    backend = opened(markers=False)
    assert "mkdir" not in backend.abilities
    assert "mkdir" in opened().abilities
    backend.mkdir("d")
    assert entries(backend.walk("")) == []


def test_version_aware(opened: Open, seaweedfs: S3Endpoint) -> None:
    bucket = seaweedfs.make_bucket(versioning=True)
    backend = opened(bucket=bucket, path="")
    first, second = backend.put("f", b"one"), backend.put("f", b"three")
    assert first.version_id
    assert second.version_id not in (None, first.version_id)
    assert backend.get("f")[1].version_id == backend.stat("f").version_id == second.version_id
    assert backend.get("f", version=first.version_id)[0] == b"one"
    assert backend.get("f", 1, version=first.version_id)[0] == b"ne"
    assert backend.stat("f", version=first.version_id).size == 3
    with closing(backend.reader("f", version=first.version_id)) as reader:
        assert (reader.read(), reader.stat.version_id) == (b"one", first.version_id)
    backend.copy_from(backend, "f", "g", version=first.version_id)
    assert backend.get("g")[0] == b"one"
    backend.delete("f", version=first.version_id)
    for ask in (backend.get, backend.stat, backend.reader):
        with pytest.raises(StorageVersionNotFoundError):
            ask("f", version=first.version_id)
    assert backend.get("f")[0] == b"three"
    blind = opened(bucket=bucket, path="", version_aware=False)
    assert (blind.put("h", b"1").version_id, blind.stat("h").version_id) == (None, None)
    with pytest.raises(UnsupportedOperation, match="version_aware"):
        blind.get("f", version=second.version_id)


def test_max_connections(proxied: Open, proxy: FaultProxy) -> None:
    """Requests beyond it wait; when readers hold all of them the next one says so instead of waiting for ever."""
    backend = proxied(max_connections=2, timeout=3)
    backend.put("f", bytes(3 * MIB))
    first, second = backend.reader("f"), backend.reader("f")
    with pytest.raises(StorageUnavailableError, match="'max_connections'"):
        backend.stat("f")
    first.close()
    second.close()
    with ThreadPoolExecutor(16) as pool:
        assert [stat.size for stat in pool.map(lambda _: backend.stat("f"), range(50))] == [3 * MIB] * 50


def test_a_dropped_reader_gives_its_connection_back(proxied: Open) -> None:
    backend = proxied(max_connections=1, timeout=5)
    backend.put("f", bytes(3 * MIB))
    for _ in range(3):
        reader = backend.reader("f")
        assert reader.read(10) == bytes(10)
        del reader
        gc.collect()


# --- keys ---


ODD = [
    "a//b",
    "../x",
    "./y",
    "a/../z",
    "/lead",
    "//two",
    "d/",
    "d//",
    "/",
    "back\\slash",
    "e",
    "e/",
    "e/f",
    "\x01",
    "#?%20+ &",
]


@pytest.fixture(params=["", "root"])
def odd(
    request: pytest.FixtureRequest, ministack: S3Endpoint, opened: Open
) -> tuple[S3Backend, Callable[[], list[str]]]:
    """A backend over keys that no file system could hold, and how to see what is really there."""
    bucket = ministack.make_bucket()
    backend = opened(ministack, bucket=bucket, path=request.param)
    top = f"{request.param}/" if request.param else ""
    for key in ODD:
        ministack.checked("PUT", bucket, top + key, body=key.encode())
    ministack.checked("PUT", bucket, "rootless", body=b"")

    def keys() -> list[str]:
        return sorted(key for key in ODD if ministack.request("HEAD", bucket, top + key).status == 200)

    assert keys() == sorted(ODD)
    return backend, keys


def test_odd_keys_are_listed_verbatim(odd: Any) -> None:
    backend, _ = odd
    found = entries(backend.walk(""))
    files = {entry.path for entry in found if not entry.is_dir} - {"rootless"}
    assert files == {key for key in ODD if not key.endswith("/")}
    assert {entry.path for entry in found if entry.is_dir} == {"d", "d/", "e", "/"}
    assert len({(entry.path, entry.is_dir) for entry in found}) == len(found)


def test_odd_keys_level_by_level(odd: Any) -> None:
    """Walking down by scan finds the same files: each level's directories lead to what is below them, and end."""
    backend, _ = odd
    files, left = set(), [""]
    for _ in range(100):
        if not left:
            break
        for entry in entries(backend.scan(left.pop())):
            if entry.is_dir:
                left.append(entry.path)
            else:
                files.add(entry.path)
    assert not left
    assert files - {"rootless"} == {key for key in ODD if not key.endswith("/")}


@pytest.mark.parametrize("key", [key for key in ODD if not key.endswith("/")])
def test_odd_keys_are_reached_exactly(odd: Any, key: str) -> None:
    backend, keys = odd
    data, stat = backend.get(key)
    assert (data, stat.path) == (key.encode(), key)
    assert backend.stat(key).size == len(key.encode())
    backend.delete(key)
    assert keys() == sorted(set(ODD) - {key})


def test_odd_keys_are_deleted_exactly(odd: Any) -> None:
    """One request where XML can say the keys, one each where it cannot."""
    backend, keys = odd
    gone = ["a//b", "/lead", "\x01", "../x", "absent"]
    assert list(backend.delete_many(gone)) == []
    assert keys() == sorted(set(ODD) - set(gone))
    backend.rmdir("d/")
    backend.rmdir("/")
    assert keys() == sorted(set(ODD) - set(gone) - {"d//", "/"})


def test_delete_tree_takes_all_of_it(odd: Any) -> None:
    backend, keys = odd
    with pytest.warns(match="cannot be written"):
        list(Mount("m", backend).walk(""))
    Mount("m", backend).delete_tree("")
    assert keys() == []


def test_a_file_and_a_directory_of_one_name(ministack: S3Endpoint, opened: Open) -> None:
    """R12; and a listing goes on exactly behind the one or the other."""
    backend = opened(ministack, bucket=ministack.make_bucket(), path="")
    for key in ("e", "e-", "e/f", "e0"):
        backend.put(key, b"1")
    backend.mkdir("e")
    assert listed(backend.scan("")) == [("e", False), ("e-", False), ("e", True), ("e0", False)]
    assert listed(backend.scan("", after="e")) == [("e-", False), ("e", True), ("e0", False)]
    assert listed(backend.scan("", after="e/")) == [("e0", False)]
    assert listed(backend.walk("", after="e/")) == [("e/f", False), ("e0", False)]
    assert listed(backend.scan("e")) == [("e/f", False)]


def test_a_retried_listing_neither_loses_nor_repeats(
    ministack: S3Endpoint, opened: Open, s3_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genro_storage.backends._pages.PAGE", 3)
    bucket = ministack.make_bucket()
    direct, proxy = opened(ministack, bucket=bucket, path=""), s3_proxy(ministack)
    names = ["a", "b/1", "b-", "c/1", "c/2", "c", "d", "e/1", "f"]
    for name in names:
        direct.put(name, b"1")
    whole = listed(direct.scan(""))
    assert len(whole) == 9 - 1
    mount = Mount("m", opened(ministack.through(proxy.endpoint), bucket=bucket, path=""))
    pages, found = mount.scan(""), []
    for page in pages:
        found += [(entry.path, entry.is_dir) for entry in page]
        proxy.answer(503, method="GET", headers=["Retry-After: 0"])
    assert found == whole


def test_root_is_a_directory(backend: S3Backend) -> None:
    for act in (backend.get, backend.reader, backend.writer, backend.delete):
        with pytest.raises(StorageIsADirectoryError):
            act("")
    with pytest.raises(StorageNotFoundError):
        backend.stat("")


# --- metadata and times ---


@pytest.mark.parametrize(
    "value", ["plain", "", " ", " x ", "=?UTF-8?B?eA==?=", "grüße 日本", "a\nb", "x" * 500, "é" * 300]
)
def test_metadata_values(value: str) -> None:
    sent = encoded(value)
    assert sent.isascii()
    assert sent.isprintable()
    assert sent == sent.strip() != ""
    assert decoded(sent) == value


def test_metadata_of_others_is_read(seaweedfs: S3Endpoint, bucket: str, opened: Open) -> None:
    headers = {
        "x-amz-meta-q": "=?utf-8?Q?caf=C3=A9?= =?UTF-8?B?IQ==?=",
        "x-amz-meta-broken": "=?nope?B?x?=",
        "x-amz-meta-mtime": "12.5",
    }
    seaweedfs.checked("PUT", bucket, "others", body=b"1", headers=headers)
    stat = opened(path="").stat("others")
    assert stat.metadata == {"q": "café!", "broken": "=?nope?B?x?="}
    assert stat.mtime == 12.5


@pytest.mark.parametrize("told", ["yesterday", "nan", "inf", ""])
def test_an_mtime_that_is_none_is_plain_metadata(seaweedfs: S3Endpoint, bucket: str, opened: Open, told: str) -> None:
    seaweedfs.checked("PUT", bucket, "odd-time", body=b"1", headers={"x-amz-meta-mtime": told or "-"})
    stat = opened(path="").stat("odd-time")
    assert stat.metadata == {"mtime": told or "-"}
    assert stat.mtime is not None
    assert stat.mtime > 1.7e9


def test_mtime_is_kept_and_hidden(backend: S3Backend) -> None:
    """T28; listings show the upload, whole seconds like every other answer."""
    for mtime in (1_234_567_890.123456, 0.0):
        backend.put("f", b"1", WriteOptions(mtime=mtime, metadata={"k": "v"}))
        for stat in (backend.stat("f"), backend.get("f")[1]):
            assert (stat.mtime, stat.metadata) == (mtime, {"k": "v"})
    (entry,) = entries(backend.scan(""))
    assert entry.mtime is not None
    assert entry.mtime > 1.7e9


def test_times_agree(ministack: S3Endpoint, opened: Open) -> None:
    """MiniStack lists fractions of seconds that its other answers do not have."""
    backend = opened(ministack, bucket=ministack.make_bucket())
    backend.put("f", b"1")
    assert backend.stat("f").mtime == backend.get("f")[1].mtime == entries(backend.scan(""))[0].mtime


def test_metadata_limits(backend: S3Backend) -> None:
    """Judged before the first byte."""
    too_much = WriteOptions(metadata={"k": "x" * 2048})
    with pytest.raises(StorageQuotaError, match="2048"):
        backend.put("f", b"1", too_much)
    with pytest.raises(StorageQuotaError, match="2048"):
        backend.writer("f", too_much)
    with pytest.raises(ValueError, match="metadata key"):
        backend.put("f", b"1", WriteOptions(metadata={"x\r\ny: z": "1"}))
    assert backend.put("f", b"1", WriteOptions(metadata={"K": "x" * 2047})).metadata == {"k": "x" * 2047}
    assert backend.stat("f").metadata == {"k": "x" * 2047}


def test_hashes_are_only_true_ones(backend: S3Backend, small_parts: None) -> None:
    """R10: the ETag of a multipart object is no hash."""
    data = os.urandom(6 * MIB)
    assert written(backend, "big", data).hashes == {}
    assert backend.stat("big").hashes == {}
    assert "-" in (backend.stat("big").etag or "")
    backend.put("small", b"x")
    assert backend.stat("small").hashes == {"md5": hashlib.md5(b"x").hexdigest()}
    assert (
        backend.copy_from(backend, "small", "copy").hashes
        == backend.stat("copy").hashes
        == backend.stat("small").hashes
    )


@pytest.mark.parametrize(
    ("answer", "true"),
    [
        ({}, True),
        ({"ServerSideEncryption": "AES256"}, True),
        ({"ServerSideEncryption": "aws:kms"}, False),
        ({"ServerSideEncryption": "aws:kms:dsse"}, False),
        ({"SSECustomerAlgorithm": "AES256"}, False),
    ],
)
def test_encrypted_etags_are_no_hashes(answer: dict[str, str], true: bool) -> None:
    assert bool(hashes_of("c4ca4238a0b923820dcc509a6f75849b", answer)) is true
    assert not hashes_of("c4ca4238a0b923820dcc509a6f75849b-2", answer)


def test_clients_share_what_aws_says_of_its_services() -> None:
    """A client that reads it for itself costs twelve megabytes and a tenth of a second."""
    options = {"region": "eu-west-1", "endpoint": "http://127.0.0.1:9", "access_key": "k", "secret_key": "s"}
    one, other = (S3Backend(S3Backend.Options(bucket=name, **options)) for name in "ab")
    with closing(one), closing(other):
        first, second = one._connection.client, other._connection.client
        assert first is not second
        assert first.meta.service_model.metadata is second.meta.service_model.metadata
