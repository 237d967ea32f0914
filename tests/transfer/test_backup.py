"""T49: what is replaced or deleted is kept elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.exceptions import StorageConfigError, StoragePathError, StoragePermissionError, StorageTransferError
from genro_storage.mount import Level, Mount
from genro_storage.types import WriteOptions

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at, files, plant


@pytest.fixture(params=["local", "memory", "objects", "elsewhere"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Mount, Mount]:
    """(target, where its backup goes)."""
    if request.param == "local":
        target = local_mount("t", tmp_path / "t")
        return target, target
    if request.param == "elsewhere":
        return local_mount("t", tmp_path / "t"), memory_mount("b")
    target = memory_mount("t") if request.param == "memory" else objects("t")[0]
    return target, target


def test_t49_replaced_and_deleted_files_are_kept(memory: Mount, places: tuple[Mount, Mount]) -> None:
    target, kept = places
    plant(memory, d__same=b"0", d__x__changed=b"new", d__new=b"1")
    plant(target, t__same=b"0", t__x__changed=b"old", t__gone__deep=b"gone")
    how: dict[str, Any] = {"delete": True, "skip": "hash", "backup": at(kept, "kept")}
    report = transfer.sync(at(memory, "d"), at(target, "t"), **how)
    assert (report.files_copied, report.files_deleted, report.ok) == (2, 1, True)
    assert files(target, "t") == {"same": b"0", "x/changed": b"new", "new": b"1"}
    assert files(kept, "kept") == {"x/changed": b"old", "gone/deep": b"gone"}
    for number, text in ((1, b"newer"), (2, b"newest")):
        before = target.get("t/x/changed")[0]
        memory.put("d/x/changed", text)
        plant(target, t__gone__deep=text)
        transfer.sync(at(memory, "d"), at(target, "t"), **how)
        assert kept.get(f"kept/x/changed.{number}")[0] == before
        assert kept.get(f"kept/gone/deep.{number}")[0] == text
    assert len(files(kept, "kept")) == 6


def test_t49_of_a_single_file(memory: Mount, places: tuple[Mount, Mount]) -> None:
    target, kept = places
    memory.put("f", b"new")
    target.put("d/g", b"old", WriteOptions(mtime=1000.0))
    transfer.copy(at(memory, "f"), at(target, "d/g"), backup=at(kept, "kept"))
    transfer.copy(at(memory, "f"), at(target, "d/h"), backup=at(kept, "kept"))
    assert files(target, "d") == {"g": b"new", "h": b"new"}
    assert files(kept, "kept") == {"f": b"old"}
    if kept.features.keeps_mtime:
        assert kept.stat("kept/f").mtime == 1000.0


def test_t49_what_is_the_same_place_or_skipped_needs_no_backup(memory: Mount) -> None:
    plant(memory, d__a=b"1", t__a=b"1")
    transfer.copy(at(memory, "d"), at(memory, "d"), backup=at(memory, "kept"))
    transfer.copy(at(memory, "d/a"), at(memory, "d/a"), backup=at(memory, "kept"))
    transfer.sync(at(memory, "d"), at(memory, "t"), skip="size", backup=at(memory, "kept"))
    assert files(memory, "kept") == {}


@pytest.mark.parametrize("where", ["d", "d/below", "t", "t/below", ""])
def test_t49_outside_of_both(memory: Mount, where: str) -> None:
    plant(memory, d__a=b"1", t__a=b"2")
    before = files(memory)
    for verb in (transfer.copy, transfer.move, transfer.sync):
        with pytest.raises(StoragePathError, match="backup"):
            verb(at(memory, "d"), at(memory, "t"), backup=at(memory, where))
    assert files(memory) == before


def test_t49_a_backup_that_fails_saves_the_target(memory: Mount, local: Mount) -> None:
    kept, store = objects("k")
    plant(memory, d__a=b"new", d__b=b"1")
    plant(local, t__a=b"old", t__gone=b"gone")

    def refuse(name: str, path: str) -> None:
        if name in ("put", "writer"):
            raise PermissionError

    store.hook = refuse
    with pytest.raises(StorageTransferError):
        transfer.sync(at(memory, "d"), at(local, "t"), delete=True, backup=at(kept, "kept"))
    assert files(local, "t") == {"a": b"old", "b": b"1", "gone": b"gone"}
    memory.delete("d/a")
    with pytest.raises(StorageTransferError):
        transfer.sync(at(memory, "d"), at(local, "t"), delete=True, exclude="a", backup=at(kept, "kept"))
    assert files(local, "t") == {"a": b"old", "b": b"1", "gone": b"gone"}


def test_t16_the_backup_must_be_writable(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1")
    shown = Mount("shown", local.backend, level=Level.readonly)
    with pytest.raises(StoragePermissionError):
        transfer.copy(at(memory, "d"), at(memory, "t"), backup=at(shown, "kept"))
    assert files(memory) == {"d/a": b"1"}


def test_a_backup_named_by_text_needs_a_manager(memory: Mount) -> None:
    plant(memory, d__a=b"1")
    with pytest.raises(StorageConfigError):
        transfer.copy(at(memory, "d"), at(memory, "t"), backup="m:kept")
    with StorageManager([{"name": "m", "type": "memory"}]) as manager:
        manager.node("m:d/a").write_text("new")
        manager.node("m:t/a").write_text("old")
        manager.copy("m:d", "m:t", backup="m:kept")
        assert manager.node("m:kept/a").read_text() == "old"
        manager.copy("m:d", "m:t", options=transfer.CopyOptions(backup="m:again"))
        assert manager.node("m:again/a").read_text() == "new"


def unlistable(monkeypatch: pytest.MonkeyPatch, mount: Mount, directory: str) -> None:
    scan = mount.backend.scan

    def denied(path: str, **how: Any) -> Any:
        if path == directory:
            raise PermissionError(13, "denied")
        return scan(path, **how)

    monkeypatch.setattr(mount.backend, "scan", denied)


def test_what_no_listing_told_is_kept_too(memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(memory, d__closed__a=b"new", d__closed__b=b"1", d__z=b"2")
    plant(local, t__closed__a=b"old")
    unlistable(monkeypatch, local, "t/closed")
    report = transfer.copy(at(memory, "d"), at(local, "t"), backup=at(local, "kept"))
    assert (report.files_copied, report.complete) == (3, False)
    assert files(local, "kept") == {"closed/a": b"old"}


@pytest.mark.parametrize("skip", ["exists", "newer", "mtime", "hash"])
def test_nothing_is_replaced_that_might_be_good_enough(
    memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch, skip: str
) -> None:
    plant(memory, d__closed__a=b"new", d__z=b"2")
    plant(local, t__closed__a=b"old", t__z=b"")
    with monkeypatch.context() as patch:
        unlistable(patch, local, "t/closed")
        report = transfer.copy(at(memory, "d"), at(local, "t"), skip=skip, errors="report")
    assert [(failure.relpath, type(failure.error)) for failure in report.failures] == [
        ("closed/a", StoragePermissionError)
    ]
    assert local.get("t/closed/a")[0] == b"old"


def test_a_link_that_cannot_be_followed_fails_alone(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, d__a=b"1", d__link=b"2", d__z=b"3")
    plant(other, t__a=b"old")
    (tmp_path / "other/t/link").symlink_to("link")
    report = transfer.copy(at(local, "d"), at(other, "t"), backup=at(other, "kept"), errors="report")
    assert [failure.relpath for failure in report.failures] == ["link"]
    assert files(other, "kept") == {"a": b"old"}
    assert (other.get("t/a")[0], other.get("t/z")[0]) == (b"1", b"3")
