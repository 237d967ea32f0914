"""`temp`: only what the dead left goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage.tempfiles import TempFileManager

from .conftest import Run


@pytest.fixture
def base(tmp_path: Path, configured: Callable[[list[dict[str, Any]]], Path]) -> Path:
    """The base directory of the mount `temp`, with what a dead process left."""
    base = tmp_path / "base"
    configured([{"name": name, "type": "temp", "base_dir": str(base), "min_free_bytes": 0} for name in ("temp", "two")])
    (base / "o-0000000000000001/f").mkdir(parents=True)
    (base / "o-0000000000000001/f/a").write_text("x")
    base.chmod(0o700)
    return base


def test_status(base: Path, cli: Run) -> None:
    ran = cli("temp", "status", "--json")
    assert ran.code == 0
    (told,) = ran.objects
    assert (told["status"], told["owners"], told["dead_owners"]) == ("healthy", 1, 1)
    assert str(base) in cli("temp", "status", "two:").out
    base.chmod(0o777)
    ran = cli("temp", "status")
    assert ran.code == 4
    assert "writable by others" in ran.err


@pytest.mark.parametrize(("action", "code"), [("sweep", 0), ("clear", 1)])
def test_what_a_living_process_has_stays(base: Path, cli: Run, action: str, code: int) -> None:
    """`clear` then says that it could not clear all."""
    (base / "mine").write_text("x")
    with TempFileManager(base, background=False, min_free_bytes=0) as manager:
        path = manager.create_file()
        (base / "o-0000000000000002").mkdir()
        ran = cli("temp", action, "two", "--json")
        assert ran.code == code
        assert ran.objects == [{"removed": 1, "alive": 1, "failed": {}}]
        assert Path(path).exists()
    assert cli("temp", action).code == 0
    assert sorted(entry.name for entry in base.iterdir()) == [".sweep", "mine"]


@pytest.mark.parametrize("arguments", [["explode"], ["sweep", "temp", "two"], []])
def test_what_makes_no_sense(base: Path, cli: Run, arguments: list[str]) -> None:
    assert cli("temp", *arguments).code == 2
    assert (base / "o-0000000000000001/f/a").exists()


def test_a_mount_of_another_type(base: Path, cli: Run, configured: Callable[[list[dict[str, Any]]], Path]) -> None:
    configured([{"name": "mem", "type": "memory"}])
    ran = cli("temp", "sweep", "mem")
    assert ran.code != 0
    assert "not of type temp" in ran.err
