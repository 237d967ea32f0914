"""The cases of TransferSuite about one file, and the tools of all its cases."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from ..backends.base import StorageBackend
from ..exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
)
from ..manager import StorageManager
from ..nodes import StorageNode
from .faulty import FaultPlan, FaultyBackend
from .reading import payload
from .suite import suite_name

LARGE = 9 * 1024 * 1024 + 17


def held(root: StorageNode) -> dict[str, bytes]:
    """Every file below a directory: path relative to it → bytes; {} where nothing is."""
    if not root.is_dir:
        return {}
    cut = len(root.path) + 1 if root.path else 0
    return {node.path[cut:]: node.read_bytes() for node, stat in root.scan(recursive=True) if stat.is_file}


def fill(root: StorageNode, files: Mapping[str, bytes]) -> StorageNode:
    """Writes files below a directory, and returns it."""
    for path, data in files.items():
        root.child(path).write_bytes(data)
    return root


class Transfers:
    """The fixtures that the cases share, and what the servers behind them do otherwise than their storages say."""

    emptied_stay: ClassVar[bool] = False
    """The source goes on listing directories that were emptied (SeaweedFS)."""
    longest_source_name: ClassVar[int | None] = None
    """The source refuses longer names (SeaweedFS 255)."""
    odd_name: ClassVar[str] = "a b#?.bin"
    """A name that the source can hold and that must be escaped in URLs (WsgiDAV loses what follows a "?")."""

    @pytest.fixture
    def source(self) -> Mapping[str, Any]:
        """A mount entry without its name: one of the two fixtures a subclass writes."""
        raise NotImplementedError("a subclass of TransferSuite overrides the fixtures 'source' and 'target'")

    @pytest.fixture
    def target(self) -> Mapping[str, Any]:
        """The other one."""
        raise NotImplementedError("a subclass of TransferSuite overrides the fixtures 'source' and 'target'")

    @pytest.fixture
    def manager(self, source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[StorageManager]:
        """``src:`` and ``dst:``, and ``again:`` and ``twin:``, relative mounts of their roots."""
        entries = [
            {"name": "src", **source},
            {"name": "dst", **target},
            {"name": "again", "path": "src:"},
            {"name": "twin", "path": "dst:"},
        ]
        with StorageManager(entries) as manager:
            yield manager

    @pytest.fixture
    def src(self, manager: StorageManager) -> StorageNode:
        return manager.node("src:")

    @pytest.fixture
    def dst(self, manager: StorageManager) -> StorageNode:
        return manager.node("dst:")

    @pytest.fixture(autouse=True)
    def _told_to_the_table(self, record_property: Any) -> None:
        record_property("storage_suite", (suite_name(self), []))


class FileTransfers(Transfers):
    @pytest.mark.parametrize("into", [True, False])
    def test_t01_missing_source(self, src: StorageNode, dst: StorageNode, into: bool) -> None:
        fill(src, {"there": b"1"})
        for verb in ("copy_to", "move_to"):
            for path in ("absent", "no/such", "ther"):
                with pytest.raises(StorageNotFoundError, match="Source not found"):
                    getattr(src / path, verb)(dst / "new/place", into=into)
        assert held(dst) == {}
        assert not (dst / "new").exists

    @pytest.mark.parametrize("size", [0, 1, 70_000, LARGE])
    def test_t02_file_to_missing_path(self, src: StorageNode, dst: StorageNode, size: int) -> None:
        data = payload(size)
        (src / self.odd_name).write_bytes(data)
        node = (src / self.odd_name).copy_to(dst / "new/dir/file[1]*.bin")
        assert node == dst / "new/dir/file[1]*.bin"
        assert node.read_bytes() == data
        assert held(dst) == {"new/dir/file[1]*.bin": data}
        assert (src / self.odd_name).read_bytes() == data

    @pytest.mark.parametrize("size", [3, LARGE])
    def test_t03_file_to_existing_file(self, src: StorageNode, dst: StorageNode, size: int) -> None:
        fill(dst, {"d/f": b"old bytes that are longer", "d/g": b"other"})
        fill(src, {"x": payload(size)})
        report = src.manager.copy(src / "x", dst / "d/f")
        assert held(dst) == {"d/f": payload(size), "d/g": b"other"}
        assert (report.files_copied, report.bytes_copied, report.files_total, report.ok) == (1, size, 1, True)

    def test_t03_no_overwrite(self, src: StorageNode, dst: StorageNode) -> None:
        fill(dst, {"f": b"old"})
        fill(src, {"f": b"new"})
        for verb in ("copy_to", "move_to"):
            with pytest.raises(StorageExistsError):
                getattr(src / "f", verb)(dst / "f", overwrite=False)
        assert held(dst) == {"f": b"old"}
        assert held(src) == {"f": b"new"}

    def test_t04_file_to_existing_directory(self, src: StorageNode, dst: StorageNode) -> None:
        fill(dst, {"d/other": b"1"})
        fill(src, {"a/f": b"2"})
        assert (src / "a/f").copy_to(dst / "d") == dst / "d/f"
        assert held(dst) == {"d/other": b"1", "d/f": b"2"}
        assert (src / "a/f").copy_to(dst) == dst / "f"
        assert (src / "a/f").copy_to("dst:") == dst / "f"
        assert (src / "a/f").copy_to("dst:d") == dst / "d/f"
        if dst.mount.can("mkdir"):
            (dst / "empty").mkdir()
            assert (src / "a/f").copy_to(dst / "empty") == dst / "empty/f"
        if not dst.mount.features.real_dirs:
            fill(dst, {"both": b"file", "both/x": b"below"})
            assert (src / "a/f").copy_to(dst / "both") == dst / "both"
            assert (dst / "both").read_bytes() == b"2"

    def test_t05_string_with_a_slash(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, {"f": b"1"})
        assert (src / "f").copy_to("dst:new/dir/") == dst / "new/dir/f"
        assert (src / "f").copy_to("dst:new/dir/") == dst / "new/dir/f"
        assert held(dst) == {"new/dir/f": b"1"}
        assert src.manager.copy("src:f", "dst:other/").ok
        assert held(dst / "other") == {"f": b"1"}

    def test_t10_copy_onto_itself(self, manager: StorageManager, src: StorageNode) -> None:
        """R02, R03: nothing happens, whatever the way to the same place."""
        fill(src, {"f": b"1", "d/x": b"2"})
        for here, there in (("src:f", "src:f"), ("src:f", "again:f"), ("again:d/x", "src:d"), ("src:d", "again:d")):
            report = manager.copy(here, there)
            assert report.files_copied == 0
            assert set(report.skip_reasons) == {"same place"}, (here, there)
        assert held(src) == {"f": b"1", "d/x": b"2"}

    def test_t10_hard_link(self, src: StorageNode) -> None:
        real = src.resolved_path
        fill(src, {"f": payload(5000)})
        if real is None:
            if src.mount.can("symlink"):  # links, but none that are hard
                (src / "g").symlink_to(src / "f")
                (src / "f").copy_to(src / "g")
            assert (src / "f").read_bytes() == payload(5000)
            return
        os.link(os.path.join(real, "f"), os.path.join(real, "g"))
        (src / "f").copy_to(src / "g")
        (src / "f").move_to(src / "g")
        assert held(src) == {"f": payload(5000), "g": payload(5000)}

    def test_t11_move_onto_itself(self, src: StorageNode) -> None:
        fill(src, {"f": b"1", "d/x": b"2"})
        assert (src / "f").move_to("again:f").path == "f"
        (src / "f").move_to(src / "f")
        (src / "d").move_to("again:d")
        (src / "d").move_to(src / "d")
        assert held(src) == {"f": b"1", "d/x": b"2"}

    @pytest.mark.parametrize("size", [4, LARGE])
    def test_t13_move_a_file(self, src: StorageNode, dst: StorageNode, size: int) -> None:
        fill(src, {"f": payload(size), "g": b"other"})
        fill(dst, {"there": b"old", "d/x": b"1"})
        assert (src / "f").move_to(dst / "there") == dst / "there"
        assert held(src) == {"g": b"other"}
        assert (src / "g").move_to(dst / "d") == dst / "d/g"
        assert held(src) == {}
        assert held(dst) == {"there": payload(size), "d/x": b"1", "d/g": b"other"}

    def test_t13_move_inside_one_storage(self, src: StorageNode) -> None:
        fill(src, {"a/f": b"1", "a/g": b"2"})
        assert (src / "a/f").move_to(src / "b/c") == src / "b/c"
        assert (src / "a").move_to("again:n").path == "n"
        assert held(src) == {"b/c": b"1", "n/g": b"2"}

    @pytest.mark.parametrize("verb", ["copy_to", "move_to"])
    def test_t16_permissions_before_the_first_byte(
        self, manager: StorageManager, src: StorageNode, dst: StorageNode, verb: str
    ) -> None:
        """R48: neither side has changed when a permission is missing on the other."""
        fill(src, {"f": b"1", "d/x": b"2"})
        fill(dst, {"g": b"old"})
        manager.add_mount({"name": "shown", "path": "dst:", "permissions": "readonly"})
        for path in ("f", "d"):
            with pytest.raises(StoragePermissionError):
                getattr(src / path, verb)("shown:new")
        for level in ("readonly", "readwrite"):
            manager.add_mount({"name": "kept", "path": "src:", "permissions": level})
            for path in ("f", "d"):
                if verb == "move_to":
                    with pytest.raises(StoragePermissionError):
                        manager.node("kept", path).move_to(dst / "new")
                    assert not (dst / "new").exists
                else:
                    manager.node("kept", path).copy_to(dst / f"{level}/{path}")
        assert held(src) == {"f": b"1", "d/x": b"2"}
        assert (dst / "g").read_bytes() == b"old"

    @pytest.mark.parametrize("mtime", [1_234_567_890.25, 86_400.0])
    def test_t28_mtime(self, src: StorageNode, dst: StorageNode, mtime: float) -> None:
        """Kept where it can be, else remembered beside the object and given back."""
        coarse = max(node.mount.features.mtime_resolution or 0 for node in (src, dst)) + 1e-5
        if src.mount.features.keeps_mtime:
            (src / "f").write_bytes(b"1", mtime=mtime)
        elif src.mount.features.metadata:
            (src / "f").write_bytes(b"1", metadata={"mtime": repr(mtime)})
        else:
            (src / "f").write_bytes(b"1")
            mtime = -1
        (src / "f").copy_to(dst / "g")
        stat = (dst / "g").stat()
        if mtime > 0 and dst.mount.features.keeps_mtime:
            assert stat.mtime == pytest.approx(mtime, abs=coarse)
        elif mtime > 0 and dst.mount.features.metadata:
            assert float((stat.metadata or {})["mtime"]) == pytest.approx(mtime, abs=coarse)
        (dst / "g").copy_to(src / "back")
        if (
            mtime > 0
            and src.mount.features.keeps_mtime
            and (dst.mount.features.keeps_mtime or dst.mount.features.metadata)
        ):
            assert (src / "back").mtime == pytest.approx(mtime, abs=coarse)
        for number, kept in enumerate(((), ("content_type", "metadata"))):
            (src / "f").copy_to(dst / f"now{number}", preserve=kept)
            if dst.mount.features.keeps_mtime and mtime > 0:
                assert (dst / f"now{number}").mtime != pytest.approx(mtime, abs=1)
        (src / "f").copy_to(dst / "timed", preserve=["mtime"])
        if dst.mount.features.keeps_mtime and mtime > 0:
            assert (dst / "timed").mtime == pytest.approx(mtime, abs=coarse)

    def test_t29_content_type(self, src: StorageNode, dst: StorageNode) -> None:
        """The type goes along that the source has or its server tells; where there is none, the target's name tells."""
        if src.mount.features.content_type:
            (src / "f.txt").write_bytes(b"1", content_type="text/x-own")
        else:
            (src / "f.txt").write_bytes(b"1")
        told = src.mount.stat((src / "f.txt").path).content_type
        assert told == "text/x-own" or not src.mount.features.content_type
        (src / "f.txt").copy_to(dst / "g.csv")
        if dst.mount.features.content_type:
            assert (dst / "g.csv").stat().content_type == (told or "text/csv")
        assert (dst / "g.csv").read_bytes() == b"1"

    def test_t30_metadata(self, src: StorageNode, dst: StorageNode) -> None:
        """User metadata goes where it can be held; elsewhere the report says so once."""
        if not src.mount.features.metadata:
            (src / "f").write_bytes(b"1")
            (src / "f").copy_to(dst / "g")
            assert not set((dst / "g").stat().metadata or {}) - {"mtime"}
            return
        fill(src, {})
        for name in ("f", "h"):
            (src / "d" / name).write_bytes(b"1", metadata={"colour": "caf\u00e9"})
        report = src.manager.copy(src / "d", dst / "d")
        if dst.mount.features.metadata:
            assert ((dst / "d/f").stat().metadata or {}).get("colour") == "caf\u00e9"
            assert report.warnings == []
        else:
            assert len(report.warnings) == 1

    def test_t32_source_changed_while_read(self, manager: StorageManager, src: StorageNode, dst: StorageNode) -> None:
        """The target is one version of the source, whole, or what it was before; never a mixture."""
        size = 3 * 1024 * 1024
        versions = [bytes([number]) * (size + number) for number in range(40)]
        fill(src, {"f": versions[0]})
        fill(dst, {"f": b"old"})
        count = iter(range(1, 40))
        plain = src.mount.backend

        def change(call: str) -> None:
            if call in ("get", "reader.read", "copy_from"):
                plain.put("f", versions[next(count)])

        with watched(manager, "src", FaultPlan(watch=change)), watched(manager, "dst", FaultPlan(watch=change)) as plan:
            try:
                (src / "f").copy_to(dst / "f", retries=1)
            except StorageConflictError:
                # A server that copies by itself may have taken the newer version before that was noticed.
                assert "copy_from" in plan.calls or (dst / "f").read_bytes() == b"old"
        assert (dst / "f").read_bytes() in [b"old", *versions]
        assert set(held(dst)) == {"f"}

    def test_t33_move_never_deletes_what_came_meanwhile(
        self, manager: StorageManager, src: StorageNode, dst: StorageNode
    ) -> None:
        """A source replaced after it was read is another file: it stays, or it is what arrived."""
        fill(src, {"f": b"first"})
        plain = src.mount.backend

        def change(call: str) -> None:
            if call in ("put", "writer.commit"):
                plain.put("f", b"second version")

        with watched(manager, "dst", FaultPlan(watch=change)):
            try:
                (src / "f").move_to(dst / "f", retries=0)
            except StorageConflictError:
                pass
        everywhere = [*held(src).values(), *held(dst).values()]
        assert b"second version" in everywhere or everywhere == [b"first"]

    @pytest.mark.parametrize("verify", ["none", "size", "checksum", "read"])
    def test_verify(self, src: StorageNode, dst: StorageNode, verify: str) -> None:
        fill(src, {"f": payload(50_000)})
        report = src.manager.copy(src / "f", dst / "f", verify=verify)
        assert held(dst) == {"f": payload(50_000)}
        assert report.verified_checksum + report.verified_size == (0 if verify == "none" else 1)
        if verify == "read":
            assert report.verified_checksum == 1

    def test_options_are_judged(self, src: StorageNode, dst: StorageNode) -> None:
        fill(src, {"f": b"1"})
        for wrong in ({"verify": "maybe"}, {"symlinks": "x"}, {"errors": "x"}, {"include": "../x"}, {"exclude": "["}):
            with pytest.raises(ValueError):
                (src / "f").copy_to(dst / "f", **wrong)
        with pytest.raises(TypeError):
            (src / "f").copy_to(dst / "f", nonsense=1)
        with pytest.raises(ValueError):
            (src / "f").move_to(dst / "f", verify="none")
        for bad in ("dst:../x", "dst:a/../../x", "nowhere:x", "dst:\0", "dst:.genro/x", ""):
            with pytest.raises((StoragePathError, StorageNotFoundError)):
                (src / "f").copy_to(bad)
        assert held(dst) == {}


class watched:
    """Puts a plan before a mount's backend while the block runs."""

    def __init__(self, manager: StorageManager, name: str, plan: FaultPlan) -> None:
        self._mount = manager._mounts[name]
        self._plan = plan
        self._backend: StorageBackend = self._mount.backend

    def __enter__(self) -> FaultPlan:
        self._mount.backend = FaultyBackend(self._backend, self._plan)
        return self._plan

    def __exit__(self, *exception: object) -> None:
        self._mount.backend = self._backend
