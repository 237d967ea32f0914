"""Google Cloud Storage over the server of the tests: the acceptance suite, and what only this type has."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends._gcs import writer as gcs_writer
from genro_storage.backends._gcs.client import GcsOptions
from genro_storage.backends.gcs import GcsBackend
from genro_storage.backends.options import Context, shown
from genro_storage.exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from genro_storage.testing import BackendSuite
from genro_storage.types import SignOptions, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs.server import GcsServer

MIB = 1 << 20
Open = Callable[..., GcsBackend]
_roots = itertools.count(1)

LACKS = frozenset(
    {
        *("edit", "free_space", "get_tags", "keeps_mode", "public_url", "readlink", "real_dirs", "rename_from"),
        *("set_mode", "set_tags", "surrogates", "symlink", "tags"),
    }
)


@pytest.fixture
def opened(gcs: GcsServer) -> Iterator[Open]:
    """Makes backends over a new bucket (or `bucket=`); closes them, and drops the new ones."""
    made: list[GcsBackend] = []
    buckets: list[str] = []

    def make(*, versioning: bool = False, **keys: Any) -> GcsBackend:
        bucket = keys.pop("bucket", None)
        if bucket is None:
            bucket = gcs.make_bucket(versioning=versioning)
            buckets.append(bucket)
        made.append(GcsBackend(GcsOptions(**gcs.options(bucket) | keys)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()
    for bucket in buckets:
        gcs.forget(bucket)


@pytest.fixture
def backend(opened: Open) -> GcsBackend:
    return opened()


@pytest.fixture
def proxy(gcs: GcsServer) -> Iterator[FaultProxy]:
    with FaultProxy(gcs.endpoint) as running:
        yield running


@pytest.fixture
def proxied(opened: Open, proxy: FaultProxy) -> GcsBackend:
    made = opened(endpoint=proxy.endpoint, timeout=2, connect_timeout=1)
    made.put("warm", b"")  # the token is there
    proxy.forget()
    return made


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(gcs_writer, "CHUNK", 256 << 10)
    return 256 << 10


class Gcs(BackendSuite):
    """Google refuses names with line breaks."""

    names = tuple(name for name in BackendSuite.names if not {"\n", "\r"} & set(name))
    test_delete_many = None  # has such a name; `test_many_are_deleted` below


class TestGcs(Gcs):
    lacks = LACKS

    @pytest.fixture
    def backend(self, opened: Open) -> GcsBackend:
        return opened(versioning=True)


class TestGcsExact(Gcs):
    """The same without obstore."""

    lacks = LACKS

    @pytest.fixture
    def backend(self, opened: Open) -> GcsBackend:
        return opened(versioning=True, engine="exact")


class TestGcsBelow(Gcs):
    """A root inside the bucket, neither markers nor versions, pages of three."""

    lacks = LACKS | {"mkdir", "own_versions", "versions"}

    @pytest.fixture
    def backend(self, opened: Open, gcs: GcsServer) -> Iterator[GcsBackend]:
        gcs.page_limit = 3
        yield opened(path=f"case {next(_roots)}/ü", version_aware=False, markers=False)
        gcs.page_limit = 1000


# --- requests ---


def paths(proxy: FaultProxy) -> list[str]:
    return [request.method for request in proxy.log]


@pytest.mark.parametrize(
    ("verb", "requests"),
    [
        (lambda b: b.stat("d/f"), ["GET"]),
        (lambda b: b.get("d/f"), ["GET"]),
        (lambda b: b.get("d/f", 1, 3), ["GET"]),
        (lambda b: b.get("d/f", -2), ["GET"]),
        (lambda b: b.reader("d/f").read(), ["GET"]),
        (lambda b: b.put("d/g", b"1", WriteOptions(if_absent=True, mtime=1.5)), ["PUT"]),
        (lambda b: b.delete("d/f"), ["DELETE"]),
        (lambda b: b.delete_many(["d/f", "d/h"]).__next__(), ["POST"]),
        (lambda b: b.copy_from(b, "d/f", "e"), ["POST"]),
        (lambda b: b.copy_from(b, "d/f", "e", WriteOptions(mtime=1.0)), ["GET", "POST"]),
        (lambda b: list(b.scan("d")), ["GET"]),
        (lambda b: list(b.walk("")), ["GET"]),
        (lambda b: list(b.versions("d/f")), ["GET"]),
        (lambda b: b.set_metadata("d/f", {"a": "1"}), ["GET", "PATCH"]),
        (lambda b: b.set_mtime("d/f", 1.5), ["PATCH"]),
        (lambda b: b.sign("d/f", "GET", 60, SignOptions()), []),
    ],
)
def test_requests_per_verb(
    proxied: GcsBackend, proxy: FaultProxy, verb: Callable[[GcsBackend], object], requests: list[str]
) -> None:
    proxied.put("d/f", b"12345")
    proxy.forget()
    try:
        verb(proxied)
    except StopIteration:
        pass
    assert paths(proxy) == requests


def test_stored_bytes_are_asked_for_as_they_are(proxied: GcsBackend, proxy: FaultProxy) -> None:
    proxied.put("f", b"1")
    proxied.get("f")
    assert proxy.log[-1].headers["accept-encoding"] == "gzip"


# --- options ---


def test_aliases_are_names_of_options() -> None:
    assert set(GcsBackend.aliases.values()) <= set(GcsOptions.__struct_fields__)


def test_project_is_sent(proxied: GcsBackend, proxy: FaultProxy) -> None:
    proxied.put("f", b"1")
    assert proxy.log[-1].headers["x-goog-user-project"] == "genro-test"


def test_client_options_reach_urllib3(opened: Open, proxy: FaultProxy) -> None:
    backend = opened(endpoint=proxy.endpoint, client_options={"headers": {"x-own": "1"}, "maxsize": 1}, timeout=1.5)
    backend.put("f", b"12")
    with closing(backend.reader("f")), pytest.raises(StorageTimeoutError, match="connections are busy"):
        backend.get("f")
    assert backend.get("f")[0] == b"12"


def test_credentials(opened: Open, gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary, a file beside the configuration, Google's own variable, nobody."""
    private = gcs.make_bucket(access="private")
    (tmp_path / "key.json").write_text(json.dumps(gcs.credentials))
    opened(bucket=private).put("f", b"1")
    beside = GcsBackend(
        GcsOptions(**gcs.options(private) | {"credentials": "key.json"}), Context(directory=str(tmp_path))
    )
    assert beside.get("f")[0] == b"1"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert opened(bucket=private, credentials=None).get("f")[0] == b"1"
    anonymous = opened(bucket=private, credentials="anon")
    assert "sign" not in anonymous.abilities
    for refused in (lambda: anonymous.get("f"), lambda: list(anonymous.scan("")), lambda: anonymous.put("f", b"")):
        with pytest.raises(StoragePermissionError):
            refused()
    with pytest.raises(StoragePermissionError, match="credentials"):
        opened(bucket=private, credentials=str(tmp_path / "absent.json")).get("f")
    beside.close()


