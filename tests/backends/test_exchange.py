"""One exchange of HTTP on an open connection: what servers may send, and what none should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from urllib3 import exceptions as http

from genro_storage.backends._rest.exchange import exchanged
from genro_storage.backends._rest.web import Web
from genro_storage.backends.options import NetworkOptions
from genro_storage.exceptions import StorageTimeoutError
from tests.servers.tcpproxy import HOST


class Pool:
    """One open connection, as urllib3's pool would hand it out; at the other end `answers`, sent piece by piece."""

    proxy = None

    def __init__(self, answers: bytes, piece: int = 1 << 16, *, closes: bool = True) -> None:
        self.sock: socket.socket | None
        self.sock, self.other = socket.socketpair()
        self.sock.settimeout(60)
        self.asked = b""
        self.given_back = 0
        self._thread = threading.Thread(target=self._answer, args=(answers, piece, closes))
        self._thread.start()

    def _answer(self, answers: bytes, piece: int, closes: bool) -> None:
        while b"\r\n\r\n" not in self.asked:
            self.asked += self.other.recv(1 << 16)
        with suppress(OSError):  # nobody reads all of what is too long
            for start in range(0, len(answers), piece):
                self.other.sendall(answers[start : start + piece])
            if closes:
                self.other.shutdown(socket.SHUT_WR)

    def _get_conn(self, timeout: float) -> Pool:
        return self

    def _put_conn(self, connection: Pool) -> None:
        assert connection is self
        self.given_back += 1

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def end(self) -> None:
        self._thread.join()
        self.close()
        self.other.close()


def ask(answers: bytes, method: str = "GET", piece: int = 1 << 16, closes: bool = True) -> tuple[Any, Pool]:
    pool = Pool(answers, piece, closes=closes)
    try:
        found = exchanged(pool, method, "/k", {"Host": "h"}, b"", 60)
        assert found is not None
        return found, pool
    finally:
        pool.end()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    ("answer", "method", "status", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", "GET", 200, b"hello"),
        (OK + b"content-length:5\r\n\r\n", "HEAD", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", 204, b""),
        (b"HTTP/1.1 304\r\nContent-Length: 5\r\n\r\n", "GET", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nab", "PUT", 200, b"ab"),
        (OK + CHUNKED + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "GET", 200, b"abc0123456789"),
        (OK + CHUNKED + b"1\r\n.\r\n0\r\nX-Last: 1\r\nY: 2\r\n\r\n", "GET", 200, b"."),
        (OK + b"\r\nall there is", "GET", 200, b"all there is"),
        (b"HTTP/1.0 404 Not Found\r\nContent-Length: 1\r\n\r\nx", "GET", 404, b"x"),
    ],
)  # fmt: skip
def test_an_answer(answer: bytes, method: str, status: int, body: bytes, piece: int) -> None:
    found, pool = ask(answer, method, piece)
    assert (found[0], found[2]) == (status, body)
    assert pool.given_back == 1
    assert pool.asked.startswith(f"{method} /k HTTP/1.1\r\nHost: h\r\n".encode())


def test_headers_are_told_in_lower_case_and_together() -> None:
    found, _ = ask(OK + b'ETag: "1"\r\nX-A:  b \r\nx-a: c\r\nX-Empty:\r\nX-\xe9: \xfc\r\nContent-Length: 0\r\n\r\n')
    assert found[1] == {"etag": '"1"', "x-a": "b, c", "x-empty": "", "x-\xe9": "\xfc", "content-length": "0"}


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        (OK + b"Content-Length: 1\r\n\r\nx", True),
        (OK + CHUNKED + b"1\r\n.\r\n0\r\n\r\n", True),
        (OK + b"Content-Length: 1\r\nConnection: close\r\n\r\nx", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", False),
        (OK + b"Content-Length: 1\r\n\r\nx and more than it said", False),
    ],
)
def test_a_connection_is_used_again_where_it_may_be(answer: bytes, stays: bool) -> None:
    pool = Pool(answer, closes=False)
    exchanged(pool, "GET", "/k", {}, b"", 60)
    assert (pool.sock is not None) == stays
    pool.end()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 5, 6\r\n\r\nhello",
        OK + b"Content-Length: 0x5\r\n\r\nhello",
        OK + CHUNKED + b"3\r\nab",
        OK + CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n",
        OK + CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
        OK + CHUNKED + b"3\r\nabc\r\n0\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"X: 1\r\n folded: 2\r\n\r\n",
        OK + b"X: " + b"x" * 400_000,
    ],
)
def test_what_is_no_answer_closes_the_connection(answer: bytes) -> None:
    pool = Pool(answer)
    with pytest.raises(http.ProtocolError):
        exchanged(pool, "GET", "/k", {}, b"", 60)
    assert pool.sock is None
    assert pool.given_back == 1
    pool.end()


