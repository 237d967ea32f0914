"""The cases of TransferSuite about synchronising and comparing: what is kept, deleted, refused, only told."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from ..exceptions import (
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTransferError,
)
from ..manager import StorageManager
from ..nodes import StorageNode
from .transfer_files import Transfers, fill, held

GIVEN = {
    "a": b"1",
    "a-/1": b"22",
    "a.txt": b"333",
    "b/c/d": b"4444",
    "b/c-": b"5",
    "b/e f": b"6",
    "empty": b"",
    "\u00e9": b"7",
    "z/data.txt": b"8" * 70_000,
}


class SyncTransfers(Transfers):
    """Cases that only read their source, whose directory ``d`` holds `GIVEN`: for archives and the like by themselves.

    A source that can be written is filled; any other one brings its files along.
    """

    writable_source: ClassVar[bool] = True

    @pytest.fixture
    def given(self, src: StorageNode) -> StorageNode:
        """The directory that holds `GIVEN`, in files that are not new where the source keeps times.

        The time of an upload is told in whole seconds: one that follows at once seems older than its source.
        """
        if self.writable_source:
            old: dict[str, Any] = {"mtime": 1_000_000_000.5} if src.mount.features.keeps_mtime else {}
            for path, data in GIVEN.items():
                (src / "d" / path).write_bytes(data, **old)
        return src / "d"

    def test_t06_t07_read_from(self, given: StorageNode, dst: StorageNode) -> None:
        for _ in range(2):
            assert given.copy_to(dst / "t") == dst / "t"
            assert held(dst / "t") == GIVEN

    def test_t14_sync_needs_a_directory(self, given: StorageNode, dst: StorageNode) -> None:
        with pytest.raises(StorageNotADirectoryError):
            (given / "a").sync_to(dst / "t")
        with pytest.raises(StorageNotFoundError):
            (given / "absent").sync_to(dst / "t")
        assert held(dst) == {}
        report = given.sync_to("dst:t/")
        assert (report.operation, report.files_copied, report.ok, report.complete) == ("sync", len(GIVEN), True, True)
        assert held(dst) == {f"t/{path}": data for path, data in GIVEN.items()}
        assert given.sync_to(dst / "t", into=True).target_path == "t/d"

    @pytest.mark.parametrize("skip", ["mtime", "size", "exists", "newer", "hash"])
    def test_t28_the_second_time_nothing_goes(self, given: StorageNode, dst: StorageNode, skip: str) -> None:
        given.copy_to(dst / "t")
        report = given.sync_to(dst / "t", skip=skip)
        assert (report.files_copied, report.files_skipped, report.directories_created) == (0, len(GIVEN), 0)
        assert report.bytes_copied == 0

    def test_what_changed_goes(self, given: StorageNode, dst: StorageNode) -> None:
        given.copy_to(dst / "t")
        fill(dst / "t", {"a": b"longer", "b/c/d": b"0000"})
        report = given.sync_to(dst / "t", skip="hash")
        assert (report.files_copied, report.files_skipped) == (2, len(GIVEN) - 2)
        assert held(dst / "t") == GIVEN

    def test_filter_and_skip_fn_see_nodes(self, given: StorageNode, dst: StorageNode) -> None:
        fill(dst / "t", {"a": b"kept", "a.txt": b"old"})
        seen: list[str] = []

        def choose(node: StorageNode, relpath: str) -> bool:
            seen.append(relpath)
            assert node == given / relpath
            return "b/" not in relpath

        report = given.sync_to(
            dst / "t", filter=choose, skip="custom", skip_fn=lambda a, b: a == given / "a" and b == dst / "t/a"
        )
        assert sorted(seen) == sorted(GIVEN)
        assert report.skip_reasons == {"filter": 3, "custom": 1}
        assert held(dst / "t") == {path: data for path, data in GIVEN.items() if "b/" not in path} | {"a": b"kept"}

    def test_t26_delete(self, given: StorageNode, dst: StorageNode) -> None:
        old = {"old": b"", "b/old": b"", "gone/deep/f": b"", "gone/g": b"", "b/c.tmp": b""}
        fill(dst, {"beside": b"1"})
        fill(dst / "t", old)
        deleted: list[Any] = []
        report = given.sync_to(dst / "t", delete=True, exclude="*.tmp", on_delete=deleted.append)
        assert held(dst / "t") == {**GIVEN, "b/c.tmp": b""}
        assert (report.files_deleted, report.ok) == (4, True)
        assert {dst / "t/old", dst / "t/gone/deep/f"} <= set(deleted)
        assert self.emptied_stay or not (dst / "t/gone").exists
        report = given.sync_to(dst / "t", delete=True, exclude="*.tmp", delete_excluded=True)
        assert held(dst) == {"beside": b"1", **{f"t/{path}": data for path, data in GIVEN.items()}}
        assert report.files_deleted == 1

    def test_t18_obstacles_go_first(self, given: StorageNode, dst: StorageNode) -> None:
        fill(dst / "t", {"a/x": b"", "a/y/z": b"", "b": b""})
        with pytest.raises(StorageTransferError) as caught:
            given.sync_to(dst / "t")
        kinds = {failure.relpath: type(failure.error) for failure in caught.value.report.failures}
        assert kinds.pop("a") is StorageIsADirectoryError
        assert set(kinds.values()) == {StorageNotADirectoryError}
        assert (dst / "t/a/x").exists
        report = given.sync_to(dst / "t", delete=True)
        assert (report.files_deleted, report.ok) == (3, True)
        assert held(dst / "t") == GIVEN

    def test_t27_guards(self, given: StorageNode, src: StorageNode, dst: StorageNode) -> None:
        old = {f"old/{number}": b"" for number in range(4)}
        fill(dst / "t", old)
        with pytest.raises(StorageTransferError, match="would delete 4 of 4"):
            given.sync_to(dst / "t", delete=True, max_delete=3, errors="report")
        assert held(dst / "t") == {**GIVEN, **old}
        with pytest.raises(StorageNotFoundError):
            (src / "absent").sync_to(dst / "t", delete=True)
        assert not given.sync_to(dst / "t", delete=True, max_delete=3, dry_run=True).ok
        assert held(dst / "t") == {**GIVEN, **old}
        assert given.sync_to(dst / "t", delete=True, max_delete=4).files_deleted == 4
        report = (src / "absent").sync_to(dst / "t", delete=True, allow_empty_source=True)
        assert (report.files_deleted, held(dst)) == (len(GIVEN), {})

    def test_t12_t16_before_the_first_byte(
        self, manager: StorageManager, given: StorageNode, src: StorageNode, dst: StorageNode
    ) -> None:
        fill(dst / "t", {"old": b""})
        manager.add_mount({"name": "kept", "path": "dst:", "permissions": "readwrite"})
        with pytest.raises(StoragePermissionError):
            given.sync_to("kept:t", delete=True)
        assert held(dst) == {"t/old": b""}
        if src.mount.backend.features.readonly:
            with pytest.raises(PermissionError):
                given.move_to(dst / "moved")
            assert held(dst) == {"t/old": b""}
            return
        for start, end in (("src:d", "again:d/b/new"), ("again:d/b", "src:d")):
            with pytest.raises(StoragePathError):
                manager.sync(start, end, delete=True)
        assert held(given) == GIVEN

    def test_t40_dry_run(self, given: StorageNode, dst: StorageNode) -> None:
        fill(dst / "t", {"a": b"other", "old": b"", "a.txt": GIVEN["a.txt"]})
        before = held(dst)
        told: dict[str, Any] = {"delete": True, "skip": "hash", "exclude": "z/"}
        planned = given.sync_to(dst / "t", dry_run=True, backup="dst:backup", **told)
        assert held(dst) == before
        assert [action.relpath for action in planned.actions if action.kind == "delete"] == ["old"]
        assert len([action for action in planned.actions if action.kind == "copy"]) == len(GIVEN) - 2
        done = given.sync_to(dst / "t", **told)
        assert (planned.dry_run, done.dry_run, done.actions) == (True, False, [])
        for name in ("files_copied", "files_skipped", "files_deleted", "bytes_copied", "skip_reasons", "ok"):
            assert getattr(planned, name) == getattr(done, name), name

    def test_t49_backup(self, given: StorageNode, dst: StorageNode) -> None:
        fill(dst / "t", {"a": b"old", "b/c-": b"old too", "gone/f": b"gone"})
        for place in ("dst:t", "dst:t/kept", "dst:"):
            with pytest.raises(StoragePathError):
                given.sync_to(dst / "t", backup=place)
        report = given.sync_to(dst / "t", skip="never", delete=True, backup="dst:kept/here")
        assert report.ok
        assert held(dst / "t") == GIVEN
        assert held(dst / "kept/here") == {"a": b"old", "b/c-": b"old too", "gone/f": b"gone"}
        given.sync_to(dst / "t", skip="never", include="a", backup="dst:kept/here")
        given.sync_to(dst / "t", skip="never", include="a", backup="dst:kept/here")
        assert held(dst / "kept/here") == {"a": b"old", "a.1": b"1", "a.2": b"1", "b/c-": b"old too", "gone/f": b"gone"}

    @pytest.mark.parametrize("by", ["hash", "size", "mtime"])
    def test_compare(self, manager: StorageManager, given: StorageNode, dst: StorageNode, by: str) -> None:
        given.copy_to(dst / "t")
        report = manager.compare(given, dst / "t", by)
        assert (report.same, report.differ, report.only_source, report.only_destination) == (len(GIVEN), 0, 0, 0)
        fill(dst / "t", {"a": b"other", "more/f": b""})
        (dst / "t/empty").delete()
        before = held(dst)
        report = manager.compare(given, dst / "t", by)
        assert (report.same, report.differ, report.only_source, report.only_destination) == (len(GIVEN) - 2, 1, 1, 1)
        assert {(action.kind, action.relpath) for action in report.actions} == {
            ("differ", "a"),
            ("only_source", "empty"),
            ("only_destination", "more/f"),
        }
        assert held(dst) == before
