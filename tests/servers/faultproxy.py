"""An HTTP proxy on 127.0.0.1 that logs and counts requests, adds latency, and spoils chosen exchanges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Self, TypedDict, Unpack
from urllib.parse import urlsplit

from .http1 import HEAD_LIMIT, PIECE, Head, has_response_body, read_body, read_head
from .process import HOST

Kind = Literal["refuse", "blackhole", "answer", "reset_upload", "lose_answer", "reset", "truncate"]
BROKEN = (OSError, IncompleteReadError, LimitOverrunError)


@dataclass
class Request:
    """One logged request; `path` and `query` are as on the wire, `status` is what the client got (0: nothing yet)."""

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=False)
    status: int = 0

    def matches(self, method: str | None, contains: str) -> bool:
        """Whether it has this method (None: any) and its path?query contains these characters."""
        return method in (None, self.method) and contains in f"{self.path}?{self.query}"


class Which(TypedDict, total=False):
    """The requests a fault spoils: how many (1 unless said; None: until `clear`), of which method (None: any),
    and with which characters in path?query."""

    times: int | None
    method: str | None
    contains: str


@dataclass
class Fault:
    """One injected fault; `times`, `method` and `contains` as in Which, `after` counts bytes of a body."""

    kind: Kind
    times: int | None = 1
    method: str | None = None
    contains: str = ""
    after: int = 0
    answer: bytes = b""


class Cut(ConnectionError):
    """A fault or a vanished peer ends the exchange; both connections are to be reset."""


def abort(writer: StreamWriter) -> None:
    """Reset the connection (RST), so that the peer sees an error and not an end."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def settle(writer: StreamWriter) -> None:
    """Let what was written arrive: a reset discards what is still in the kernel's send buffer."""
    await writer.drain()
    await asyncio.sleep(0.05)


