"""Real processes for the tests of temporary files, and a base directory for them to meet in."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage.tempfiles import TempFileManager
from tests.backends import local_tools

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, signal, sys
from genro_storage.tempfiles import TempFileManager

def say(text):
    print(text, flush=True)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

m = TempFileManager(sys.argv[1], min_free_bytes=0)
"""


class Process:
    """A Python program with a manager `m` on the test's base directory; it says lines and waits for ours."""

    def __init__(self, code: str, *args: str) -> None:
        command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *args]
        self.popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline().rstrip("\n")

    def go(self) -> None:
        assert self.popen.stdin
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def ends(self) -> int:
        return self.popen.wait(timeout=90)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        self.kill()
        assert self.popen.stdin
        assert self.popen.stdout
        self.popen.stdout.close()
        self.popen.stdin.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


@pytest.fixture
def manager(base: Path) -> Iterator[TempFileManager]:
    with TempFileManager(base) as manager:
        yield manager


@pytest.fixture
def start(base: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(code: str, *args: str) -> Process:
        started.append(Process(code, str(base), *args))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def owners(base: Path) -> Callable[[], set[str]]:
    return lambda: {path.name for path in base.glob("o-*")}


@pytest.fixture
def dead(base: Path) -> Callable[..., Path]:
    """Makes what a dead process left: an owner directory nobody holds, with `files` files."""
    count = 0

    def dead(files: int = 3) -> Path:
        nonlocal count
        count += 1
        owner, making = base / f"o-{count:016x}", base / f"making-{count}"
        (making / "f").mkdir(parents=True)
        base.chmod(0o700)
        for number in range(files):
            (making / "f" / str(number)).write_bytes(b"x")
        making.rename(owner)  # a sweeper may be at work
        return owner

    return dead


@pytest.fixture
def descriptors() -> Callable[[], int]:
    return local_tools.descriptors


@pytest.fixture
def in_fork() -> Callable[[Callable[[], object]], None]:
    """Runs a function in a forked child, which must end well within 10 s."""

    def in_fork(work: Callable[[], object]) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                import faulthandler

                faulthandler.dump_traceback_later(10, exit=True)
                work()
                code = 0
            finally:
                if code:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return in_fork


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A tree outside that looks like one of ours and must survive everything."""
    victim = tmp_path / "victim"
    (victim / "o-1" / "f").mkdir(parents=True)
    (victim / "o-1" / "f" / "precious").write_bytes(b"precious")
    (victim / "precious").write_bytes(b"precious")
    return victim


@pytest.fixture
def unharmed(victim: Path) -> Callable[[], bool]:
    before = tree(victim)
    return lambda: tree(victim) == before


def tree(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
