"""cleanup: what killed transfers left goes, and nothing else."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager

from .conftest import Run, Space

Configure = Callable[[list[dict[str, Any]]], Path]
PART = 5 << 20


@pytest.fixture
def left(space: Space) -> Space:
    """A file that is there, and a write of 5 MiB that nobody will finish."""
    space.node("done").write_text("x")
    writer = space.node("d/f").mount.parts("space/d/f", part_size=PART)
    writer.put(0, bytes(writer.part_size))
    return space


def unfinished(space: Space) -> list[str]:
    return [found.path for found in space.node("x").mount.unfinished("", older_than=-60)]


def test_what_is_young_stays(left: Space, cli: Run) -> None:
    for how in ([], ["--older-than", "1h"]):
        assert cli("cleanup", *how) == (0, "removed 0 leftovers; forgot 0 transfers\n", "")
    assert unfinished(left) == ["space/d/f"]


def test_leftovers_go_and_files_stay(left: Space, cli: Run) -> None:
    time.sleep(1.1)  # S3 tells whole seconds
    ran = cli("cleanup", "--older-than", "0", "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines()[0].startswith(f"would remove {left.name('d/f')}, begun 20")
    assert ran.out.splitlines()[-1] == "would remove 1 leftover; would forget 0 transfers"
    assert unfinished(left) == ["space/d/f"]
    told, counts = cli("--json", "cleanup", "--older-than", "0s", f"{left.kind}:").objects
    assert (told["path"], told["removed"], counts["removed"], counts["failed"]) == (left.name("d/f"), True, 1, 0)
    assert unfinished(left) == []
    assert left.files() == ["done"]
    assert cli("-q", "cleanup", "--older-than", "0") == (0, "", "")


def test_only_the_mounts_that_are_named(tmp_path: Path, cli: Run, configured: Configure) -> None:
    """Without a name those of the configuration; the built-in ones, the whole home among them, are not walked."""
    mounts = [{"name": name, "type": "local", "path": str(tmp_path / name), "create": True} for name in ("one", "two")]
    with StorageManager(configured(mounts)) as storage:
        for name in ("one", "two"):
            storage.node(f"{name}:f").mount.parts("f", part_size=PART).put(0, b"x")
    (tmp_path / "home/.genro-parts-left").touch()
    before = sorted(os.listdir(tmp_path / "home"))
    assert cli("cleanup", "--older-than", "0", "two").out == "removed 1 leftover; forgot 0 transfers\n"
    assert (len(os.listdir(tmp_path / "one")), os.listdir(tmp_path / "two")) == (1, [])
    assert cli("cleanup", "--older-than", "0").code == 0
    assert os.listdir(tmp_path / "one") == []
    assert sorted(os.listdir(tmp_path / "home")) == before


def test_a_mount_that_does_not_answer_is_told(tmp_path: Path, cli: Run, configured: Configure) -> None:
    """And the others are cleaned."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        keys = {"bucket": "b", "access_key": "k", "secret_key": "s", "retries": 0, "connect_timeout": 1}
        dead = {"name": "dead", "type": "s3", "endpoint": f"http://127.0.0.1:{taken.getsockname()[1]}", **keys}
        disk = {"name": "disk", "type": "local", "path": str(tmp_path / "disk"), "create": True}
        with StorageManager(configured([dead, disk])) as storage:
            storage.node("disk:f").mount.parts("f", part_size=PART).put(0, b"x")
        ran = cli("cleanup", "--older-than", "0")
    assert (ran.code, ran.err.count("dead:"), len(ran.err.splitlines())) == (1, 1, 1)
    assert ran.out == "removed 1 leftover; forgot 0 transfers\n"
    assert os.listdir(tmp_path / "disk") == []


@pytest.mark.parametrize(
    ("arguments", "code"), [(["nowhere:"], 3), (["memory:below"], 2), (["--older-than", "soon"], 2)]
)
def test_usage(cli: Run, arguments: list[str], code: int) -> None:
    assert cli("cleanup", *arguments).code == code
