"""pytest fixtures of temporary files: a manager with a clock that tests turn, and a storage of one temp mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..manager import StorageManager
from ..tempfiles import TempFileManager


class TestedTempManager(TempFileManager):
    """A `TempFileManager` whose time is turned on by hand."""

    __test__ = False

    def advance(self, seconds: float) -> None:
        """Makes it so many seconds later for this manager."""
        self._clocks.offset += seconds


def _judge(manager: TempFileManager) -> None:
    """Fails when the test left files registered outside, or deletions failed."""
    failed = manager.failed | manager.last_report.failed
    left = [path for path in manager.files if not manager.is_inside(path)]
    if failed:
        pytest.fail(f"deletions failed: {failed}")
    if left:
        pytest.fail(f"registered and not cleaned up: {left}")


@pytest.fixture
def temp_manager(tmp_path: Path) -> Iterator[TestedTempManager]:
    """A manager in `tmp_path` without a thread; `advance(seconds)` turns its clock.

    The test fails at its end if a deletion failed, or a file outside of its own directory is still registered.
    """
    with TestedTempManager(tmp_path / "temp", background=False, min_free_bytes=0) as manager:
        yield manager
        _judge(manager)


@pytest.fixture
def temp_storage(tmp_path: Path) -> Iterator[StorageManager]:
    """A storage whose only mount is ``temp``, in `tmp_path`."""
    entry = {"name": "temp", "type": "temp", "base_dir": str(tmp_path / "temp"), "background": False}
    with StorageManager([{**entry, "min_free_bytes": 0}]) as storage:
        yield storage
