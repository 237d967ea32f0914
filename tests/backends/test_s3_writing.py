"""Multipart uploads and copies inside S3: whole or not at all, nothing left behind, and repeatable after a failure."""

from __future__ import annotations

import gc
import os
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from genro_storage.backends._s3 import copying, writer
from genro_storage.backends._spooled import Spooled
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

pytestmark = pytest.mark.usefixtures("small_parts")

MIB = 1 << 20
Open = Callable[..., S3Backend]
TWO_PARTS = os.urandom(5 * MIB) + os.urandom(3 * MIB)


@pytest.fixture
def bucket(seaweedfs: S3Endpoint) -> str:
    """One for each case: a case counts the uploads in it."""
    return seaweedfs.make_bucket()


@pytest.fixture
def unfinished(seaweedfs: S3Endpoint, bucket: str) -> Callable[[], list[str]]:
    """The ids of uploads that are neither complete nor aborted."""

    def ask() -> list[str]:
        answer = seaweedfs.checked("GET", bucket, query={"uploads": ""})
        return re.findall(r"<UploadId>(.*?)</UploadId>", answer.body.decode())

    return ask


Unfinished = Callable[[], list[str]]


def written(backend: S3Backend, path: str, data: bytes, **options: Any) -> Stat:
    opened = backend.writer(path, WriteOptions(**options))
    opened.write(data)
    return opened.commit()


# --- multipart uploads ---


def test_more_than_a_part(backend: S3Backend, unfinished: Unfinished) -> None:
    stat = written(backend, "f", TWO_PARTS, content_type="a/b", metadata={"k": "ü"}, mtime=1.5, size=len(TWO_PARTS))
    assert stat.size == len(TWO_PARTS)
    data, found = backend.get("f")
    assert data == TWO_PARTS
    assert (found.etag, found.content_type, found.metadata, found.mtime) == (stat.etag, "a/b", {"k": "ü"}, 1.5)
    assert unfinished() == []


@pytest.mark.parametrize(("size", "requests"), [(5 * MIB, 1), (5 * MIB + 1, 4), (10 * MIB, 4), (10 * MIB + 1, 5)])
def test_a_part_is_sent_as_soon_as_more_follows(proxied: Open, proxy: FaultProxy, size: int, requests: int) -> None:
    data = os.urandom(size)
    backend = proxied()
    opened = backend.writer("f")
    for start in range(0, size, MIB - 1):
        opened.write(data[start : start + MIB - 1])
    opened.commit()
    assert proxy.count() == requests
    assert backend.get("f")[0] == data


def test_parts_grow_to_stay_below_their_number(
    monkeypatch: pytest.MonkeyPatch, proxied: Open, proxy: FaultProxy
) -> None:
    """T43: and what is larger than a first part waits in a file instead of in memory."""
    monkeypatch.setattr(writer, "PARTS_PER_SIZE", 2)
    data, backend = os.urandom(31 * MIB), proxied()
    opened = backend.writer("f", WriteOptions(size=len(data)))
    held = 0
    for start in range(0, len(data), MIB):
        opened.write(data[start : start + MIB])
        part = opened._upload._part if opened._upload is not None else None
        waiting = 0 if part is None or isinstance(part.data, Spooled) else len(part.data)
        held = max(held, len(opened._buffer) + waiting)
    assert opened.commit().size == len(data)
    sizes = [int(request.headers["content-length"]) for request in proxy.log if "partNumber" in request.query]
    assert sizes == [5 * MIB, 5 * MIB, 10 * MIB, 10 * MIB, MIB]
    assert held <= 2 * 5 * MIB
    assert backend.get("f")[0] == data


