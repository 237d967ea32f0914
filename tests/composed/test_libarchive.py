"""Archives of libarchive's formats as mounts, hostile ones among them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libarchive
import pytest

from genro_storage import StorageManager
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.options import Context
from genro_storage.composed.libarchive import LibarchiveBackend, LibarchiveOptions
from genro_storage.exceptions import (
    StorageCorruptedError,
    StorageNotFoundError,
    StorageUnavailableError,
    StorageWarning,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.testing.faulty import Fault, FaultPlan, FaultyBackend

FILES = {"a.txt": b"alpha", "d/b.bin": os.urandom(200_000), "d/e/c": b"", "caf\u00e9/x": b"1"}
FORMATS = [("7zip", None), ("cpio", "gzip"), ("zip", None), ("pax", "xz"), ("pax", "zstd"), ("gnutar", None)]


def write(file: Path, kind: str = "7zip", packing: str | None = None, files: dict[str, bytes] = FILES) -> Path:
    with libarchive.file_writer(str(file), kind, packing) as archive:
        for name, data in files.items():
            archive.add_file_from_memory(name, len(data), data, permission=0o640, mtime=1_234_567_890)
    return file


def mounted(file: Path | str, **keys: Any) -> StorageManager:
    entry = {"name": "x", "type": "libarchive", "file": str(file), **keys}
    return StorageManager([entry, {"name": "mem", "type": "memory"}])


@pytest.mark.parametrize(("kind", "packing"), FORMATS)
def test_read(tmp_path: Path, kind: str, packing: str | None) -> None:
    with mounted(write(tmp_path / "some", kind, packing)) as storage:
        found = [node.path for node, stat in storage.node("x:").scan(recursive=True) if stat.is_file]
        assert found == sorted(FILES, key=str.encode)
        for name, data in FILES.items():
            node = storage.node(f"x:{name}")
            assert (node.read_bytes(), node.size, node.mtime) == (data, len(data), 1_234_567_890.0)
            assert node.read_bytes(70_000, 150_000) == data[70_000:150_000]
            assert node.read_bytes(-2) == data[-2:]
        storage.node("x:d").copy_to("mem:out")
        assert storage.node("mem:out/b.bin").read_bytes() == FILES["d/b.bin"]
        with pytest.raises(StorageNotFoundError):
            storage.node("x:absent").read_bytes()
        with pytest.raises(UnsupportedOperation, match="read-only"):
            storage.node("x:n").write("1")


def test_in_another_mount_and_many_threads(tmp_path: Path) -> None:
    data = write(tmp_path / "some").read_bytes()
    with mounted("mem:up/some.7z") as storage:
        storage.node("mem:up/some.7z").write_bytes(data)
        with ThreadPoolExecutor(8) as pool:
            read = set(pool.map(lambda _: storage.node("x:d/b.bin").read_bytes(), range(16)))
    assert read == {FILES["d/b.bin"]}


@pytest.mark.parametrize("at", range(1, 12))
def test_an_error_below_is_no_end(tmp_path: Path, at: int) -> None:
    """What libarchive's callbacks cannot raise is raised all the same, and never taken for the end of the archive."""
    write(tmp_path / "some.tar", "pax", files={"a": os.urandom(400_000), "b": b"last"})
    plan = FaultPlan()
    faulty = FaultyBackend(LocalStorage(LocalOptions(path=str(tmp_path))), plan)
    below = Mount("below", faulty, retry=NO_RETRY)
    archive = LibarchiveBackend(LibarchiveOptions(file="l:some.tar"), Context("x", stands_on=(below, "some.tar")))
    mount = Mount("x", archive, retry=NO_RETRY)
    assert mount.get("b")[0] == b"last"
    archive.close()
    plan.faults.append(Fault(len(plan.calls) + at, error=lambda: ConnectionError("gone"), times=1000))
    with pytest.raises(StorageUnavailableError, match=r"below:some\.tar"):
        mount.get("b")


def test_hostile_names(tmp_path: Path) -> None:
    files = {"../evil": b"1", "/abs": b"1", "d/../../x": b"1", "good": b"1"}
    with (
        mounted(write(tmp_path / "evil", "pax", files=files)) as storage,
        pytest.warns(StorageWarning, match="3 names"),
    ):
        assert [node.path for node in storage.node("x:").children()] == ["good"]


def test_an_archive_names_no_file_of_this_machine(tmp_path: Path) -> None:
    """The format mtree takes the contents of its entries from the local disk: it is not read."""
    (tmp_path / "secret").write_text("secret")
    file = tmp_path / "some.mtree"
    file.write_text(f"#mtree\n./stolen type=file mode=0644 size=6 contents={tmp_path}/secret\n")
    with mounted(file) as storage, pytest.raises(StorageCorruptedError):
        storage.node("x:stolen").read_bytes()


def test_expansion_is_bounded(tmp_path: Path) -> None:
    file = write(tmp_path / "bomb", "pax", "xz", {"bomb": bytes(8 << 20), "after": b"1"})
    with mounted(file, max_ratio=20) as storage, pytest.raises(StorageCorruptedError, match="max_ratio"):
        storage.node("x:after").read_bytes()
    with mounted(file, max_ratio=1_000_000) as storage:
        assert storage.node("x:after").read_bytes() == b"1"


def test_damage_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "some")
    for data in (b"no archive at all " * 100, file.read_bytes()[:50_000]):
        file.write_bytes(data)
        with mounted(file) as storage, pytest.raises(StorageCorruptedError) as caught:
            storage.node("x:d/b.bin").read_bytes()
        assert "x:d/b.bin" in str(caught.value)
