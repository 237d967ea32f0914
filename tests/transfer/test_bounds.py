"""T42, T44: what a transfer of very many entries may cost; a million per side with ``GENRO_SOAK=1``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MOST = 64 << 20


@pytest.fixture(scope="module")
def found(soak: Callable[[int], int]) -> tuple[int, list[dict[str, Any]]]:
    count = soak(1_000_000)
    command = [sys.executable, "-m", "tests.transfer.many", str(count)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return count, json.loads(ran.stdout)


def test_t42_memory_is_bounded(found: tuple[int, list[dict[str, Any]]]) -> None:
    _, reports = found
    assert all(report["growth"] <= MOST for report in reports), [report["growth"] for report in reports]


def test_t44_one_request_for_a_thousand_keys(found: tuple[int, list[dict[str, Any]]]) -> None:
    count, reports = found
    for report in reports:
        sides = (count, count + report["files_deleted"])
        assert all(asked <= size / 1000 + 2 for asked, size in zip(report["requests"], sides, strict=True))


def test_all_of_it_was_seen(found: tuple[int, list[dict[str, Any]]]) -> None:
    count, (same, deleting, compared) = found
    assert (same["files_skipped"], same["files_copied"], same["complete"]) == (count, 0, True)
    assert (deleting["files_deleted"], deleting["deleted"]) == (count, count)
    assert (compared["same"], compared["differ"], compared["actions"]) == (count, 0, [])
