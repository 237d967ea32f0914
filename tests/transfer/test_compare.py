"""Comparing two files or trees, which changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import StorageManager, transfer
from genro_storage.exceptions import (
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTransferError,
)
from genro_storage.mount import Level, Mount
from genro_storage.transfer import listing
from genro_storage.types import WriteOptions

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at, plant, tree


def counts(report: transfer.TransferReport) -> tuple[int, int, int, int]:
    return report.same, report.differ, report.only_source, report.only_destination


@pytest.fixture(params=["local", "memory", "objects"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Mount, Mount]:
    """Two mounts that may only be read, with four same files, two others, one and two alone."""
    one = local_mount("a", tmp_path / "a") if request.param == "local" else memory_mount("a")
    other = objects("b")[0] if request.param == "objects" else memory_mount("b")
    for mount in (one, other):
        for path in ("d/a", "d/b", "d/x/a", "d/x/y/a"):
            mount.put(path, b"same", WriteOptions(mtime=1000.0))
    one.put("d/changed", b"1", WriteOptions(mtime=1000.0))
    other.put("d/changed", b"2", WriteOptions(mtime=1000.0))
    one.put("d/longer", b"333", WriteOptions(mtime=1000.0))
    other.put("d/longer", b"22", WriteOptions(mtime=1000.0))
    one.put("d/here/f", b"")
    other.put("d/there", b"")
    other.put("d/there2/g", b"")
    one.mkdir("d/nothing")
    return Mount("a", one.backend, level=Level.readonly), Mount("b", other.backend, level=Level.readonly)


@pytest.mark.parametrize(("by", "same", "differ"), [("hash", 4, 2), ("size", 5, 1), ("mtime", 5, 1)])
def test_compare(pair: tuple[Mount, Mount], by: str, same: int, differ: int) -> None:
    before = tree(pair[0]), tree(pair[1])
    events: dict[str, str] = {}
    done: list[tuple[int, int]] = []
    report = transfer.compare(
        at(pair[0], "d"),
        at(pair[1], "d"),
        by=by,
        on_event=lambda event: events.update({event.relpath: event.reason}) if event.kind == "skip" else None,
        progress=lambda *call: done.append(call),
    )
    assert counts(report) == (same, differ, 1, 2)
    assert (report.operation, report.ok, report.files_copied, report.bytes_copied) == ("compare", True, 0, 0)
    assert len(events) == 9
    assert events["longer"] == "differs"
    found = {(action.kind, action.relpath) for action in report.actions}
    assert {("differ", "longer"), ("only_source", "here/f"), ("only_destination", "there2/g")} <= found
    assert len(found) == differ + 3
    assert done[-1] == (9, 9)
    assert (tree(pair[0]), tree(pair[1])) == before
    if by == "hash":
        assert report.bytes_hashed > 0
    assert "\n" not in str(report)
    assert f"{same} same, {differ} differ" in str(report)


def test_filters(pair: tuple[Mount, Mount]) -> None:
    one, other = at(pair[0], "d"), at(pair[1], "d")
    assert counts(transfer.compare(one, other, include="a")) == (3, 0, 0, 0)
    report = transfer.compare(one, other, exclude=["x/", "there*"])
    assert counts(report) == (2, 2, 1, 0)
    assert report.skip_reasons == {"excluded": 2}
    assert counts(transfer.compare(one, other, filter=lambda place, name: name.startswith("t"))) == (0, 0, 0, 2)


def test_files_and_what_is_missing(memory: Mount, local: Mount) -> None:
    plant(memory, f=b"1", d__a=b"1", e__=b"")
    plant(local, g=b"1", h=b"2")
    assert counts(transfer.compare(at(memory, "f"), at(local, "g"))) == (1, 0, 0, 0)
    assert counts(transfer.compare(at(memory, "f"), at(local, "h"))) == (0, 1, 0, 0)
    assert counts(transfer.compare(at(memory, "f"), at(local, "none"))) == (0, 0, 1, 0)
    assert counts(transfer.compare(at(memory, "d"), at(local, "none"))) == (0, 0, 1, 0)
    assert counts(transfer.compare(at(memory, "e"), at(local, "none"))) == (0, 0, 0, 0)
    assert counts(transfer.compare(at(memory, "d"), at(memory, "d"))) == (1, 0, 0, 0)
    with pytest.raises(StorageNotFoundError):
        transfer.compare(at(memory, "none"), at(local, "g"))
    with pytest.raises(StorageNotADirectoryError):
        transfer.compare(at(memory, "d"), at(local, "g"))
    with pytest.raises(StorageIsADirectoryError):
        transfer.compare(at(memory, "f"), at(memory, "d"))


def test_a_file_here_is_a_directory_there(memory: Mount, local: Mount) -> None:
    plant(memory, d__e=b"1", d__f__x=b"2")
    plant(local, d__e__x=b"1", d__f=b"2")
    assert counts(transfer.compare(at(memory, "d"), at(local, "d"))) == (0, 0, 2, 2)


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_disorder_is_counted_once(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", page)
    for in_order in ((True, False), (False, True)):
        (here, origin), (there, store) = objects("s", in_order=in_order[0]), objects("t", in_order=in_order[1])
        for name in ("a/1", "a-", "a.b", "b"):
            origin.set(f"d/{name}", b"1")
            store.set(f"d/{name}", b"1" if name != "b" else b"2")
        store.set("d/a/2")
        assert counts(transfer.compare(at(here, "d"), at(there, "d"))) == (3, 1, 0, 1)


def test_snapshots(tmp_path: Path) -> None:
    with StorageManager([{"name": "m", "type": "memory", "versioned": True}]) as manager:
        node = manager.node("m:f")
        node.write_text("one")
        node.write_text("two")
        assert counts(manager.compare(node.at(0), node)) == (0, 1, 0, 0)
        assert counts(manager.compare(node.at(1), node)) == (1, 0, 0, 0)


def test_options_are_judged(memory: Mount) -> None:
    wrong: list[dict[str, Any]] = [{"by": "name"}, {"by": "newer"}, {"include": ""}]
    for how in wrong:
        with pytest.raises(ValueError):
            transfer.compare(at(memory), at(memory), **how)
    for name, value in (("delete", True), ("skip", "size"), ("overwrite", False), ("dry_run", True), ("nonsense", 1)):
        with pytest.raises(TypeError, match=name):
            transfer.compare(at(memory), at(memory), **{name: value})


def test_what_cannot_be_read_is_no_difference(memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(memory, d__a=b"1", d__b=b"1", d__c=b"1", d__e=b"1", f=b"1")
    plant(local, d__a=b"1", d__b=b"2", d__c=b"1", d__e=b"22", f=b"1")
    denied(monkeypatch, local, "reader", "b", "e", "f")
    for sides in ((at(memory, "d"), at(local, "d")), (at(local, "d"), at(memory, "d"))):
        report = transfer.compare(*sides, errors="report", retries=0)
        assert (counts(report), report.failed, report.ok) == ((2, 1, 0, 0), 1, False)
        assert [(one.relpath, type(one.error)) for one in report.failures] == [("b", StoragePermissionError)]
        assert report.files_total == 4
    with pytest.raises(StorageTransferError, match="1 failed, 3 files were compared") as caught:
        transfer.compare(at(memory, "d"), at(local, "d"))
    assert isinstance(caught.value.__cause__, StoragePermissionError)
    with pytest.raises(StoragePermissionError):
        transfer.compare(at(memory, "f"), at(local, "f"))
    assert transfer.copy(at(memory, "d"), at(local, "d"), skip="hash").files_copied == 2  # a copy mends it instead


@pytest.mark.parametrize("page", [1, 1000])
def test_a_directory_that_cannot_be_listed_is_on_nobody_s_side(
    page: int, memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", page)
    for mount in (memory, local):
        plant(mount, d__a=b"1", d__shut__b=b"1", d__shut__in__c=b"1", d__t=b"1", d__x__shut__z=b"1")
    plant(local, **{"d__shut-": b"1", "d__shut__only": b"1"})
    denied(monkeypatch, local, "scan", "shut")
    for sides, expected in (
        ((at(memory, "d"), at(local, "d")), (2, 0, 0, 1)),
        ((at(local, "d"), at(memory, "d")), (2, 0, 1, 0)),
    ):
        report = transfer.compare(*sides, errors="report", retries=0)
        assert (counts(report), report.complete) == (expected, False)
        assert sorted(one.relpath for one in report.failures) == ["shut", "x/shut"]
        assert all(one.error.mount == local.name for one in report.failures)
        assert transfer.compare(*sides, exclude="shut/").ok


def test_a_name_no_path_can_express_is_told_on_both_sides() -> None:
    (here, origin), (there, store) = objects("s"), objects("t")
    for one in (origin, store):
        one.set("d/a", b"1")
    store.set("d/x//y", b"1")
    for sides in ((at(here, "d"), at(there, "d")), (at(there, "d"), at(here, "d"))):
        report = transfer.compare(*sides, errors="report")
        assert (counts(report), report.failed) == ((1, 0, 0, 0), 1)
        assert isinstance(report.failures[0].error, StoragePathError)


def denied(monkeypatch: pytest.MonkeyPatch, mount: Mount, method: str, *names: str) -> None:
    """A method of the backend refuses these names, as for a user without the right (root may everything)."""
    allowed = getattr(mount.backend, method)

    def refused(path: str, *rest: Any, **how: Any) -> Any:
        if path.rpartition("/")[2] in names:
            raise PermissionError(13, "denied")
        return allowed(path, *rest, **how)

    monkeypatch.setattr(mount.backend, method, refused)


@pytest.fixture
def linked(local: Mount, tmp_path: Path) -> Path:
    """Two trees, `one` and `two`, with the same links to a file, to a directory and to nowhere."""
    for name in ("one", "two"):
        plant(local, **{f"{name}__d__f": b"1", f"{name}__d__g": b"2"})
        root = tmp_path / "l" / name
        (root / "file").symlink_to("d/f")
        (root / "dir").symlink_to("d")
        (root / "gone").symlink_to("absent")
    return tmp_path / "l"


def test_links_are_followed_on_both_sides(local: Mount, linked: Path) -> None:
    for other in ("one", "two"):
        report = transfer.compare(at(local, "one"), at(local, other), errors="report")
        assert (counts(report), [one.relpath for one in report.failures]) == ((5, 0, 0, 0), ["gone"])
        assert "leads nowhere" in str(report.failures[0].error)
    (linked / "two/dir").unlink()
    (linked / "one/gone").unlink()
    for sides, expected in ((("one", "two"), (3, 0, 2, 1)), (("two", "one"), (3, 0, 1, 2))):
        report = transfer.compare(at(local, sides[0]), at(local, sides[1]))
        assert counts(report) == expected
    (linked / "two/dir").mkdir()
    plant(local, two__dir__f=b"1", two__dir__g=b"3")
    assert counts(transfer.compare(at(local, "one"), at(local, "two"))) == (4, 1, 0, 1)


@pytest.mark.parametrize("how", ["copy", "skip"])
def test_links_that_are_not_followed(local: Mount, linked: Path, how: str) -> None:
    report = transfer.compare(at(local, "one"), at(local, "two"), symlinks=how)
    assert counts(report) == ((5, 0, 0, 0) if how == "copy" else (2, 0, 0, 0))


def test_a_size_that_no_listing_tells_is_found_by_reading(
    memory: Mount, local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(memory, d__a=b"1", d__b=b"2")
    plant(local, d__a=b"1", d__b=b"3")
    for name in ("scan", "walk"):
        listed = getattr(memory.backend, name)

        def unsized(*path: Any, _listed: Any = listed, **how: Any) -> Any:
            return ([replace(stat, size=None) for stat in page] for page in _listed(*path, **how))

        monkeypatch.setattr(memory.backend, name, unsized)
    for by in ("hash", "size", "mtime"):
        assert counts(transfer.compare(at(memory, "d"), at(local, "d"), by=by)) == (1, 1, 0, 0)
