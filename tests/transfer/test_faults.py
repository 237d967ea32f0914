"""A fault at every call of a whole transfer: nothing lost, nothing half-written, nothing left behind, all counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import StorageError, StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing.faulty import Fault, FaultPlan, FaultyBackend, injected

from .conftest import local_mount, memory_mount
from .trees import at, files

BIG = (1 << 20) + 1
SOURCE = {"a": b"new a", "d/b": b"new b", "d/big": b"n" * BIG, "d/e/c": b"", "z": b"new z"}
OLD = {"a": b"old a", "d/big": b"old big", "other": b"stays"}


def gone() -> Exception:
    return StorageUnavailableError("the connection was cut")


FAULTS: dict[str, tuple[str, Callable[[], Exception], int]] = {
    "broken": ("fail", injected, 1),
    "cut": ("fail", gone, 1),
    "cut again and again": ("fail", gone, 20),
    "answer lost": ("lost", gone, 1),
    "half": ("truncate", gone, 1),
}


def pair(kinds: str, tmp_path: Path) -> tuple[Mount, Mount]:
    here, there = kinds.split("-")
    mounts = []
    for name, kind in (("s", here), ("t", there)):
        mounts.append(local_mount(name, tmp_path / name) if kind == "local" else memory_mount(name))
    for path, data in SOURCE.items():
        mounts[0].put(f"src/{path}", data)
    for path, data in OLD.items():
        mounts[1].put(f"dst/{path}", data)
    return mounts[0], mounts[1]


def faulty(mount: Mount, plan: FaultPlan) -> Mount:
    return Mount(mount.name, FaultyBackend(mount.backend, plan), retry=RetryPolicy(3, 0.0))


def leftovers(base: Path) -> list[str]:
    return [name for _, _, names in os.walk(base) for name in names if ".genro" in name]


def run(operation: str, source: Mount, target: Mount, **options: Any) -> transfer.TransferReport | None:
    try:
        done = getattr(transfer, operation)(
            at(source, "src"), at(target, "dst"), errors="report", concurrency=1, retries=2, **options
        )
    except StorageError as error:
        return getattr(error, "report", None)
    assert isinstance(done, transfer.TransferReport)
    return done


def judge(operation: str, source: Mount, target: Mount, report: transfer.TransferReport | None) -> None:
    there, here = files(target, "dst"), files(source, "src")
    for path, data in there.items():
        allowed = [OLD.get(path), SOURCE.get(path)]
        assert data in allowed, path
    assert OLD.keys() - there.keys() <= ({"other"} if operation == "sync" else set())
    if operation == "move":
        for path, data in SOURCE.items():
            assert data in (here.get(path), there.get(path)), path  # on one side at least
    else:
        assert here == SOURCE
    if report is None:
        return
    assert report.files_total == report.files_copied + report.files_skipped + report.files_failed
    if report.ok:
        assert {path: there.get(path) for path in SOURCE} == SOURCE
        assert report.files_copied + report.files_skipped == len(SOURCE)
        assert operation != "move" or here == {}
    new = [path for path, data in SOURCE.items() if there.get(path) == data]
    assert len(new) >= report.files_copied


@pytest.mark.parametrize("kinds", ["memory-local", "local-memory", "local-local"])
@pytest.mark.parametrize("operation", ["copy", "move", "sync"])
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_each_call(kinds: str, operation: str, side: str, fault: str, tmp_path: Path) -> None:
    kind, error, times = FAULTS[fault]
    options: dict[str, Any] = {"delete": True, "skip": "never"} if operation == "sync" else {}
    number = 0
    while True:
        number += 1
        base = tmp_path / str(number)
        base.mkdir()
        source, target = pair(kinds, base)
        plan = FaultPlan(Fault(number, kind, error, times=times))  # type: ignore[arg-type]
        ends = (faulty(source, plan), target) if side == "source" else (source, faulty(target, plan))
        report = run(operation, *ends, **options)
        judge(operation, source, target, report)
        assert leftovers(base) == []
        if not plan.struck:
            break
    assert number > 5
    assert report is not None
    assert report.ok