@pytest.mark.parametrize("kind", ["503", "lost", "reset"])
def test_a_spooled_part_is_sent_again(
    proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """From its beginning, wherever the first try ended; its file goes with the writer, whatever becomes of that."""
    monkeypatch.setattr(writer, "PARTS_PER_SIZE", 1)
    spools: list[Spooled] = []
    born = Spooled.__init__
    monkeypatch.setattr(Spooled, "__init__", lambda self, room: spools.append(self) or born(self, room))
    data, backend = os.urandom(5 * MIB + 10 * MIB + 20 * MIB + 1), proxied()
    which = {"method": "PUT", "contains": "partNumber=2&"}
    if kind == "503":
        proxy.answer(503, headers=["Retry-After: 0"], **which)
    elif kind == "lost":
        proxy.lose_answer(**which)
    else:
        proxy.reset_upload(3 * MIB, **which)
    target = Mount("s3", backend, retry=RetryPolicy(2, 0.0))
    opened = target.writer("f")
    for start in range(0, len(data), MIB):
        opened.write(data[start : start + MIB])
    opened.commit()
    assert backend.get("f")[0] == data
    assert [spool._file.closed for spool in spools] == [True] * 3
    dropped = target.writer("g")
    dropped.write(data)
    dropped.discard()
    assert all(spool._file.closed for spool in spools)


def test_the_largest_object_fits() -> None:
    sizes = [8 * MIB << (number // writer.PARTS_PER_SIZE) for number in range(10_000)]
    assert sum(sizes) > 5 << 40


def test_the_next_part_fills_while_one_is_sent(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("warm", b"")
    opened = backend.writer("f")
    opened.write(bytes(5 * MIB))
    proxy.rtt = 1.5
    sent = threading.Event()

    def fill() -> None:
        opened.write(b"x")  # begins the upload: one request is waited for, the part is not
        opened.write(b"x" * MIB)
        sent.set()

    thread = threading.Thread(target=fill)
    thread.start()
    assert sent.wait(60)
    assert proxy.count("PUT", "partNumber=1") == 0 or proxy.log[-1].status == 0
    thread.join()
    proxy.rtt = 0
    opened.commit()


FAULTS = [
    lambda proxy, **which: proxy.answer(503, headers=["Retry-After: 0"], **which),
    lambda proxy, **which: proxy.refuse(**which),
    lambda proxy, **which: proxy.lose_answer(**which),
    lambda proxy, **which: proxy.reset_upload(10, **which),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["503", "refuse", "lost", "reset"])
@pytest.mark.parametrize("which", [{"contains": "partNumber=1&"}, {"contains": "partNumber=2&"}, {"method": "POST"}])
def test_a_mount_repeats_what_failed(
    proxied: Open, proxy: FaultProxy, fault: Any, which: Any, unfinished: Unfinished
) -> None:
    """Each part, the beginning and the end, failing once in each way: the bytes are whole and nothing is left.

    Only a beginning whose answer is lost leaves an upload that nobody knows by its id.
    """
    mount = Mount("m", proxied(), retry=RetryPolicy(retries=2, max_delay=0.01))
    fault(proxy, **which)
    opened = mount.writer("f", WriteOptions(if_absent=True))
    for start in range(0, len(TWO_PARTS), MIB):
        opened.write(TWO_PARTS[start : start + MIB])
    assert opened.commit().size == len(TWO_PARTS)
    assert mount.get("f")[0] == TWO_PARTS
    assert len(unfinished()) <= (fault is FAULTS[2] and "method" in which)


@pytest.mark.parametrize("fault", FAULTS, ids=["503", "refuse", "lost", "reset"])
def test_the_end_is_repeated_but_not_the_object(
    proxied: Open, proxy: FaultProxy, fault: Any, unfinished: Unfinished
) -> None:
    """The answer to the completion is lost: the object made by it is recognised, under conditions too."""
    backend = proxied()
    opened = backend.writer("f", WriteOptions(if_absent=True))
    opened.write(TWO_PARTS)
    fault(proxy, method="POST", contains="uploadId=")
    with pytest.raises(Exception) as caught:
        opened.commit()
    failure = caught.value if isinstance(caught.value, StorageError) else backend.translate(caught.value)
    assert failure is not None
    assert failure.retryable
    stat = opened.commit()
    assert stat.etag == backend.stat("f").etag
    assert backend.get("f")[0] == TWO_PARTS
    assert unfinished() == []


def test_a_lost_end_is_recognised_by_its_etag(proxied: Open, proxy: FaultProxy) -> None:
    """Where the server forgets a completed upload at once; and what somebody else put there is not taken for ours."""
    for theirs in (False, True):
        backend = proxied()
        opened = backend.writer("f", WriteOptions(if_absent=True))
        opened.write(TWO_PARTS)
        proxy.lose_answer(method="POST", contains="uploadId=")
        with pytest.raises(Exception, match="Could not connect"):
            opened.commit()
        proxy.answer(404, "NoSuchUpload", method="POST", contains="uploadId=")
        if theirs:
            backend.put("f", b"theirs")
            with pytest.raises(StorageError):
                opened.commit()
        else:
            assert opened.commit().etag == backend.stat("f").etag


@pytest.mark.parametrize(("code", "error"), [("InternalError", StorageUnavailableError), ("InvalidPart", StorageError)])
def test_an_error_inside_a_good_answer(
    proxied: Open, proxy: FaultProxy, code: str, error: type[Exception], unfinished: Unfinished
) -> None:
    """R56."""
    mount = Mount("m", proxied(), retry=RetryPolicy(retries=0))
    mount.put("f", b"old")
    opened = mount.writer("f")
    opened.write(TWO_PARTS)
    proxy.answer(200, code, method="POST", contains="uploadId=")
    with pytest.raises(error):
        opened.commit()
    assert mount.get("f")[0] == b"old"
    opened.discard()
    assert unfinished() == []


def test_a_lost_put_is_recognised_under_its_condition(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    opened = backend.writer("f", WriteOptions(if_absent=True))
    opened.write(b"small")
    proxy.lose_answer(method="PUT")
    with pytest.raises(Exception, match="Could not connect"):
        opened.commit()
    assert opened.commit().etag == backend.stat("f").etag
    other = backend.writer("f", WriteOptions(if_absent=True))
    other.write(b"small")
    with pytest.raises(StorageExistsError):
        other.commit()


def test_one_try_per_request(proxied: Open, proxy: FaultProxy) -> None:
    """No library below repeats a request by itself: a lost conditional PUT would fail on its own success."""
    backend = proxied()
    backend.put("warm", b"1")
    for method, act in (
        ("PUT", lambda: backend.put("f", b"1", WriteOptions(if_absent=True))),
        ("GET", lambda: backend.get("warm")),
        ("HEAD", lambda: backend.stat("warm")),
        ("DELETE", lambda: backend.delete("warm")),
    ):
        for fault in (proxy.lose_answer, proxy.refuse, proxy.answer):
            proxy.forget()
            fault(method=method)
            with pytest.raises(Exception):  # noqa: B017 - of the driver, as the port allows
                act()
            assert proxy.count() == 1, (method, fault)


@pytest.mark.parametrize("drop", ["discard", "forget", "close"])
def test_giving_up_leaves_nothing(backend: S3Backend, unfinished: Unfinished, drop: str) -> None:
    """R15, R19: by discard, by dropping the writer, by closing the backend."""
    backend.put("f", b"old")
    opened = backend.writer("f")
    opened.write(TWO_PARTS)
    opened.write(TWO_PARTS)
    assert len(unfinished()) == 1
    if drop == "discard":
        opened.discard()
        opened.discard()
    elif drop == "close":
        backend.close()
    else:
        del opened
        gc.collect()
        backend.close()  # waits for nobody: closing only makes the test's next look certain
    assert unfinished() == []
    assert backend.get("f")[0] == b"old"


def test_discard_tries_again(proxied: Open, proxy: FaultProxy, unfinished: Unfinished) -> None:
    opened = proxied().writer("f")
    opened.write(TWO_PARTS)
    proxy.refuse(method="DELETE")
    proxy.answer(503, method="DELETE")
    opened.discard()
    assert unfinished() == []


def test_discard_never_raises(proxied: Open, proxy: FaultProxy) -> None:
    opened = proxied().writer("f")
    opened.write(TWO_PARTS)
    proxy.refuse(times=None)
    opened.discard()
    proxy.clear()


def test_the_end_judges(backend: S3Backend, unfinished: Unfinished) -> None:
    """Size, conditions and hashes; and the writer may still be discarded."""
    backend.put("there", b"old")
    etag = backend.stat("there").etag
    cases: list[tuple[type[Exception], str, WriteOptions]] = [
        (StorageCorruptedError, "new", WriteOptions(size=1)),
        (StorageExistsError, "there", WriteOptions(if_absent=True)),
        (StorageConflictError, "there", WriteOptions(if_match="0" * 32)),
        (StorageConflictError, "new", WriteOptions(if_match=etag)),
    ]
    for error, path, options in cases:
        opened = backend.writer(path, options)
        opened.write(TWO_PARTS)
        with pytest.raises(error):
            opened.commit()
        opened.discard()
    assert (backend.get("there")[0], unfinished()) == (b"old", [])
    assert written(backend, "there", TWO_PARTS, if_match=etag).size == len(TWO_PARTS)


def test_hashes_are_checked_before_the_bytes_are_seen(backend: S3Backend) -> None:
    opened = backend.writer("f")
    opened.write(b"1")
    with pytest.raises(StorageCorruptedError, match="md5"):
        opened.commit({"md5": "0" * 32})
    with pytest.raises(StorageNotFoundError):
        backend.stat("f")
    opened.commit({"md5": "c4ca4238a0b923820dcc509a6f75849b", "crc32c": "90f599e3"})
    assert backend.get("f")[0] == b"1"


def test_a_finished_writer_says_so(backend: S3Backend) -> None:
    opened = backend.writer("f")
    opened.commit()
    for act in (opened.commit, lambda: opened.write(b"1")):
        with pytest.raises(StorageError, match="finished"):
            act()


def test_a_stuck_upload_ends(proxied: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that no longer reads: the socket's own timeouts would never end that."""
    import socket

    monkeypatch.setattr("genro_storage.backends._s3.client.SLOWEST", 64 * MIB)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        backend = proxied(endpoint=endpoint, timeout=0.2, connect_timeout=0.2)
        with pytest.raises(StorageTimeoutError, match="stuck"):
            backend.put("f", bytes(32 * MIB))


# --- copies ---


def test_copy_between_buckets(backend: S3Backend, opened: Open, seaweedfs: S3Endpoint) -> None:
    other = opened(bucket=seaweedfs.make_bucket())
    assert other.storage_id == backend.storage_id
    assert other.native_path("x") != backend.native_path("x")
    backend.put("a b*?ü%", b"1", WriteOptions(metadata={"k": "v"}, content_type="a/b", mtime=2.5))
    done = []
    other.copy_from(backend, "a b*?ü%", "new", tick=done.append)
    stat = other.stat("new")
    assert (other.get("new")[0], stat.metadata, stat.content_type, stat.mtime) == (b"1", {"k": "v"}, "a/b", 2.5)
    assert len(done) == 1


def test_copy_needs_one_endpoint_and_one_account(backend: S3Backend, opened: Open) -> None:
    backend.put("f", b"1")
    elsewhere = opened(endpoint="http://127.0.0.1:1")
    assert elsewhere.storage_id != backend.storage_id
    for stranger in (elsewhere, opened(access_key="other"), opened(anon=True)):
        with pytest.raises(UnsupportedOperation):
            backend.copy_from(stranger, "f", "g")


def test_copy_with_other_facts(seaweedfs: S3Endpoint, bucket: str, opened: Open) -> None:
    """What the options say is new, all else is the source's."""
    backend = opened(path="")
    headers = {"cache-control": "no-store", "content-type": "a/b", "x-amz-meta-k": "v", "x-amz-meta-mtime": "2.5"}
    seaweedfs.checked("PUT", bucket, "f", body=b"1", headers=headers)
    cases: list[tuple[WriteOptions, tuple[str, dict[str, str], float]]] = [
        (WriteOptions(mtime=7.25), ("a/b", {"k": "v"}, 7.25)),
        (WriteOptions(content_type="c/d"), ("c/d", {"k": "v"}, 2.5)),
        (WriteOptions(metadata={}, mtime=2.5), ("a/b", {}, 2.5)),
        (WriteOptions(metadata={"x": "ü"}, content_type="c/d", mtime=0.0), ("c/d", {"x": "ü"}, 0.0)),
    ]
    for options, expected in cases:
        told = backend.copy_from(backend, "f", "g", options)
        stat = backend.stat("g")
        assert (stat.content_type, stat.metadata, stat.mtime) == expected
        assert told.etag == stat.etag
        assert seaweedfs.checked("HEAD", bucket, "g").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("theirs", [False, True])
def test_a_lost_answer_to_a_conditional_copy(proxied: Open, proxy: FaultProxy, theirs: bool) -> None:
    """Our own copy is no reason to refuse it; somebody else's file is."""
    mount = Mount("m", proxied(), retry=RetryPolicy(retries=2, max_delay=0))
    mount.put("f", b"content")
    options = WriteOptions(if_absent=True, size=7)
    if theirs:
        proxy.answer(503, "SlowDown", method="PUT")
        mount.guard.policy = RetryPolicy(2, 0, lambda seconds: mount.without_retries().put("g", b"theirs!"))
        with pytest.raises(StorageExistsError):
            mount.copy_from(mount, "f", "g", options)
        assert mount.get("g")[0] == b"theirs!"
        return
    proxy.lose_answer(method="PUT")
    assert mount.copy_from(mount, "f", "g", options).size == 7
    assert mount.get("g")[0] == b"content"


def test_copy_of_nothing(backend: S3Backend) -> None:
    for options in (WriteOptions(), WriteOptions(mtime=1.0), WriteOptions(size=6 << 30)):
        with pytest.raises(StorageNotFoundError):
            backend.copy_from(backend, "absent", "g", options)
    backend.put("g", b"old")
    for options in (WriteOptions(if_absent=True), WriteOptions(if_match="0" * 32)):
        with pytest.raises((StorageExistsError, StorageConflictError)):
            backend.copy_from(backend, "absent", "g", options)


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "ONE_REQUEST", 6 * MIB)
    monkeypatch.setattr(copying, "COPIED_PART", 5 * MIB)


@pytest.mark.usefixtures("low_limit")
def test_a_large_copy_is_made_of_parts(proxied: Open, proxy: FaultProxy, unfinished: Unfinished) -> None:
    backend = proxied()
    written(backend, "f", TWO_PARTS, metadata={"k": "v"}, content_type="a/b", mtime=2.5)
    proxy.forget()
    done: list[int] = []
    told = backend.copy_from(backend, "f", "g", WriteOptions(size=len(TWO_PARTS)), tick=done.append)
    assert [request.method for request in proxy.log] == ["HEAD", "POST", "PUT", "PUT", "POST"]
    data, stat = backend.get("g")
    assert data == TWO_PARTS
    assert (stat.metadata, stat.content_type, stat.mtime) == ({"k": "v"}, "a/b", 2.5)
    assert (told.size, told.etag, sum(done), len(done)) == (len(data), stat.etag, len(data), 2)
    with pytest.raises(StorageExistsError):
        backend.copy_from(backend, "f", "g", WriteOptions(size=len(TWO_PARTS), if_absent=True))
    assert unfinished() == []


@pytest.mark.usefixtures("low_limit")
def test_a_copy_of_unknown_size_may_turn_out_large(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    written(backend, "f", TWO_PARTS)
    proxy.answer(400, "EntityTooLarge", method="PUT", contains="/g")
    assert backend.copy_from(backend, "f", "g").size == len(TWO_PARTS)
    assert backend.get("g")[0] == TWO_PARTS


@pytest.mark.usefixtures("low_limit")
def test_a_failed_or_cancelled_copy_leaves_nothing(proxied: Open, proxy: FaultProxy, unfinished: Unfinished) -> None:
    backend = proxied()
    written(backend, "f", TWO_PARTS)
    backend.put("g", b"old")
    options = WriteOptions(size=len(TWO_PARTS))

    def cancel(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.copy_from(backend, "f", "g", options, tick=cancel)
    proxy.answer(503, method="PUT", contains="partNumber=2")
    with pytest.raises(Exception, match="SlowDown"):
        backend.copy_from(backend, "f", "g", options)
    assert (backend.get("g")[0], unfinished()) == (b"old", [])


@pytest.mark.usefixtures("low_limit")
def test_a_source_that_changes_while_its_parts_are_copied(backend: S3Backend, unfinished: Unfinished) -> None:
    written(backend, "f", TWO_PARTS)

    def change(_: int) -> None:
        backend.put("f", bytes(len(TWO_PARTS)))

    with pytest.raises(Exception) as caught:
        backend.copy_from(backend, "f", "g", WriteOptions(size=len(TWO_PARTS)), tick=change)
    failure = caught.value if isinstance(caught.value, StorageError) else backend.translate(caught.value)
    assert isinstance(failure, StorageConflictError)
    with pytest.raises(StorageNotFoundError):
        backend.stat("g")
    assert unfinished() == []


@pytest.mark.usefixtures("low_limit")
def test_a_server_that_cannot_copy_in_parts(rclone_s3: S3Endpoint, opened: Open) -> None:
    backend = opened(rclone_s3, bucket=rclone_s3.make_bucket())
    written(backend, "f", TWO_PARTS)
    with pytest.raises(UnsupportedOperation):
        backend.copy_from(backend, "f", "g", WriteOptions(size=len(TWO_PARTS)))
    assert [entry.path for page in backend.walk("") for entry in page] == ["f"]


def test_conditions_of_a_copy_hold_on_servers_without(ministack: S3Endpoint, opened: Open) -> None:
    """MiniStack ignores them on CopyObject, as AWS did before 2025."""
    backend = opened(ministack, bucket=ministack.make_bucket())
    backend.put("f", b"new")
    etag = backend.put("g", b"old").etag
    with pytest.raises(StorageExistsError):
        backend.copy_from(backend, "f", "g", WriteOptions(if_absent=True))
    with pytest.raises(StorageConflictError):
        backend.copy_from(backend, "f", "g", WriteOptions(if_match="0" * 32))
    assert backend.get("g")[0] == b"old"
    backend.copy_from(backend, "f", "g", WriteOptions(if_match=etag))
    assert backend.get("g")[0] == b"new"
