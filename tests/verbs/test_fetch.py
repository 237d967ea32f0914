"""`fill_from_url` and its guards, against a server that misbehaves on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from genro_storage import (
    StorageError,
    StorageManager,
    StorageNode,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.verbs import fetch
from tests.servers.caddy import Caddy

DATA = b"0123456789" * 20_000


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        kind, _, rest = self.path.lstrip("/").partition("/")
        getattr(self, f"on_{kind.partition('?')[0]}", self.on_status)(rest)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def on_file(self, rest: str) -> None:
        self.answer(200, DATA, Content_Type="text/x-made")

    def on_status(self, rest: str) -> None:
        self.answer(int(rest.partition("?")[0] or 404), b"sorry")

    def on_to(self, rest: str) -> None:
        self.answer(302, Location=rest)

    def on_loop(self, rest: str) -> None:
        self.answer(302, Location="/loop/")

    def on_short(self, rest: str) -> None:
        self.answer(200, DATA[:500], Content_Length="1000")
        self.close_connection = True

    def on_large(self, rest: str) -> None:
        self.answer(200, b"", Content_Length=str(1 << 40))
        self.close_connection = True

    def on_endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while self.server.sent < 200 << 20:
                self.server.sent += self.wfile.write(DATA)
        except OSError:
            pass

    def on_gzip(self, rest: str) -> None:
        self.answer(200, b"x", Content_Encoding="gzip")

    def on_silent(self, rest: str) -> None:
        self.server.ended.wait(30)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        self.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.ended.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def node() -> Iterator[StorageNode]:
    with StorageManager({"m": {"type": "memory"}, "ro": {"path": "m:", "permissions": "readonly"}}) as storage:
        storage.node("m:f").write("old")
        yield storage.node("m:f")


def fill(node: StorageNode, url: str, **how: Any) -> Any:
    return node.fill_from_url(url, **{"allow_private": True, "timeout": 10, **how})


def refused(node: StorageNode, error: type[Exception], url: str, match: str, **how: Any) -> Exception:
    with pytest.raises(error, match=match) as caught:
        fill(node, url, **how)
    assert node.read() == "old"
    return caught.value


def test_a_file(server: Server, node: StorageNode) -> None:
    stat = fill(node, f"{server.url}/file/ä.bin?q=ü", headers={"X-Mine": "1"})
    assert node.read_bytes() == DATA
    assert stat.size == len(DATA)
    path, headers = server.seen[0]
    assert path == "/file/%C3%A4.bin?q=%C3%BC"
    assert headers["x-mine"] == "1"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "file:///etc/passwd",
        "ftp://h/x",
        "http://",
        "http:///x",
        "http://h:99999/",
        "http://h/a b",
        "http://h/a\r\nX: y",
        "http://[::1/",
    ],
)
def test_what_is_no_url(node: StorageNode, url: str) -> None:
    refused(node, ValueError, url, "Invalid URL")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "ff02::1", "fec0::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1"],
)  # fmt: skip
def test_no_private_address(address: str) -> None:
    assert not fetch.is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses(address: str) -> None:
    assert fetch.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_a_private_host_is_refused_before_a_connection(server: Server, node: StorageNode, host: str) -> None:
    url = f"http://{host}:{server.server_port}/file/"
    refused(node, StoragePermissionError, url, "not of the open internet", allow_private=False)
    assert server.seen == []


@pytest.fixture
def half_public(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """127.0.0.1 counts as public here, 127.0.0.2 does not; returns the names that were looked up."""
    asked: list[str] = []

    def resolved(host: str, port: int) -> list[tuple[Any, ...]]:
        asked.append(host)
        address = {"public.test": "127.0.0.1", "rebound.test": "127.0.0.1" if asked.count(host) == 1 else "127.0.0.2"}
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address.get(host, host), port))]

    monkeypatch.setattr(fetch, "_resolved", resolved)
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    return asked


def test_a_redirect_to_a_private_address(server: Server, node: StorageNode, half_public: list[str]) -> None:  # R27
    port = server.server_port
    for hop in (f"http://127.0.0.2:{port}/file/", f"//127.0.0.2:{port}/file/"):
        url = f"http://public.test:{port}/to/{hop}"
        refused(node, StoragePermissionError, url, r"127\.0\.0\.2", allow_private=False)
    assert [path for path, _ in server.seen if path.startswith("/file")] == []
    for hop in ("file:///etc/passwd", "gopher://x/", "http://[x/"):
        refused(node, StorageError, f"http://public.test:{port}/to/{hop}", "no http URL", allow_private=False)


def test_what_was_judged_is_what_is_reached(server: Server, node: StorageNode, half_public: list[str]) -> None:
    """A name that means another address the second time it is asked for is asked for once."""
    fill(node, f"http://rebound.test:{server.server_port}/file/", allow_private=False)
    assert half_public == ["rebound.test"]
    assert server.seen[0][1]["host"] == f"rebound.test:{server.server_port}"


def test_redirects(server: Server, node: StorageNode, half_public: list[str]) -> None:
    secret = {"Authorization": "mine", "X-Key": "k"}
    fill(node, f"{server.url}/to//file/", headers=secret)
    assert [headers.get("authorization") for _, headers in server.seen] == ["mine", "mine"]
    server.seen.clear()
    fill(node, f"{server.url}/to/http://public.test:{server.server_port}/file/", headers=secret)
    assert [headers.get("x-key") for _, headers in server.seen] == ["k", None]
    node.write("old")
    server.seen.clear()
    refused(node, StorageUnavailableError, f"{server.url}/loop/", "more than 2 redirects", max_redirects=2)
    assert len(server.seen) == 3


def test_the_size_is_capped(server: Server, node: StorageNode) -> None:  # R27
    refused(node, StorageQuotaError, f"{server.url}/large/", "max_size=1048576", max_size=1 << 20)
    refused(node, StorageQuotaError, f"{server.url}/endless/", "max_size=1048576", max_size=1 << 20)
    assert server.sent < 50 << 20
    refused(node, StorageQuotaError, f"{server.url}/file/", "max_size", max_size=len(DATA) - 1)
    assert fill(node, f"{server.url}/file/", max_size=len(DATA)).size == len(DATA)


def test_failures(server: Server, node: StorageNode) -> None:
    refused(node, StorageUnavailableError, f"{server.url}/short/", "Failed to download .*byte 500 of 1000")
    refused(node, StorageUnavailableError, f"{server.url}/gzip/", "encodes the body")
    assert refused(node, StorageUnavailableError, f"{server.url}/status/503", "HTTP 503").retryable  # type: ignore[attr-defined]
    assert not refused(node, StorageUnavailableError, f"{server.url}/status/404", "HTTP 404").retryable  # type: ignore[attr-defined]
    refused(node, StorageTimeoutError, f"{server.url}/silent/", "Failed to download", timeout=0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused(node, StorageUnavailableError, f"http://127.0.0.1:{port}/", "Failed to download 'http://127")
    refused(node, StorageUnavailableError, "http://no-such-host.invalid/", "Failed to download")


def test_secrets_are_sent_and_not_shown(server: Server, node: StorageNode) -> None:
    url = f"http://me:hush@127.0.0.1:{server.server_port}/status/500?token=hush"
    error = refused(node, StorageUnavailableError, url, "HTTP 500")
    assert server.seen[0][1]["authorization"] == "Basic bWU6aHVzaA=="
    assert "hush" not in f"{error!s} {error!r}"
    for bad in ("ftp://me:hush@h/?token=hush", "http://me:hush@h:99999/"):
        with pytest.raises(ValueError, match="Invalid URL") as caught:
            fill(node, bad)
        assert "hush" not in str(caught.value)


def test_permissions_come_first(server: Server, node: StorageNode) -> None:
    with pytest.raises(StoragePermissionError):
        fill(node.manager.node("ro:f"), f"{server.url}/file/")
    with pytest.raises(UnsupportedOperation):
        fill(type(node)(node.manager, "m", "f", "1"), f"{server.url}/file/")
    assert server.seen == []


def test_tls_is_verified(node: StorageNode, caddy_tls: Caddy) -> None:
    refused(node, StorageUnavailableError, f"{caddy_tls.endpoint}/", "certificate verify failed")
