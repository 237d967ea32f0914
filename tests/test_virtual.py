"""Virtual nodes: chains of files and differences of two."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import (
    StorageConflictError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageManager,
    StorageNotFoundError,
    UnsupportedOperation,
)
from genro_storage.virtual import VirtualNode


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    with StorageManager({"m": {"type": "memory"}, "d": {"type": "local", "path": str(tmp_path)}}) as manager:
        for path, text in {"m:a.txt": "one\n", "d:b.txt": "two\n", "m:x/a.txt": "three\n"}.items():
            manager.node(path).write(text)
        yield manager


def virtual(storage: StorageManager) -> list[VirtualNode]:
    return [storage.iternode("m:a.txt", storage.node("d:b.txt")), storage.diffnode("m:a.txt", "d:b.txt")]


def test_a_chain_is_read_as_one(storage: StorageManager) -> None:
    chain = storage.iternode("m:a.txt")
    chain.append(storage.node("d:b.txt"))
    chain.extend("m:x/a.txt", "m:a.txt")
    text = "one\ntwo\nthree\none\n"
    assert chain.read() == chain.read_text() == text
    assert chain.read("rb") == chain.read_bytes() == text.encode()
    assert chain.read_bytes(2, 6) == text.encode()[2:6]
    assert chain.read_bytes(-4) == text.encode()[-4:]
    assert chain.read_bytes(100) == b""
    assert chain.size == len(text)
    assert chain.mimetype == "text/plain"
    assert list(chain.iter_chunks(3))[:3] == [b"one", b"\n", b"two"]
    with chain.open() as file:
        assert file.readlines() == text.splitlines(keepends=True)
    with chain.open("rb") as file:
        assert (file.read(5), file.read()) == (b"one\nt", text.encode()[5:])
    storage.node("m:a.txt").write("new\n")
    assert chain.read().startswith("new\n")
    assert storage.iternode().read() == ""
    assert storage.iternode("m:a.txt", "m:b.png").mimetype == "application/octet-stream"
    with pytest.raises(StorageNotFoundError):
        storage.iternode("m:missing").read()


def test_a_difference(storage: StorageManager) -> None:
    node = storage.diffnode("m:a.txt", "d:b.txt")
    text = "--- m:a.txt\n+++ d:b.txt\n@@ -1 +1 @@\n-one\n+two\n"
    assert node.read() == text
    assert node.size == len(text)
    assert node.mimetype == "text/x-diff"
    assert storage.diffnode("m:a.txt", "m:a.txt").read() == ""
    storage.node("m:c").write("two")
    assert storage.diffnode("d:b.txt", "m:c").read().endswith("-two\n+two\n\\ No newline at end of file\n")
    for data in (b"a\0b", b"\xff\xfe"):
        storage.node("m:bin").write_bytes(data)
        with pytest.raises(ValueError, match="Cannot diff binary files: 'm:bin'"):
            storage.diffnode("m:a.txt", "m:bin").read()


def test_what_they_are(storage: StorageManager) -> None:  # R45
    for node, same in zip(virtual(storage), virtual(storage), strict=True):
        assert not node.exists
        assert node.exists() is False
        assert not node.is_file
        assert not node.is_dir
        assert node == node
        assert node != same
        with pytest.raises(TypeError, match="unhashable"):
            hash(node)
        assert node.capabilities.read
        assert not node.capabilities.write
        assert node.capabilities.readonly
        assert "m:a.txt" in repr(node)
        with pytest.raises(AttributeError, match="nonsense"):
            node.nonsense  # noqa: B018 - the access raises


def test_nothing_is_written_to_them(storage: StorageManager) -> None:
    for node in virtual(storage):
        for door in ("write", "write_bytes", "write_text", "write_from", "delete", "mkdir", "touch", "move_to"):
            with pytest.raises(UnsupportedOperation, match=r"Cannot write to virtual node \(no path\)"):
                getattr(node, door)("x")
        for mode in ("w", "ab", "r+"):
            with pytest.raises(UnsupportedOperation, match="no path"):
                node.open(mode)
        with pytest.raises(ValueError, match="encoding"):
            node.open("rb", encoding="utf-8")


def test_they_are_copied(storage: StorageManager) -> None:
    for node in virtual(storage):
        target = node.copy_to("d:new/all.txt")
        assert target == storage.node("d:new/all.txt")
        assert target.read() == node.read()
        with pytest.raises(StorageExistsError):
            node.copy_to(target, if_absent=True)
        for folder in ("d:new", "d:other/"):
            with pytest.raises(StorageIsADirectoryError):
                node.copy_to(folder)


def test_a_failing_chain_leaves_the_old_file(storage: StorageManager) -> None:
    old = storage.node("d:old")
    old.write("old")
    with pytest.raises(StorageNotFoundError):
        storage.iternode("m:a.txt", "m:missing").copy_to(old)
    assert old.read() == "old"


def test_they_are_archived(storage: StorageManager) -> None:  # R45
    chain = storage.iternode("m:a.txt", "d:b.txt", "m:x/a.txt", "m:a.txt")
    with zipfile.ZipFile(io.BytesIO(chain.zip())) as archive:
        assert archive.namelist() == ["a.txt", "b.txt", "a (2).txt", "a (3).txt"]
        assert archive.read("a (2).txt") == b"three\n"
    stream = chain.zip_stream(compression="store")
    assert stream.length == len(b"".join(stream))
    diff = storage.diffnode("m:a.txt", "d:b.txt")
    with zipfile.ZipFile(io.BytesIO(diff.zip_to("m:d.zip").read_bytes())) as archive:
        assert archive.read("diff.patch") == diff.read_bytes()
    with pytest.raises(StorageIsADirectoryError):
        storage.iternode("m:x").zip()


def test_a_file_that_grows_is_no_stored_archive(storage: StorageManager) -> None:
    stream = storage.iternode("m:a.txt").zip_stream(compression="store")
    storage.node("m:a.txt").write("longer than before")
    with pytest.raises(StorageConflictError):
        list(stream)
