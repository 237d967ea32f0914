"""obstore beside the exact path to S3: what goes which way, and that both ways tell and do the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage.backends import _obstore
from genro_storage.backends._s3 import fast
from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY, RetryPolicy
from genro_storage.types import Stat, WriteOptions
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .processes import forks, in_children

MIB = 1 << 20
Open = Callable[..., S3Backend]
RICH = WriteOptions(content_type="text/x-one", metadata={"Owner": "né", "content-length": "7"}, mtime=1234567890.25)


def ways(proxy: FaultProxy) -> list[str]:
    """Who sent the requests since `forget`."""
    return ["fast" if seen.headers["user-agent"].startswith("object_store") else "exact" for seen in proxy.log]


def one_second(stat: Stat) -> Stat:
    """Facts without what two writes of the same cannot share."""
    return replace(stat, mtime=None if stat.mtime is None else 0.0, version_id=None)


@pytest.fixture
def pair(opened: Open) -> tuple[S3Backend, S3Backend]:
    """The same place, both ways."""
    return opened(path="pair"), opened(path="pair", engine="exact")


# --- the same, both ways ---


@pytest.mark.parametrize("options", [WriteOptions(), RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_facts_are_the_same(pair: tuple[S3Backend, S3Backend], options: WriteOptions, size: int) -> None:
    quick, exact = pair
    data = os.urandom(size)
    told = [backend.put("f", data, options) for backend in pair]
    assert replace(told[0], hashes={}) == replace(told[1], hashes={})
    for backend in pair:
        backend.put("f", data, options)
        found = [one_second(reader.get("f")[1]) for reader in pair]
        assert replace(found[0], hashes={}) == replace(found[1], hashes={})
        assert found[0].hashes == (found[1].hashes if size <= fast.PROVEN else {})
    assert quick.get("f")[0] == exact.get("f")[0] == data


@pytest.mark.parametrize("options", [WriteOptions(), RICH], ids=["plain", "rich"])
def test_a_look_is_the_same(pair: tuple[S3Backend, S3Backend], options: WriteOptions) -> None:
    """All but the hash, of which obstore does not tell whether it is one."""
    quick, exact = pair
    exact.put("f", b"0123456789", options)
    told = exact.stat("f")
    assert told.hashes
    assert quick.look("f") == replace(told, hashes={})
    assert exact.look("f") == quick.stat("f") == told


def test_a_look_is_one_request(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("f", b"1")
    proxy.forget()
    backend.look("f")
    with pytest.raises(StorageNotFoundError):
        backend.look("absent")
    assert [(seen.method, way) for seen, way in zip(proxy.log, ways(proxy), strict=True)] == [("HEAD", "fast")] * 2
    proxy.forget()
    for path in ("", "a//b"):
        with pytest.raises(StorageNotFoundError):
            backend.look(path)
    assert ways(proxy) == ["exact"]


@pytest.mark.parametrize(
    ("status", "kind", "asked"),
    [
        (403, StoragePermissionError, ["fast"]),
        (503, StorageUnavailableError, ["fast"]),
        (400, StorageError, ["fast", "exact"]),  # no body says what it is about: the exact path may know
    ],
)
def test_a_refused_look(
    proxied: Open, proxy: FaultProxy, status: int, kind: type[StorageError], asked: list[str]
) -> None:
    backend = proxied()
    proxy.answer(status, method="HEAD", times=None)
    with pytest.raises(kind):
        backend.look("f")
    assert ways(proxy) == asked


def test_a_look_of_a_version(opened: Open, seaweedfs: S3Endpoint) -> None:
    backend = opened(bucket=seaweedfs.make_bucket(versioning=True))
    first, second = backend.put("f", b"1"), backend.put("f", b"22")
    assert backend.look("f") == replace(backend.stat("f"), hashes={})
    assert (backend.look("f").version_id, backend.look("f").size) == (second.version_id, 2)
    assert backend.look("f", version=first.version_id).size == 1


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 4), (3, 7), (3, None), (3, 100), (-4, None), (-40, None), (-4, -2), (10, 20), (99, None), (4, 4)],
)
def test_ranges_are_the_same(pair: tuple[S3Backend, S3Backend], start: int, end: int | None) -> None:
    quick, exact = pair
    exact.put("f", b"0123456789")
    data, stat = quick.get("f", start, end)
    assert (data, stat.size, stat.etag) == (exact.get("f", start, end)[0], 10, exact.stat("f").etag)


def test_versions_are_told(opened: Open, seaweedfs: S3Endpoint) -> None:
    backend = opened(bucket=seaweedfs.make_bucket(versioning=True))
    first, second = backend.put("f", b"1"), backend.put("f", b"2")
    assert first.version_id is not None
    assert first.version_id != second.version_id
    assert backend.get("f")[1].version_id == second.version_id
    assert backend.get("f", version=first.version_id)[0] == b"1"


def test_a_compressed_object_stays_as_it_is(pair: tuple[S3Backend, S3Backend], seaweedfs: S3Endpoint) -> None:
    quick, exact = pair
    headers = {"content-encoding": "gzip", "x-amz-meta-storage-class": "mine", "cache-control": "no-cache"}
    seaweedfs.checked("PUT", quick.options.bucket, quick.key("z"), headers=headers, body=b"\x1f\x8bnot really")
    assert quick.get("z") == exact.get("z")
    assert quick.get("z")[1].metadata == {"storage-class": "mine"}


def test_conditions_are_judged_by_the_server(pair: tuple[S3Backend, S3Backend]) -> None:
    quick, _ = pair
    quick.put("c", b"0")
    with pytest.raises(StorageExistsError):
        quick.put("c", b"1", WriteOptions(if_absent=True))
    with pytest.raises(StorageConflictError):
        quick.put("c", b"1", WriteOptions(if_match="0" * 32))
    with pytest.raises(StorageConflictError, match=r"nothing is there|another one"):
        quick.put("absent", b"1", WriteOptions(if_match="0" * 32))
    with pytest.raises(StorageConflictError):
        quick.get("c", if_match="0" * 32)
    etag = quick.get("c")[1].etag
    assert quick.get("c", if_match=etag)[0] == b"0"
    assert quick.put("c", b"2", WriteOptions(if_match=etag)).size == 1


def test_one_of_many_creators_wins(opened: Open) -> None:
    backend = opened()

    def create(number: int) -> bool:
        try:
            backend.put("f", b"%d" % number, WriteOptions(if_absent=True))
        except StorageExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert sum(won) == 1
    assert backend.get("f")[0] == b"%d" % won.index(True)


# --- what goes which way ---


def test_small_objects_go_the_fast_way(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("d/f é", b"1", RICH)
    backend.get("d/f é")
    backend.get("d/f é", 0, 1)
    backend.get("d/f é", if_match=backend.get("d/f é")[1].etag)
    assert ways(proxy) == ["fast"] * 5
    assert proxy.log[0].headers["x-amz-content-sha256"].startswith("6b86b273ff34fce1"), "the server checks the bytes"


def exact_acts() -> dict[str, tuple[dict[str, Any], Callable[[S3Backend], object]]]:
    def put(path: str = "f", **options: Any) -> Callable[[S3Backend], object]:
        return lambda backend: backend.put(path, b"1", WriteOptions(**options))

    return {
        "engine": ({"engine": "exact"}, put()),
        "empty segment": ({}, put("a//b")),
        "dot": ({}, put("a/./b")),
        "dots": ({}, put("a/../b")),
        "control character": ({}, put("a\nb")),
        "slash at the end": ({}, lambda backend: backend.put("a/", b"")),
        "tags": ({}, put(tags={"a b": "c"})),
        "metadata like a header": ({}, put(metadata={"content-type": "x"})),
        "acl": ({"acl": "private"}, put()),
        "crc32c": ({"checksum": "crc32c"}, put()),
        "md5": ({"checksum": "md5"}, put()),
        "own settings": ({"client_options": {"user_agent_extra": "mine"}}, put()),
        "too large for its time": ({"timeout": 0.5}, lambda backend: backend.put("f", bytes(64 << 10))),
    }


@pytest.mark.parametrize("case", exact_acts())
def test_what_obstore_cannot_say_goes_the_exact_way(proxied: Open, proxy: FaultProxy, case: str) -> None:
    keys, act = exact_acts()[case]
    try:
        act(proxied(**keys))
    except StorageError:
        assert case in ("dot", "dots", "control character", "empty segment", "slash at the end")  # the server's own no
    assert set(ways(proxy)) == {"exact"}


@pytest.mark.parametrize("name", ["AWS_CHECKSUM_ALGORITHM", "AWS_SERVER_SIDE_ENCRYPTION"])
def test_an_environment_that_only_obstore_reads(
    proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "AES256")
    proxied().put("f", b"1")
    assert ways(proxy) == ["exact"]


def test_an_endpoint_in_the_environment_changes_nothing(
    proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "eu-south-7",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_ACCESS_KEY_ID": "ANOTHER",
        "AWS_SECRET_ACCESS_KEY": "ANOTHER",
        "AWS_SESSION_TOKEN": "ANOTHER",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_REQUEST_PAYER": "true",
    }.items():
        monkeypatch.setenv(name, value)
    proxied().put("f", b"1")
    assert ways(proxy) == ["fast"]
    assert not proxy.log[0].headers.keys() & {"x-amz-security-token", "x-amz-request-payer"}


def test_credentials_of_a_profile_reach_both_ways(
    opened: Open, proxy: FaultProxy, seaweedfs: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    keys = f"aws_access_key_id = {seaweedfs.access_key}\naws_secret_access_key = {seaweedfs.secret_key}\n"
    file.write_text(f"[work]\n{keys}")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    given = {"access_key": None, "secret_key": None, "profile": "work"}
    backend = opened(seaweedfs.through(proxy.endpoint), **given)
    backend.put("f", b"1")
    assert (backend.get("f")[0], ways(proxy)) == (b"1", ["fast", "fast"])


def test_credentials_are_refreshed(proxied: Open, proxy: FaultProxy, seaweedfs: S3Endpoint) -> None:
    """What expires is asked for again, of the exact path's own credentials, before it does."""
    from datetime import UTC, datetime, timedelta

    backend, asked = proxied(), []

    def credentials() -> dict[str, Any]:
        asked.append(1)
        return {
            "access_key_id": seaweedfs.access_key,
            "secret_access_key": seaweedfs.secret_key,
            "token": None,
            "expires_at": datetime.now(UTC) + timedelta(seconds=1),
        }

    backend._connection.credentials = credentials  # type: ignore[method-assign]
    for _ in range(3):
        backend.put("f", b"1")
        time.sleep(0.2)  # obstore does not ask again before that
    assert (len(asked), ways(proxy)) == (3, ["fast"] * 3)


