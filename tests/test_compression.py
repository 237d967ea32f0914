"""Compressed files: ordinary formats that other tools read, streamed both ways, damage told."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import sys
from collections.abc import Callable, Iterator

import lz4.frame
import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.compression import decompressed
from genro_storage.exceptions import StorageCorruptedError, StorageDriverError

TEXT = "line one\nline two\n" * 20_000
TOOLS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.decompress),
    "bz2": (".bz2", bz2.decompress),
    "xz": (".xz", lzma.decompress),
    "lz4": (".lz4", lz4.frame.decompress),
}


@pytest.fixture
def root() -> Iterator[StorageNode]:
    with StorageManager([{"name": "m", "type": "memory"}]) as storage:
        yield storage.node("m:")


@pytest.mark.parametrize("name", [*TOOLS, "zstd"])
def test_round_trip(root: StorageNode, name: str) -> None:
    suffix = TOOLS[name][0] if name in TOOLS else ".zst"
    node = root / f"f.txt{suffix}"
    with node.open("w", compression="infer") as file:
        file.write(TEXT)
    assert node.size < len(TEXT) / 10
    if name in TOOLS:
        assert TOOLS[name][1](node.read_bytes()) == TEXT.encode()
    with node.open(compression="infer") as file:
        assert next(iter(file)) == "line one\n"
        assert "line one\n" + file.read() == TEXT
    with node.open("rb", compression=name) as binary:
        assert binary.read(4) == b"line"
    with node.open("rb") as raw:
        assert raw.read() == node.read_bytes()


def test_what_other_tools_wrote_is_read(root: StorageNode) -> None:
    (root / "two.gz").write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    with (root / "two.gz").open("rb", compression="infer") as file:
        assert file.read() == b"onetwo"
    with (root / "two.gz").open("rb", compression="gzip") as file:
        file.seek(4)
        assert file.read() == b"wo"


def test_an_exception_keeps_the_old_bytes(root: StorageNode) -> None:
    node = root / "f.gz"
    node.write_bytes(b"old")
    with pytest.raises(RuntimeError), node.open("wb", compression="infer") as file:
        file.write(b"new" * 100_000)
        raise RuntimeError
    assert node.read_bytes() == b"old"


@pytest.mark.parametrize("name", [*TOOLS, "zstd"])
def test_damage_is_told(root: StorageNode, name: str) -> None:
    node = root / "f"
    with node.open("wb", compression=name) as file:
        file.write(TEXT.encode())
    whole = node.read_bytes()
    for damaged in (b"not compressed at all", whole[: len(whole) // 2], whole[:-3]):
        node.write_bytes(damaged)
        with pytest.raises(StorageCorruptedError, match="damaged"), node.open("rb", compression=name) as file:
            file.read()


def test_what_is_refused(root: StorageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node = root / "f.gz"
    with pytest.raises(ValueError, match="compression is None, 'infer', 'gzip'"):
        node.open("rb", compression="zip")
    for mode in ("a", "r+", "w+"):
        with pytest.raises(ValueError, match="compressed data"):
            node.open(mode, compression="gzip")
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(StorageDriverError, match="pip install 'lz4'"):
        node.open("wb", compression="lz4")
    assert root.children() == []


def test_infer_without_a_known_suffix_is_plain(root: StorageNode) -> None:
    with (root / "f.txt").open("w", compression="infer") as file:
        file.write("plain")
    assert (root / "f.txt").read_bytes() == b"plain"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk"), MemoryError()], ids=["disk", "memory"])
@pytest.mark.parametrize("name", [*TOOLS, "zstd"])
def test_what_is_no_damage_is_not_called_so(name: str, error: Exception) -> None:
    """An error of the file below, or a lack of memory, is told as it is."""

    class Failing(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise error

    with pytest.raises(type(error)) as caught, decompressed(io.BufferedReader(Failing()), name) as file:
        file.read(1)
    assert caught.value is error
