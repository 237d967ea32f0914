"""The command, in this process or one of its own, and places to use it on; HOME and the current directory are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from genro_storage import StorageManager, StorageNode, journal
from genro_storage.cli import main

ROOT = Path(__file__).parents[2]


class Ran(NamedTuple):
    """What a run of the command came to."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """What ``--json`` printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def report(self) -> Any:
        """The last object that ``--json`` printed: after events comes what came of it all."""
        return self.objects[-1]


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory; HOME is beside it, and nothing of the developer's own is in reach."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "GENRO_STORAGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    while journal._defaults:  # one for each HOME, as long as the process lives
        journal._defaults.popitem()[1].close()


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in this process."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        (tmp_path / "stdin").write_bytes(stdin)
        capsysbinary.readouterr()
        with open(tmp_path / "stdin") as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            code = main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        assert b"Traceback" not in err
        return Ran(code, out.decode("utf-8", "surrogateescape"), err.decode())

    return run


@pytest.fixture
def process() -> Run:
    """Runs the command in a process of its own; keyword arguments go to `subprocess.run`."""

    def run(*arguments: str | Path, **how: Any) -> Ran:
        how = {"stdin": subprocess.DEVNULL, **how} if "input" not in how else how
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **how}
        ran = subprocess.run([*command(), *map(str, arguments)], **how)
        assert b"Traceback" not in (ran.stderr or b""), ran.stderr
        return Ran(ran.returncode, (ran.stdout or b"").decode(), (ran.stderr or b"").decode())

    return run


def command() -> list[str]:
    """The command's own line, as an installed script would run it."""
    return [sys.executable, "-m", "genro_storage.cli"]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], Path]:
    """Writes a configuration and makes it the one that is discovered."""

    def configure(mounts: list[dict[str, Any]]) -> Path:
        file = tmp_path / "mounts.json"
        file.write_text(json.dumps({"mounts": mounts}))
        monkeypatch.setenv("GENRO_STORAGE_CONFIG", str(file))
        return file

    return configure


class Space:
    """An empty directory of a mount, for the command by name and for the test through the library."""

    def __init__(self, storage: StorageManager, mount: str) -> None:
        self._node = storage.node(f"{mount}:space")
        self.kind = mount

    def name(self, path: str = "") -> str:
        """What a person types for a path in it."""
        return f"{self._node.fullpath}/{path}" if path else self._node.fullpath

    def node(self, path: str) -> StorageNode:
        return self._node / path

    def files(self) -> list[str]:
        """Everything that is there, our own hidden files too where they could be seen."""
        return sorted(
            str(node.relative_to(self._node)) for node, stat in self._node.scan(recursive=True) if stat.is_file
        )


@pytest.fixture(params=["disk", "mem", pytest.param("cloud", marks=pytest.mark.server)])
def space(
    request: pytest.FixtureRequest, tmp_path: Path, configured: Callable[[list[dict[str, Any]]], Path]
) -> Iterator[Space]:
    """A local, a memory and an S3 mount, one after the other, in the discovered configuration."""
    mounts: dict[str, Callable[[], dict[str, Any]]] = {
        "disk": lambda: {"type": "local", "path": str(tmp_path / "disk"), "create": True},
        "mem": lambda: {"type": "memory", "store": tmp_path.name + str(os.getpid())},
        "cloud": lambda: cloud(request.getfixturevalue("seaweedfs")),
    }
    file = configured([{"name": request.param, **mounts[request.param]()}])
    with StorageManager(file) as storage:  # holds the memory while the command comes and goes
        space = Space(storage, request.param)
        space._node.mkdir()
        yield space


def cloud(server: Any) -> dict[str, Any]:
    return {"type": "s3", **server.options(server.make_bucket())}
