"""A small HTTP/1.1 server inside the test process: one method answers, every request is remembered."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from .process import HOST


@dataclass(frozen=True)
class Request:
    """One request, its body read to the end."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(default=b"", repr=False)

    @property
    def raw_path(self) -> str:
        """The path as it was sent, still percent-encoded: an encoded slash inside a name is not a separator."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The decoded query; a name without a value has ""."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def segments(self) -> list[str]:
        """The decoded parts between the slashes of the path."""
        return [unquote(part) for part in self.raw_path.removeprefix("/").split("/")]


class Reply(NamedTuple):
    """What the server answers; Content-Length is added. A HEAD sends no body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


def as_json(value: object, status: int = 200, headers: Mapping[str, str] = {}) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8", **headers})


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header with one range asks for; None when it asks for everything.

    Raises:
        LookupError: no byte of the range exists (416).
    """
    if not header or not header.startswith("bytes=") or "," in header:
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    start, end = (int(first), min(int(last) + 1 if last else size, size)) if first else (max(0, size - int(last)), size)
    if start >= end:
        raise LookupError(header)
    return start, end


@dataclass
class Seen:
    """One request of the log, with the status it was answered with."""

    method: str
    target: str
    status: int


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, owner: HttpServer) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__((HOST, 0), _Handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no fault; an answer that fails is a 501 with its traceback (see `_Handler`)."""

    def end(self) -> None:
        """Stop accepting and cut what is still connected, so that no thread waits for a next request."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # head and body of a small answer leave in one packet

    def log_message(self, *args: object) -> None:
        """Nothing on stderr; the owner keeps the log."""

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(pieces)

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.read_body())
        try:
            reply = self.server.owner.answer(request)
        except Exception:  # noqa: BLE001 - a fault of the server itself: the test that met it must see where
            reply = Reply(501, traceback.format_exc().encode(), {"Content-Type": "text/plain"})
        self.server.owner.log.append(Seen(self.command, self.path, reply.status))
        self.send_response(reply.status)
        sent = {"Content-Length": str(len(reply.body))} | dict(reply.headers)
        if reply.status in (204, 304):
            del sent["Content-Length"]
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_OPTIONS = do_PROPFIND = answer


class HttpServer:
    """A server as a context manager, on a free port of 127.0.0.1; a subclass answers.

    It lives in threads of this process: a forked child reaches it as long as the parent lives.
    """

    server_name: ClassVar[str] = "test server"

    def __init__(self) -> None:
        self.log: list[Seen] = []
        self.lock = threading.RLock()  # for subclasses: one request changes the state at a time
        self._listener: _Listener | None = None

    def answer(self, request: Request) -> Reply:
        """What to answer. Called from many threads; an exception becomes a 501 that shows it: no client retries."""
        raise NotImplementedError

    @property
    def endpoint(self) -> str:
        """The URL of the server, without a trailing slash."""
        assert self._listener is not None, f"the {self.server_name} is not running"
        return f"http://{HOST}:{self._listener.server_port}"

    def count(self, method: str = "", contains: str = "") -> int:
        """How many requests were answered, of this method, with this text in the target."""
        return sum((not method or seen.method == method) and contains in seen.target for seen in self.log)

    def start(self) -> None:
        """Listen and serve."""
        self._listener = _Listener(self)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and close every connection. Idempotent."""
        if self._listener is not None:
            self._listener.end()
            self._listener = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def request(
        self, method: str, target: str, *, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request exactly as written, as an independent witness: status, headers, body."""
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            connection.request(method, target, body or None, dict(headers))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()
