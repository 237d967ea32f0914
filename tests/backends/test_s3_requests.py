"""Requests are counted, of nodes and of mounts: none is sent that its answer does not need; and faults are survived.

The first table is the one in ``docs/backends/s3.rst``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY, RetryPolicy
from genro_storage.types import WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

MIB = 1 << 20
Open = Callable[..., S3Backend]
Act = Callable[[Any], object]


def counted(proxy: FaultProxy) -> Counter[str]:
    """Requests by kind; a GET of a bucket is a LIST."""
    lists = ("list-type=2", "versions&")
    return Counter("LIST" if any(word in request.query for word in lists) else request.method for request in proxy.log)


@pytest.fixture
def mount(proxied: Open) -> Mount:
    return Mount("m", proxied(), retry=NO_RETRY)


@pytest.fixture
def node(mount: Mount, proxy: FaultProxy, seaweedfs: S3Endpoint) -> Iterator[StorageNode]:
    """The root of the same place as `mount`, as users hold it."""
    options = mount.backend.options
    entry = seaweedfs.through(proxy.endpoint).options(options.bucket) | {"path": options.path}
    with StorageManager([{"name": "s3", "type": "s3", **entry}]) as manager:
        yield manager.node("s3:")


@pytest.fixture
def filled(mount: Mount, proxy: FaultProxy) -> Mount:
    """Holds the files d/f, d/g, d/sub/h and the empty directory e; nothing is counted yet."""
    for path in ("d/f", "d/g", "d/sub/h"):
        mount.put(path, b"12345")
    mount.mkdir("e")
    proxy.forget()
    return mount


def read_stream(node: StorageNode) -> None:
    with (node / "d/f").open("rb") as file:
        assert file.read() == b"12345"


def append(node: StorageNode) -> None:
    with (node / "d/f").open("ab") as file:
        file.write(b"6")


NODE_VERBS: dict[str, tuple[Act, dict[str, int]]] = {
    "stat": (lambda n: (n / "d/f").stat(), {"HEAD": 1}),
    "size": (lambda n: (n / "d/f").size, {"HEAD": 1}),
    "mtime": (lambda n: (n / "d/f").mtime, {"HEAD": 1}),
    "md5": (lambda n: (n / "d/f").hash("md5"), {"HEAD": 1}),
    "exists of a file": (lambda n: (n / "d/f").exists(), {"HEAD": 1}),
    "is_file": (lambda n: (n / "d/f").is_file(), {"HEAD": 1}),
    "exists of nothing": (lambda n: (n / "absent").exists(), {"HEAD": 1, "LIST": 1}),
    "exists of a directory": (lambda n: (n / "d").exists(), {"HEAD": 1, "LIST": 1}),
    "is_dir": (lambda n: (n / "d").is_dir(), {"LIST": 1}),
    "read_bytes": (lambda n: (n / "d/f").read_bytes(), {"GET": 1}),
    "read_text": (lambda n: (n / "d/f").read_text(), {"GET": 1}),
    "a range": (lambda n: (n / "d/f").read_bytes(1, 3), {"GET": 1}),
    "open": (read_stream, {"GET": 1}),
    "sha256": (lambda n: (n / "d/f").hash("sha256"), {"GET": 1}),
    "write_bytes": (lambda n: (n / "new/x").write_bytes(b"1"), {"PUT": 1}),
    "write_bytes if_absent": (lambda n: (n / "new/x").write_bytes(b"1", if_absent=True), {"PUT": 1}),
    "append": (append, {"GET": 1, "PUT": 1}),
    "children": (lambda n: (n / "d").children(), {"LIST": 1}),
    "children of an empty directory": (lambda n: (n / "e").children(), {"LIST": 1}),
    "iterdir": (lambda n: list((n / "d").iterdir()), {"LIST": 1}),
    "scan": (lambda n: list(n.scan(recursive=True)), {"LIST": 1}),
    "glob": (lambda n: list(n.glob("d/*")), {"LIST": 1}),
    "usage": (lambda n: (n / "d").usage(), {"LIST": 1}),
    "walk": (lambda n: list((n / "d").walk()), {"LIST": 2}),
    "mkdir": (lambda n: (n / "made").mkdir(), {"HEAD": 1, "LIST": 1, "PUT": 1}),
    "versions": (lambda n: (n / "d/f").versions, {"LIST": 1}),
    "get_tags": (lambda n: (n / "d/f").get_tags(), {"GET": 1}),
    "set_tags": (lambda n: (n / "d/f").set_tags({"a": "b"}), {"PUT": 1}),
    "set_metadata": (lambda n: (n / "d/f").set_metadata({"a": "b"}), {"HEAD": 1, "PUT": 1}),
    "url": (lambda n: (n / "d/f").url(), {}),
    "sign": (lambda n: (n / "d/f").sign("PUT"), {}),
    "unlink": (lambda n: (n / "d/f").unlink(missing_ok=True), {"DELETE": 1}),
}


@pytest.mark.parametrize("verb", NODE_VERBS)
def test_requests_of_nodes(filled: Mount, node: StorageNode, proxy: FaultProxy, verb: str) -> None:
    act, expected = NODE_VERBS[verb]
    act(node)
    assert counted(proxy) == expected


def raising(error: type[Exception], act: Act) -> Act:
    def run(mount: Mount) -> None:
        with pytest.raises(error):
            act(mount)

    return run


def entries(pages: Any) -> list[Any]:
    return [entry for page in pages for entry in page]


def streamed(mount: Mount, size: int) -> None:
    writer = mount.writer("new")
    writer.write(bytes(size))
    writer.commit()


def read_once(mount: Mount, *span: int) -> None:
    with closing(mount.reader("d/f", *span)) as reader:
        while reader.read(2):
            pass


MOUNT_VERBS: dict[str, tuple[Act, dict[str, int]]] = {
    "stat": (lambda m: m.stat("d/f"), {"HEAD": 1}),
    "stat of a directory": (lambda m: m.stat("d"), {"HEAD": 1, "LIST": 1}),
    "stat of nothing": (raising(StorageNotFoundError, lambda m: m.stat("absent")), {"HEAD": 1, "LIST": 1}),
    "the root": (lambda m: (m.stat(""), m.exists(""), m.is_dir("")), {}),
    "get": (lambda m: m.get("d/f"), {"GET": 1}),
    "get of nothing": (raising(StorageNotFoundError, lambda m: m.get("absent")), {"GET": 1}),
    "get of a range": (lambda m: m.get("d/f", 1, 2), {"GET": 1}),
    "get of a suffix": (lambda m: m.get("d/f", -2), {"GET": 1}),
    "get of an empty range": (lambda m: m.get("d/f", 2, 2), {"HEAD": 1}),
    "get past the end": (lambda m: m.get("d/f", 9, 12), {"GET": 1, "HEAD": 1}),
    "reader": (read_once, {"GET": 1}),
    "reader of a range": (lambda m: read_once(m, 1, 3), {"GET": 1}),
    "put": (lambda m: m.put("new", b"1"), {"PUT": 1}),
    "put where something is": (
        raising(StorageExistsError, lambda m: m.put("d/f", b"1", WriteOptions(if_absent=True))),
        {"PUT": 1},
    ),
    "writer of a part": (lambda m: streamed(m, 8 * MIB), {"PUT": 1}),
    "writer of three parts": (lambda m: streamed(m, 16 * MIB + 1), {"POST": 2, "PUT": 3}),
    "writer of nothing": (lambda m: streamed(m, 0), {"PUT": 1}),
    "writer given up": (lambda m: m.writer("new").discard(), {}),
    "delete": (lambda m: m.delete("d/f"), {"DELETE": 1}),
    "delete_many": (lambda m: m.delete_many([f"d/{number}" for number in range(1001)]), {"POST": 2}),
    "scan": (lambda m: entries(m.scan("d")), {"LIST": 1}),
    "scan of nothing": (raising(StorageNotFoundError, lambda m: entries(m.scan("absent"))), {"LIST": 1, "HEAD": 1}),
    "scan of a file": (raising(StorageNotADirectoryError, lambda m: entries(m.scan("d/f"))), {"LIST": 1, "HEAD": 1}),
    "scan left early": (lambda m: next(m.scan("d")), {"LIST": 1}),
    "walk": (lambda m: entries(m.walk("")), {"LIST": 1}),
    "is_dir of nothing": (lambda m: m.is_dir("absent"), {"LIST": 1}),
    "rmdir": (lambda m: m.rmdir("e"), {"LIST": 1, "DELETE": 1}),
    "rmdir of a full one": (raising(StorageNotEmptyError, lambda m: m.rmdir("d")), {"LIST": 1}),
    "copy": (lambda m: m.copy_from(m, "d/f", "new"), {"PUT": 1}),
    "copy with a time": (lambda m: m.copy_from(m, "d/f", "new", WriteOptions(mtime=1.0)), {"HEAD": 1, "PUT": 1}),
    "copy if absent": (lambda m: m.copy_from(m, "d/f", "new", WriteOptions(if_absent=True)), {"HEAD": 1, "PUT": 1}),
}


@pytest.mark.parametrize("verb", MOUNT_VERBS)
def test_requests_of_mounts(filled: Mount, proxy: FaultProxy, verb: str) -> None:
    act, expected = MOUNT_VERBS[verb]
    act(filled)
    assert counted(proxy) == expected


def test_connecting_sends_nothing(mount: Mount, proxy: FaultProxy) -> None:
    assert (mount.backend.fs is not None, mount.backend.storage_id != "", mount.can("walk")) == (True, True, True)
    assert proxy.count() == 0


@pytest.mark.parametrize("files", [999, 1000, 1001, 2500])
def test_a_listing_is_one_request_for_a_thousand(
    ministack: S3Endpoint, opened: Open, s3_proxy: Any, files: int
) -> None:
    proxy = s3_proxy(ministack)
    backend = opened(ministack.through(proxy.endpoint), bucket=ministack.make_bucket(), path="")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: backend.put(f"d/{number:05}", b""), range(files)))
    for pages in (backend.scan("d"), backend.walk(""), Mount("m", backend).walk("d")):
        proxy.forget()
        assert len(entries(pages)) == files
        assert counted(proxy) == {"LIST": -(-files // 1000)}


def test_a_range_fetches_only_the_range(mount: Mount, proxy: FaultProxy) -> None:
    """R34."""
    mount.put("large", bytes(20 * MIB))
    proxy.forget()
    assert len(mount.get("large", 5 * MIB, 5 * MIB + 100)[0]) == 100
    with closing(mount.reader("large", -50)) as reader:
        assert len(reader.read()) == 50
    ranges = [request.headers["range"] for request in proxy.log]
    assert ranges == [f"bytes={5 * MIB}-{5 * MIB + 99}", "bytes=-50"]


def test_a_small_put_does_not_ask_first(mount: Mount, proxy: FaultProxy) -> None:
    """No `Expect: 100-continue`, which costs a round trip."""
    mount.put("f", b"1" * 100_000)
    assert "expect" not in proxy.log[-1].headers


# --- faults ---


def impatient(proxied: Open, **keys: Any) -> Mount:
    """One that waits for no answer: what others answer in time on a slow machine too, it is not to be asked."""
    return Mount("m", proxied(timeout=0.5, connect_timeout=0.5, **keys), retry=NO_RETRY)


VERBS: dict[str, tuple[str, Act]] = {
    "stat": ("HEAD", lambda m: m.stat_file("f")),
    "exists": ("HEAD", lambda m: m.exists("f")),
    "get": ("GET", lambda m: m.get("f")),
    "reader": ("GET", lambda m: m.reader("f").read()),
    "scan": ("GET", lambda m: entries(m.scan(""))),
    "walk": ("GET", lambda m: entries(m.walk(""))),
    "is_dir": ("GET", lambda m: m.is_dir("f")),
    "put": ("PUT", lambda m: m.put("f", b"new")),
    "write": ("PUT", lambda m: streamed(m, 10)),
    "mkdir": ("PUT", lambda m: m.mkdir("new")),
    "delete": ("DELETE", lambda m: m.delete("f")),
    "delete_many": ("POST", lambda m: m.delete_many(["f"])),
    "rmdir": ("DELETE", lambda m: m.rmdir("e")),
    "copy": ("PUT", lambda m: m.copy_from(m, "f", "new")),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", ["503", "429", "500", "refuse", "lose_answer", "blackhole"])
def test_an_unanswered_request(proxied: Open, proxy: FaultProxy, verb: str, fault: str) -> None:
    """Each is a retryable error of our tree that names the place, in time; nothing of a file changes by half."""
    (method, act), place = VERBS[verb], f"one/{verb}/{fault}"
    patient = Mount("m", proxied(engine="exact", path=place), retry=NO_RETRY)
    patient.put("f", b"old")
    patient.mkdir("e")
    mount = impatient(proxied, engine="exact", path=place) if fault == "blackhole" else patient
    proxy.forget()
    if fault.isdigit():
        code = {"503": "SlowDown", "429": "TooManyRequests", "500": "InternalError"}[fault]
        proxy.answer(int(fault), code, method=method, headers=["Retry-After: 7"])
    else:
        getattr(proxy, fault)(method=method)
    with pytest.raises(StorageUnavailableError) as caught:
        act(mount)
    error = caught.value
    assert (error.mount, error.retryable) == ("m", True)
    assert isinstance(error, StorageTimeoutError) is (fault == "blackhole")
    assert error.retry_after == (7 if fault.isdigit() else None)
    assert sum(request.method == method for request in proxy.log) == 1
    if fault != "lose_answer":
        assert patient.get("f")[0] == b"old"
        assert not patient.exists("new")


@pytest.mark.parametrize("verb", VERBS)
def test_a_mount_tries_again(proxied: Open, proxy: FaultProxy, verb: str) -> None:
    """Twice refused, once lost: the third answer counts."""
    mount, (method, act) = Mount("m", proxied(), retry=RetryPolicy(3, 0.01)), VERBS[verb]
    mount.put("f", b"old")
    mount.mkdir("e")
    proxy.refuse(method=method)
    proxy.answer(503, method=method, headers=["Retry-After: 0"])
    proxy.lose_answer(method=method)
    act(mount)


@pytest.mark.parametrize("cut", ["truncate", "reset"])
@pytest.mark.parametrize("after", [0, 1, 70_000, 2 * MIB - 1])
def test_a_cut_body_is_an_error(proxied: Open, proxy: FaultProxy, cut: str, after: int) -> None:
    """Never a short read without a word, whole or in pieces; with retries the very bytes."""
    data = os.urandom(2 * MIB)
    mount = Mount("m", proxied(), retry=NO_RETRY)
    mount.put("f", data)

    def pieces(mount: Mount) -> bytes:
        with closing(mount.reader("f")) as reader:
            found = b""
            while piece := reader.read(100_000):
                found += piece
            return found

    for act in (lambda m: m.get("f")[0], lambda m: m.reader("f").read(), pieces):
        getattr(proxy, cut)(after, method="GET")
        with pytest.raises(StorageUnavailableError) as caught:
            act(mount)
        assert caught.value.retryable
        getattr(proxy, cut)(after, method="GET")
        assert act(Mount("m", mount.backend, retry=RetryPolicy(2, 0.01))) == data


def test_a_retried_read_is_of_one_object(proxied: Open, proxy: FaultProxy, opened: Open) -> None:
    """R18: replaced between the cut and the retry, it is a conflict and never a mixture."""
    backend = proxied()
    mount = Mount("m", backend, retry=RetryPolicy(2, 0.01))
    mount.put("f", b"o" * (2 * MIB))
    proxy.truncate(MIB, method="GET")
    with closing(mount.reader("f")) as reader:
        first = reader.read(100_000)
        assert first == b"o" * 100_000
        backend.put("f", b"n" * (2 * MIB))
        with pytest.raises(StorageConflictError):
            while reader.read(100_000):
                pass


def test_a_cut_listing_raises(proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing later page is an error, not the end."""
    monkeypatch.setattr("genro_storage.backends._pages.PAGE", 2)
    mount = Mount("m", proxied(), retry=NO_RETRY)
    for number in range(6):
        mount.put(f"{number}", b"1")
    pages = mount.scan("")
    assert len(next(pages)) == 2
    proxy.truncate(50, contains="continuation-token")
    with pytest.raises(StorageUnavailableError):
        list(pages)


