"""`serve` and `serve_asgi`: headers, names, failures, bodies, trees, and real servers asked by curl and wget."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import (
    StorageConflictError,
    StorageManager,
    StorageNode,
    StoragePermissionError,
    StorageUnavailableError,
)
from genro_storage.types import Stat
from genro_storage.verbs import answers
from genro_storage.verbs.httprules import disposition, parse_date
from tests.servers.process import ServerMissing
from tests.servers.running import miss
from tests.servers.s3 import S3Endpoint
from tests.verbs.serving import asgi_server, wsgi_server
from tests.verbs.wsgi import fetch, request


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StorageNode]:
    (tmp_path / "tree").mkdir()
    with StorageManager([{"name": "m", "type": "local", "path": str(tmp_path / "tree")}]) as storage:
        yield storage.node("m:")


# --- headers ---


def test_a_whole_file(root: StorageNode) -> None:
    """R46: HEAD has no body; the type of ``a.csv.gz``."""
    node = root / "a.csv.gz"
    node.write_bytes(b"x" * 100)
    got = request(node, how={"cache_max_age": 60})
    assert (got.status, got.body) == (200, b"x" * 100)
    assert got.headers["Content-Type"] == "application/gzip"
    assert got.headers["Content-Length"] == "100"
    assert got.headers["Accept-Ranges"] == "bytes"
    assert got.headers["Cache-Control"] == "max-age=60"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["ETag"].startswith('"')
    assert parse_date(got.headers["Last-Modified"]) == int(node.mtime or 0)
    assert "Content-Disposition" not in got.headers
    head = request(node, "HEAD", how={"cache_max_age": 60})
    assert (head.status, head.body, head.headers) == (200, b"", got.headers)


def test_type_and_charset(root: StorageNode) -> None:
    node = root / "a.txt"
    node.write("x")
    assert request(node).headers["Content-Type"] == "text/plain"
    assert request(node, how={"charset": "utf-8"}).headers["Content-Type"] == "text/plain; charset=utf-8"
    assert request(node, how={"content_type": "text/x-y"}).headers["Content-Type"] == "text/x-y"
    for bad in ({"content_type": "a/b\r\nX: y"}, {"charset": "u\n"}, {"cache_max_age": -1}, {"cache_max_age": "1"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            request(node, how=bad)


def test_the_entity_tag_follows_the_content(root: StorageNode) -> None:
    node = root / "a"
    node.write_bytes(b"1")
    first = request(node).headers["ETag"]
    assert request(node, "HEAD").headers["ETag"] == first
    node.write_bytes(b"2")
    assert request(node).headers["ETag"] != first


@pytest.mark.parametrize(
    ("stat", "tag"),
    [
        (Stat("f", 1, etag='W/"x"'), 'W/"x"'),
        (Stat("f", 1, etag="a b\r\nX: y"), None),
        (Stat("f", 1, hashes={"md5": "0f"}), '"md5-0f"'),
        (Stat("f", 1, version_id="v1"), '"v1"'),
        (Stat("f", 1, mtime=5.0), '"12a05f200-1"'),
        (Stat("f", 1), ""),
    ],
)
def test_where_the_entity_tag_comes_from(root: StorageNode, stat: Stat, tag: str | None) -> None:
    found = answers._entity_tag(root.mount, stat)
    if tag is None:
        assert found is not None
        assert found.strip('"').isalnum()
    else:
        assert found == (tag or None)


def test_a_coarse_time_makes_a_weak_tag() -> None:
    with StorageManager({"m": {"type": "memory"}}) as storage:
        mount = storage.node("m:").mount
        resolution = mount.features.mtime_resolution
        found = answers._entity_tag(mount, Stat("f", 1, mtime=5.0))
        assert found is not None
        assert found.startswith("W/") == (resolution is None or resolution > 1e-6)


NAMES = {
    "a.txt": 'attachment; filename="a.txt"',
    "a b.txt": 'attachment; filename="a b.txt"',
    "a\r\nSet-Cookie: x=1.txt": 'attachment; filename="a__Set-Cookie: x=1.txt"',
    'say "hi".txt': "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt",
    "résumé.pdf": "attachment; filename=\"resume.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf",
    "日本.pdf": "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.pdf",
    "../../etc/passwd": 'attachment; filename="_.._etc_passwd"',
    "c:\\x.exe": 'attachment; filename="c:_x.exe"',
    "50%25.txt": "attachment; filename=\"50_25.txt\"; filename*=UTF-8''50%2525.txt",
    "\u202etxt.exe": 'attachment; filename="_txt.exe"',
    "bad\udcff": 'attachment; filename="bad_"',
    "..": 'attachment; filename="download"',
}


@pytest.mark.parametrize("name", NAMES)
def test_download_names_make_one_valid_header(root: StorageNode, name: str) -> None:  # R26
    (root / "f").write("x")
    assert disposition(name) == NAMES[name]
    header = request(root / "f", how={"download_name": name}).headers["Content-Disposition"]
    assert header == NAMES[name]
    assert header.isascii()
    assert header.isprintable()


def test_download_uses_the_basename(root: StorageNode) -> None:
    (root / "d/é.txt").write("x")
    assert "%C3%A9.txt" in request(root / "d/é.txt", how={"download": True}).headers["Content-Disposition"]


# --- failures ---


def test_what_cannot_be_served(root: StorageNode) -> None:
    """R46: a directory is 404."""
    (root / "d").mkdir()
    for path in ("d", "missing", "d/missing"):
        for headers in ({}, {"Range": "bytes=0-1"}):
            got = request(root / path, **headers)
            assert (got.status, got.body) == (404, b"Not Found")
    assert request(root).status == 404
    assert request(root / "missing", "HEAD").body == b""
    (root / "f").write("x")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        got = request(root / "f", method)
        assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD")


def test_without_a_method_it_is_a_get(root: StorageNode) -> None:
    (root / "f").write("x")
    seen: list[str] = []
    assert b"".join(root.child("f").serve({}, lambda status, headers: seen.append(status))) == b"x"
    assert seen == ["200 OK"]


@pytest.mark.parametrize(
    ("error", "status"), [(StoragePermissionError("no"), 403), (StorageUnavailableError("no", retry_after=7), 503)]
)
def test_errors_become_statuses(
    root: StorageNode, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(*args: object, **how: object) -> None:
        raise error

    monkeypatch.setattr(type(root.mount), "reader", fail)
    got = request(root / "f")
    assert got.status == status
    assert got.headers.get("Retry-After") == ("7" if status == 503 else None)


# --- the body ---


def test_the_body_is_read_lazily_in_chunks(root: StorageNode) -> None:
    node = root / "f"
    node.write_bytes(b"x" * (3 * answers.CHUNK + 1))
    body: Any = node.serve({"REQUEST_METHOD": "GET"}, lambda *args: None)
    assert len(body) == 4
    assert [len(chunk) for chunk in body] == [answers.CHUNK] * 3 + [1]
    assert list(body) == []
    for headers in ({"HTTP_IF_NONE_MATCH": "*"}, {"REQUEST_METHOD": "HEAD"}):
        assert list(node.serve(headers, lambda *args: None)) == [b""]


def test_a_body_that_is_dropped_releases_the_file(root: StorageNode, tmp_path: Path) -> None:
    node = root / "f"
    node.write_bytes(b"x" * 500_000)
    target = str(tmp_path / "tree" / "f")

    def held() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(str(link.resolve()) == target for link in links)

    body: Any = node.serve({"HTTP_RANGE": "bytes=10-400000"}, lambda *args: None)
    next(body)
    assert held() == 1
    body.close()
    body.close()
    assert held() == 0


def test_a_file_that_shrinks_is_never_padded(root: StorageNode, tmp_path: Path) -> None:
    node = root / "f"
    node.write_bytes(b"x" * 500_000)
    body: Any = node.serve({}, lambda *args: None)
    next(body)
    with (tmp_path / "tree/f").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises((StorageConflictError, StorageUnavailableError)):
        list(body)
    body.close()


def test_a_file_replaced_between_its_facts_and_its_bytes_is_served_whole(
    root: StorageNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = root / "f"
    node.write_bytes(b"old")
    real, seen = answers.opened, []

    def late(*args: Any) -> Any:
        if not seen:
            seen.append(1)
            node.write_bytes(b"newer")
        return real(*args)

    monkeypatch.setattr(answers, "opened", late)
    got = request(node, Range="bytes=0-")
    assert (got.status, got.body, got.headers["Content-Range"]) == (206, b"newer", "bytes 0-4/5")


def test_an_unfinished_head_of_line_costs_no_second_request(root: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "f").write("x")
    asked: list[str] = []
    mount = type(root.mount)
    for name in ("stat_file", "reader"):
        real = getattr(mount, name)
        monkeypatch.setattr(mount, name, lambda *a, _n=name, _r=real, **k: (asked.append(_n), _r(*a, **k))[1])
    request(root / "f")
    assert asked == ["reader"]
    request(root / "f", "HEAD")
    request(root / "f", **{"If-None-Match": "*"})
    assert asked == ["reader", "stat_file", "stat_file"]


# --- trees ---


def test_a_tree_is_served_by_path(root: StorageNode) -> None:
    (root / "pub/sub/é f.txt").write("yes")
    (root / "secret").write("no")
    app = (root / "pub").wsgi_app(cache_max_age=5)
    got = fetch(app, path="/sub/é f.txt".encode().decode("latin-1"))
    assert (got.status, got.body, got.headers["Cache-Control"]) == (200, b"yes", "max-age=5")
    bad = ("/", "", "/sub", "/sub/", "/../secret", "/sub/../../secret", "/%2e", "/\xff", "/a\0b", "/sub/é f.txt/")
    for path in bad:
        assert fetch(app, path=path).status == 404, path
    assert fetch(app, "POST", "/x").status == 405
    assert fetch(app, path="/.genro/x").status == 404


# --- ASGI ---


def asgi(app: Callable[..., Any], scope: dict[str, Any], *, gone: bool = False) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    finished = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not gone:
            await finished.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        await asyncio.sleep(0)

    asyncio.run(app({"type": "http", "method": "GET", "headers": [], **scope}, receive, send))
    return sent


def test_asgi(root: StorageNode) -> None:
    (root / "f").write_bytes(b"x" * 100_000)
    sent = asgi((root / "f").serve_asgi, {"headers": [(b"Range", b"bytes=0-99998")]})
    assert sent[0]["status"] == 206
    headers = dict(sent[0]["headers"])
    assert headers[b"content-length"] == b"99999"
    assert b"".join(message["body"] for message in sent[1:]) == b"x" * 99_999
    assert [message["more_body"] for message in sent[1:]] == [True, True, False]
    assert asgi((root / "f").serve_asgi, {"method": "POST"})[0]["status"] == 405


def test_asgi_reads_no_more_once_nobody_listens(root: StorageNode) -> None:
    (root / "f").write_bytes(b"x" * (50 * answers.CHUNK))
    sent = asgi((root / "f").serve_asgi, {}, gone=True)
    assert len(sent) < 10


def test_asgi_tree_and_mounting_point(root: StorageNode) -> None:
    (root / "d/f").write("x")
    app = root.asgi_app()
    for scope in ({"path": "/d/f"}, {"path": "/files/d/f", "root_path": "/files"}, {"path": "/d/f", "root_path": "/x"}):
        assert asgi(app, scope)[0]["status"] == 200, scope
    for path in ("/", "/d", "/d/f/", "/../x", "/d/\ufffd"):
        assert asgi(app, {"path": path})[0]["status"] == 404, path


def test_a_cancelled_request_releases_the_file(root: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "f").write_bytes(b"x" * 100)
    asked, go, closed = threading.Event(), threading.Event(), threading.Event()
    real, shut = answers.answer, answers.Body.close

    def slow(*args: Any) -> Any:
        found = real(*args)
        asked.set()
        assert go.wait(30)
        return found

    monkeypatch.setattr(answers, "answer", slow)
    monkeypatch.setattr(answers.Body, "close", lambda body: (shut(body), closed.set()))

    async def nothing(*args: Any) -> Any:
        raise AssertionError("nobody is there to hear it")

    async def cancelled() -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "headers": []}
        task = asyncio.ensure_future((root / "f").serve_asgi(scope, nothing, nothing))
        assert await asyncio.to_thread(asked.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await asyncio.to_thread(closed.wait, 30)

    asyncio.run(cancelled())


# --- memory, and a real object store ---

MEASURED = """
import resource, sys
from genro_storage import StorageManager
storage = StorageManager({"m": {"type": "local", "path": sys.argv[1]}})
def served(name, **environ):
    return sum(map(len, storage.node("m:" + name).serve(environ, lambda *told: None)))
