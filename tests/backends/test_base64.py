"""Inline nodes: the path is the content, exactly as it is written, and nothing changes it."""

from __future__ import annotations

import base64
import pickle
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import StorageManager, StorageNode
from genro_storage.backends import base64 as module
from genro_storage.backends.base import BackendReader, BackendWriter, BytesReader, BytesWriter, StorageBackend
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.exceptions import (
    StorageConfigError,
    StorageIsADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StorageQuotaError,
    UnsupportedOperation,
)
from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS
from genro_storage.types import PLAIN, Stat, WriteOptions
from tests.backends.http_tools import Witnessed, unconditional


class Named(Witnessed):
    """Files of a memory store whose contents are the paths of inline nodes: names for what has none.

    An empty file is no inline node; it is the memory store's own.
    """

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        entry = self.write.stat(path, version=version)
        return replace(self.read.stat(self._text(path)), path=path) if entry.size else replace(entry, etag=None)

    def has(self, path: str) -> bool:
        return self.write.has(path)

    def scan(self, path: str, **how: Any) -> Iterator[Sequence[Stat]]:
        for page in self.write.scan(path, **how):
            yield [self.stat(entry.path) for entry in page]

    def get(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> tuple[bytes, Stat]:
        text = self._text(path)
        data, stat = self.read.get(text, start, end, **how) if text else (b"", self.stat(path))
        return data, replace(stat, path=path)

    def reader(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> BackendReader:
        return BytesReader(*self.get(path, start, end, **how))

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        super().put(path, module.encoded(bytes(data)).encode(), replace(options, size=None))
        return Stat(path, len(bytes(data)))

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        unconditional(options)
        self.write.writer(path, options).discard()  # tells what cannot be written here
        return BytesWriter(lambda data: self.put(path, data, options), options.size)

    def rooted(self, path: str) -> Named:
        return Named(self.read, self.write.rooted(path))

    def native_path(self, path: str) -> str:
        return self.write.native_path(path)

    def _text(self, path: str) -> str:
        return self.write.get(path)[0].decode()


class TestBase64(BackendSuite):
    """What is read, and every range of it; names, listings and deleting are the memory store's."""

    lacks = WORDS - {"case_sensitive", "mkdir", "mtime", "real_dirs", "rmdir", "tells_missing"}
    lent = frozenset({"mkdir", "real_dirs", "rmdir", "tells_missing"})
    written_by = "a memory store that names inline nodes"

    @pytest.fixture
    def backend(self) -> StorageBackend:
        return Named(module.Base64Backend(), MemoryBackend(MemoryOptions()))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    entries = [
        {"name": "b64", "type": "base64"},
        {"name": "mem", "type": "memory"},
        {"name": "dir", "type": "local", "path": str(tmp_path)},
    ]
    with StorageManager(entries) as made:
        yield made


def test_any_bytes_round_trip(storage: StorageManager) -> None:
    """R16: paths with '//', leading and trailing '/' and all are kept; the text is never taken for a URL or a tree."""
    dice = random.Random(16)
    payloads = [dice.randbytes(300) for _ in range(1000)] + [b"\xff" * n for n in range(1, 12)]
    for data in payloads:
        for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
            node = storage.node(f"b64:{text}")
            assert node.fullpath == f"b64:{text}"
            assert storage.node(node.fullpath) == node
            assert node.read_bytes() == data
            assert node.size == len(data)


@pytest.mark.parametrize("text", ["aGVs bG8=", "aGVs\nbG8=\n", "aGVsbG8", " aGVsbG8= "])
def test_white_space_is_ignored_and_padding_optional(storage: StorageManager, text: str) -> None:
    node = storage.node(f"b64:{text}")
    assert node.path == text
    assert node.read_text() == "hello"
    assert node.read_bytes(1, 3) == b"el"
    with node.open("rb") as file:
        file.seek(-2, 2)
        assert file.read() == b"lo"


@pytest.mark.parametrize("text", ["a", "aGVsbG8==", "aGVs=bG8", "aG!s", "../x", "a\\b", "a\0b", "caf\u00e9", "===="])
def test_other_text_is_no_file(storage: StorageManager, text: str) -> None:
    node = storage.node(f"b64:{text}")
    assert not node.exists
    assert not node.is_file
    assert not node.is_dir
    if text.strip("="):
        with pytest.raises(StorageNotFoundError, match="Invalid base64"):
            node.read_bytes()


def test_the_empty_path(storage: StorageManager) -> None:
    assert not storage.node("b64:").exists
    with pytest.raises(StorageNotFoundError, match="cannot be empty"):
        storage.node("b64:").read_bytes()


def test_its_time_is_that_of_its_mount(storage: StorageManager) -> None:
    mtime = storage.node("b64:aGVsbG8=").mtime
    assert mtime is not None
    assert storage.node("b64:aGVs").mtime == mtime


def test_nothing_changes_it(storage: StorageManager) -> None:
    node = storage.node("b64:aGVsbG8=")
    changes = [
        lambda: node.write_text("x"),
        lambda: node.open("w"),
        lambda: node.open("ab"),
        lambda: node.delete(),
        lambda: node.mkdir(),
        lambda: node.local_path("w").__enter__(),
        lambda: storage.node("mem:a").copy_to("b64:aGVs"),
    ]
    storage.node("mem:a").write("a")
    for change in changes:
        with pytest.raises(UnsupportedOperation, match=r"read-only.*copy_to.*to_base64"):
            change()
    assert node.capabilities.readonly
    assert node.read_text() == "hello"


def test_copy_into_returns_the_new_node(storage: StorageManager) -> None:
    source = storage.node("mem:d/a.bin")
    source.write_bytes(b"\xff\xff\xff\xfe")
    made = source.copy_to("b64:")
    assert isinstance(made, StorageNode)
    assert made.fullpath == "b64://///g=="
    assert made.read_bytes() == b"\xff\xff\xff\xfe"
    assert made.copy_to("mem:back").read_bytes() == b"\xff\xff\xff\xfe"
    assert storage.copy(source, "b64:").files_copied == 1
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(StorageIsADirectoryError):
        storage.node("mem:d").copy_to("b64:")
    with pytest.raises(StorageNotFoundError):
        storage.node("mem:absent").copy_to("b64:")
    with pytest.raises(UnsupportedOperation):
        source.move_to("b64:")
    assert source.exists


def test_a_real_file_of_it_for_other_programs(storage: StorageManager) -> None:
    data = random.Random(1).randbytes(3000)  # its path is longer than any file name
    with storage.node("mem:x").local_path("w") as path:
        Path(path).write_bytes(data)
    with storage.node("mem:x").copy_to("b64:").local_path() as path:
        assert Path(path).read_bytes() == data


def test_content_is_limited(storage: StorageManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 30)
    monkeypatch.setattr("genro_storage.transfer.inline.LIMIT", 30)
    full = storage.node("b64:" + base64.b64encode(b"x" * 30).decode())
    assert full.size == 30
    with pytest.raises(StorageQuotaError):
        storage.node("b64:" + base64.b64encode(b"x" * 31).decode()).read_bytes()
    storage.node("mem:big").write_bytes(b"x" * 31)
    with pytest.raises(StorageQuotaError):
        storage.node("mem:big").copy_to("b64:")


def test_configuration(storage: StorageManager) -> None:
    with pytest.raises(StorageConfigError, match="unknown key 'path'"):
        storage.configure([{"name": "x", "type": "base64", "path": "y"}])
    with pytest.raises(StorageConfigError, match="read-only"):
        storage.configure([{"name": "x", "type": "base64", "permissions": "readwrite"}])
    with pytest.raises(StoragePathError):
        storage.node("mem://a")  # only where the path is data is this no URL
