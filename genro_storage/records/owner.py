"""Which process owns something, and whether it still lives: an id alone does not tell, ids are used again."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import Self

from msgspec import Struct


class Owner(Struct, frozen=True):
    """One process: `space` is its host, boot and process namespace, `started` tells it from a later one of its id."""

    space: str
    pid: int
    started: str
    turn: str
    """Random, one for each time that a job is opened."""

    @classmethod
    def me(cls) -> Self:
        """This process, now."""
        return cls(_namespace(), os.getpid(), _started(os.getpid()), os.urandom(8).hex())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.space.split()[0]}"

    @property
    def is_me(self) -> bool:
        """Whether this is the process that made it; False in a forked child."""
        return self.pid == os.getpid() and self.space == _namespace()

    @property
    def is_alive(self) -> bool | None:
        """Whether the process still runs; None where that cannot be told from here."""
        if self.space != _namespace():
            return None
        return _started(self.pid) == self.started


@cache
def _namespace() -> str:
    """Within which a process id means one process: host, boot, process namespace."""
    parts = [socket.gethostname() or "localhost"]
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            parts.append(file.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:  # no Linux
        pass
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a living process began, in the kernel's words; "" where there is none. Ids are used again, these are not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name may hold anything, also ")"
    except OSError:
        return "" if os.path.isdir("/proc/self") else _answers(pid)
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _answers(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
