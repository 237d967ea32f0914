"""Forty requests with ranges and conditions, against what RFC 9110 says, on every kind of store."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from genro_storage import StorageManager, StorageNode
from tests.verbs.serving import asgi_server, wsgi_server
from tests.verbs.wsgi import Response, request

DATA = bytes(range(200))
WHOLE = (200, DATA)
OLD, TIME, LATE = "Thu, 01 Jan 1970 00:00:01 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "Wed, 01 Jan 2020 00:00:00 GMT"
AT = 784111777.0


@pytest.fixture(params=["local", "memory", "relative"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageNode]:
    entries: list[dict[str, Any]] = [
        {"name": "m", "type": "memory"}
        if request.param == "memory"
        else {"name": "m", "type": "local", "path": str(tmp_path)},
        {"name": "r", "path": "m:d", "permissions": "readonly"},
    ]
    with StorageManager(entries) as storage:
        storage.node("m:d/f.bin").write_bytes(DATA)
        storage.node("m:d/f.bin").touch(mtime=AT)
        yield storage.node("r:f.bin" if request.param == "relative" else "m:d/f.bin")


def ask(node: StorageNode, method: str = "GET", **headers: str) -> Response:
    tag = request(node, "HEAD").headers["ETag"]
    return request(node, method, **{name: value.replace("<tag>", tag) for name, value in headers.items()})


RANGES = {
    "bytes=0-0": (206, DATA[:1]),
    "bytes=10-19": (206, DATA[10:20]),
    "bytes=190-": (206, DATA[190:]),
    "bytes=0-": (206, DATA),
    "bytes=-5": (206, DATA[-5:]),
    "bytes=-500": (206, DATA),
    "bytes=190-9999": (206, DATA[190:]),
    "BYTES=1-2": (206, DATA[1:3]),
    "bytes= 1-2 , ": (206, DATA[1:3]),
    "bytes=,,1-2": (206, DATA[1:3]),
    "bytes=5-9,900-": (206, DATA[5:10]),
    "bytes=0-149,100-199": (206, DATA),
    "bytes=200-": (416, None),
    "bytes=99999999999999999999-": (416, None),
    "bytes=-0": (416, None),
    "bytes=300-400,500-": (416, None),
    "bytes=9-5": WHOLE,
    "bytes=a-b": WHOLE,
    "bytes=-": WHOLE,
    "bytes=": WHOLE,
    "bytes": WHOLE,
    "bytes=1-2,x": WHOLE,
    "bytes=1-2,9-5": WHOLE,
    "bytes=1 - 2": WHOLE,
    "bytes=--1": WHOLE,
    "items=0-1": WHOLE,
    "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 66, 2)): WHOLE,
}


@pytest.mark.parametrize("asked", RANGES)
def test_range(node: StorageNode, asked: str) -> None:
    """R46."""
    status, body = RANGES[asked]
    got = ask(node, Range=asked)
    assert got.status == status
    if status == 416:
        assert got.headers["Content-Range"] == "bytes */200"
        return
    assert got.body == body
    assert got.headers["Content-Length"] == str(len(got.body))
    if status == 206:
        start = DATA.index(got.body)
        assert got.headers["Content-Range"] == f"bytes {start}-{start + len(got.body) - 1}/200"
    else:
        assert "Content-Range" not in got.headers


CONDITIONS: list[tuple[dict[str, str], int]] = [
    ({"If-Match": "*"}, 200),
    ({"If-Match": "<tag>"}, 200),
    ({"If-Match": '"no", <tag>'}, 200),
    ({"If-Match": '"no"'}, 412),
    ({"If-Match": "W/<tag>"}, 412),
    ({"If-Match": "<tag>", "If-Unmodified-Since": OLD}, 200),
    ({"If-Unmodified-Since": OLD}, 412),
    ({"If-Unmodified-Since": TIME}, 200),
    ({"If-Unmodified-Since": "yesterday"}, 200),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": "<tag>"}, 304),
    ({"If-None-Match": "W/<tag>"}, 304),
    ({"If-None-Match": '"a,b", "c" , W/<tag>'}, 304),
    ({"If-None-Match": '"no"'}, 200),
    ({"If-None-Match": '"no"', "If-Modified-Since": LATE}, 200),
    ({"If-Modified-Since": TIME}, 304),
    ({"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
    ({"If-Modified-Since": "Sun Nov  6 08:49:37 1994"}, 304),
    ({"If-Modified-Since": OLD}, 200),
    ({"If-Modified-Since": "Sun, 99 Nov 1994 08:49:37 GMT"}, 200),
    ({"If-Match": '"no"', "If-None-Match": "<tag>"}, 412),
    ({"If-None-Match": "<tag>", "Range": "bytes=0-1"}, 304),
    ({"If-Match": '"no"', "Range": "bytes=0-1"}, 412),
    ({"If-Range": "<tag>", "Range": "bytes=0-1"}, 206),
    ({"If-Range": "W/<tag>", "Range": "bytes=0-1"}, 200),
    ({"If-Range": '"no"', "Range": "bytes=0-1"}, 200),
    ({"If-Range": TIME, "Range": "bytes=0-1"}, 206),
    ({"If-Range": LATE, "Range": "bytes=0-1"}, 200),
    ({"If-Range": '"no"', "Range": "bytes=900-"}, 200),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
def test_condition(node: StorageNode, headers: dict[str, str], status: int) -> None:
    """R46: ``*``, ``W/`` and lists."""
    got = ask(node, **headers)
    assert got.status == status
    if status in (200, 206):
        assert got.body == DATA[: int(got.headers["Content-Length"])]
    if status == 304:
        assert got.body == b""
        assert "Content-Type" not in got.headers
        assert {"ETag", "Last-Modified"} <= set(got.headers)


def test_several_ranges_are_parts(node: StorageNode) -> None:
    got = ask(node, Range="bytes=0-9,-10,50-59")
    assert got.status == 206
    kind, _, boundary = got.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert got.headers["Content-Length"] == str(len(got.body))
    parts = got.body.split(f"\r\n--{boundary}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    found = [re.fullmatch(rb"\r\n(.*?)\r\n\r\n(.*)", part, re.DOTALL) for part in parts[1:-1]]
    assert [match[2] for match in found if match] == [DATA[:10], DATA[-10:], DATA[50:60]]
    assert b"Content-Range: bytes 190-199/200" in (found[1] or [b"", b""])[1]
    assert b"Content-Type: application/octet-stream" in (found[1] or [b"", b""])[1]


def test_ranges_are_for_get_only(node: StorageNode) -> None:
    got = ask(node, "HEAD", Range="bytes=0-1")
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "200")
    assert ask(node, "HEAD", **{"If-None-Match": "<tag>"}).status == 304


def test_an_empty_file_has_no_ranges(node: StorageNode) -> None:
    empty = node.manager.node("m:d/empty")
    empty.write_bytes(b"")
    got = request(empty, Range="bytes=0-0")
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_same_over_a_connection(node: StorageNode, kind: str) -> None:
    """Real servers neither add nor lose anything: every probe again, on connections that stay open."""
    parent = node.parent
    with wsgi_server(parent.wsgi_app()) if kind == "wsgi" else asgi_server(parent.asgi_app()) as address:
        client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)

        def sent(method: str, headers: dict[str, str]) -> Response:
            client.request(method, "/f.bin", headers=headers)
            answer = client.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())

        tag = next(value for name, value in sent("HEAD", {}).headers.items() if name.lower() == "etag")
        for asked, (status, body) in RANGES.items():
            got = sent("GET", {"Range": asked})
            assert (got.status, got.body) == (status, got.body if body is None else body), asked
        for headers, status in CONDITIONS:
            got = sent("GET", {name: value.replace("<tag>", tag) for name, value in headers.items()})
            assert got.status == status, headers
            assert sent("HEAD", {"Range": "bytes=0-1"}).status == 200
        client.close()
