"""`zip`, `zip_stream`, `zip_to`: names, sizes, bounded memory, large files."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import (
    StorageConflictError,
    StorageManager,
    StorageNode,
    StorageNotFoundError,
    StoragePathError,
    StorageWarning,
)
from genro_storage.types import Stat
from genro_storage.verbs import zip as zips


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageNode]:
    (tmp_path / "m").mkdir()
    keys = {"path": str(tmp_path / "m")} if request.param == "local" else {}
    with StorageManager([{"name": "m", "type": request.param, **keys}]) as storage:
        yield storage.node("m:")


def opened(data: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    return archive


def test_a_file(root: StorageNode) -> None:
    node = root / "d/ä.txt"
    node.write("text" * 100)
    archive = opened(node.zip())
    assert archive.namelist() == ["ä.txt"]
    assert archive.read("ä.txt") == b"text" * 100
    info = archive.infolist()[0]
    assert info.compress_size < info.file_size
    assert abs(time.mktime((*info.date_time, 0, 0, -1)) - (node.mtime or 0)) <= 2


@pytest.mark.parametrize("compression", ["deflate", "store"])
def test_a_tree(root: StorageNode, compression: str) -> None:
    files = {"b/x.txt": b"x", "a.txt": b"", "b/c/deep.bin": os.urandom(300_000), "b-.txt": b"-"}
    for name, data in files.items():
        root.child("top", name).write_bytes(data)
    (root / "top/empty/inside").mkdir(parents=True)
    archive = opened((root / "top").zip(compression=compression))
    assert archive.namelist() == ["a.txt", "b-.txt", "b/c/deep.bin", "b/x.txt", "empty/inside/"]
    assert {name: archive.read(name) for name in files} == files
    assert archive.getinfo("empty/inside/").is_dir()
    assert set(opened(root.zip()).namelist()) == {f"top/{name}" for name in archive.namelist()}


def test_a_stored_archive_knows_its_length(root: StorageNode) -> None:
    for number in range(20):
        root.child("t", f"ü{number}").write_bytes(b"x" * number * 1000)
    (root / "t/empty").mkdir()
    stream = (root / "t").zip_stream(chunk=1000, compression="store")
    pieces = list(stream)
    assert stream.length == sum(map(len, pieces))
    assert max(map(len, pieces)) < 5000
    assert (root / "t").zip_stream().length is None
    opened(b"".join(pieces))


def test_the_length_of_many_and_of_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 5000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    monkeypatch.setattr(zips, "_SURE", 2000)
    with StorageManager({"m": {"type": "memory"}}) as storage:
        for sizes in ((6000,), (1, 2100, 9000, 5), (4000, 0, 4000), tuple(range(12))):
            root = storage.node(f"m:{len(sizes)}-{sizes[0]}")
            for at, size in enumerate(sizes):
                root.child(f"{at:03}").write_bytes(b"x" * size)
            stream = root.zip_stream(compression="store")
            data = zips.whole(stream)
            assert stream.length == len(data)
            assert [info.file_size for info in opened(data).infolist()] == list(sizes)


def test_zip_to(root: StorageNode) -> None:
    (root / "t/a").write_bytes(b"1" * 5000)
    for compression in ("deflate", "store"):
        target = (root / "t").zip_to("m:out/t.zip", compression=compression)
        assert target == root / "out/t.zip"
        assert opened(target.read_bytes()).read("a") == b"1" * 5000
    node = root / "other.zip"
    assert (root / "t").zip_to(node) is node


def test_a_failure_leaves_the_old_archive(root: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "t/a").write_bytes(b"1" * 5000)
    (root / "t.zip").write("old")
    real = zips._opener

    def shrinking(*args: Any) -> Any:
        (root / "t/a").write_bytes(b"1")
        return real(*args)

    monkeypatch.setattr(zips, "_opener", shrinking)
    with pytest.raises(StorageConflictError, match="'a' changed its size"):
        (root / "t").zip_to("m:t.zip", compression="store")
    assert (root / "t.zip").read() == "old"
    assert sorted(child.name for child in root.children()) == ["t", "t.zip"]


def test_what_is_refused(root: StorageNode) -> None:
    with pytest.raises(StorageNotFoundError):
        (root / "missing").zip()
    (root / "f").write("x")
    with pytest.raises(ValueError, match="'lzma'"):
        (root / "f").zip(compression="lzma")
    with pytest.raises(ValueError, match="chunk"):
        (root / "f").zip_stream(0)


@pytest.mark.parametrize("name", ["..\\..\\x", "a/../x", "/x", "\\x", "a\\..\\b", "bad\udcff"])
def test_no_entry_leads_out(name: str) -> None:  # R25
    with pytest.raises(StoragePathError, match="name of an entry"):
        zips._safe(name)


def test_times_that_no_archive_can_hold() -> None:
    for mtime in (None, 0.0, -1e12, 1e30):
        entry = zips.Entry("f", Stat("f", 0, mtime=mtime), io.BytesIO)  # type: ignore[arg-type]
        assert 1980 <= zips._info(entry, 0).date_time[0] <= 2107


def test_links_and_special_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "link").symlink_to("f")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with StorageManager({"m": {"type": "local", "path": str(tmp_path)}}) as storage:
        with pytest.warns(StorageWarning, match="2 links and special files below 'm:'"):
            archive = opened(storage.node("m:").zip())
        assert archive.namelist() == ["f", "link"]


def test_chain_names() -> None:
    taken: set[str] = set()
    names = []
    for name in ("a.txt", "a.txt", "a.txt", "a (2).txt", "b"):
        names.append(zips._free(name, taken))
        taken.add(names[-1])
    assert names == ["a.txt", "a (2).txt", "a (3).txt", "a (2) (2).txt", "b"]


def test_a_dropped_stream_lets_the_file_go(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(3_000_000))
    with StorageManager({"m": {"type": "local", "path": str(tmp_path)}}) as storage:
        stream = storage.node("m:f").zip_stream()
        next(stream)
        stream.close()
        stream.close()
        held = [link for link in Path("/proc/self/fd").iterdir() if str(link.resolve()) == str(tmp_path / "f")]
        assert held == []


MEASURED = """
import hashlib, resource, sys
from genro_storage import StorageManager
storage = StorageManager({"m": {"type": "local", "path": sys.argv[1]}})
storage.node("m:small").zip_to("m:first.zip")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
storage.node("m:big").zip_to("m:second.zip", compression="store")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:  # R31
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 << 20)
    run = [sys.executable, "-c", MEASURED, str(tmp_path)]
    grown = int(subprocess.run(run, check=True, capture_output=True, text=True, timeout=200).stdout)
    assert grown <= 64 << 10  # KiB
    with zipfile.ZipFile(tmp_path / "second.zip") as archive, archive.open("big") as entry:
        assert hashlib.file_digest(entry, "sha256").digest() == hashlib.sha256(bytes(200 << 20)).digest()
