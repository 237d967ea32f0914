"""A relay that delays every byte by half a round trip each way: `python benchmarks/lag.py PORT HOST:PORT MS`.

It knows nothing of HTTP and so costs little; a new connection pays one round trip more, as a handshake does.
"""

from __future__ import annotations

import asyncio
import socket
import sys


class End(asyncio.Protocol):
    """One end of a relayed connection; what it receives goes to the other one later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        for data in self.waiting:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay, self._send, data)

    def _send(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.transport is None:
            self.other.waiting.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        asyncio.get_running_loop().call_later(self.delay, self._close)

    def _close(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(End):
    """The client's end: connects to the server as soon as it exists."""

    def __init__(self, delay: float, host: str, port: int) -> None:
        super().__init__(delay)
        self.address = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = back = End(self.delay)
        back.other = self
        loop = asyncio.get_running_loop()
        loop.call_later(2 * self.delay, lambda: _tasks.add(asyncio.ensure_future(self._connect(back))))

    async def _connect(self, back: End) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: back, *self.address)
        except OSError:
            if self.transport is not None:
                self.transport.close()


_tasks: set[asyncio.Future[None]] = set()


async def main(port: int, target: str, milliseconds: float) -> None:
    host, _, number = target.partition(":")
    delay = milliseconds / 2000
    server = await asyncio.get_running_loop().create_server(
        lambda: Front(delay, host, int(number)), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
