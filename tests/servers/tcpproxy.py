"""A proxy before any TCP server on 127.0.0.1: goes silent, cuts connections, and speaks FTP well enough to refuse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from asyncio import StreamReader, StreamWriter
from typing import Self

from .faultproxy import abort
from .process import HOST

PIECE = 64 << 10


class TcpProxy:
    """Relays bytes until it is told otherwise, as a context manager; its methods may be called from any thread."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self._silent = False
        self._left: int | None = None
        self._writers: set[StreamWriter] = set()
        self._started = threading.Event()

    # --- what a test says ---

    def silence(self) -> None:
        """From now on nothing that anybody sends arrives, and no connection ends."""
        self._silent = True

    def cut(self, after: int = 0) -> None:
        """Reset all connections, once so many more bytes of the server have passed; later ones live again."""
        self._left = after
        if not after:
            self._loop.call_soon_threadsafe(self._reset)

    def clear(self) -> None:
        """Let everything pass again, on new connections."""
        self._silent, self._left = False, None

    # --- the proxy: an event loop in a thread ---

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),), name="tcpproxy", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("The TCP proxy did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, HOST, 0, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()  # asyncio.run cancels what is still connected

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            abort(writer)
            return
        both = {writer, server_writer}
        self._writers |= both
        for one in both:
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [self._up(reader, writer, server_writer), self._down(server_reader, writer)]
        with contextlib.suppress(asyncio.CancelledError):  # the proxy stops; nobody awaits this task
            await asyncio.gather(*ways)
        self._writers -= both
        for one in both:
            one.close()

    async def _up(self, reader: StreamReader, client: StreamWriter, server: StreamWriter) -> None:
        """What the client says."""
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if not self._silent:
                    server.write(data)
                    await server.drain()
        server.close()

    async def _down(self, reader: StreamReader, client: StreamWriter) -> None:
        """What the server says."""
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if self._silent:
                    continue
                client.write(data[: self._left])
                await client.drain()
                if self._left is not None:
                    self._left = max(0, self._left - len(data))
                if self._left == 0:
                    await asyncio.sleep(0.05)  # a reset discards what is still in the kernel's buffer
                    self._reset()
                    return
        client.close()

    def _reset(self) -> None:
        self._left = None
        for writer in list(self._writers):
            abort(writer)


class FtpProxy(TcpProxy):
    """Before the commands of an FTP server (data goes straight to it): logs them, and refuses some in its place."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.log: list[str] = []
        """Every command, without its argument, in order."""
        self._answers: list[tuple[str, str, int]] = []

    def answer(self, command: str, line: str, *, skip: int = 0) -> None:
        """Answer with this line, instead of the server, whoever comes with this command, but for the first `skip`."""
        self._answers.append((command, line, skip))

    def clear(self) -> None:
        super().clear()
        self._answers.clear()

    async def _up(self, reader: StreamReader, client: StreamWriter, server: StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                command = line.split()[0].decode("ascii", "replace")
                self.log.append(command)
                if (told := self._refusal(command)) is not None:
                    client.write(f"{told}\r\n".encode())
                elif not self._silent:
                    server.write(line)
        server.close()

    def _refusal(self, command: str) -> str | None:
        for place, (refused, line, skip) in enumerate(self._answers):
            if refused == command:
                if not skip:
                    return line
                self._answers[place] = refused, line, skip - 1
        return None


class BlackHole:
    """A port of 127.0.0.1 that lets nobody in and turns nobody away, as a firewall that drops packets does."""

    def __enter__(self) -> Self:
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._queue = [socket.socket() for _ in range(4)]
        for one in self._queue:  # fill the queue of those who wait to be let in
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((HOST, self.port))
        return self

    def __exit__(self, *exc: object) -> None:
        for one in (*self._queue, self._listener):
            one.close()
