"""Where things land: T01–T13, T16."""

from __future__ import annotations

from pathlib import Path

import pytest

from genro_storage import transfer
from genro_storage.exceptions import (
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTransferError,
    UnsupportedOperation,
)
from genro_storage.mount import Level, Mount

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at, files, plant, tree


@pytest.fixture(params=["local", "memory", "objects"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Mount:
    if request.param == "local":
        return local_mount("t", tmp_path / "t")
    return memory_mount("t") if request.param == "memory" else objects("t")[0]


@pytest.fixture(params=["local", "memory", "objects"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Mount:
    if request.param == "local":
        return local_mount("s", tmp_path / "s")
    return memory_mount("s") if request.param == "memory" else objects("s")[0]


@pytest.mark.parametrize("operation", [transfer.copy, transfer.move])
def test_t01_a_missing_source_creates_nothing(source: Mount, target: Mount, operation: object) -> None:
    for path in ("nothing", "no/such"):
        with pytest.raises(StorageNotFoundError, match=f"Source not found: 's:{path}'"):
            operation(at(source, path), at(target, "d/e"))  # type: ignore[operator]
    assert tree(target) == {}


def test_t02_a_file_to_a_missing_path(source: Mount, target: Mount) -> None:
    plant(source, f=b"bytes")
    report = transfer.copy(at(source, "f"), at(target, "a/b/c"))
    assert files(target) == {"a/b/c": b"bytes"}
    assert (report.target_path, report.destination) == ("a/b/c", "t:a/b/c")
    assert (report.files_copied, report.bytes_copied, report.files_total) == (1, 5, 1)


def test_t03_a_file_replaces_a_file(source: Mount, target: Mount) -> None:
    plant(source, f=b"new")
    plant(target, g=b"old", h=b"other")
    assert transfer.copy(at(source, "f"), at(target, "g")).ok
    assert files(target) == {"g": b"new", "h": b"other"}


def test_overwrite_false_keeps_a_file(source: Mount, target: Mount) -> None:
    plant(source, f=b"new")
    plant(target, g=b"old")
    with pytest.raises(StorageExistsError, match="'t:g'"):
        transfer.copy(at(source, "f"), at(target, "g"), overwrite=False)
    assert files(target) == {"g": b"old"}
    assert transfer.copy(at(source, "f"), at(target, "h"), overwrite=False).ok


@pytest.mark.parametrize("where", ["d", ""])
def test_t04_a_file_into_an_existing_directory(source: Mount, target: Mount, where: str) -> None:
    plant(source, a__f=b"bytes")
    plant(target, d__x=b"")
    report = transfer.copy(at(source, "a/f"), at(target, where))
    assert report.target_path == (f"{where}/f" if where else "f")
    assert files(target)[report.target_path] == b"bytes"


def test_t04_a_marker_is_a_directory() -> None:
    here, _ = objects("s")
    there, store = objects("t")
    plant(here, f=b"bytes")
    store.set("d/")
    assert transfer.copy(at(here, "f"), at(there, "d")).target_path == "d/f"


def test_t04_a_place_that_is_file_and_directory_is_a_file() -> None:
    here, _ = objects("s")
    there, store = objects("t")
    plant(here, f=b"bytes")
    store.set("d", b"old")
    store.set("d/x")
    assert transfer.copy(at(here, "f"), at(there, "d")).target_path == "d"
    assert store.keys["d"][0] == b"bytes"


@pytest.mark.parametrize("exists", [True, False])
def test_t05_a_slash_places_a_file_below(source: Mount, target: Mount, exists: bool) -> None:
    plant(source, f=b"bytes")
    if exists:
        plant(target, d__x=b"")
    assert transfer.copy(at(source, "f"), at(target, "d"), slash=True).target_path == "d/f"
    assert files(target)["d/f"] == b"bytes"


def test_t06_a_directory_to_a_missing_path(source: Mount, target: Mount) -> None:
    plant(source, src__a=b"1", src__d__b=b"2")
    report = transfer.copy(at(source, "src"), at(target, "x/dst"), slash=True)
    assert files(target) == {"x/dst/a": b"1", "x/dst/d/b": b"2"}
    assert report.target_path == "x/dst"


def test_t07_a_directory_merges_and_repeats(source: Mount, target: Mount) -> None:
    plant(source, src__a=b"1", src__d__b=b"2", src__e__=b"")
    plant(target, dst__a=b"old", dst__other=b"stays")
    transfer.copy(at(source, "src"), at(target, "dst"))
    once = tree(target)
    assert files(target, "dst") == {"a": b"1", "d/b": b"2", "other": b"stays"}
    assert "dst/e/" in once
    assert transfer.copy(at(source, "src"), at(target, "dst")).directories_created == 0
    assert tree(target) == once


def test_into_nests(source: Mount, target: Mount) -> None:
    plant(source, src__a=b"1", f=b"2")
    plant(target, dst__x=b"")
    assert transfer.copy(at(source, "src"), at(target, "dst"), into=True).target_path == "dst/src"
    assert transfer.copy(at(source, "f"), at(target, "new"), into=True).target_path == "new/f"
    assert files(target) == {"dst/src/a": b"1", "dst/x": b"", "new/f": b"2"}
    with pytest.raises(StoragePathError, match="no name"):
        transfer.copy(at(source), at(target, "dst"), into=True)


def test_t08_a_directory_onto_a_file(source: Mount, target: Mount) -> None:
    plant(source, src__a=b"1")
    plant(target, dst=b"old")
    with pytest.raises(StorageNotADirectoryError, match="'t:dst'"):
        transfer.copy(at(source, "src"), at(target, "dst"))
    assert files(target) == {"dst": b"old"}


def test_t09_roots_are_directories(source: Mount, target: Mount) -> None:
    plant(source, a=b"1", d__b=b"2")
    transfer.copy(at(source), at(target))
    assert files(target) == {"a": b"1", "d/b": b"2"}
    transfer.move(at(source), at(target, "moved"))
    assert files(target, "moved") == {"a": b"1", "d/b": b"2"}
    assert tree(source) == {}
    assert source.is_dir("")


def test_t10_copy_onto_itself(source: Mount) -> None:
    plant(source, f=b"bytes", d__x=b"1")
    for path in ("f", "d", ""):
        report = transfer.copy(at(source, path), at(source, path))
        assert (report.skip_reasons, report.files_total, report.files_copied) == ({"same place": 1}, 1, 0)
    assert files(source) == {"f": b"bytes", "d/x": b"1"}


def test_t11_move_onto_itself(source: Mount) -> None:
    plant(source, f=b"bytes", d__x=b"1")
    for path in ("f", "d", ""):
        assert transfer.move(at(source, path), at(source, path)).skip_reasons == {"same place": 1}
    assert files(source) == {"f": b"bytes", "d/x": b"1"}


def test_t10_t11_through_a_mount_of_a_directory_above(source: Mount) -> None:
    plant(source, d__e__f=b"bytes")
    below = Mount("below", source.backend.rooted("d"))
    for operation in (transfer.copy, transfer.move):
        assert operation(at(source, "d/e/f"), at(below, "e/f")).skip_reasons == {"same place": 1}
        assert operation(at(below, "e"), at(source, "d/e")).skip_reasons == {"same place": 1}
    assert files(source) == {"d/e/f": b"bytes"}


def test_t12_a_directory_into_itself(source: Mount) -> None:
    plant(source, d__e__f=b"bytes")
    below = Mount("below", source.backend.rooted("d/e"))
    for operation in (transfer.copy, transfer.move):
        for target in (at(source, "d/new"), at(source, "d/e"), at(below, "new"), at(below)):
            with pytest.raises(StoragePathError, match="itself"):
                operation(at(source, "d"), target)
        with pytest.raises(StoragePathError, match="itself"):
            operation(at(source), at(source, "new"))
    assert files(source) == {"d/e/f": b"bytes"}
    transfer.copy(at(source, "d"), at(source, "de"))
    assert files(source, "de") == {"e/f": b"bytes"}


def test_t13_a_moved_file_or_directory_is_gone(source: Mount, target: Mount) -> None:
    plant(source, f=b"1", d__x=b"2", d__y__z=b"3")
    plant(target, there__f=b"old")
    report = transfer.move(at(source, "f"), at(target, "there"))
    assert (report.target_path, report.files_copied) == ("there/f", 1)
    transfer.move(at(source, "d"), at(target, "there"))
    assert files(target) == {"there/f": b"1", "there/x": b"2", "there/y/z": b"3"}
    assert not source.exists("d")
    assert not source.exists("f")


def test_t16_permissions_come_before_the_first_byte(source: Mount, target: Mount) -> None:
    plant(source, f=b"1")
    readonly = Mount("ro", target.backend, level=Level.readonly)
    with pytest.raises(StoragePermissionError, match="'ro:g'"):
        transfer.copy(at(source, "f"), at(readonly, "g"))
    kept = Mount("rw", source.backend, level=Level.readwrite)
    with pytest.raises(StoragePermissionError, match="'rw:f'"):
        transfer.move(at(kept, "f"), at(target, "g"))
    assert tree(target) == {}
    assert files(source) == {"f": b"1"}


def test_snapshots_are_not_written(source: Mount, target: Mount) -> None:
    plant(source, f=b"1")
    with pytest.raises(UnsupportedOperation, match="snapshot"):
        transfer.copy(at(source, "f"), at(target, "g", "v1"))
    with pytest.raises(UnsupportedOperation, match="snapshot"):
        transfer.move(at(source, "f", "v1"), at(target, "g"))


def test_filters_apply_to_a_single_file(source: Mount, target: Mount) -> None:
    plant(source, d__f=b"1")
    report = transfer.move(at(source, "d/f"), at(target, "g"), exclude="f")
    assert (report.skip_reasons, report.files_total) == ({"excluded": 1}, 1)
    assert transfer.copy(at(source, "d/f"), at(target, "g"), include="*.txt").files_skipped == 1
    assert tree(target) == {}
    assert files(source) == {"d/f": b"1"}
    assert transfer.copy(at(source, "d/f"), at(target, "g"), include="f").files_copied == 1


def test_a_file_onto_the_place_of_a_directory_fails_alone(local: Mount, memory: Mount) -> None:
    plant(memory, f=b"1", g=b"2")
    plant(local, d__f__x=b"3")
    with pytest.raises(StorageIsADirectoryError):
        transfer.copy(at(memory, "f"), at(local, "d"))
    plant(memory, src__f=b"1", src__g=b"2")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(memory, "src"), at(local, "d"))
    assert [one.relpath for one in caught.value.report.failures] == ["f"]
    assert isinstance(caught.value.__cause__, StorageIsADirectoryError)
    assert files(local) == {"d/f/x": b"3", "d/g": b"2"}


def test_a_single_file_costs_no_needless_request() -> None:
    here, origin = objects("s")
    there, store = objects("t")
    plant(here, f=b"bytes")
    origin.calls.clear()
    transfer.copy(at(here, "f"), at(there, "g"))
    assert [name for name in origin.names() if name != "read"] == ["reader"]
    assert store.names() == ["scan", "put"][::-1] or store.names() == ["commit", "scan", "write", "writer"]
    assert origin.open_readers == 0


def test_a_tree_costs_a_listing_and_a_get_each(local: Mount) -> None:
    here, origin = objects("s")
    for number in range(100):
        origin.set(f"src/{number:03}", b"small")
    origin.calls.clear()
    transfer.copy(at(here, "src"), at(local, "dst"))
    assert origin.names().count("get") == 100
    assert origin.names().count("walk") == 1
    assert len(origin.calls) <= 102  # one more tells that the source is no file


def test_a_refusal_leaves_no_reader_open(local: Mount) -> None:
    here, origin = objects("s")
    plant(here, f=b"bytes")
    plant(local, g=b"old")
    with pytest.raises(StorageExistsError):
        transfer.copy(at(here, "f"), at(local, "g"), overwrite=False)
    assert origin.open_readers == 0