def test_a_dead_endpoint(opened: Open) -> None:
    """R41: on use, not before, and within the time to connect."""
    mount = Mount("m", opened(endpoint="http://127.0.0.1:9", connect_timeout=1), retry=NO_RETRY)
    for act in (lambda: mount.exists("f"), lambda: mount.put("f", b"1"), lambda: entries(mount.scan(""))):
        with pytest.raises(StorageUnavailableError, match=r"127\.0\.0\.1:9.*'m:"):
            act()


def test_a_host_that_does_not_exist(opened: Open) -> None:
    mount = Mount("m", opened(endpoint="http://no-such-host.invalid", connect_timeout=5), retry=NO_RETRY)
    with pytest.raises(StorageUnavailableError, match="no-such-host"):
        mount.get("f")


@pytest.mark.parametrize("keys", [{"secret_key": "wrong"}, {"access_key": "NOSUCHKEY00000000000"}])
def test_wrong_credentials(opened: Open, keys: dict[str, str]) -> None:
    """R54: every question raises, none is answered with no; and no secret is told."""
    mount = Mount("m", opened(**keys), retry=NO_RETRY)
    for ask in (
        mount.exists,
        mount.is_file,
        mount.is_dir,
        mount.stat,
        mount.get,
        lambda path: entries(mount.scan(path)),
    ):
        with pytest.raises(StoragePermissionError, match="credentials") as caught:
            ask("f")
        assert "wrong" not in str(caught.value)
        assert not caught.value.retryable


