"""The main job end to end: a folder of 1,000 real files goes local → S3 → memory → local and comes back identical."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import genro_storage
from genro_storage import StorageManager
from genro_storage.mount import Mount
from tests.servers.s3 import S3Endpoint

FILES = 1000


def real_files(folder: Path) -> None:
    """1,000 files of this Python and its packages, with their own times."""
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found = [(library, path) for library in libraries for path in sorted(library.rglob("*.py"))]
    for library, path in found[:FILES]:
        target = folder / library.name / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def facts(folder: Path) -> dict[str, tuple[str, float]]:
    """Relative path → (SHA-256, mtime)."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_thousand_real_files_come_back_identical(tmp_path: Path, seaweedfs: S3Endpoint) -> None:
    for name in ("here", "back"):
        (tmp_path / name).mkdir()
    real_files(tmp_path / "here")
    before = facts(tmp_path / "here")
    assert len(before) == FILES
    with StorageManager(
        [
            {"name": "here", "type": "local", "path": str(tmp_path / "here"), "permissions": "readonly"},
            {"name": "cloud", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket())},
            {"name": "memory", "type": "memory"},
            {"name": "back", "type": "local", "path": str(tmp_path / "back")},
        ]
    ) as storage:
        for source, target in (("here:", "cloud:a/b"), ("cloud:a/b", "memory:"), ("memory:", "back:")):
            report = storage.copy(source, target)
            assert (report.files_copied, report.files_failed, report.ok) == (FILES, 0, True), report
            assert report.bytes_copied == sum(path.stat().st_size for path in (tmp_path / "here").rglob("*.py"))
    assert facts(tmp_path / "back") == before


def test_a_second_copy_gives_the_same_tree(tmp_path: Path, seaweedfs: S3Endpoint) -> None:
    """R11."""
    (tmp_path / "here/src").mkdir(parents=True)
    for name in ("a", "src/b", "src/c"):
        (tmp_path / "here" / name).write_text(name)
    with StorageManager(
        [
            {"name": "here", "type": "local", "path": str(tmp_path / "here")},
            {"name": "cloud", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket())},
            {"name": "memory", "type": "memory"},
        ]
    ) as storage:
        for target in ("cloud:bak", "memory:bak", "memory:deep/bak"):
            for _ in "12":
                storage.copy("here:", target)
            below = [
                node.relative_to(target).as_posix()
                for node, stat in storage.node(target).scan(recursive=True)
                if stat.is_file
            ]
            assert below == ["a", "src/b", "src/c"]


@pytest.mark.parametrize("pair", [("here", "cloud"), ("cloud", "here")])
def test_a_large_file_needs_little_memory(tmp_path: Path, seaweedfs: S3Endpoint, pair: tuple[str, str]) -> None:
    """R31: 200 MiB local ↔ S3 grow the process by 64 MiB at most, beyond one small transfer between the same mounts."""
    script = Path(__file__).parent / "memory_growth.py"
    mounts = [
        {"name": "here", "type": "local", "path": str(tmp_path)},
        {"name": "cloud", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket())},
    ]
    package = Path(genro_storage.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, script, json.dumps(mounts), *pair],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(package)},
    )
    assert int(ran.stdout) <= 64 << 20, f"{int(ran.stdout) >> 20} MiB"


def test_permissions_change_nothing_about_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R20: a local copy under permissions streams, and keeps the time."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    large = tmp_path / "a/large"
    large.write_bytes(b"x" * (8 << 20))
    os.utime(large, ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    with StorageManager(
        [
            {"name": "a", "type": "local", "path": str(tmp_path / "a"), "permissions": "readonly"},
            {"name": "b", "type": "local", "path": str(tmp_path / "b"), "permissions": "readwrite"},
        ]
    ) as storage:

        def whole(*path: object, **how: object) -> object:
            raise AssertionError("the whole file in memory")

        monkeypatch.setattr(Mount, "get", whole)
        storage.node("a:large").copy_to("b:large")
    assert (tmp_path / "b/large").read_bytes() == large.read_bytes()
    assert abs((tmp_path / "b/large").stat().st_mtime_ns - large.stat().st_mtime_ns) < 1000