def test_a_token_that_dies_half_way_is_renewed_once(opened: Open, gcs: GcsServer) -> None:
    backend = opened(bucket=gcs.make_bucket(access="private"))
    backend.put("f", b"1")
    gcs.authority.revoke()
    backend.put("f", b"2")
    assert backend.get("f")[0] == b"2"


def test_public_url(opened: Open) -> None:
    backend = opened(credentials="anon", path="p")
    assert "public_url" in backend.abilities
    assert backend.public_url("a b/ü") == (f"{backend.options.endpoint}/{backend.options.bucket}/p%2Fa%20b%2F%C3%BC")


def test_a_mount_by_its_alias(gcs: GcsServer) -> None:
    options = gcs.options(gcs.make_bucket())
    options["token"] = options.pop("credentials")
    storage = StorageManager()
    storage.configure([{"name": "g", "type": "gs", "prefix": "p", **options}])
    node = storage.node("g:d/f.txt")
    node.write_bytes(b"1")
    assert gcs.objects(str(options["bucket"])) == {"p/d/f.txt": b"1"}
    assert node.hash("crc32c") == "90f599e3"
    assert "PRIVATE KEY" not in repr(shown({"credentials": options["token"]}))


def test_all_versions_are_erased(gcs: GcsServer) -> None:
    """Also after a deletion, which must not be taken back on the way."""
    options = gcs.options(gcs.make_bucket(versioning=True))
    storage = StorageManager()
    storage.configure([{"name": "g", "type": "gcs", **options}])
    node = storage.node("g:f")
    node.write_bytes(b"1")
    node.write_bytes(b"2")
    node.delete()
    node.undelete()
    assert node.read_bytes() == b"2"
    node.delete()
    node.delete(all_versions=True)
    assert gcs.bucket(str(options["bucket"])).generations == {}


