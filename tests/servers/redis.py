"""Redis or Valkey in a folder of its own."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from .process import HOST, ServerProcess, free_ports


class Redis(ServerProcess):
    """`redis-server` of Debian; keeps nothing, or with `durable` every write before it answers."""

    program = "redis-server"
    remedy = "apt-get install redis-server"

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self.durable = durable

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        kept = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        return [
            program,
            *("--bind", HOST, "--port", str(self.port), "--dir", str(self.folder / "data"), "--save", "", *kept),
        ]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def restart(self) -> None:
        """Kills the server and starts it on the same port over the same data."""
        assert self._process is not None
        command = self._process.args
        self._end()
        self._run([str(word) for word in command])  # type: ignore[union-attr]

    def url(self, *, port: int | None = None, database: int = 0) -> str:
        """How a client reaches it."""
        return f"redis://{HOST}:{port or self.port}/{database}"