def test_a_missing_bucket_is_named(opened: Open) -> None:
    mount = Mount("m", opened(bucket="genro-absent"), retry=NO_RETRY)
    for act in (lambda: mount.get("f"), lambda: mount.put("f", b"1"), lambda: entries(mount.scan(""))):
        with pytest.raises(StorageNotFoundError, match="bucket 'genro-absent' does not exist"):
            act()


CODES: list[tuple[int, str, type[StorageError], bool]] = [
    (400, "KeyTooLongError", StorageError, False),
    (400, "ExpiredToken", StoragePermissionError, False),
    (400, "RequestTimeout", StorageTimeoutError, True),
    (400, "IncompleteBody", StorageUnavailableError, True),
    (403, "InvalidObjectState", StoragePermissionError, False),
    (403, "SomethingNew", StoragePermissionError, False),
    (409, "OperationAborted", StorageUnavailableError, True),
    (409, "ConditionalRequestConflict", StorageConflictError, False),
    (418, "SomethingNew", StorageError, False),
    (502, "SomethingNew", StorageUnavailableError, True),
    (504, "SomethingNew", StorageUnavailableError, True),
]


@pytest.mark.parametrize(("status", "code", "error", "retryable"), CODES)
def test_codes(
    mount: Mount, proxy: FaultProxy, status: int, code: str, error: type[StorageError], retryable: bool
) -> None:
    proxy.answer(status, code, method="GET")
    with pytest.raises(error) as caught:
        mount.get("f")
    assert (caught.value.retryable, caught.value.path) == (retryable, "f")
    assert caught.value.__cause__ is not None


