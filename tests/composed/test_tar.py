"""Tar archives as mounts: each compression, links, names no path can have, and archives that lie."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StorageNotFoundError,
    StorageWarning,
    UnsupportedOperation,
)

FILES = {"./a.txt": b"alpha", "d/b.bin": os.urandom(200_000), "d/e/c": b"", "d/last": b"end" * 1000}
MODES = {"none": "w", "gzip": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mtime, info.mode = size, kind, link, 1_234_567_890, 0o640
    return info


def packed(mode: str = "w", files: dict[str, bytes] = FILES, others: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, data in files.items():
            tar.addfile(entry(name, len(data)), io.BytesIO(data))
        for other in others:
            tar.addfile(other)
    return made.getvalue()


def mounted(file: Path | str, **keys: Any) -> StorageManager:
    return StorageManager([{"name": "t", "type": "tar", "file": str(file), **keys}])


@pytest.mark.parametrize("compression", MODES)
@pytest.mark.parametrize("told", [True, False])
def test_read(tmp_path: Path, compression: str, told: bool) -> None:
    file = tmp_path / "some.tar"
    file.write_bytes(packed(MODES[compression], others=(entry("empty", kind=tarfile.DIRTYPE),)))
    with mounted(file, **({"compression": compression} if told else {})) as storage:
        storage.configure([{"name": "mem", "type": "memory"}])
        root = storage.node("t:")
        assert root.capabilities.readonly
        assert [(node.path, stat.is_dir) for node, stat in root.scan(recursive=True)] == [
            *[("a.txt", False), ("d", True), ("d/b.bin", False), ("d/e", True), ("d/e/c", False)],
            *[("d/last", False), ("empty", True)],
        ]
        for name, data in FILES.items():
            node = storage.node(f"t:{name}")
            assert (node.read_bytes(), node.size, node.mtime) == (data, len(data), 1_234_567_890.0)
            assert node.read_bytes(3, 150_000) == data[3:150_000]
            assert node.read_bytes(-2) == data[-2:]
            assert node.stat().mode == 0o640
        root.copy_to("mem:out")
        assert storage.node("mem:out/d/b.bin").read_bytes() == FILES["d/b.bin"]
        assert storage.node("mem:out/empty").is_dir
        with pytest.raises(StorageNotFoundError):
            storage.node("t:absent").read_bytes()
        with pytest.raises(UnsupportedOperation, match="read-only"):
            storage.node("t:n").write("x")


def test_in_another_mount_and_below_a_path() -> None:
    with StorageManager([{"name": "mem", "type": "memory"}]) as storage:
        storage.node("mem:x.tgz").write_bytes(packed("w:gz"))
        storage.configure([{"name": "t", "type": "tar", "file": "mem:x.tgz", "path": "d"}])
        assert storage.node("t:last").read_bytes() == FILES["d/last"]
        assert [node.path for node in storage.node("t:").children()] == ["b.bin", "e", "last"]


def test_links(tmp_path: Path) -> None:
    """Links to files of the archive are those files; others are listed, and never read."""
    others = (
        entry("d/near", kind=tarfile.SYMTYPE, link="last"),
        entry("far", kind=tarfile.SYMTYPE, link="./d/../d/near"),
        entry("hard", kind=tarfile.LNKTYPE, link="d/last"),
        entry("out", kind=tarfile.SYMTYPE, link="../../etc/passwd"),
        entry("root", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("loop", kind=tarfile.SYMTYPE, link="loop"),
        entry("fifo", kind=tarfile.FIFOTYPE),
    )
    file = tmp_path / "links.tar"
    file.write_bytes(packed(others=others))
    with mounted(file) as storage:
        for name in ("d/near", "far", "hard"):
            node = storage.node(f"t:{name}")
            assert node.read_bytes() == FILES["d/last"]
            assert node.size == 3000
            assert bool(node.is_symlink) is (name != "hard")
        assert storage.node("t:d/near").readlink() == "last"
        for name in ("out", "root", "loop", "fifo"):
            node = storage.node(f"t:{name}")
            assert not node.is_file
            with pytest.raises(UnsupportedOperation):
                node.read_bytes()
            assert name in [child.basename for child in storage.node("t:").children()]


def test_hostile_names(tmp_path: Path) -> None:
    file = tmp_path / "evil.tar"
    file.write_bytes(packed(files={"../evil": b"1", "/abs": b"1", "d/../../x": b"1", "good": b"1", "caf\udce9": b"2"}))
    with mounted(file) as storage:
        with pytest.warns(StorageWarning, match="3 names"):
            assert [node.path for node in storage.node("t:").children()] == ["caf\udce9", "good"]
        assert storage.node("t:caf\udce9").read_bytes() == b"2"


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_expansion_is_bounded(tmp_path: Path, compression: str) -> None:
    file = tmp_path / "bomb.tar"
    file.write_bytes(packed(MODES[compression], files={"bomb": bytes(8 << 20), "after": b"1"}))
    with mounted(file, max_ratio=20) as storage, pytest.raises(StorageCorruptedError, match="max_ratio"):
        storage.node("t:").children()
    with mounted(file, max_ratio=1_000_000) as storage:
        assert storage.node("t:after").read_bytes() == b"1"


@pytest.mark.parametrize("compression", MODES)
def test_damage_is_told(tmp_path: Path, compression: str) -> None:
    file = tmp_path / "cut.tar"
    file.write_bytes(packed(MODES[compression])[:100_000])
    with mounted(file) as storage, pytest.raises(StorageCorruptedError):
        storage.node("t:d/b.bin").read_bytes()
    file.write_bytes(b"no archive at all " * 100)
    with mounted(file) as storage, pytest.raises(StorageCorruptedError):
        storage.node("t:").children()


def test_configuration(tmp_path: Path) -> None:
    with pytest.raises(StorageNotFoundError, match="no archive"):
        mounted(tmp_path / "absent.tar")
    (tmp_path / "x.tar").write_bytes(packed())
    with pytest.raises(StorageConfigError, match="compression"):
        mounted(tmp_path / "x.tar", compression="rar")
    with pytest.raises(StorageConfigError, match="mode"):
        mounted(tmp_path / "x.tar", mode="w")