def test_signed_by_nobody_but_a_service_account(opened: Open) -> None:
    backend = opened()
    with pytest.raises(ValueError, match="604800"):
        backend.sign("f", "GET", 604_801, SignOptions())
    pinned = backend.sign("f", "PUT", 60, SignOptions(content_length=3))
    assert pinned.headers == {"x-goog-content-length-range": "3,3"}


# --- errors ---


def test_absent_buckets_and_refusals(opened: Open, gcs: GcsServer) -> None:
    absent = opened(bucket="no-such-bucket")
    for ask in (
        lambda: absent.stat("f"),
        lambda: list(absent.scan("d")),
        lambda: absent.put("f", b""),
        lambda: absent.get("f"),
    ):
        with pytest.raises(StorageNotFoundError, match="bucket 'no-such-bucket' does not exist"):
            ask()
    readonly = opened()
    readonly.put("f", b"1")
    gcs.bucket(readonly.options.bucket).access = "readonly"
    assert readonly.get("f")[0] == b"1"
    for change in (lambda: readonly.put("f", b""), lambda: readonly.delete("f"), lambda: readonly.mkdir("d")):
        with pytest.raises(StoragePermissionError):
            change()
    ((path, error),) = readonly.delete_many(["f"])
    assert (path, type(error)) == ("f", StoragePermissionError)
    gcs.bucket(readonly.options.bucket).access = "denied"
    with pytest.raises(StoragePermissionError):
        readonly.has("f")


def test_unreachable_and_silent_servers(opened: Open, proxied: GcsBackend, proxy: FaultProxy) -> None:
    with pytest.raises(Exception) as caught:
        opened(endpoint="http://127.0.0.1:9", credentials="anon", connect_timeout=1).has("f")
    assert isinstance(proxied.translate(caught.value), StorageUnavailableError)  # type: ignore[arg-type]
    proxy.blackhole()
    with pytest.raises(Exception) as caught:
        proxied.stat("f")
    assert isinstance(proxied.translate(caught.value), StorageTimeoutError)  # type: ignore[arg-type]
    proxy.answer(503)
    with pytest.raises(StorageUnavailableError):
        proxied.stat("f")


def test_a_second_page_that_fails_is_no_end(proxied: GcsBackend, proxy: FaultProxy, gcs: GcsServer) -> None:
    for name in "abc":
        proxied.put(name, b"")
    gcs.page_limit = 2
    try:
        pages = proxied.scan("")
        next(pages)  # type: ignore[call-overload]
        proxy.answer(500)
        with pytest.raises(StorageUnavailableError):
            next(pages)  # type: ignore[call-overload]
    finally:
        gcs.page_limit = 1000


def test_many_are_deleted(opened: Open, gcs: GcsServer) -> None:
    """Exactly these, in batches of a hundred; what is absent is no failure."""
    backend = opened(path="p q/#")
    names = [f"d/{number} *?%&=ü" for number in range(250)]
    for name in names:
        gcs.put(backend.options.bucket, f"p q/#/{name}", b"")
    backend.put("d/1", b"")
    assert list(backend.delete_many([*names, "d/absent"])) == []
    assert list(gcs.objects(backend.options.bucket)) == ["p q/#/d/1"]
    assert list(backend.delete_many([])) == []


def test_names_that_google_refuses(backend: GcsBackend) -> None:
    for name in ("a\nb", "x" * 1025):
        with pytest.raises(StoragePathError):
            backend.put(name, b"")


def test_metadata_up_to_eight_kib(backend: GcsBackend) -> None:
    backend.put("f", b"", WriteOptions(metadata={"k": "v" * 8191}))
    assert backend.stat("f").metadata == {"k": "v" * 8191}
    with pytest.raises(StorageQuotaError):
        backend.put("f", b"", WriteOptions(metadata={"k": "v" * 8192}))


# --- conditions and versions ---


@pytest.mark.parametrize("etag", ["0", "abc", "", "12345678901234567890"])
def test_an_etag_that_no_object_has_never_matches(backend: GcsBackend, etag: str) -> None:
    """Generation 0 would mean: only if absent."""
    with pytest.raises(StorageConflictError):
        backend.put("new", b"1", WriteOptions(if_match=etag))
    backend.put("old", b"1")
    for ask in (lambda: backend.get("old", if_match=etag), lambda: backend.delete("old", if_match=etag)):
        with pytest.raises(StorageConflictError):
            ask()
    assert [entry.path for page in backend.scan("") for entry in page] == ["old"]


