"""One request and its whole answer on a connection that is open already, at a quarter of what urllib3 takes for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from urllib3 import exceptions as http

LONGEST_HEAD = 256 * 1024
"""Bytes of the lines before a body that a server may send."""
PIECE = 64 * 1024

_USUAL = {"Accept-Encoding": "identity", "User-Agent": "python-urllib3"}
_TARGET = re.compile(r"/[!-~]*")
_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*")
_DIGITS = frozenset("0123456789abcdefABCDEF")
_STATUS = re.compile(r"HTTP/1\.([01]) (\d{3})(?: .*)?")


def exchanged(
    pool: Any, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout: float
) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers by their names in lower case, body.

    None, and nothing was sent, where no connection is open, or where urllib3 has to judge what it is asked to send.
    `pool` is one of urllib3's, which made the connection, and waits `timeout` seconds for one that is free. Errors are
    those that it would have raised.
    """
    head = _head(method, target, headers)
    if head is None or pool.proxy is not None:
        return None
    connection = pool._get_conn(timeout=timeout)
    try:
        sock = connection.sock
        if sock is None:
            return None
        stays = False
        try:
            sock.sendall(head + body)
            status, told, data, stays = _Answer(sock).whole(method)
        except TimeoutError as error:
            raise http.ReadTimeoutError(pool, target, "Read timed out.") from error
        except (OSError, ValueError) as error:
            raise http.ProtocolError("Connection aborted.", error) from error
        finally:
            if not stays:
                connection.close()
        return status, told, data
    finally:
        pool._put_conn(connection)


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes | None:
    """The lines before the body; None where they hold what no line may."""
    if not _TARGET.fullmatch(target):
        return None
    lines = [f"{name}: {value}" for name, value in headers.items()]
    given = {name.lower() for name in headers}
    lines += [f"{name}: {value}" for name, value in _USUAL.items() if name.lower() not in given]
    if not all(map(_LINE.fullmatch, lines)):
        return None
    try:
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")
    except UnicodeError:
        return None


class _Answer:
    """What comes from a socket, read as far as one answer goes (RFC 9112); what is none → `ValueError`."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._data = b""

    def whole(self, method: str) -> tuple[int, dict[str, str], bytes, bool]:
        """Status, headers, body, and whether the connection may be used again."""
        version, status, headers = self._told()
        while status < 200:  # only announces the answer
            version, status, headers = self._told()
        body, stays = b"", version == 1 and headers.get("connection", "").lower() != "close"
        if method != "HEAD" and status not in (204, 304):
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body = self._chunks()
            elif "content-length" in headers:
                body = self._taken(_number(headers["content-length"], 10))
            else:
                body, stays = self._rest(), False
        return status, headers, body, stays and not self._data

    def _told(self) -> tuple[int, int, dict[str, str]]:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise ValueError(f"this is no answer of HTTP: {first[:80]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError(f"this is no header: {line[:80]!r}")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(found[1]), int(found[2]), headers

    def _chunks(self) -> bytes:
        parts = []
        while size := _number(self._until(b"\r\n").partition(b";")[0].decode("latin-1").strip(), 16):
            parts.append(self._taken(size))
            if self._taken(2) != b"\r\n":
                raise ValueError("a chunk does not end where it said")
        while self._until(b"\r\n"):
            pass  # trailers
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is taken too."""
        start = 0
        while (end := self._data.find(mark, start)) < 0:
            start = max(0, len(self._data) - len(mark))
            if start > LONGEST_HEAD:
                raise ValueError("the answer has too long a head")
            self._data += self._more()
        found, self._data = self._data[:end], self._data[end + len(mark) :]
        return found

    def _taken(self, size: int) -> bytes:
        """The next `size` bytes."""
        if len(self._data) < size:
            parts, have = [self._data], len(self._data)
            while have < size:
                parts.append(self._more())
                have += len(parts[-1])
            self._data = b"".join(parts)
        found, self._data = self._data[:size], self._data[size:]
        return found

    def _rest(self) -> bytes:
        parts = [self._data]
        while data := self._sock.recv(PIECE):
            parts.append(data)
        self._data = b""
        return b"".join(parts)

    def _more(self) -> bytes:
        data: bytes = self._sock.recv(PIECE)
        if not data:
            raise ConnectionError("Remote end closed connection without response")
        return data


def _number(text: str, base: int) -> int:
    """A length, which has digits and nothing else."""
    if not text or not set(text) <= _DIGITS:
        raise ValueError(f"this is no length: {text[:80]!r}")
    return int(text, base)
