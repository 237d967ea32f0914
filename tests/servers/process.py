"""One server process: found, given free ports and a fresh folder, waited for, and ended with all it started."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
# Where .ci/run puts servers that are no Python packages; told to child processes, since tests change HOME.
_caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = Path(os.environ.setdefault("GENRO_TEST_CACHE", str(_caches / "genro-storage-tests")))
PR_SET_PDEATHSIG = 1


class ServerMissing(RuntimeError):
    """The program of a server is not installed."""


class ServerFailed(RuntimeError):
    """A server did not start; the message ends with the tail of its log."""


def find_program(name: str, remedy: str = "pip install 'genro-storage[test]'", also: Sequence[Path] = ()) -> str:
    """The path of a program: beside this interpreter first, then on PATH, then in further folders.

    Raises:
        ServerMissing: it is in none of these; the message ends with the remedy.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    found = found or next((str(folder / name) for folder in also if (folder / name).exists()), None)
    if not found:
        raise ServerMissing(f"{name} is not installed: {remedy}")
    return found


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1 now."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


def free_ports(count: int, *, beside: int = 0) -> list[int]:
    """Ports that are free now, below the kernel's ephemeral range so that no client socket takes one meanwhile.

    Args:
        count: how many.
        beside: when not zero, the port plus this number is free too (SeaweedFS puts gRPC 10000 above HTTP).
    """
    found: list[int] = []
    for port in random.sample(range(12000, 22000), 2000):
        if is_free(port) and (not beside or is_free(port + beside)):
            found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"No {count} free ports on {HOST}")


def answers(url: str) -> bool:
    """Whether a GET of this URL is answered with a status below 500."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def greets(port: int, prefix: bytes) -> bool:
    """Whether a server on this port of 127.0.0.1 takes a connection and speaks first, beginning with the prefix."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            return not prefix or connection.recv(len(prefix), socket.MSG_WAITALL) == prefix
    except OSError:
        return False


def die_with_parent() -> Callable[[], None] | None:
    """What the child runs before exec so that it does not outlive a killed test process (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """A server as a context manager; a subclass says its program, its command and when it is ready.

    Ports are chosen just before each start, and a start that loses them to somebody else is tried again.
    The log is kept, and named in the error, when the server did not start; otherwise the folder is removed.
    """

    program: ClassVar[str]
    remedy: ClassVar[str] = "pip install 'genro-storage[test]'"
    also: ClassVar[Sequence[Path]] = ()  # folders searched after PATH
    start_seconds: ClassVar[float] = 30
    attempts: ClassVar[int] = 3

    def __init__(self) -> None:
        self.folder = Path()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, program: str) -> Sequence[str]:
        """The command line; it takes its ports here and leaves the one that is served in self.port."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Variables added to the inherited environment."""
        return {}

    @property
    def ready_url(self) -> str:
        """The URL that answers as soon as the server can be used."""
        return self.endpoint

    @property
    def endpoint(self) -> str:
        """The URL of the server, without a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Everything that the process printed."""
        return self.folder / "server.log"

    def is_ready(self) -> bool:
        """Whether it serves; asked every 20 ms after the start."""
        return answers(self.ready_url)

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ServerMissing: the program is not installed.
            ServerFailed: it ended or stayed silent in every attempt.
        """
        program = find_program(self.program, self.remedy, self.also)
        error = ServerFailed(self.program)
        for _ in range(self.attempts):
            self.stop()  # what an earlier attempt left
            try:
                return self._start_once(program)
            except ServerFailed as failed:
                error = failed
        raise error

    def make_folder(self) -> Path:
        """A fresh folder of its own, removed by stop()."""
        return Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))

    def _start_once(self, program: str) -> None:
        self.folder = self.make_folder()
        (self.folder / "data").mkdir()
        self._run([str(word) for word in self.command(program)])

    def _run(self, command: Sequence[str]) -> None:
        """Starts this command and waits until it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "TMPDIR": str(self.folder), **self.environment()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.02)
        self._end()
        tail = self.log.read_text(errors="replace")[-2000:]
        raise ServerFailed(f"{self.program} did not start (log kept: {self.log}):\n{tail}")

    def _end(self) -> None:
        """Kill the process group: its folder goes too, so there is nothing to save by asking politely."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End the server and everything it started, and remove its folder. Idempotent."""
        self._end()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