class Link:
    """A client's connection and the one to the server that carries its requests; the latter is made when needed."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, host: str, port: int) -> None:
        self.reader, self.writer = reader, writer
        self.address = host, port
        self._server: tuple[StreamReader, StreamWriter] | None = None

    async def server(self) -> tuple[StreamReader, StreamWriter]:
        """The connection to the server, anew if the server closed the last one."""
        if self._server is None or self._server[0].at_eof():
            if self._server:
                self._server[1].close()
            self._server = await asyncio.open_connection(*self.address, limit=HEAD_LIMIT)
        return self._server

    def close(self, *, reset: bool) -> None:
        """Close both connections, or reset both."""
        writers = [self.writer, self._server[1]] if self._server else [self.writer]
        for writer in writers:
            if reset:
                abort(writer)
            else:
                writer.close()


class FaultProxy:
    """A proxy before one plain-HTTP server, as a context manager; its methods may be called from any thread.

    It relays bytes unchanged (the Host header too, so that signatures hold), keeps connections alive, and handles
    Content-Length, chunked bodies and `Expect: 100-continue`. Every fault takes the keywords of Which.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname or HOST, parts.port or 80
        self.rtt = 0.0
        """Seconds of round trip added to each request, and once more to the first of a connection."""
        self.log: list[Request] = []
        """Every request, in order of arrival; `forget` empties it."""
        self.endpoint = ""
        """The URL of the proxy."""
        self.choose: Callable[[Request], Fault | None] = lambda request: None
        """Asked, in the proxy's thread, for the fault of each request that none of the others is meant for."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._started = threading.Event()

    # --- what a test says ---

    def refuse(self, **which: Unpack[Which]) -> None:
        """Reset the connection before the request reaches the server."""
        self._add(Fault("refuse", **which))

    def blackhole(self, **which: Unpack[Which]) -> None:
        """Read the request and never answer; it does not reach the server."""
        self._add(Fault("blackhole", **which))

    def answer(
        self, status: int = 503, code: str = "SlowDown", *, headers: Sequence[str] = (), **which: Unpack[Which]
    ) -> None:
        """Answer with this status, S3 error code and further header lines; the request does not reach the server."""
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        sizes = ["Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close"]
        message = "\r\n".join([start, *sizes, *headers, "", body])
        self._add(Fault("answer", answer=message.encode(), **which))

    def reset_upload(self, after: int = 0, **which: Unpack[Which]) -> None:
        """Reset both connections after so many bytes of the request's body."""
        self._add(Fault("reset_upload", after=after, **which))

    def lose_answer(self, **which: Unpack[Which]) -> None:
        """Let the server do all of the request, then reset the client's connection instead of answering."""
        self._add(Fault("lose_answer", **which))

    def reset(self, after: int = 0, **which: Unpack[Which]) -> None:
        """Reset the client's connection after so many bytes of the answer's body."""
        self._add(Fault("reset", after=after, **which))

    def truncate(self, after: int = 0, **which: Unpack[Which]) -> None:
        """Close the client's connection cleanly after so many bytes of the answer's body."""
        self._add(Fault("truncate", after=after, **which))

    def clear(self) -> None:
        """End all faults and the added latency."""
        with self._lock:
            self._faults.clear()
            self.rtt = 0.0

    def forget(self) -> None:
        """Empty the log."""
        self.log.clear()

    def count(self, method: str | None = None, contains: str = "") -> int:
        """How many logged requests have this method (None: any) and these characters in path?query."""
        return sum(request.matches(method, contains) for request in list(self.log))

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _take(self, request: Request) -> Fault | None:
        """The first fault for this request, used up by one."""
        with self._lock:
            for fault in self._faults:
                if fault.times != 0 and request.matches(fault.method, fault.contains):
                    fault.times = fault.times and fault.times - 1
                    return fault
        return self.choose(request)

    # --- the server: an event loop in a thread ---

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),), name="faultproxy", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("The fault proxy did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, HOST, 0, limit=HEAD_LIMIT, backlog=1024)
        self.endpoint = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()  # asyncio.run cancels what is still connected

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = Link(reader, writer, *self._target)
        reset = False
        try:
            await asyncio.sleep(self.rtt)  # the handshake, which the local accept has hidden
            while (head := await read_head(reader)) and await self._exchange(link, head):
                pass
        except BROKEN:
            reset = True
        except asyncio.CancelledError:
            pass  # the proxy stops; nobody awaits this task
        finally:
            link.close(reset=reset)

    async def _exchange(self, link: Link, head: Head) -> bool:
        """Relay one request and its answer; whether the connection lives on."""
        method, target, _ = head.start.split(" ", 2)
        path, _, query = target.partition("?")
        request = Request(method, path, query, head.headers)
        self.log.append(request)
        await asyncio.sleep(self.rtt / 2)
        fault = self._take(request)
        match fault:
            case Fault("refuse"):
                raise Cut
            case Fault("blackhole"):
                while await link.reader.read(PIECE):
                    pass
                raise Cut
            case Fault("answer"):
                return await self._answer(link, head, request, fault.answer)
        server_reader, server_writer = await link.server()
        server_writer.write(head.raw)
        upload = asyncio.create_task(self._upload(link.reader, server_writer, head, fault))
        try:
            answer = await self._final_head(link, server_reader)
            return await self._relay_answer(link, server_reader, request, answer, fault) and upload.done()
        finally:
            upload.cancel()
            with contextlib.suppress(asyncio.CancelledError, *BROKEN):
                await upload

    async def _answer(self, link: Link, head: Head, request: Request, message: bytes) -> bool:
        """Answer in the server's place, once the client has sent its body (unless it waits to be told to)."""
        if not head.expects_continue:
            async for _ in read_body(link.reader, head):
                pass
        await asyncio.sleep(self.rtt / 2)
        request.status = int(message.split(b" ", 2)[1])
        start, separator, body = message.partition(b"\r\n\r\n")
        link.writer.write(start + separator + (b"" if request.method == "HEAD" else body))
        await settle(link.writer)
        return False

    async def _upload(self, client: StreamReader, server: StreamWriter, head: Head, fault: Fault | None) -> None:
        """Relay the request's body; when the client vanishes, or the fault says so, the server sees a reset."""
        left = fault.after if fault and fault.kind == "reset_upload" else None
        try:
            if head.expects_continue:
                await asyncio.sleep(self.rtt / 2)
            async for piece in read_body(client, head):
                server.write(piece[:left])
                await server.drain()
                if left is not None and (left := left - min(left, len(piece))) == 0:
                    raise Cut
        except BROKEN:
            abort(server)
            raise

    async def _final_head(self, link: Link, server: StreamReader) -> Head:
        """The head of the server's answer, after relaying any `100 Continue` before it."""
        while answer := await read_head(server):
            if answer.status >= 200:
                return answer
            await asyncio.sleep(self.rtt / 2)
            link.writer.write(answer.raw)
        raise Cut

    async def _relay_answer(
        self, link: Link, server: StreamReader, request: Request, answer: Head, fault: Fault | None
    ) -> bool:
        """Relay the answer as far as the fault allows; whether the connection lives on."""
        kind = fault.kind if fault else None
        if kind == "lose_answer":
            raise Cut
        await asyncio.sleep(self.rtt / 2)
        request.status = answer.status
        link.writer.write(answer.raw)
        left = fault.after if fault and kind in ("reset", "truncate") else None
        if has_response_body(answer, request.method) and left != 0:
            async for piece in read_body(server, answer, until_close=True):
                link.writer.write(piece[:left])
                await link.writer.drain()
                if left is not None and (left := left - min(left, len(piece))) == 0:
                    break
        if left == 0:
            await settle(link.writer)
            if kind == "reset":
                raise Cut
            return False
        await link.writer.drain()
        return not answer.closes(request.method)