def test_metadata_changed_meanwhile_is_a_conflict(proxied: GcsBackend, proxy: FaultProxy, gcs: GcsServer) -> None:
    proxied.put("f", b"1", WriteOptions(metadata={"a": "1"}))
    found = proxied._client.send

    def send(method: str, target: str, *args: Any) -> Any:
        answer = found(method, target, *args)
        if method == "GET":
            proxied._patch("f", {"b": "2"})
        return answer

    proxied._client.send = send  # type: ignore[method-assign]
    with pytest.raises(StorageConflictError):
        proxied.set_metadata("f", {"c": "3"})
    assert proxied.stat("f").metadata == {"a": "1", "b": "2"}


def test_a_deletion_is_taken_back_only_where_nothing_is_there_again(opened: Open) -> None:
    backend = opened(versioning=True)
    backend.put("f", b"1", WriteOptions(metadata={"k": "v"}))
    backend.delete("f")
    deletion = next(backend.versions("f"))
    assert (deletion.is_delete_marker, deletion.is_latest) == (True, True)
    backend.put("f", b"2")
    backend.delete("f", version=deletion.version_id)
    assert backend.get("f")[0] == b"2"
    backend.delete("f")
    backend.delete("f", version=next(backend.versions("f")).version_id)
    assert backend.get("f")[0] == b"2"
    for version in [one.version_id for one in backend.versions("f")]:
        backend.delete("f", version=version)
    backend.delete("f", version=deletion.version_id)
    assert list(backend.versions("f")) == []
    with pytest.raises(StorageVersionNotFoundError):
        backend.get("f", version="abc")


def test_not_version_aware(opened: Open) -> None:
    backend = opened(version_aware=False)
    assert backend.put("f", b"1").version_id is None
    assert (backend.stat("f").version_id, backend.get("f")[1].version_id) == (None, None)
    with pytest.raises(UnsupportedOperation, match="version_aware"):
        backend.get("f", version="1")