served("small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = served("big"), served("big", HTTP_RANGE="bytes=1-"), served("big", HTTP_RANGE="bytes=0-99999999,100000001-")
print(*total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:  # R31
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 << 20)
    whole, tail, parts, grown = map(int, run(sys.executable, "-c", MEASURED, str(tmp_path)).split())
    assert (whole, tail) == (200 << 20, (200 << 20) - 1)
    assert parts > (200 << 20) - 2
    assert grown <= 64 << 10  # KiB


def test_s3(seaweedfs: S3Endpoint) -> None:
    keys = seaweedfs.options(seaweedfs.make_bucket())
    with StorageManager([{"name": "s", "type": "s3", **keys}]) as storage:
        node = storage.node("s:d/f.html")
        node.write_bytes(b"0123456789", content_type="text/html; charset=utf-8")
        got = request(node)
        assert (got.status, got.body) == (200, b"0123456789")
        assert got.headers["Content-Type"] == "text/html; charset=utf-8"
        assert request(node, "HEAD").headers == got.headers
        tag, date = got.headers["ETag"], got.headers["Last-Modified"]
        assert request(node, **{"If-None-Match": tag}).status == 304
        assert request(node, **{"If-Modified-Since": date}).status == 304
        part = request(node, Range="bytes=2-4", **{"If-Range": tag})
        assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        several = request(node, Range="bytes=0-0,-1")
        assert (several.status, several.body.count(b"Content-Range")) == (206, 2)
        assert request(node, Range="bytes=10-").status == 416
        assert request(node.parent).status == request(storage.node("s:none"), Range="bytes=1-").status == 404


# --- real servers and clients ---


@pytest.fixture(params=["wsgi", "asgi"])
def address(request: pytest.FixtureRequest, root: StorageNode) -> Iterator[str]:
    wsgi = request.param == "wsgi"
    with wsgi_server(root.wsgi_app()) if wsgi else asgi_server(root.asgi_app()) as url:
        yield url


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=200).stdout


