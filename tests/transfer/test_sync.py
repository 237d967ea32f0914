"""Synchronising: what goes, what stays, what is deleted, and the guards before that."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import (
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTransferError,
)
from genro_storage.mount import Level, Mount
from genro_storage.testing.faulty import Fault, FaultPlan, FaultyBackend
from genro_storage.transfer import listing

from .conftest import local_mount, memory_mount
from .stores import ObjectStore, objects
from .trees import at, files, plant, tree

KINDS = ("local", "memory", "objects")


def a_mount(kind: str, name: str, base: Path) -> Mount:
    if kind == "local":
        return local_mount(name, base / name)
    return memory_mount(name) if kind == "memory" else objects(name)[0]


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Mount:
    return a_mount(request.param, "s", tmp_path)


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Mount:
    return a_mount(request.param, "t", tmp_path)


def test_t14_needs_a_directory(memory: Mount, local: Mount) -> None:
    plant(memory, f=b"1")
    with pytest.raises(StorageNotADirectoryError):
        transfer.sync(at(memory, "f"), at(local, "g"))
    assert tree(local) == {}


def test_the_second_time_nothing_goes(source: Mount, target: Mount) -> None:
    plant(source, d__a=b"1", d__x__b=b"22", d__e__=b"")
    first = transfer.sync(at(source, "d"), at(target, "t"))
    assert (first.operation, first.files_copied, first.ok) == ("sync", 2, True)
    second = transfer.sync(at(source, "d"), at(target, "t"))
    assert (second.files_copied, second.directories_created) == (0, 0)
    assert second.skip_reasons == {"same size and time": 2}
    assert second.bytes_skipped == 3
    assert files(target) == {"t/a": b"1", "t/x/b": b"22"}


def test_without_delete_other_entries_stay(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1")
    plant(local, t__old=b"2", t__x__old=b"3")
    report = transfer.sync(at(memory, "d"), at(local, "t"))
    assert report.files_deleted == 0
    assert files(local, "t") == {"a": b"1", "old": b"2", "x/old": b"3"}


def test_t26_delete(source: Mount, target: Mount) -> None:
    plant(source, d__a=b"1", d__x__b=b"2", d__e__=b"")
    plant(target, t__a=b"0", t__old=b"2", t__x__old=b"3", t__gone__deep__f=b"4", t__none__=b"", t__e__=b"")
    told: list[str] = []
    report = transfer.sync(
        at(source, "d"), at(target, "t"), delete=True, skip="never", on_delete=lambda place: told.append(place.path)
    )
    assert set(tree(target, "t")) - {"x/"} == {"a", "e/", "x/b"}
    assert report.files_deleted == 3
    assert report.ok
    assert set(told) - {"t/gone/deep", "t/gone"} == {"t/old", "t/x/old", "t/gone/deep/f", "t/none"}
    if target.features.real_dirs:
        assert told.index("t/gone/deep/f") < told.index("t/gone/deep") < told.index("t/gone")


def test_t26_only_what_the_filters_select(memory: Mount, local: Mount) -> None:
    plant(memory, **{"d__a.py": b"1", "d__b.txt": b"2"})
    plant(local, **{"t__old.py": b"", "t__old.txt": b"", "t__b.txt": b"old", "t__build__x.py": b""})
    report = transfer.sync(at(memory, "d"), at(local, "t"), delete=True, include="*.py", exclude="build/")
    assert set(files(local, "t")) == {"a.py", "old.txt", "b.txt", "build/x.py"}
    assert report.files_deleted == 1
    report = transfer.sync(
        at(memory, "d"), at(local, "t"), delete=True, include="*.py", exclude="build/", delete_excluded=True
    )
    assert tree(local, "t") == {"a.py": b"1"}
    assert report.files_deleted == 3


def test_t26_a_raising_filter_shields(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1", d__b=b"2")
    plant(local, t__a=b"old", t__doubtful=b"", t__gone=b"")

    def choose(place: Any, relpath: str) -> bool:
        if relpath in ("a", "doubtful"):
            raise ZeroDivisionError("no idea")
        return True

    report = transfer.sync(at(memory, "d"), at(local, "t"), delete=True, filter=choose, delete_excluded=True)
    assert files(local, "t") == {"a": b"old", "b": b"2", "doubtful": b""}
    assert report.skip_reasons == {"filter raised ZeroDivisionError": 1}
    assert len(report.warnings) == 2
    assert "no idea" in report.warnings[0]
    assert (report.files_deleted, report.ok) == (1, True)


def test_t26_a_rejecting_filter_keeps_unless_excluded_go(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1")
    plant(local, t__a=b"old", t__keep=b"")
    how: dict[str, Any] = {"delete": True, "filter": lambda place, relpath: False}
    assert transfer.sync(at(memory, "d"), at(local, "t"), **how).files_deleted == 0
    assert transfer.sync(at(memory, "d"), at(local, "t"), delete_excluded=True, **how).files_deleted == 2
    assert files(local) == {}


def test_t26_delete_excluded_alone_deletes_and_copies_nothing(memory: Mount) -> None:
    plant(memory, d__keep=b"1", d__secret=b"2")
    plant(memory, t__secret=b"old", t__other=b"")
    for how in ({"exclude": "secret"}, {"filter": lambda place, relpath: relpath != "secret"}):
        report = transfer.sync(at(memory, "d"), at(memory, "t"), delete_excluded=True, **how)
        assert files(memory, "t") == {"keep": b"1", "secret": b"old", "other": b""}
        assert (report.files_deleted, report.failed) == (0, 0)
        assert report.files_total == 2
        assert not transfer.sync(at(memory, "d"), at(memory, "t"), delete_excluded=True, dry_run=True, **how).failed


def test_t26_nothing_is_deleted_after_a_failure(memory: Mount) -> None:
    there, store = objects("t")
    plant(memory, d__a=b"1", d__b=b"2")
    plant(there, t__old=b"")

    def refuse(name: str, path: str) -> None:
        if name == "put" and path == "t/b":
            raise StorageQuotaError("full")

    store.hook = refuse
    events: list[tuple[str, str, str]] = []
    report = transfer.sync(
        at(memory, "d"),
        at(there, "t"),
        delete=True,
        errors="report",
        on_event=lambda event: events.append((event.kind, event.relpath, event.reason)),
    )
    assert files(there, "t") == {"a": b"1", "old": b""}
    assert (report.files_deleted, report.skip_reasons) == (0, {"not deleted: errors": 1})
    assert ("skip", "old", "not deleted: errors") in events
    assert report.files_total == report.files_copied + report.files_failed == 2


@pytest.mark.parametrize("which", ["source", "target"])
def test_t26_nothing_is_deleted_after_half_a_listing(which: str) -> None:
    class Broken(ObjectStore):
        def walk(self, path, *, after="", limit=None):  # type: ignore[no-untyped-def]
            yield from super().walk(path)
            if path == broken:
                raise PermissionError

    mount = Mount("b", Broken())
    broken = "d" if which == "source" else "t"
    plant(mount, d__a=b"1", t__a=b"1", t__old=b"2")
    report = transfer.sync(at(mount, "d"), at(mount, "t"), delete=True, errors="report")
    assert (report.files_deleted, report.complete, report.ok) == (0, False, False)
    broken = ""
    assert files(mount, "t") == {"a": b"1", "old": b"2"}


def test_t26_nothing_is_deleted_below_a_target_that_cannot_be_listed(
    local: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(memory, d__a=b"1")
    plant(local, t__closed__x=b"1", t__old=b"2")
    scan = local.backend.scan

    def denied(path: str, **how: Any) -> Any:
        if path == "t/closed":
            raise PermissionError(13, "denied")
        return scan(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(local.backend, "scan", denied)
        report = transfer.sync(at(memory, "d"), at(local, "t"), delete=True)
    assert (report.files_deleted, report.complete) == (0, False)
    assert report.warnings
    assert files(local, "t") == {"a": b"1", "closed/x": b"1", "old": b"2"}


# --- T18: what stands in the way ---


def test_t18_an_obstacle_is_removed_and_the_entry_copied(source: Mount, target: Mount) -> None:
    plant(source, d__e=b"file", d__f__x=b"below", d__f__y__z=b"deep", d__g__=b"", d__h=b"3")
    plant(target, t__e__x=b"old", t__e__y__z=b"old", t__f=b"old", t__g=b"old")
    calls: list[tuple[int, int]] = []
    tell = lambda done, total: calls.append((done, total))  # noqa: E731
    report = transfer.sync(at(source, "d"), at(target, "t"), delete=True, progress=tell)
    assert files(target, "t") == {"e": b"file", "f/x": b"below", "f/y/z": b"deep", "h": b"3"}
    assert target.is_dir("t/g")
    assert (report.files_copied, report.files_deleted, report.ok) == (4, 4, True)
    assert [done for done, _ in calls] == [1, 2, 3, 4]
    assert {total for _, total in calls} == {4}


def test_t18_an_obstacle_that_stays_fails_the_entry(memory: Mount, target: Mount) -> None:
    plant(memory, d__e=b"file", d__f__x=b"below", d__h=b"3")
    plant(target, **{"t__e__x.keep": b"old", "t__f": b"old"})
    report = transfer.sync(
        at(memory, "d"),
        at(target, "t"),
        delete=True,
        errors="report",
        filter=lambda place, name: name not in ("f", "e/x.keep"),
    )
    assert files(target, "t") == {"e/x.keep": b"old", "f": b"old", "h": b"3"}
    kinds = {failure.relpath: type(failure.error) for failure in report.failures}
    assert kinds == {"e": StorageIsADirectoryError, "f/x": StorageNotADirectoryError}


def test_t18_without_deletions_the_waiting_fail(memory: Mount, target: Mount) -> None:
    plant(memory, d__e=b"file", d__h=b"3")
    plant(target, t__e__x=b"old")
    with pytest.raises(StorageTransferError, match="would delete 1 of 1"):
        transfer.sync(at(memory, "d"), at(target, "t"), delete=True, max_delete=0)
    assert files(target, "t") == {"e/x": b"old", "h": b"3"}


# --- T27: guards ---


@pytest.mark.parametrize(
    ("max_delete", "stops"), [(0, True), (2, True), (3, False), ("0%", False), ("50%", False), ("100%", False)]
)
def test_t27_more_deletions_than_allowed(memory: Mount, target: Mount, max_delete: int | str, stops: bool) -> None:
    plant(memory, d__a=b"1")
    plant(target, t__a=b"0", t__x__b=b"2", t__x__c=b"3", t__d=b"4")
    how: dict[str, Any] = {"delete": True, "max_delete": max_delete, "skip": "never"}
    planned = transfer.sync(at(memory, "d"), at(target, "t"), dry_run=True, **how)
    assert len(files(target, "t")) == 4
    assert (planned.ok, planned.files_deleted) == (not stops, 0 if stops else 3)
    if not stops:
        assert transfer.sync(at(memory, "d"), at(target, "t"), **how).files_deleted == 3
        assert files(target, "t") == {"a": b"1"}
        return
    assert any("would delete 3 of 4" in warning for warning in planned.warnings)
    with pytest.raises(StorageTransferError, match="would delete 3 of 4") as caught:
        transfer.sync(at(memory, "d"), at(target, "t"), errors="report", **how)
    assert caught.value.report.files_copied == 1
    assert not caught.value.report.ok
    assert set(files(target, "t")) == {"a", "x/b", "x/c", "d"}


@pytest.mark.parametrize(("old", "stops"), [(99, False), (100, True)])
def test_t27_a_part_never_stops_fewer_than_a_hundred(memory: Mount, old: int, stops: bool) -> None:
    plant(memory, d__a=b"1")
    plant(memory, **{f"t__{number}": b"" for number in range(old)})
    if stops:
        with pytest.raises(StorageTransferError, match="would delete 100 of 100"):
            transfer.sync(at(memory, "d"), at(memory, "t"), delete=True)
        assert len(files(memory, "t")) == 101
    else:
        assert transfer.sync(at(memory, "d"), at(memory, "t"), delete=True).files_deleted == 99


def test_t27_an_empty_source_empties_nothing(source: Mount, target: Mount) -> None:
    if source.features.real_dirs:
        plant(source, d__=b"")
    else:
        source.mkdir("d")
    plant(target, t__a=b"1", t__x__b=b"2")
    with pytest.raises(StorageTransferError, match="source is empty"):
        transfer.sync(at(source, "d"), at(target, "t"), delete=True, errors="report")
    assert not transfer.sync(at(source, "d"), at(target, "t"), delete=True, dry_run=True).ok
    assert len(files(target, "t")) == 2
    assert transfer.sync(at(source, "d"), at(target, "t")).ok
    report = transfer.sync(at(source, "d"), at(target, "t"), delete=True, allow_empty_source=True)
    assert (report.files_deleted, files(target)) == (2, {})


def test_t27_a_missing_source(source: Mount, target: Mount) -> None:
    plant(target, t__a=b"1")
    plant(source, other=b"")
    with pytest.raises(StorageNotFoundError, match="Source not found"):
        transfer.sync(at(source, "d"), at(target, "t"), delete=True)
    assert files(target) == {"t/a": b"1"}
    report = transfer.sync(at(source, "d"), at(target, "t"), delete=True, allow_empty_source=True)
    assert (report.files_deleted, files(target)) == (1, {})


# --- T12, T16 ---


def test_t12_neither_inside_the_other(memory: Mount) -> None:
    plant(memory, d__a=b"1", d__x__b=b"2")
    with pytest.raises(StoragePathError):
        transfer.sync(at(memory, "d"), at(memory, "d/x/new"))
    with pytest.raises(StoragePathError):
        transfer.sync(at(memory, "d/x"), at(memory, "d"), delete=True)
    assert files(memory) == {"d/a": b"1", "d/x/b": b"2"}
    assert transfer.sync(at(memory, "d/x"), at(memory, "d")).files_copied == 1
    assert transfer.sync(at(memory, "d"), at(memory, "d"), delete=True).skip_reasons == {"same place": 1}


def test_t16_deleting_needs_the_permission(memory: Mount, local: Mount) -> None:
    plant(memory, d__a=b"1")
    plant(local, t__old=b"1")
    kept = Mount("kept", local.backend, level=Level.readwrite)
    with pytest.raises(StoragePermissionError):
        transfer.sync(at(memory, "d"), at(kept, "t"), delete=True)
    assert files(local) == {"t/old": b"1"}
    assert transfer.sync(at(memory, "d"), at(kept, "t")).files_copied == 1


# --- how deletions are done ---


def test_deletions_go_in_few_requests(memory: Mount) -> None:
    asked: list[int] = []

    class Many(ObjectStore):
        @property
        def abilities(self) -> frozenset[str]:
            return super().abilities | {"delete_many"}

        def delete_many(self, paths):  # type: ignore[no-untyped-def]
            asked.append(len(paths))
            for path in paths:
                if path == "t/2100" and len(asked) < 2:
                    yield path, ConnectionError("slow down")
                else:
                    self.keys.pop(path)

    there = Mount("t", Many())
    plant(memory, d__a=b"1")
    plant(there, **{f"t__{number:04}": b"" for number in range(2500)})
    report = transfer.sync(at(memory, "d"), at(there, "t"), delete=True, max_delete=2500)
    assert report.files_deleted == 2500
    assert files(there) == {"t/a": b"1"}
    assert sorted(asked) == [1, 500, 1000, 1000]


def test_a_deletion_that_fails_is_told(memory: Mount) -> None:
    there, store = objects("t")
    plant(memory, d__a=b"1")
    plant(there, t__old=b"", t__other=b"")

    def refuse(name: str, path: str) -> None:
        if name == "delete" and path == "t/old":
            raise PermissionError

    store.hook = refuse
    told: list[str] = []
    report = transfer.sync(
        at(memory, "d"), at(there, "t"), delete=True, errors="report",
        on_error=lambda place, error: told.append(f"{place.path} {type(error).__name__}"),
    )  # fmt: skip
    assert told == ["d/old StoragePermissionError"]
    assert (report.files_deleted, report.failed, report.files_failed) == (1, 1, 0)
    assert [(failure.relpath, failure.operation) for failure in report.failures] == [("old", "delete")]
    assert set(files(there, "t")) == {"a", "old"}


def test_t17_no_deletion_before_the_order_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """In directory order the target seems to have what the source has not."""
    names = ("a/1", "a/2", "a-", "a.b", "b")
    for page in (1, 2, 1000):
        monkeypatch.setattr(listing, "PAGE", page)
        for in_order in ((True, False), (False, True), (False, False)):
            here, origin = objects("s", in_order=in_order[0])
            there, store = objects("t", in_order=in_order[1])
            for name in names:
                origin.set(f"d/{name}", b"1")
                store.set(f"t/{name}", b"1")
            store.set("t/old/x", b"1")
            store.calls.clear()
            report = transfer.sync(at(here, "d"), at(there, "t"), delete=True, skip="size")
            assert (report.files_deleted, report.files_total) == (1, 5)
            assert [path for name, path in store.calls if name == "delete"] == ["t/old/x"]
            assert set(files(there, "t")) == set(names)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_folding_target_keeps_what_it_takes_for_the_sources(memory: Mount, dry_run: bool) -> None:
    """The target lists "A" where the source has "a": deleting it would delete the copy."""
    there, store = objects("t", case_sensitive=False)
    plant(memory, d__a=b"1", d__Dir__x=b"2")
    for name in ("A", "dir/X", "old"):
        store.set(f"t/{name}", b"1")
    report = transfer.sync(at(memory, "d"), at(there, "t"), delete=True, dry_run=dry_run)
    assert report.files_deleted == 1
    assert {"t/A", "t/dir/X"} <= set(store.keys)


def test_links_of_the_target_are_unlinked_never_descended(memory: Mount, local: Mount, tmp_path: Path) -> None:
    plant(memory, d__a=b"1")
    plant(local, elsewhere__f=b"1", t__x__f=b"2")
    (tmp_path / "l/t/link").symlink_to("../elsewhere")
    (tmp_path / "l/t/file").symlink_to("../elsewhere/f")
    (tmp_path / "l/t/lost").symlink_to("nothing")
    report = transfer.sync(at(memory, "d"), at(local, "t"), delete=True)
    assert report.files_deleted == 4
    assert sorted(tree(local)) == ["elsewhere/", "elsewhere/f", "t/", "t/a"]


@pytest.mark.parametrize("option", ["delete", "delete_excluded", "allow_empty_source"])
def test_a_copy_takes_no_options_of_a_synchronisation(memory: Mount, option: str) -> None:
    for verb in (transfer.copy, transfer.move):
        with pytest.raises(TypeError, match=option):
            verb(at(memory, "d"), at(memory, "t"), **{option: True})


def test_deletions_one_by_one_are_several_at_once(memory: Mount) -> None:
    there, store = objects("t")
    plant(memory, d__a=b"1")
    plant(there, **{f"t__{number}": b"" for number in range(20)})
    two = threading.Barrier(2)

    def meet(name: str, path: str) -> None:
        if name == "delete" and path in ("t/0", "t/1"):
            two.wait(60)

    store.hook = meet
    assert transfer.sync(at(memory, "d"), at(there, "t"), delete=True).files_deleted == 20
    assert set(files(there)) == {"t/a"}


def test_whatever_fails_nothing_is_lost() -> None:
    """A fault at each call in turn: old or new bytes, never none; no deletion after a failed copy."""
    old = {"a": b"old", "x/b": b"2", "gone/c": b"3", "d": b"4"}
    new = {"a": b"new", "x/b": b"2", "d/e": b"5", "f": b"6"}
    calls = 0
    for strike in range(1, 200):
        source, target = memory_mount("s"), memory_mount("t")
        plant(source, **{f"d__{path}": data for path, data in new.items()})
        plant(target, **{f"t__{path}": data for path, data in old.items()})
        plan = FaultPlan(Fault(strike))
        plain = target.backend
        target.backend = FaultyBackend(plain, plan)
        try:
            report = transfer.sync(
                at(source, "d"), at(target, "t"), delete=True, skip="hash", retries=0, errors="report"
            )
        except StorageError:
            report = None
        target.backend = plain
        found = files(target, "t")
        for path, data in found.items():
            assert data in (old.get(path), new.get(path)), (strike, path)
        before_deletions = {"a", "f"}
        if report is None or any(failure.relpath in before_deletions for failure in report.failures):
            assert old.keys() <= found.keys(), strike
        if report is not None and report.ok:
            assert found == new, strike
        assert files(source, "d") == new
        calls = len(plan.calls)
        if not plan.struck:
            break
    assert calls < strike < 199


def test_a_link_takes_the_place_of_a_directory_and_back(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, d__real__f=b"1")
    (tmp_path / "l/d/link").symlink_to("real")
    for _ in range(2):
        assert transfer.sync(at(local, "d"), at(other, "t"), delete=True).ok
        assert tree(other, "t") == {"real/": b"", "real/f": b"1", "link/": b"", "link/f": b"1"}
        report = transfer.sync(at(local, "d"), at(other, "t"), delete=True, symlinks="copy")
        assert (report.ok, report.files_deleted) == (True, 1)
        assert other.readlink("t/link") == "real"
        report = transfer.sync(at(local, "d"), at(other, "t"), delete=True, symlinks="copy")
        assert (report.files_copied, report.files_deleted, report.skip_reasons["same link"]) == (0, 0, 1)
        other.delete("t/link")


def test_a_link_of_the_target_that_leads_where_the_source_has_a_directory(
    local: Mount, other: Mount, memory: Mount, tmp_path: Path
) -> None:
    """What is behind it is neither deleted nor taken for an orphan."""
    plant(memory, d__x__f=b"1")
    plant(other, elsewhere__old=b"2", t__gone=b"3")
    (tmp_path / "other/t/x").symlink_to("../elsewhere")
    report = transfer.sync(at(memory, "d"), at(other, "t"), delete=True)
    assert report.files_deleted == 1
    assert files(other) == {"elsewhere/old": b"2", "elsewhere/f": b"1"}
    assert other.readlink("t/x") == "../elsewhere"


def test_a_link_of_the_target_that_leads_back_into_it_gives_way(memory: Mount, other: Mount, tmp_path: Path) -> None:
    """What is written through such a link would be deleted, or replaced, at the place that it leads to."""
    plant(memory, d__x__f=b"new", d__x__e__=b"", d__y__g=b"2", d__g=b"1")
    plant(other, t__real__f=b"old", t__y__g=b"22")
    for name, text in (("x", "real"), ("g", "y/g"), ("up", "..")):
        (tmp_path / "other/t" / name).symlink_to(text)
    report = transfer.sync(at(memory, "d"), at(other, "t"), delete=True, dry_run=True)
    assert (report.files_copied, report.files_deleted) == (3, 3)
    report = transfer.sync(at(memory, "d"), at(other, "t"), delete=True)
    assert (report.files_copied, report.files_deleted, report.ok) == (3, 3, True)
    assert tree(other, "t") == tree(memory, "d")
    assert not any(path.is_symlink() for path in (tmp_path / "other/t").iterdir())
    again = transfer.sync(at(memory, "d"), at(other, "t"), delete=True)
    assert (again.files_copied, again.files_deleted) == (0, 0)


def test_an_obstacle_that_stays_fails_what_waited_for_it_and_no_more(
    memory: Mount, other: Mount, tmp_path: Path
) -> None:
    plant(memory, d__a=b"1", d__dir__f=b"2", d__loop__f=b"3", d__x__f=b"4", d__z__f=b"5", d__z__e__=b"")
    plant(other, t__x=b"old", t__real__f=b"kept")
    (tmp_path / "other/t/loop").symlink_to("loop")
    (tmp_path / "other/t/z").symlink_to("real")
    told: list[tuple[int, int]] = []
    report = transfer.sync(
        at(memory, "d"), at(other, "t"), delete=True, errors="report", progress=lambda *now: told.append(now),
        filter=lambda place, relpath: relpath not in ("loop", "z", "real/f"),
    )  # fmt: skip
    assert sorted(failure.relpath for failure in report.failures) == ["loop/f", "z/e", "z/f"]
    assert (report.files_copied, report.files_failed, report.complete) == (3, 3, True)
    assert told[-1] == (6, 6)
    assert files(other, "t").items() >= {"a": b"1", "dir/f": b"2", "x/f": b"4", "real/f": b"kept"}.items()
    assert "real/e/" not in tree(other, "t")


def test_stop_ends_the_deletions_too(memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    there, store = objects("t")
    plant(memory, d__a=b"1")
    plant(there, **{f"t__{number:04}": b"" for number in range(2500)})

    def refuse(name: str, path: str) -> None:
        if name == "delete" and path == "t/2400":
            raise PermissionError

    store.hook = refuse
    with pytest.raises(StorageTransferError) as caught:
        transfer.sync(at(memory, "d"), at(there, "t"), delete=True, max_delete=5000, errors="stop")
    assert isinstance(caught.value.__cause__, StoragePermissionError)
    assert caught.value.report.files_deleted == 499
    assert len(files(there, "t")) == 2002
