"""Transfers as users call them: on the manager, the module and nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import genro_storage
from genro_storage import CopyOptions, SkipStrategy, StorageManager, StorageNode, TransferReport
from genro_storage.exceptions import StorageExistsError, UnsupportedOperation


@pytest.fixture
def manager() -> Iterator[StorageManager]:
    with StorageManager([{"name": "m", "type": "memory"}, {"name": "n", "type": "memory"}]) as manager:
        manager.node("m:d/a").write_text("1")
        manager.node("m:d/x/b").write_text("22")
        yield manager


@pytest.mark.parametrize("verb", ["copy", "move", "sync"])
@pytest.mark.parametrize("where", ["manager", "module"])
def test_the_verbs_of_manager_and_module_return_reports(manager: StorageManager, verb: str, where: str) -> None:
    call = getattr(manager if where == "manager" else genro_storage, verb)
    source = "m:d" if where == "manager" else manager.node("m:d")
    report = call(source, manager.node("n:t") if where == "module" else "n:t")
    assert isinstance(report, TransferReport)
    assert (report.operation, report.files_copied, report.destination) == (verb, 2, "n:t")
    assert manager.node("n:t/x/b").read_text() == "22"
    assert bool(manager.node("m:d").exists) is (verb != "move")


def test_compare(manager: StorageManager) -> None:
    manager.copy("m:d", "n:t")
    manager.node("n:t/a").write_text("2")
    for report in (
        manager.compare("m:d", "n:t"),
        genro_storage.compare(manager.node("m:d"), manager.node("n:t"), by="hash"),
    ):
        assert (report.same, report.differ) == (1, 1)
    assert manager.compare("m:d", "n:t", "size").same == 2


def test_the_verbs_of_nodes_return_the_destination(manager: StorageManager) -> None:
    node = manager.node("m:d")
    for verb, path in (("copy_to", "t"), ("copy_into", "t/d"), ("copy", "t"), ("move_into", "u/d")):
        landed = getattr(node, verb)("n:u" if verb == "move_into" else "n:t")
        assert isinstance(landed, StorageNode)
        assert landed == manager.node("n", path)
    report = manager.node("n:t").sync_to("m:back", delete=True)
    assert isinstance(report, TransferReport)
    assert manager.node("m:back/x/b").read_text() == "22"


def test_options_as_one_value(manager: StorageManager) -> None:
    manager.copy("m:d", "n:t")
    options = CopyOptions(skip=SkipStrategy.SIZE, exclude="x/")
    assert manager.copy("m:d", "n:t", options=options).skip_reasons == {"same size": 1, "excluded": 1}
    with pytest.raises(TypeError):
        manager.copy("m:d", "n:t", options=options, skip="size")
    manager.node("n:t/old").write_text("")
    assert manager.sync("m:d", "n:t", options=CopyOptions(delete=True)).files_deleted == 1


def test_a_virtual_node_is_copied_as_one_file(manager: StorageManager) -> None:
    both = manager.iternode("m:d/a", "m:d/x/b")
    report = genro_storage.copy(both, "n:all")
    assert (report.files_copied, report.bytes_copied, report.destination) == (1, 3, "n:all")
    assert manager.node("n:all").read_text() == "122"
    with pytest.raises(StorageExistsError):
        manager.copy(both, "n:all", overwrite=False)
    for place in ("n:dir/", "n:"):
        with pytest.raises(ValueError, match="say which file"):
            manager.copy(both, place)
    refused: list[Any] = [
        lambda: manager.move(both, "n:x"),  # type: ignore[arg-type]
        lambda: manager.sync(both, "n:x"),  # type: ignore[arg-type]
        lambda: manager.copy("m:d/a", both),  # type: ignore[arg-type]
    ]
    for call in refused:
        with pytest.raises(UnsupportedOperation):
            call()
    with pytest.raises(TypeError):
        manager.copy(both, "n:x", skip="size")
    assert not manager.node("n:x").exists


def test_a_snapshot_is_no_target(manager: StorageManager) -> None:
    manager.add_mount({"name": "v", "type": "memory", "versioned": True})
    node = manager.node("v:f")
    node.write_text("one")
    node.write_text("two")
    assert manager.copy(node.at(0), "n:old").files_copied == 1
    assert manager.node("n:old").read_text() == "one"
    with pytest.raises(UnsupportedOperation):
        manager.copy("m:d/a", node.at(0))
    with pytest.raises(UnsupportedOperation):
        manager.copy("m:d/a", "n:x", backup=node.at(0))