def test_a_copy_in_steps_across_buckets(opened: Open, gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = opened(), opened()
    source.put("f", bytes(10), WriteOptions(content_type="a/b", metadata={"k": "é"}, mtime=5.5))
    monkeypatch.setattr(gcs.json, "rewrite_step", 4)
    ticks: list[int] = []
    made = target.copy_from(source, "f", "g", WriteOptions(content_type="c/d"), tick=ticks.append)
    assert (sum(ticks), len(ticks)) == (10, 3)
    assert made == target.stat("g")
    assert (made.content_type, made.metadata, made.mtime) == ("c/d", {"k": "é"}, 5.5)
    with pytest.raises(StorageExistsError):
        target.copy_from(source, "f", "g", WriteOptions(if_absent=True))
    other = opened(credentials="anon")
    with pytest.raises(UnsupportedOperation):
        other.copy_from(source, "f", "g")


# --- uploads ---


def test_an_upload_in_chunks(opened: Open, gcs: GcsServer, small_chunks: int) -> None:
    backend, data = opened(), os.urandom(3 * small_chunks + 5)
    writer = backend.writer("f", WriteOptions(content_type="a/b", metadata={"k": "v"}, mtime=7.0))
    for start in range(0, len(data), 100_000):
        writer.write(data[start : start + 100_000])
    assert gcs.objects(backend.options.bucket) == {}
    stat = writer.commit()
    assert gcs.objects(backend.options.bucket) == {"f": data}
    assert (stat.content_type, stat.metadata, stat.mtime, stat.size) == ("a/b", {"k": "v"}, 7.0, len(data))
    assert stat.hashes["md5"] == hashlib.md5(data).hexdigest()
    assert gcs.unfinished(backend.options.bucket) == []


def test_discard_ends_the_upload(opened: Open, gcs: GcsServer, small_chunks: int) -> None:
    backend = opened()
    writer = backend.writer("f")
    writer.write(bytes(2 * small_chunks))
    assert gcs.unfinished(backend.options.bucket) == ["f"]
    writer.discard()
    writer.discard()
    assert (gcs.unfinished(backend.options.bucket), gcs.objects(backend.options.bucket)) == ([], {})
    with pytest.raises(StorageError):
        writer.write(b"")


@pytest.mark.parametrize("fault", ["refuse", "lose_answer", "answer"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_fault_in_an_upload_loses_nothing(
    proxied: GcsBackend, proxy: FaultProxy, gcs: GcsServer, small_chunks: int, fault: str, place: int
) -> None:
    """Whichever request fails, and whether or not it was done: going on gives one object of these bytes."""
    data = os.urandom(2 * small_chunks + 9)
    writer = proxied.writer("f", WriteOptions(if_absent=True))
    sent, opened = itertools.count(), proxied._client.web.open

    def spoiled(*args: Any) -> Any:
        if next(sent) == place:
            proxy.answer(503) if fault == "answer" else getattr(proxy, fault)()
        return opened(*args)

    proxied._client.web.open = spoiled  # type: ignore[method-assign]
    failures = 0
    for step in (lambda: writer.write(data), writer.commit):
        try:
            step()
        except Exception:  # noqa: BLE001 - whatever the driver says
            failures += 1
            if step == writer.commit:
                writer.commit()
            else:
                writer.write(b"")
    assert failures == 1
    assert gcs.objects(proxied.options.bucket)["f"] == data


def test_one_put_whose_answer_was_lost(proxied: GcsBackend, proxy: FaultProxy, gcs: GcsServer) -> None:
    writer = proxied.writer("f", WriteOptions(if_absent=True))
    writer.write(b"mine")
    proxy.lose_answer()
    with pytest.raises(Exception) as caught:
        writer.commit()
    assert isinstance(proxied.translate(caught.value), StorageUnavailableError)  # type: ignore[arg-type]
    assert writer.commit().size == 4
    other = proxied.writer("f", WriteOptions(if_absent=True))
    other.write(b"mine")
    with pytest.raises(StorageExistsError):
        other.commit()


def test_hashes_are_checked(backend: GcsBackend) -> None:
    writer = backend.writer("f")
    writer.write(b"1")
    with pytest.raises(StorageCorruptedError):
        writer.commit({"md5": "0" * 32})
    assert not backend.has("f")


# --- processes and threads ---


def test_pickled_and_forked(backend: GcsBackend) -> None:
    backend.put("f", b"123")
    assert pickle.loads(pickle.dumps(backend)).get("f")[0] == b"123"
    reader = backend.reader("f")
    child = os.fork()
    if child == 0:
        fine = backend.get("f")[0] == b"123"
        try:
            reader.read()
        except StorageError as error:
            fine = fine and "forked" in str(error)
        else:
            fine = False
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert reader.read() == b"123"


def test_threads_share_the_connections(backend: GcsBackend, gcs: GcsServer) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                backend.put(f"{number}", bytes([turn]) * 1000)
                assert backend.get(f"{number}")[0] == bytes([turn]) * 1000
        except Exception as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(gcs.objects(backend.options.bucket)) == 16


def test_a_body_cut_short_is_an_error(proxied: GcsBackend, proxy: FaultProxy) -> None:
    proxied.put("f", bytes(100_000))
    proxy.truncate(1000)
    with pytest.raises(Exception) as caught:
        proxied.get("f")
    assert isinstance(proxied.translate(caught.value) or caught.value, StorageUnavailableError)  # type: ignore[arg-type]
    proxy.truncate(1000)
    with closing(proxied.reader("f")) as reader, pytest.raises(Exception) as caught:
        reader.read()
    assert isinstance(proxied.translate(caught.value) or caught.value, StorageUnavailableError)  # type: ignore[arg-type]


def test_facts_are_the_same_from_every_side(backend: GcsBackend) -> None:
    made = backend.put("d/f", b"12", WriteOptions(content_type="a/b", metadata={"k": "日本"}, mtime=1.25))
    facts = backend.stat("d/f")
    ((listed,),) = backend.scan("d")
    assert listed == facts
    for stat in (made, backend.get("d/f")[1]):
        for name in ("path", "size", "mtime", "etag", "content_type", "hashes", "version_id", "metadata"):
            assert getattr(stat, name) == getattr(facts, name), name
    assert facts.hashes["crc32c"] == base64.b64decode("+KeWsA==").hex() or len(facts.hashes["crc32c"]) == 8


def test_fs_reaches_the_same_bytes(backend: GcsBackend) -> None:
    backend.put("d/f", b"12")
    assert backend.fs.cat_file(backend.native_path("d/f")) == b"12"
