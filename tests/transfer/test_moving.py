"""Moves: one rename where that is the same; no source goes before its copy is proven."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTransferError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Level, Mount
from genro_storage.retry import RetryPolicy
from genro_storage.transfer.plan import Entry
from genro_storage.types import Stat

from .conftest import local_mount, memory_mount
from .stores import objects
from .trees import at, files, plant, tree


def spied(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    renames: list[str] = []
    backend = mount.backend
    rename = backend.rename_from

    def spy(source: Any, source_path: str, path: str, *rest: Any) -> Any:
        renames.append(path)
        return rename(source, source_path, path, *rest)

    monkeypatch.setattr(backend, "rename_from", spy)
    return renames


# --- one rename ---


def test_t33_one_rename_where_the_target_is_missing(local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(local, d__x=b"1", d__e__y=b"22", f=b"3")
    renames = spied(local, monkeypatch)
    calls: list[tuple[int, int]] = []
    report = transfer.move(at(local, "d"), at(local, "new/d"), progress=lambda *both: calls.append(both))
    transfer.move(at(local, "f"), at(local, "g"))
    assert renames == ["new/d", "g"]
    assert files(local) == {"new/d/x": b"1", "new/d/e/y": b"22", "g": b"3"}
    assert (report.files_copied, report.bytes_copied, report.bytes_server_side) == (2, 3, 3)
    assert calls == [(1, 2), (2, 2)]


def test_t33_no_rename_where_something_intervenes(
    local: Mount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    renames = spied(local, monkeypatch)
    plant(local, d__x=b"1", d__y=b"2", there__z=b"3", f=b"4", g=b"5", l__=b"")
    transfer.move(at(local, "d"), at(local, "there"))
    transfer.move(at(local, "there"), at(local, "kept"), exclude="z")
    transfer.move(at(local, "f"), at(local, "g"))
    (tmp_path / "l/l/link").symlink_to("../g")
    transfer.move(at(local, "l"), at(local, "m"))
    assert renames == []
    assert files(local) == {"kept/x": b"1", "kept/y": b"2", "there/z": b"3", "g": b"4", "m/link": b"4"}
    assert not (tmp_path / "l/m/link").is_symlink()


def test_t33_a_rename_makes_no_empty_directories_that_a_copy_would_not(
    local: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    renames = spied(local, monkeypatch)
    for number, empty in enumerate(("e", "x/e", "x/f/e", "y/e", "")):
        plant(local, **{f"{number}__a": b"1", f"{number}__x__f__g": b"2"})
        local.mkdir(f"{number}/{empty}" if empty else "bare", parents=True)
        transfer.move(at(local, str(number)), at(local, f"to{number}"), empty_dirs=False)
        assert tree(local, f"to{number}") == {"a": b"1", "x/": b"", "x/f/": b"", "x/f/g": b"2"}
    transfer.move(at(local, "bare"), at(local, "nowhere"), empty_dirs=False)
    assert not local.exists("nowhere")
    assert renames == ["to4"]


def test_t33_another_file_system_is_copied(local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(local, d__x=b"1", f=b"2")

    def elsewhere(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedOperation("these are two file systems")

    monkeypatch.setattr(other.backend, "rename_from", elsewhere)
    transfer.move(at(local, "d"), at(other, "d"))
    transfer.move(at(local, "f"), at(other, "f"))
    assert files(other) == {"d/x": b"1", "f": b"2"}
    assert tree(local) == {}


# --- file by file ---


def test_verify_none_is_refused(memory: Mount) -> None:
    plant(memory, f=b"1")
    with pytest.raises(ValueError, match="verify"):
        transfer.move(at(memory, "f"), at(memory, "g"), verify="none")
    assert files(memory) == {"f": b"1"}


def test_t33_what_is_skipped_or_fails_stays(local: Mount) -> None:
    there, store = objects("t", max_segment=80)
    plant(
        local,
        src__a=b"1",
        src__b=b"2",
        src__d__c=b"3",
        src__e__f=b"4",
        **{"src__empty__": b"", "src__" + "n" * 90: b"5"},
    )
    report = transfer.move(at(local, "src"), at(there, "dst"), exclude=["b", "e/"], errors="report")
    assert (report.files_copied, report.files_skipped, report.files_failed) == (2, 2, 1)
    assert tree(local, "src") == {"b": b"2", "e/": b"", "e/f": b"4", "n" * 90: b"5"}
    assert sorted(store.keys) == ["dst/a", "dst/d/c", "dst/empty/"]


def test_t33_emptied_directories_go_and_markers_too(memory: Mount) -> None:
    here, origin = objects("s")
    for key in ("src/", "src/e/", "src/d/", "src/d/f", "src/g/h", "srcs"):
        origin.set(key, b"x" if key[-1] != "/" else b"")
    transfer.move(at(here, "src"), at(memory, "dst"))
    assert sorted(origin.keys) == ["srcs"]
    assert tree(memory, "dst") == {"d/": b"", "d/f": b"x", "e/": b"", "g/": b"", "g/h": b"x"}


def test_empty_directories_that_were_not_made_stay(local: Mount, memory: Mount) -> None:
    plant(local, src__f=b"1", src__e__=b"")
    transfer.move(at(local, "src"), at(memory, "dst"), empty_dirs=False)
    assert tree(local, "src") == {"e/": b""}


def test_a_file_that_appears_meanwhile_stays(local: Mount) -> None:
    there, store = objects()
    plant(local, src__a=b"1", src__b=b"2")
    store.hook = lambda name, path: plant(local, src__late=b"3") if name == "put" else None
    transfer.move(at(local, "src"), at(there, "dst"))
    assert files(local, "src") == {"late": b"3"}


def test_r53_a_copy_that_failed_never_deletes(memory: Mount) -> None:
    there, store = objects()
    plant(memory, f=b"1", d__a=b"2", d__b=b"3")

    def refuse(name: str, path: str) -> None:
        if name in ("put", "commit") and path.endswith(("f", "a")):
            raise StoragePermissionError("no")

    store.hook = refuse
    with pytest.raises(StoragePermissionError):
        transfer.move(at(memory, "f"), at(there, "f"))
    with pytest.raises(StorageTransferError):
        transfer.move(at(memory, "d"), at(there, "d"))
    assert files(memory) == {"f": b"1", "d/a": b"2"}


def test_r53_a_copy_proven_wrong_never_deletes(memory: Mount) -> None:
    there, store = objects(hashes=frozenset())
    plant(memory, f=b"bytes", d__f=b"bytes")
    find = store._find
    store._find = lambda path: (b"other", find(path)[1])  # type: ignore[method-assign]
    for path in ("f", "d"):
        with pytest.raises((StorageCorruptedError, StorageTransferError)):
            transfer.move(at(memory, path), at(there, path), verify="read")
    assert files(memory) == {"f": b"bytes", "d/f": b"bytes"}


def test_a_source_replaced_after_it_was_read_stays(memory: Mount) -> None:
    here, origin = objects()
    for path in ("f", "d/f"):
        origin.set(path, b"old")

        def replace_it(name: str, touched: str, path: str = path) -> None:
            if name == "delete" and touched == path:
                origin.set(path, b"new")

        origin.hook = replace_it
        with pytest.raises((StorageConflictError, StorageTransferError)):
            transfer.move(at(here, path.split("/")[0]), at(memory, f"dst-{path[0]}"))
        assert origin.keys[path][0] == b"new"


@pytest.mark.parametrize("interfered", [False, True])
def test_a_store_without_conditional_removal_is_looked_at_first(memory: Mount, interfered: bool) -> None:
    here, origin = objects()
    origin.set("d/f", b"old")
    delete = origin.delete

    def plain(path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        if if_match is not None:
            if interfered:
                origin.set(path, b"new")
            raise UnsupportedOperation("NotImplemented")
        delete(path)

    origin.delete = plain  # type: ignore[method-assign]
    report = transfer.move(at(here, "d"), at(memory, "d"), errors="report")
    assert report.files_failed == interfered
    assert origin.keys.keys() == ({"d/f"} if interfered else set())
    if interfered:
        assert isinstance(report.failures[0].error, StorageConflictError)


def test_a_directory_that_cannot_be_removed_is_told(
    local: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local, src__d__f=b"1")

    def denied(path: str) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(local.backend, "rmdir", denied)
    with pytest.raises(StorageTransferError, match="'l:src/d'") as caught:
        transfer.move(at(local, "src"), at(memory, "dst"))
    report = caught.value.report
    assert [(one.relpath, one.operation) for one in report.failures] == [("d", "delete"), ("", "delete")]
    assert (report.files_copied, report.files_failed, report.failed) == (1, 0, 2)


def test_a_lost_answer_to_a_removal_is_not_a_failure(memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    _, origin = objects(tells_missing=True)
    here = Mount("s", origin, retry=RetryPolicy(sleep=lambda seconds: None))
    origin.set("d/f", b"1")
    lost = [1]
    delete = origin.delete

    def forgetful(path: str, **conditions: Any) -> None:
        if path not in origin.keys:
            raise StorageNotFoundError("gone")
        delete(path, **conditions)
        if lost and lost.pop():
            raise StorageUnavailableError("the answer was lost")

    monkeypatch.setattr(origin, "delete", forgetful)
    assert transfer.move(at(here, "d"), at(memory, "d")).files_copied == 1
    assert files(memory) == {"d/f": b"1"}


def test_a_removal_that_is_denied_is_a_failure(local: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(local, d__f=b"1")

    def denied(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(local.backend, "delete", denied)
    report = transfer.move(at(local, "d"), at(memory, "d"), errors="report")
    assert isinstance(report.failures[0].error, StoragePermissionError)
    assert (report.files_failed, report.files_copied) == (1, 0)
    assert files(local) == {"d/f": b"1"}


# --- R02, R03: never lose what is in one place only ---


def test_r02_hard_links(local: Mount, tmp_path: Path) -> None:
    plant(local, a=b"1", src__f=b"2")
    base = tmp_path / "l"
    os.link(base / "a", base / "b")
    (base / "dst").mkdir()
    os.link(base / "src/f", base / "dst/f")
    for operation in (transfer.copy, transfer.move):
        assert operation(at(local, "a"), at(local, "b")).skip_reasons == {"same place": 1}
        assert operation(at(local, "src"), at(local, "dst")).skip_reasons == {"same place": 1}
    assert files(local) == {"a": b"1", "b": b"1", "src/f": b"2", "dst/f": b"2"}


def test_r02_two_mounts_of_one_directory(local: Mount, tmp_path: Path) -> None:
    plant(local, a=b"1", d__f=b"2")
    (tmp_path / "alias").symlink_to(tmp_path / "l")
    for twin in (local_mount("twin", tmp_path / "l"), local_mount("alias", tmp_path / "alias")):
        for path in ("a", "d", "d/f", ""):
            assert transfer.move(at(local, path), at(twin, path)).skip_reasons == {"same place": 1}
        with pytest.raises(StoragePathError):
            transfer.copy(at(local, "d"), at(twin, "d/new"))
    assert files(local) == {"a": b"1", "d/f": b"2"}


def test_r02_a_linked_directory_inside_the_target(local: Mount, tmp_path: Path) -> None:
    plant(local, src__e__f=b"1", dst__=b"")
    (tmp_path / "l/dst/e").symlink_to("../src/e")
    report = transfer.move(at(local, "src"), at(local, "dst"))
    assert report.skip_reasons == {"same place": 1}
    assert local.get("src/e/f")[0] == b"1"


def test_nothing_is_lost_by_links_inside_the_target(memory: Mount, local: Mount, tmp_path: Path) -> None:
    plant(memory, src__a__f=b"1", src__e__f=b"2", src__e__g__=b"", src__log=b"3", src__logs__1=b"4")
    plant(local, dst__a__=b"", dst__logs__1=b"old")
    (tmp_path / "l/dst/e").symlink_to("a")
    (tmp_path / "l/dst/log").symlink_to("logs/1")
    with pytest.raises(StorageTransferError) as caught:
        transfer.move(at(memory, "src"), at(local, "dst"))
    failures = caught.value.report.failures
    assert [failure.relpath for failure in failures] == ["e/f", "e/g"]
    assert all(isinstance(failure.error, StorageNotADirectoryError) for failure in failures)
    assert files(local, "dst") == {"a/f": b"1", "log": b"3", "logs/1": b"4"}
    assert files(memory, "src") == {"e/f": b"2"}


def test_r04_moving_links_leaves_what_they_lead_to(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, real__x=b"1", file=b"2", src__a=b"3")
    base = tmp_path / "l"
    (base / "src/to_dir").symlink_to("../real")
    (base / "src/to_file").symlink_to("../file")
    (base / "src/a_before").symlink_to("a")
    transfer.move(at(local, "src"), at(memory, "dst"))
    assert files(memory, "dst") == {"a": b"3", "a_before": b"3", "to_dir/x": b"1", "to_file": b"2"}
    assert files(local) == {"real/x": b"1", "file": b"2"}
    assert not local.exists("src")


def test_r04_a_link_is_moved_as_what_it_leads_to(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, real__x=b"1", file=b"2")
    base = tmp_path / "l"
    (base / "to_dir").symlink_to("real")
    (base / "to_file").symlink_to("file")
    transfer.move(at(local, "to_dir"), at(memory, "d"))
    transfer.move(at(local, "to_file"), at(memory, "f"))
    assert files(memory) == {"d/x": b"1", "f": b"2"}
    assert files(local) == {"real/x": b"1", "file": b"2"}
    assert not os.path.lexists(base / "to_dir")
    assert not os.path.lexists(base / "to_file")


def test_a_followed_link_stays_while_anything_behind_it_does(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, real__x=b"1", real__y=b"2", src__a=b"3")
    (tmp_path / "l/src/link").symlink_to("../real")
    transfer.move(at(local, "src"), at(memory, "dst"), exclude="y")
    assert os.listdir(tmp_path / "l/src") == ["link"]
    assert files(local, "real") == {"x": b"1", "y": b"2"}


def test_links_moved_as_links(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, src__a=b"1")
    (tmp_path / "l/src/link").symlink_to("a")
    (tmp_path / "l/src/absolute").symlink_to("/nowhere")
    (tmp_path / "l/single").symlink_to("src")
    transfer.move(at(local, "src"), at(other, "dst"), symlinks="copy")
    transfer.move(at(local, "single"), at(other, "single"), symlinks="copy")
    assert os.readlink(tmp_path / "other/dst/link") == "a"
    assert os.readlink(tmp_path / "other/dst/absolute") == "/nowhere"
    assert os.readlink(tmp_path / "other/single") == "src"
    assert os.listdir(tmp_path / "l") == []


def test_skipped_links_stay(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, src__a=b"1")
    (tmp_path / "l/src/link").symlink_to("a")
    transfer.move(at(local, "src"), at(memory, "dst"), symlinks="skip")
    assert os.listdir(tmp_path / "l/src") == ["link"]
    assert transfer.move(at(local, "src/link"), at(memory, "f"), symlinks="skip").skip_reasons == {"symlink": 1}


def test_nothing_behind_a_link_is_ever_removed_even_if_links_were_not_expected(memory: Mount) -> None:
    from genro_storage.transfer.moving import Removal

    plant(memory, f=b"1")
    removal = Removal(at(memory), links=False)
    assert removal.proven(Entry("f", b"f", Stat("f", 1), linked=True), memory.stat("f")) is None
    assert list(removal.finish(everything=True)) == []
    assert files(memory) == {"f": b"1"}


# --- another name ---


@pytest.fixture(params=["local", "memory", "objects", "copying"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Mount:
    if request.param == "local":
        return local_mount("s", tmp_path / "s")
    if request.param == "memory":
        return memory_mount("s")
    return objects("s", copies=request.param == "copying")[0]


def test_rename_is_exact(store: Mount) -> None:
    plant(store, f=b"1", d__x=b"2", d__e__y=b"3")
    transfer.rename(at(store, "f"), at(store, "g"), overwrite=False)
    transfer.rename(at(store, "d"), at(store, "n/d"), overwrite=False)
    assert files(store) == {"g": b"1", "n/d/x": b"2", "n/d/e/y": b"3"}
    assert not store.exists("d")


def test_rename_replaces_only_if_told(store: Mount) -> None:
    plant(store, f=b"1", g=b"2", d__x=b"3", e__y=b"4")
    with pytest.raises(StorageExistsError):
        transfer.rename(at(store, "f"), at(store, "g"), overwrite=False)
    with pytest.raises(StorageExistsError):
        transfer.rename(at(store, "d"), at(store, "e"), overwrite=False)
    assert files(store) == {"f": b"1", "g": b"2", "d/x": b"3", "e/y": b"4"}
    transfer.rename(at(store, "f"), at(store, "g"), overwrite=True)
    with pytest.raises(StorageNotEmptyError):
        transfer.rename(at(store, "d"), at(store, "e"), overwrite=True)
    with pytest.raises(StorageIsADirectoryError):
        transfer.rename(at(store, "g"), at(store, "d"), overwrite=True)
    with pytest.raises(StorageNotADirectoryError):
        transfer.rename(at(store, "d"), at(store, "g"), overwrite=True)
    assert files(store) == {"g": b"1", "d/x": b"3", "e/y": b"4"}


def test_rename_refuses(store: Mount, memory: Mount) -> None:
    plant(store, f=b"1", d__x=b"2")
    for path in ("f", "d"):
        transfer.rename(at(store, path), at(store, path), overwrite=False)
    with pytest.raises(StoragePathError):
        transfer.rename(at(store, "d"), at(store, "d/e"), overwrite=False)
    with pytest.raises(StorageNotFoundError):
        transfer.rename(at(store, "nothing"), at(store, "g"), overwrite=False)
    with pytest.raises(StoragePermissionError):
        transfer.rename(at(store), at(store, "g"), overwrite=False)
    with pytest.raises(UnsupportedOperation, match="move_to"):
        transfer.rename(at(store, "f"), at(memory, "g"), overwrite=False)
    kept = Mount("kept", store.backend, level=Level.readwrite)
    with pytest.raises(StoragePermissionError):
        transfer.rename(at(kept, "f"), at(kept, "g"), overwrite=False)
    assert files(store) == {"f": b"1", "d/x": b"2"}


def test_rename_of_a_link_renames_the_link(local: Mount, tmp_path: Path) -> None:
    plant(local, f=b"1")
    (tmp_path / "l/link").symlink_to("f")
    transfer.rename(at(local, "link"), at(local, "other"), overwrite=False)
    assert os.readlink(tmp_path / "l/other") == "f"
