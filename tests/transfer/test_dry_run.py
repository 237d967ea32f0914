"""T40: a dry run tells what would be done, and touches nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import StorageTransferError
from genro_storage.mount import Mount
from genro_storage.testing.faulty import FaultPlan, FaultyBackend
from genro_storage.transfer import report as reports

from .conftest import memory_mount
from .trees import at, plant, tree

CHANGES = {"put", "writer", "writer.commit", "delete", "delete_many", "mkdir", "rmdir", "copy_from", "rename_from"}
CHANGES |= {"symlink", "set_mtime", "set_metadata", "set_tags", "edit", "parts"}


@pytest.fixture
def watched() -> tuple[Mount, Mount, FaultPlan]:
    """Two mounts with something to copy, skip, delete and make; and all calls that come to them."""
    source, target = memory_mount("s"), memory_mount("t")
    plant(source, d__a=b"1", d__b=b"22", d__x__c=b"333", d__e__=b"", d__way=b"4", **{"d__l.txt": b""})
    plant(target, t__a=b"old", t__old=b"", t__gone__f=b"", t__way__x=b"")
    plan = FaultPlan()
    for mount in (source, target):
        mount.backend = FaultyBackend(mount.backend, plan)
    return source, target, plan


def changes(plan: FaultPlan) -> set[str]:
    return CHANGES & set(plan.calls)


@pytest.mark.parametrize("skip", ["never", "mtime", "hash"])
def test_t40_sync(watched: tuple[Mount, Mount, FaultPlan], skip: str) -> None:
    source, target, plan = watched
    before = tree(target)
    plan.calls.clear()
    events: list[tuple[str, str]] = []
    report = transfer.sync(
        at(source, "d"),
        at(target, "t"),
        dry_run=True,
        delete=True,
        skip=skip,
        exclude="*.txt",
        backup=at(target, "kept"),
        on_event=lambda event: events.append((event.kind, event.relpath)),
    )
    assert changes(plan) == set()
    assert tree(target) == before
    assert report.dry_run
    assert report.ok
    done = transfer.sync(at(source, "d"), at(target, "t"), delete=True, skip=skip, exclude="*.txt")
    for name in ("files_copied", "files_skipped", "files_deleted", "bytes_copied", "files_total", "skip_reasons"):
        assert getattr(report, name) == getattr(done, name), name
    assert report.directories_created == 1
    told = {(action.kind, action.relpath) for action in report.actions}
    assert told == {
        *(("copy", name) for name in ("a", "b", "x/c", "way")),
        *(("delete", name) for name in ("old", "gone/f", "way/x")),
        ("skip", "l.txt"),
        ("mkdir", "e"),
    }
    assert {relpath for kind, relpath in events if kind == "delete"} >= {"old", "gone/f", "way/x"}
    assert json.loads(json.dumps(report.to_dict()))["actions"][0].keys() == {"kind", "relpath", "reason", "size"}
    assert "dry run" in str(report)
    assert done.actions == []


@pytest.mark.parametrize("path", ["d", "d/a"])
def test_t40_copy_and_move(watched: tuple[Mount, Mount, FaultPlan], path: str) -> None:
    source, target, plan = watched
    before = tree(source), tree(target)
    plan.calls.clear()
    for verb in (transfer.copy, transfer.move):
        for place in ("t", "new"):
            if path == "d" and place == "t":
                with pytest.raises(StorageTransferError):
                    verb(at(source, path), at(target, place), dry_run=True)
            else:
                assert verb(at(source, path), at(target, place), dry_run=True).files_copied in (1, 5)
    assert changes(plan) == set()
    assert (tree(source), tree(target)) == before


def test_t40_a_rename_is_not_done(local: Mount) -> None:
    plant(local, d__a=b"1")
    report = transfer.move(at(local, "d"), at(local, "e"), dry_run=True)
    assert (report.files_copied, tree(local)) == (1, {"d/": b"", "d/a": b"1"})


def test_t40_links(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, d__a=b"1")
    (tmp_path / "l/d/link").symlink_to("a")
    report = transfer.copy(at(local, "d"), at(other, "t"), symlinks="copy", dry_run=True)
    assert {(action.kind, action.relpath) for action in report.actions} == {("copy", "a"), ("link", "link")}
    assert tree(other) == {}


def test_t40_links_that_cannot_be_made_fail_in_advance(
    local: Mount, other: Mount, memory: Mount, tmp_path: Path
) -> None:
    plant(local, d__a=b"1")
    plant(other, t__over=b"mine")
    for name, text in (("link", "a"), ("over", "a"), ("up", "../../x"), ("root", "/a")):
        (tmp_path / "l/d" / name).symlink_to(text)
    for target in (at(other, "t"), at(memory, "t")):
        how: dict[str, Any] = {"symlinks": "copy", "errors": "report"}
        before = transfer.copy(at(local, "d"), target, dry_run=True, **how)
        report = transfer.copy(at(local, "d"), target, **how)
        assert report.failed == (3 if target.mount is other else 4)
        told, found = [[(one.relpath, type(one.error)) for one in each.failures] for each in (before, report)]
        assert sorted(told, key=str) == sorted(found, key=str)


def test_callbacks_of_things_done_are_not_called(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1")
    plant(local, t__old=b"1")
    told: list[Any] = []
    transfer.sync(
        at(memory, "d"), at(local, "t"), delete=True, dry_run=True, on_file=told.append, on_delete=told.append
    )
    assert told == []


def test_the_first_actions_are_kept(memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reports.KEPT_ACTIONS == 10_000
    monkeypatch.setattr(reports, "KEPT_ACTIONS", 3)
    plant(memory, **{f"d__{number}": b"1" for number in range(8)})
    report = transfer.copy(at(memory, "d"), at(local, "t"), dry_run=True)
    assert ([action.relpath for action in report.actions], report.files_copied) == (["0", "1", "2"], 8)
