"""Quota and the largest file: refused before it is seen, old bytes stay, nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import StorageConfigError, StorageQuotaError, UnsupportedOperation


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageManager]:
    keys = {"path": str(tmp_path)} if request.param == "local" else {}
    with StorageManager(
        [
            {"name": "m", "type": request.param, **keys, "quota": "10KiB", "max_file_size": "4KiB"},
            {"name": "sub", "path": "m:sub"},
            {"name": "tight", "path": "m:tight", "quota": 1000},
            {"name": "free", "type": "memory"},
        ]
    ) as made:
        yield made


def by_bytes(node: StorageNode, data: bytes) -> None:
    node.write_bytes(data)


def by_stream(node: StorageNode, data: bytes) -> None:
    node.write_from(data[at : at + 100] for at in range(0, len(data), 100))


def by_file(node: StorageNode, data: bytes) -> None:
    with node.open("wb") as file:
        file.write(data)


def by_copy(node: StorageNode, data: bytes) -> None:
    source = node.manager.node("free:source")
    source.write_bytes(data)
    source.copy_to(node)


WAYS = pytest.mark.parametrize("write", [by_bytes, by_stream, by_file, by_copy])
Write = Callable[[StorageNode, bytes], None]


@WAYS
@pytest.mark.parametrize("mount", ["m", "sub"])
def test_a_file_too_large_is_refused(storage: StorageManager, write: Write, mount: str) -> None:
    node = storage.node(f"{mount}:f")
    write(node, b"x" * 4096)
    with pytest.raises(StorageQuotaError, match="'max_file_size' of this mount is 4096"):
        write(node, b"y" * 4097)
    assert node.read_bytes() == b"x" * 4096
    assert [child.basename for child in node.parent.children()] == ["f"]


@WAYS
def test_the_quota_holds_over_all_files(storage: StorageManager, write: Write) -> None:
    for number in range(2):
        write(storage.node(f"m:{number}"), b"x" * 4096)
    write(storage.node("sub:2"), b"x" * 2048)
    for mount in ("m", "sub"):
        with pytest.raises(StorageQuotaError, match="'quota' of this mount is 10240 and leaves 0"):
            write(storage.node(f"{mount}:3"), b"x")
    write(storage.node("m:0"), b"y" * 4096)  # what is replaced makes room
    storage.node("m:1").delete()
    write(storage.node("m:3"), b"x" * 4096)
    assert storage.node("m:").usage()[2] == 10240


def test_a_child_has_limits_of_its_own_too(storage: StorageManager) -> None:
    storage.node("tight:a").write_bytes(b"x" * 600)
    with pytest.raises(StorageQuotaError, match="'quota' of this mount is 1000 and leaves 400"):
        storage.node("tight:b").write_bytes(b"x" * 600)
    storage.node("m:tight/b").write_bytes(b"x" * 600)


def test_what_others_stored_counts(storage: StorageManager, tmp_path: Path) -> None:
    if storage.node("m:").resolved_path is None:
        storage.configure([{"name": "m", "type": "local", "path": str(tmp_path), "quota": 10240}])
    (tmp_path / "other").write_bytes(b"x" * 10_000)
    with pytest.raises(StorageQuotaError):
        storage.node("m:mine").write_bytes(b"x" * 300)
    storage.node("m:mine").write_bytes(b"x" * 200)


def test_moves_and_changes_in_place(storage: StorageManager) -> None:
    storage.node("m:a").write_bytes(b"x" * 4000)
    storage.node("m:a").rename("b")
    storage.node("m:b").move_to("sub:c")
    with storage.node("sub:c").open("ab") as file:
        file.write(b"y" * 96)
    assert storage.node("sub:c").size == 4096
    with pytest.raises(StorageQuotaError), storage.node("sub:c").open("ab") as file:
        file.write(b"y")
    assert storage.node("sub:c").size == 4096
    with pytest.raises(UnsupportedOperation, match="in place"):
        storage.node("sub:c").open("r+b")
    storage.node("free:large").write_bytes(b"x" * 5000)
    with pytest.raises(StorageQuotaError):
        storage.node("free:large").move_to("m:large")
    assert storage.node("free:large").exists
    assert not storage.node("m:large").exists


def test_bad_limits() -> None:
    for bad in ("lots", -1, True):
        with pytest.raises(StorageConfigError, match="key 'quota'"):
            StorageManager([{"name": "m", "type": "memory", "quota": bad}])