def test_curl_and_wget_resume(root: StorageNode, tmp_path: Path, address: str) -> None:
    data = hashlib.sha256(b"seed").digest() * 20_000
    (root / "big.bin").write_bytes(data)
    url = f"{address}/big.bin"
    for tool in ("curl", "wget"):
        if not shutil.which(tool):
            miss(ServerMissing(f"{tool}: install it with the system's packages"))
    assert run("curl", "-sf", url) == data
    assert run("curl", "-sf", "-r", "1000-1999", url) == data[1000:2000]
    assert run("curl", "-sf", "-r", "-7", url) == data[-7:]
    for tool, command in {"c": ["curl", "-sf", "-C", "-", "-o"], "w": ["wget", "-qc", "-O"]}.items():
        part = tmp_path / f"part-{tool}"
        part.write_bytes(data[:123_456])
        run(*command, str(part), url)
        assert part.read_bytes() == data
    assert b"404" in run(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{address}/../etc/passwd", "--path-as-is"
    )


def test_a_snapshot_is_served_as_it_was() -> None:  # R06
    with StorageManager({"m": {"type": "memory", "versioned": True}}) as storage:
        node = storage.node("m:f")
        node.write_bytes(b"old")
        node.write_bytes(b"newer")
        old = node.at(0)
        now, then = request(node), request(old)
        assert (now.body, then.body) == (b"newer", b"old")
        assert now.headers["ETag"] != then.headers["ETag"]
        assert request(old, Range="bytes=1-").body == b"ld"
        assert request(old, "HEAD").headers == then.headers


def test_an_inline_file_is_not_sent_twice() -> None:  # R43
    with StorageManager({"b": {"type": "base64"}}) as storage:
        node = storage.node("b:aGVsbG8=")
        got = request(node)
        assert got.body == b"hello"
        known = {"If-None-Match": got.headers["ETag"]} if "ETag" in got.headers else {}
        assert request(node, **known).status == 304
        assert request(node, **{"If-Modified-Since": got.headers["Last-Modified"]}).status == 304


def test_a_restart_gives_no_tag_of_before_to_another_file() -> None:
    code = """
from genro_storage import StorageManager
node = StorageManager({"m": {"type": "memory"}}).node("m:f")
node.write("x")
print(node.stat().etag)
"""
    assert run(sys.executable, "-c", code) != run(sys.executable, "-c", code)