def test_retry_after_as_a_date(proxied: Open, proxy: FaultProxy) -> None:
    from email.utils import formatdate

    mount = Mount("m", proxied(engine="exact"), retry=NO_RETRY)
    for header, least, most in ((formatdate(time.time() + 60, usegmt=True), 50, 60), ("soon", None, None)):
        proxy.answer(503, method="GET", headers=[f"Retry-After: {header}"])
        with pytest.raises(StorageUnavailableError) as caught:
            mount.get("f")
        told = caught.value.retry_after
        assert told is None if least is None else least <= (told or 0) <= most


def test_the_weak_server(rclone_s3: S3Endpoint, opened: Open) -> None:
    """rclone answers a whole range with 200 and refuses a suffix longer than the file: the bytes are right."""
    backend = opened(rclone_s3, bucket=rclone_s3.make_bucket())
    backend.put("f", b"0123456789")
    for start, end in ((0, 10), (2, 10), (0, 99), (-3, None), (-10, None), (-99, None), (-99, 4), (9, 20), (10, 20)):
        expected = b"0123456789"[start:end] if start >= 0 or end is None else b"0123"
        data, stat = backend.get("f", start, end)
        assert (data, stat.size) == (expected, 10), (start, end)
        with closing(backend.reader("f", start, end)) as reader:
            assert (reader.read(), reader.stat.size) == (expected, 10), (start, end)