def test_silence_is_a_timeout() -> None:
    pool = Pool(b"", closes=False)
    assert pool.sock is not None
    pool.sock.settimeout(0.01)
    with pytest.raises(http.ReadTimeoutError):
        exchanged(pool, "GET", "/k", {}, b"", 60)
    assert pool.sock is None
    pool.end()


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a b", {}),
        ("k", {}),
        ("/k\r\nX: 1", {}),
        ("/k", {"X": "1\r\nY: 2"}),
        ("/k", {"X Y": "1"}),
        ("/k", {"X": "\u20ac"}),
    ],
)
def test_what_no_line_may_hold_is_left_to_urllib3(target: str, headers: dict[str, str]) -> None:
    assert exchanged(None, "GET", target, headers, b"", 60) is None


def test_a_header_of_ours_goes_before_the_usual_one() -> None:
    pool = Pool(OK + b"Content-Length: 0\r\n\r\n")
    exchanged(pool, "GET", "/k", {"accept-encoding": "gzip"}, b"", 60)
    assert pool.asked.lower().count(b"accept-encoding") == 1
    assert b"user-agent: python-urllib3" in pool.asked.lower()
    pool.end()


# --- behind a real pool ---


@pytest.fixture
def served() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that answers every request with its first line, and the connections that came."""
    came: list[socket.socket] = []
    with socket.create_server((HOST, 0)) as server:

        def serve(one: socket.socket) -> None:
            with closing(one):
                while request := one.recv(1 << 16):
                    line = request.partition(b"\r\n")[0]
                    one.sendall(OK + f"Content-Length: {len(line)}\r\n\r\n".encode() + line)

        def accept() -> None:
            try:
                while True:
                    came.append(server.accept()[0])
                    threading.Thread(target=serve, args=(came[-1],), daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://{HOST}:{server.getsockname()[1]}/base", came
        server.shutdown(socket.SHUT_RDWR)


def test_one_connection_serves_both_ways(served: tuple[str, list[socket.socket]], monkeypatch: Any) -> None:
    web = Web(served[0], NetworkOptions())
    usual, opened = web.open, []
    monkeypatch.setattr(web, "open", lambda *args: opened.append(args) or usual(*args))
    assert web.send("GET", "/a", {}).data == b"GET /base/a HTTP/1.1"
    assert web.send("PUT", "/b", {"X": "1"}, b"").data == b"PUT /base/b HTTP/1.1"
    with closing(web.open("GET", "/c", {})) as response:
        assert response.read() == b"GET /base/c HTTP/1.1"
        response.release_conn()
    assert web.send("DELETE", "/d", {}).data == b"DELETE /base/d HTTP/1.1"
    assert (len(opened), len(served[1])) == (2, 1)  # the first, and the one that was asked for
    web.close()


def test_a_connection_that_the_server_ended_is_replaced(served: tuple[str, list[socket.socket]]) -> None:
    web = Web(served[0], NetworkOptions())
    web.send("GET", "/a", {})
    served[1][0].shutdown(socket.SHUT_RDWR)
    assert web.send("GET", "/b", {}).data == b"GET /base/b HTTP/1.1"
    web.close()


def test_all_connections_busy(served: tuple[str, list[socket.socket]]) -> None:
    web = Web(served[0], NetworkOptions(max_connections=1, timeout=0.05))
    response = web.open("GET", "/a", {})
    with pytest.raises(StorageTimeoutError, match="all 1 connections are busy"):
        web.send("GET", "/b", {})
    response.read()
    response.release_conn()
    web.close()
