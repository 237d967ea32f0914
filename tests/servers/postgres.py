"""PostgreSQL in a folder of its own, as the user postgres when the tests run as root."""

from __future__ import annotations

import itertools
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .process import HOST, ServerFailed, ServerProcess, find_program, free_ports


def newest() -> tuple[Path, ...]:
    """The folders of Debian's PostgreSQL programs, newest first."""
    found = Path("/usr/lib/postgresql").glob("*/bin")
    return tuple(sorted(found, key=lambda folder: int(folder.parent.name.partition(".")[0]), reverse=True))


class Postgres(ServerProcess):
    """`postgres` of Debian's `postgresql`; without fsync unless `durable`, for tests that kill it.

    It refuses root: then it runs as the user postgres, that Debian's package makes, in a folder of that user. Whoever
    may connect is `postgres`, by password. `databases` are made with `make_database`, one for each test that asks.
    """

    program = "postgres"
    remedy = "apt-get install postgresql"
    also = newest()
    password = "genro-test-password"

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self.durable = durable
        self._names = itertools.count(1)

    @property
    def account(self) -> list[str]:
        """What makes a command run as the server's user."""
        words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]
        return words if os.geteuid() == 0 else []

    def make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        return folder

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        data = self.folder / "pgdata"
        if not data.exists():
            self._initdb(data)
        safe = "on" if self.durable else "off"
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": safe,
            "synchronous_commit": safe,
            "full_page_writes": safe,
            "max_connections": "200",
            "dynamic_shared_memory_type": "mmap",  # else a killed server leaves a megabyte in /dev/shm
        }
        return [*self.account, program, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]

    def _initdb(self, data: Path) -> None:
        secret = self.folder / "secret"
        secret.write_text(self.password)
        secret.chmod(0o644)
        initdb = find_program("initdb", self.remedy, self.also)
        options = ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", f"--pwfile={secret}"]
        sync = [] if self.durable else ["-N"]
        done = subprocess.run(
            [*self.account, initdb, "-D", str(data), *options, *sync], capture_output=True, text=True, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def is_ready(self) -> bool:
        program = find_program("pg_isready", self.remedy, self.also)
        asked = subprocess.run([program, "-q", "-h", HOST, "-p", str(self.port)], check=False)
        return asked.returncode == 0

    def restart(self) -> None:
        """Kills the server, as a power loss would, and starts it on the same port over the same data."""
        assert self._process is not None
        command = [str(word) for word in self._process.args]  # type: ignore[union-attr]
        self._end()
        deadline = time.monotonic() + 20
        while True:
            try:
                return self._run(command)
            except ServerFailed:  # its children end by themselves, and hold the data until then
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def url(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """How a client reaches a database."""
        return f"postgresql://{user}:{self.password}@{HOST}:{port or self.port}/{database}"

    def sql(self, statements: str, database: str = "postgres") -> str:
        """What psql prints for some statements."""
        psql = find_program("psql", self.remedy, self.also)
        command = [psql, "-XAtq", "-v", "ON_ERROR_STOP=1", self.url(database)]
        done = subprocess.run(command, input=statements, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def make_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test{next(self._names)}"
        self.sql(f"CREATE DATABASE {name}")
        return name
