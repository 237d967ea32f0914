"""Sources and targets that are no plain files: snapshots, virtual nodes, data in a path."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.exceptions import UnsupportedOperation


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    entries = [
        {"name": "old", "type": "memory", "versioned": True, "metadata": True},
        {"name": "kept", "type": "memory", "metadata": True},
        {"name": "files", "type": "local", "path": str(tmp_path)},
        {"name": "data", "type": "base64"},
    ]
    with StorageManager(entries) as manager:
        yield manager


def test_t15_a_snapshot_is_copied_as_it_was(storage: StorageManager) -> None:
    """Its bytes, its metadata, its type; and it is never written."""
    node = storage.node("old:d/f")
    for data, colour, kind in ((b"first", "red", "text/first"), (b"the second", "blue", "text/second")):
        node.write_bytes(data, metadata={"colour": colour}, content_type=kind)
    for index, data, colour, kind in ((0, b"first", "red", "text/first"), (1, b"the second", "blue", "text/second")):
        assert node.at(index).copy_to("files:f").read_bytes() == data
        copied = node.at(index).copy_to(f"kept:{index}")
        assert copied.read_bytes() == data
        assert (copied.stat().content_type, copied.get_metadata()["colour"]) == (kind, colour)
        assert storage.copy(node.at(index), "kept:again").files_copied == 1
        assert storage.node("kept:again").read_bytes() == data
    for verb in (storage.copy, storage.move):
        with pytest.raises(UnsupportedOperation, match="snapshot"):
            verb("files:f", node.at(0))
    with pytest.raises(UnsupportedOperation, match="snapshot"):
        storage.move(node.at(0), "kept:moved")
    assert [node.at(index).read_bytes() for index in (0, 1)] == [b"first", b"the second"]
    assert not storage.node("kept:moved").exists


def test_t15_a_virtual_source_is_one_file(storage: StorageManager) -> None:
    """It has no name of its own, so that the target must be the path of a file."""
    storage.node("files:a").write_bytes(b"one ")
    storage.node("kept:b").write_bytes(b"two")
    storage.node("files:folder").mkdir()
    chain = storage.iternode("files:a", "kept:b")
    assert chain.copy_to("files:new/all").read_bytes() == b"one two"
    assert storage.copy(chain, "kept:all").bytes_copied == 7
    assert storage.node("kept:all").read_bytes() == b"one two"
    for target in ("files:folder", "files:folder/", "files:none/", "kept:"):
        with pytest.raises(ValueError, match="name"):
            chain.copy_to(target)
    assert storage.node("files:folder").children() == []
    assert not storage.node("files:none").exists


def test_t15_the_path_of_a_base64_target_is_the_data(storage: StorageManager) -> None:
    storage.node("files:a").write_bytes(b"\xff\x00 some bytes")
    target = storage.node("data:")
    made = storage.node("files:a").copy_to(target)
    assert base64.b64decode(made.path.rpartition(",")[2]) == b"\xff\x00 some bytes"
    assert made.read_bytes() == b"\xff\x00 some bytes"
    assert target.path == ""
    assert not target.is_file
