"""The fixtures for tests of others: a clock to turn, and a verdict at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genro_storage import StorageManager
from genro_storage.testing.temporary import TestedTempManager

from .conftest import ROOT

if TYPE_CHECKING:
    import pytest

SUITE = """
def register(manager, tmp_path):
    path = tmp_path / "out"
    path.write_text("x")
    manager.register_file(str(path))

def test_clean(temp_manager, tmp_path):
    register(temp_manager, tmp_path)
    temp_manager.create_file()
    temp_manager.clear_all()

def test_leak(temp_manager, tmp_path):
    register(temp_manager, tmp_path)

def test_failed(temp_manager, tmp_path, monkeypatch):
    from genro_storage.tempfiles.identity import Remover

    def fail(self, path, identity):
        raise PermissionError("no")

    register(temp_manager, tmp_path)
    monkeypatch.setattr(Remover, "remove", fail)
    temp_manager.clear_all()
"""


def test_the_clock_is_turned(temp_manager: TestedTempManager, tmp_path: Path) -> None:
    path = temp_manager.create_file()
    temp_manager.advance(temp_manager.max_age - 10)
    assert temp_manager.cleanup() == 0
    temp_manager.advance(20)
    assert temp_manager.cleanup() == 1
    assert not os.path.exists(path)
    assert temp_manager.base_dir == str(tmp_path / "temp")


def test_a_storage_of_one_mount(temp_storage: StorageManager, tmp_path: Path) -> None:
    assert temp_storage.get_mount_names() == ["temp"]
    temp_storage.node("temp:a/b").write_text("x")
    assert temp_storage.temp().base_dir == str(tmp_path / "temp")


def test_leaks_and_failures_fail_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "test_it.py").write_text(SUITE)
    plugin = ["-p", "genro_storage.testing.plugin", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner")]
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), *plugin, str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert "3 passed, 2 errors" in ran.stdout, ran.stdout
    assert "registered and not cleaned up" in ran.stdout
    assert "deletions failed" in ran.stdout
