"""The cases of TransferSuite about trees: where they land, what is left out, what fails alone."""

from __future__ import annotations

import os

import pytest

from ..exceptions import (
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StoragePathError,
    StorageTransferError,
)
from ..manager import StorageManager
from ..nodes import StorageNode
from .reading import payload
from .transfer_files import Transfers, fill, held

NAMES = ("a", "a-/1", "a.txt", "a0", "b/c/d", "b/c-", "b/e f", "\u00e9", "z/\u65e5", "data*.txt", "[x]", "#/%20")
TREE = {path: path.encode() * 10 for path in NAMES}
HARD = {**TREE, "empty": b"", "big": payload(3_000_000)}


class TreeTransfers(Transfers):
    def test_t06_directory_to_missing_path(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src / "d", HARD)
        assert (src / "d").copy_to(dst / "new/copy") == dst / "new/copy"
        assert held(dst / "new/copy") == HARD
        assert held(src / "d") == HARD
        assert set(held(dst)) == {f"new/copy/{path}" for path in HARD}

    def test_t07_directory_to_existing_directory(self, src: StorageNode, dst: StorageNode) -> None:
        """R11, R21: merged, nothing nested; the same again; a slash changes nothing; `into` nests."""
        fill(src / "d", TREE)
        fill(dst / "t", {"other": b"1", "b/c/other": b"2", "a": b"old"})
        expected = {**TREE, "other": b"1", "b/c/other": b"2"}
        for target in (dst / "t", "dst:t", "dst:t/"):
            assert (src / "d").copy_to(target) == dst / "t"
            assert held(dst / "t") == expected
        assert (src / "d").copy_to(dst / "t", into=True) == dst / "t/d"
        assert held(dst / "t") == {**expected, **{f"d/{path}": data for path, data in TREE.items()}}

    def test_t08_directory_to_existing_file(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src / "d", TREE)
        fill(dst, {"f": b"1"})
        for verb in ("copy_to", "move_to"):
            with pytest.raises(StorageNotADirectoryError):
                getattr(src / "d", verb)(dst / "f")
        assert held(dst) == {"f": b"1"}
        assert held(src / "d") == TREE

    def test_t09_roots(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, TREE)
        assert src.copy_to(dst) == dst
        assert held(dst) == TREE
        assert src.copy_to("dst:sub") == dst / "sub"
        assert held(dst / "sub") == TREE
        dst.empty()
        assert src.move_to(dst) == dst
        assert held(dst) == TREE
        assert src.is_dir
        assert held(src) == {}
        assert self.emptied_stay or src.children() == []

    def test_t12_target_inside_the_source(self, src: StorageNode) -> None:
        """R13: also through another mount; a sibling that shares the name's beginning is no inside."""
        fill(src / "d", {"x": b"1", "y/z": b"2"})
        for target in ("src:d/y", "src:d/new", "again:d/y/deep", "again:d/x/y"):
            for verb in ("copy_to", "move_to"):
                with pytest.raises(StoragePathError):
                    getattr(src / "d", verb)(target)
                with pytest.raises(StoragePathError):
                    getattr(src, verb)(target)
        assert held(src) == {"d/x": b"1", "d/y/z": b"2"}
        (src / "d").copy_to("again:d2")
        assert held(src / "d2") == {"x": b"1", "y/z": b"2"}

    def test_t13_move_a_tree(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src / "d", HARD)
        fill(src, {"stays": b"1"})
        fill(dst / "t", {"other": b"1"})
        assert (src / "d").move_to(dst / "t") == dst / "t"
        assert held(dst / "t") == {**HARD, "other": b"1"}
        assert held(src) == {"stays": b"1"}
        assert not (src / "d").exists

    def test_t17_many(self, src: StorageNode, dst: StorageNode) -> None:
        """More files than fit a page or a batch; the counts add up."""
        files = {f"{number % 7}/{number:04}": b"%d" % number for number in range(260)}
        fill(src / "d", files)
        seen: list[tuple[int, int]] = []
        report = src.manager.copy(src / "d", dst / "d", progress=lambda done, total: seen.append((done, total)))
        assert held(dst / "d") == files
        assert (report.files_copied, report.files_total, report.files_failed) == (260, 260, 0)
        assert report.bytes_copied == sum(map(len, files.values()))
        assert report.complete
        assert report.ok
        assert [done for done, _ in seen] == list(range(1, 261))
        assert seen[-1] == (260, 260)

    def test_t18_kinds_in_the_way(self, src: StorageNode, dst: StorageNode) -> None:
        """That entry fails, neither is replaced, the rest goes on. T34: the error tells all of it."""
        fill(src / "d", {"e": b"file", "f/x": b"below", "f/y/z": b"below", "g": b"3"})
        fill(dst / "d", {"e/x": b"old", "f": b"old"})
        with pytest.raises(StorageTransferError) as caught:
            (src / "d").copy_to(dst / "d")
        report = caught.value.report
        assert held(dst / "d") == {"e/x": b"old", "f": b"old", "g": b"3"}
        failed = {failure.relpath.rstrip("/"): type(failure.error) for failure in report.failures}
        assert failed["e"] is StorageIsADirectoryError
        assert all(issubclass(kind, StorageNotADirectoryError) for path, kind in failed.items() if path != "e")
        assert not report.ok
        assert report.files_copied == 1
        assert report.files_total == report.files_copied + report.files_skipped + report.files_failed

    def test_t19_file_and_directory_of_one_name(self, src: StorageNode, dst: StorageNode) -> None:
        if src.mount.features.real_dirs:
            fill(src / "d", {"e": b"1"})
            with pytest.raises((StorageNotADirectoryError, StorageExistsError)):
                (src / "d/e/f").write_bytes(b"2")
            return
        fill(src / "d", {"e": b"1", "e/f": b"2", "e-": b"3", "e0": b"4"})
        if dst.mount.features.real_dirs:
            with pytest.raises(StorageTransferError) as caught:
                (src / "d").copy_to(dst / "d")
            (failure,) = caught.value.report.failures
            assert (failure.relpath, type(failure.error)) == ("e", StorageIsADirectoryError)
            assert held(dst / "d") == {"e/f": b"2", "e-": b"3", "e0": b"4"}
        else:
            # One at a time: SeaweedFS loses sight of `e` where `e/f` is written at the same moment.
            (src / "d").copy_to(dst / "d", concurrency=1)
            assert held(dst / "d") == held(src / "d")

    def test_t20_t22_empty_directories(self, src: StorageNode, dst: StorageNode) -> None:
        """Made on the other side, never as files; not those that filters emptied, nor where it is not wanted."""
        fill(src / "d", {"x/f.py": b"1", "y/f.txt": b"2"})
        if not src.mount.can("mkdir"):
            (src / "d").copy_to(dst / "d")
            assert held(dst / "d") == held(src / "d")
            return
        (src / "d/empty/deep").mkdir(parents=True)
        (src / "d/y/none").mkdir()
        (src / "d").copy_to(dst / "d", include="*.py")
        assert held(dst / "d") == {"x/f.py": b"1"}
        if dst.mount.can("mkdir"):
            assert (dst / "d/empty/deep").is_dir
            assert (dst / "d/y/none").is_dir
            assert not (dst / "d/empty/deep").is_file
            assert (dst / "d/empty/deep").children() == []
            assert [node.name for node in (dst / "d/empty").children()] == ["deep"]
        (src / "d").copy_to(dst / "without", empty_dirs=False)
        assert not (dst / "without/empty").exists
        (src / "d").copy_to(dst / "filtered", exclude="x/*")
        assert not (dst / "filtered/x").exists
        (src / "d").move_to(dst / "moved")
        assert not (src / "d").exists
        assert held(dst / "moved") == {"x/f.py": b"1", "y/f.txt": b"2"}

    def test_t21_names_the_target_cannot_hold(self, src: StorageNode, dst: StorageNode) -> None:
        """Such an entry fails alone with StoragePathError; nothing is renamed in silence."""
        limit, own = dst.mount.features.max_segment, self.longest_source_name or src.mount.features.max_segment
        name = "n" * ((limit or 200) + 1)
        if limit is None or (own is not None and own <= limit):
            fill(src / "d", {"n" * min(limit or 200, own or 200): b"1"})
            (src / "d").copy_to(dst / "d")
            assert held(dst / "d") == held(src / "d")
            return
        fill(src / "d", {name: b"1", "ok": b"2", f"sub/{name}/x": b"3"})
        with pytest.raises(StorageTransferError) as caught:
            (src / "d").copy_to(dst / "d")
        failures = caught.value.report.failures
        assert {failure.relpath for failure in failures} == {name, f"sub/{name}/x"}
        assert {type(failure.error) for failure in failures} == {StoragePathError}
        assert held(dst / "d") == {"ok": b"2"}

    def test_t22_filters(self, src: StorageNode, dst: StorageNode) -> None:
        """R22: also on a single file."""
        fill(src / "d", {"a.py": b"1", "x/b.py": b"2", "x/c.txt": b"3", "build/x/d.py": b"4", ".e.py": b"5"})
        report = src.manager.copy(src / "d", dst / "one", include="**/*.py", exclude="build/")
        assert held(dst / "one") == {"a.py": b"1", "x/b.py": b"2", ".e.py": b"5"}
        assert report.files_copied == 3
        assert report.files_skipped == report.skip_reasons.get("excluded", 0) + report.skip_reasons["not included"]
        src.manager.copy(src / "d", dst / "two", include=["*.txt", "/a.py"])
        assert held(dst / "two") == {"a.py": b"1", "x/c.txt": b"3"}
        assert src.manager.copy(src / "d/a.py", dst / "three.py", exclude="*.py").files_copied == 0
        assert not (dst / "three.py").exists

    def test_t23_symlinks(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, {"d/f": b"1", "d/sub/g": b"2"})
        if not src.mount.can("symlink"):
            (src / "d").copy_to(dst / "d", symlinks="copy")
            assert held(dst / "d") == held(src / "d")
            return
        (src / "d/file").symlink_to(src / "d/f")
        (src / "d/directory").symlink_to(src / "d/sub")
        (src / "d").copy_to(dst / "followed")
        expected = {"f": b"1", "sub/g": b"2"}
        assert held(dst / "followed") == {**expected, "file": b"1", "directory/g": b"2"}
        report = src.manager.copy(src / "d", dst / "skipped", symlinks="skip")
        assert held(dst / "skipped") == expected
        assert report.skip_reasons == {"symlink": 2}
        if dst.mount.can("symlink"):
            (src / "d").copy_to(dst / "links", symlinks="copy")
            assert (dst / "links/file").is_symlink
            assert (dst / "links/directory").is_symlink
            assert (dst / "links/file").read_bytes() == b"1"
        else:
            with pytest.raises(StorageTransferError):
                (src / "d").copy_to(dst / "links", symlinks="copy")
            assert held(dst / "links") == expected
        (src / "d/dangling").symlink_to(src / "d/nowhere")
        with pytest.raises(StorageTransferError) as caught:
            (src / "d").copy_to(dst / "dangling")
        assert [failure.relpath for failure in caught.value.report.failures] == ["dangling"]
        assert held(dst / "dangling") == {**expected, "file": b"1", "directory/g": b"2"}

    def test_t23_loops_fail_alone(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, {"d/sub/g": b"2"})
        if not src.mount.can("symlink"):
            return
        (src / "d/sub/up").symlink_to(src / "d")
        with pytest.raises(StorageTransferError) as caught:
            (src / "d").copy_to(dst / "d")
        assert {failure.relpath.rstrip("/") for failure in caught.value.report.failures} == {"sub/up"}
        assert held(dst / "d") == {"sub/g": b"2"}

    def test_t24_hard_links_and_holes(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, {"d/f": b"1" * 5000})
        real = src.resolved_path
        if real is not None:
            os.link(os.path.join(real, "d/f"), os.path.join(real, "d/g"))
            with open(os.path.join(real, "d/holes"), "wb") as file:
                file.seek(2_000_000)
                file.write(b"end")
        (src / "d").copy_to(dst / "d")
        assert held(dst / "d") == held(src / "d")
        (dst / "d/f").write_bytes(b"changed")
        if real is not None:
            assert (dst / "d/g").read_bytes() == b"1" * 5000

    def test_t25_names_that_fold_into_one(self, src: StorageNode, dst: StorageNode) -> None:
        if not src.mount.features.case_sensitive:
            return
        fill(src / "d", {"A": b"1", "a": b"2"})
        if dst.mount.features.case_sensitive:
            (src / "d").copy_to(dst / "d")
            assert held(dst / "d") == {"A": b"1", "a": b"2"}
        else:
            with pytest.raises(StorageTransferError) as caught:
                (src / "d").copy_to(dst / "d")
            (failure,) = caught.value.report.failures
            assert isinstance(failure.error, StorageExistsError)
            assert list(held(dst / "d").values()) == [b"1"]

    def test_t33_what_does_not_go_stays(self, src: StorageNode, dst: StorageNode) -> None:
        """R53: a filtered or failed file stays at its source; emptied directories go."""
        fill(src / "d", {"x/go": b"1", "y/stay.txt": b"2", "y/go": b"3"})
        (src / "d").move_to(dst / "d", exclude="*.txt")
        assert held(dst / "d") == {"x/go": b"1", "y/go": b"3"}
        assert held(src / "d") == {"y/stay.txt": b"2"}
        assert not (src / "d/x").exists
        fill(dst / "e", {"f/x": b"old"})
        fill(src / "e", {"f": b"new", "g": b"1"})
        with pytest.raises(StorageTransferError):
            (src / "e").move_to(dst / "e")
        assert held(src / "e") == {"f": b"new"}
        assert held(dst / "e") == {"f/x": b"old", "g": b"1"}

    def test_t34_errors(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src / "d", {"a": b"1", "b": b"2", "c": b"3", "e": b"4"})
        fill(dst / "d", {"b": b"old", "c": b"old"})
        with pytest.raises(StorageTransferError) as caught:
            (src / "d").copy_to(dst / "d", overwrite=False)
        assert held(dst / "d") == {"a": b"1", "b": b"old", "c": b"old", "e": b"4"}
        assert {failure.relpath for failure in caught.value.report.failures} == {"b", "c"}
        assert caught.value.report.failed == 2
        report = src.manager.copy(src / "d", dst / "d", overwrite=False, errors="report")
        assert (report.failed, report.files_copied, report.ok) == (4, 0, False)
        assert all(isinstance(failure.error, StorageExistsError) for failure in report.failures)
        with pytest.raises(StorageTransferError) as stopped:
            (src / "d").copy_to(dst / "d", overwrite=False, errors="stop")
        assert isinstance(stopped.value.__cause__, StorageExistsError)
        with pytest.raises(StorageExistsError):
            (src / "d/b").copy_to(dst / "d/b", overwrite=False)

    def test_a_tree_through_a_relative_mount(self, manager: StorageManager, src: StorageNode, dst: StorageNode) -> None:
        fill(src / "d", TREE)
        manager.add_mount({"name": "here", "path": "src:d"})
        manager.add_mount({"name": "there", "path": "dst:t"})
        manager.node("here:").copy_to("there:")
        assert held(dst / "t") == TREE
        manager.node("here:b").move_to("there:moved")
        assert held(dst / "t/moved") == {path[2:]: data for path, data in TREE.items() if path.startswith("b/")}
        assert not (src / "d/b").exists