def test_an_etag_that_is_no_md5_is_no_hash(proxied: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object encrypted with a key of KMS has an ETag that looks like one; only the exact path is told."""
    backend = proxied()
    backend.put("f", b"1")
    monkeypatch.setattr(fast, "_md5", lambda data: "0" * 32)
    proxy.forget()
    assert backend.get("f")[1].hashes == {"md5": "c4ca4238a0b923820dcc509a6f75849b"}
    assert ways(proxy) == ["fast", "exact"], "the exact path judged it"
    assert backend.get("f")[1].hashes == {}
    assert backend.put("f", b"2").hashes == {}


# --- faults ---

ACTS: dict[str, tuple[str, Callable[[Mount], object]]] = {
    "get": ("GET", lambda mount: mount.get("f")),
    "range": ("GET", lambda mount: mount.get("f", 0, 1)),
    "put": ("PUT", lambda mount: mount.put("f", b"new")),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("fault", ["503", "429", "500", "refuse", "lose_answer", "blackhole"])
def test_an_unanswered_request(proxied: Open, proxy: FaultProxy, act: str, fault: str) -> None:
    """As on the exact way, but that obstore does not tell how long a busy server asks to wait."""
    patient, (method, do) = Mount("m", proxied(path=f"one/{act}/{fault}"), retry=NO_RETRY), ACTS[act]
    patient.put("f", b"old")
    mount = patient
    if fault == "blackhole":
        mount = Mount("m", proxied(path=f"one/{act}/{fault}", timeout=0.5, connect_timeout=0.5), retry=NO_RETRY)
    proxy.forget()
    if fault.isdigit():
        proxy.answer(int(fault), "SlowDown", method=method)
    else:
        getattr(proxy, fault)(method=method)
    with pytest.raises(StorageUnavailableError) as caught:
        do(mount)
    assert (caught.value.mount, caught.value.path, caught.value.retryable) == ("m", "f", True)
    assert isinstance(caught.value, StorageTimeoutError) is (fault == "blackhole")
    assert ways(proxy) == ["fast"], "nothing below the mount tries again"
    if fault != "lose_answer":
        assert patient.get("f")[0] == b"old"


def test_a_body_cut_short(proxied: Open, proxy: FaultProxy) -> None:
    mount = Mount("m", proxied(), retry=NO_RETRY)
    mount.put("f", bytes(1000))
    proxy.truncate(100)
    with pytest.raises(StorageUnavailableError):
        mount.get("f")


def test_a_busy_server_is_heard_by_the_exact_way(proxied: Open, proxy: FaultProxy) -> None:
    waits: list[float] = []
    mount = Mount("m", proxied(), retry=RetryPolicy(retries=3, sleep=waits.append))
    proxy.answer(503, "SlowDown", times=2, headers=["Retry-After: 7"])
    mount.put("f", b"1")
    assert ways(proxy) == ["fast", "exact", "exact"]
    assert waits[1] == 7


def test_a_lost_answer_to_a_condition_is_settled(proxied: Open, proxy: FaultProxy) -> None:
    mount = Mount("m", proxied(), retry=RetryPolicy(retries=3, sleep=lambda seconds: None))
    proxy.lose_answer(method="PUT")
    assert mount.put("f", b"ours", WriteOptions(if_absent=True)).size == 4
    with pytest.raises(StorageExistsError):
        mount.put("f", b"ours", WriteOptions(if_absent=True))


def test_refusals_have_their_class(opened: Open) -> None:
    mount = Mount("m", opened(), retry=NO_RETRY)
    with pytest.raises(StorageNotFoundError, match="No such file"):
        mount.get("absent")
    for keys in ({"secret_key": "wrong"}, {"access_key": "NOSUCHKEY00000000000"}):
        with pytest.raises(StoragePermissionError, match="credentials") as caught:
            Mount("m", opened(**keys), retry=NO_RETRY).put("f", b"1")
        assert "wrong" not in str(caught.value)


# --- threads, processes, signals ---


@forks
@pytest.mark.timeout(200)
def test_a_child_goes_the_exact_way(proxied: Open, proxy: FaultProxy) -> None:
    backend = proxied()
    backend.put("f", b"1")
    proxy.forget()

    def child(number: int) -> None:
        assert backend.get("f")[0] == b"1"
        backend.put(f"child{number}", b"2")
        backend.close()

    assert in_children(4, child) == [0] * 4
    assert set(ways(proxy)) == {"exact"}
    proxy.forget()
    assert backend.get("child3")[0] == b"2"
    assert ways(proxy) == ["fast"], "and the parent goes on as before"


def test_many_threads(opened: Open) -> None:
    backend = opened(max_connections=16)

    def use(number: int) -> bytes:
        backend.put(f"t{number % 10}", b"%d" % (number % 10))
        return backend.get(f"t{number % 10}")[0]

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(use, range(400))) == [b"%d" % (number % 10) for number in range(400)]


def test_busy_connections_are_waited_for(proxied: Open, proxy: FaultProxy) -> None:
    mount = Mount("m", proxied(max_connections=1, timeout=1.5), retry=NO_RETRY)
    mount.put("f", b"1")
    release = mount.backend._connection.take_slot()  # type: ignore[attr-defined]
    with pytest.raises(StorageTimeoutError, match="max_connections"):
        mount.get("f")
    release()
    assert mount.get("f")[0] == b"1"


def test_ctrl_c_is_heard_while_obstore_waits(seaweedfs: S3Endpoint, s3_proxy: Any) -> None:
    """The main thread ends at once, and so does its process."""
    proxy = s3_proxy(seaweedfs)
    options = seaweedfs.through(proxy.endpoint).options(seaweedfs.make_bucket())
    code = f"""
        import sys
        from genro_storage.backends.s3 import S3Backend
        backend = S3Backend(S3Backend.Options(**{options!r}))
        backend.put("f", b"1")
        print("ready", flush=True)
        try:
            backend.get("f")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    root = Path(__file__).parents[2]
    proxy.blackhole(method="GET")
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while not any(seen.method == "GET" for seen in proxy.log):
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(60) == 0
    assert time.monotonic() - began < 25


def test_other_threads_need_no_helper(opened: Open) -> None:
    backend, before = opened(), threading.active_count()
    thread = threading.Thread(target=lambda: backend.put("f", b"1"))
    thread.start()
    thread.join()
    assert threading.active_count() <= before + 1  # the exact path's loop, if it had to be asked


# --- without a server ---


@pytest.mark.parametrize(
    ("key", "clean"), [("a", True), ("a/b", True), ("é", True), ("", False), ("/a", False), ("a/", False)]
)
def test_clean_keys(key: str, clean: bool) -> None:
    assert _obstore.is_clean(key) is clean


def test_without_obstore_all_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_obstore, "find_spec", lambda name: None)
    assert not fast.suits(S3Backend.Options(bucket="some-bucket"))
