"""Listings: order proven, links followed once, names no path can express."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.backends.sftp import SftpBackend
from genro_storage.exceptions import (
    StorageExistsError,
    StoragePathError,
    StoragePermissionError,
    StorageTransferError,
    StorageUnavailableError,
)
from genro_storage.mount import Mount
from genro_storage.transfer import listing
from genro_storage.transfer.listing import Listing, OutOfOrder, TargetListing, planned
from genro_storage.transfer.plan import Rules
from genro_storage.types import Stat
from tests.servers.sshd import Sshd

from .stores import ObjectStore, objects
from .trees import at, files, plant

DISORDER = {"o/a/1": b"1", "o/a-": b"2", "o/a.b": b"3", "o/b": b"4"}
"""In directory order `o/a/1` comes first, bytewise `o/a-`."""


def keys(found: Listing, by_level: bool = False) -> list[str]:
    found.start()
    return [entry.key.decode() for entry in found.entries(by_level)]


def test_entries_are_relative_and_sorted(memory: Mount) -> None:
    plant(memory, **{"src__b": b"", "src__a__x": b"", "src__a-": b"", "src__e__": b""})
    wanted = ["a-", "a/", "a/x", "b", "e/"]
    assert keys(Listing(at(memory, "src"))) == wanted
    assert keys(Listing(at(memory, "src")), by_level=True) == wanted
    assert keys(Listing(at(memory)))[:2] == ["src/", "src/a-"]


def test_disorder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    mount, store = objects(in_order=False)
    for key, data in DISORDER.items():
        store.set(key, data)
    assert keys(Listing(at(mount, "o"))) == ["a-", "a.b", "a/", "a/1", "b"]
    monkeypatch.setattr(listing, "PAGE", 1)
    with pytest.raises(OutOfOrder):
        keys(Listing(at(mount, "o")))
    assert keys(Listing(at(mount, "o")), by_level=True) == ["a-", "a.b", "a/", "a/1", "b"]


@pytest.fixture(params=[1, 3, 1000])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disorder is noticed at once, on the way, or in the first page."""
    monkeypatch.setattr(listing, "PAGE", request.param)


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("wrong", ["source", "target", "both"])
def test_t17_a_listing_out_of_order_repeats_nothing(wrong: str) -> None:
    here, origin = objects("s", in_order=wrong == "target")
    there, store = objects("t", in_order=wrong == "source")
    for key, data in DISORDER.items():
        origin.set(key, data)
        if key != "o/b":
            store.set(key.replace("o/", "copy/"), b"old")
    seen: list[str] = []
    store.hook = lambda name, path: seen.append(path) if name == "put" else None
    report = transfer.copy(at(here, "o"), at(there, "copy"))
    assert sorted(seen) == ["copy/a-", "copy/a.b", "copy/a/1", "copy/b"]
    assert (report.files_copied, report.files_total) == (4, 4)
    assert files(there, "copy") == {key[2:]: data for key, data in DISORDER.items()}


@pytest.mark.usefixtures("page")
def test_t17_overwrite_false_fails_nothing_twice() -> None:
    here, origin = objects("s", in_order=False)
    there, _ = objects("t")
    for key, data in DISORDER.items():
        origin.set(key, data)
    assert transfer.copy(at(here, "o"), at(there, "copy"), overwrite=False).files_copied == 4
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(here, "o"), at(there, "copy"), overwrite=False)
    assert caught.value.report.files_failed == 4


@pytest.mark.usefixtures("page")
def test_moving_from_a_store_out_of_order() -> None:
    here, origin = objects("s", in_order=False)
    there, _ = objects("t")
    for number in range(250):
        origin.set(f"o/a/{number:03}", b"x")
        origin.set(f"o/a-{number:03}", b"y")
    assert transfer.move(at(here, "o"), at(there, "copy")).files_copied == 500
    assert origin.keys == {}
    assert len(files(there, "copy")) == 500


def test_an_entry_listed_twice_is_one(memory: Mount) -> None:
    class Stutter(ObjectStore):
        def walk(self, path, *, after="", limit=None):  # type: ignore[no-untyped-def]
            for page in super().walk(path):
                yield page
                yield page[-1:]

    mount = Mount("s", Stutter())
    plant(mount, a=b"1", b=b"2")
    assert transfer.copy(at(mount), at(memory, "dst")).files_total == 2


# --- names no path can express ---


def test_t21_unaddressable_keys_fail_one_by_one(local: Mount) -> None:
    here, origin = objects("s")
    for key in ("src/a", "src/../up", "src//double", "src/./dot", "src/b"):
        origin.set(key, key.encode())
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(here, "src"), at(local, "dst"))
    report = caught.value.report
    assert sorted(failure.relpath for failure in report.failures) == ["../up", "./dot", "/double"]
    assert all(isinstance(failure.error, StoragePathError) for failure in report.failures)
    assert (report.files_copied, report.files_failed, report.files_total) == (2, 3, 5)
    assert files(local) == {"dst/a": b"src/a", "dst/b": b"src/b"}


def test_t21_reserved_names_are_not_seen(memory: Mount) -> None:
    here, origin = objects("s")
    origin.set("src/.genro-w-1", b"unfinished")
    origin.set("src/.genropy/x", b"theirs")
    assert transfer.copy(at(here, "src"), at(memory, "dst")).ok
    assert files(memory) == {"dst/.genropy/x": b"theirs"}


def test_t21_names_the_target_cannot_hold(local: Mount, tmp_path: Path) -> None:
    there, _ = objects("t", backslash=False, max_segment=20)
    base = os.fsencode(tmp_path / "l" / "src")
    os.makedirs(base)
    for name in (b"good", b"\xff\xfe", b"much-too-long-a-name" * 4, b"back\\slash"):
        Path(os.fsdecode(base + b"/" + name)).write_bytes(b"x")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(there, "dst"))
    assert all(isinstance(failure.error, StoragePathError) for failure in caught.value.report.failures)
    assert caught.value.report.files_failed == 3
    assert files(there) == {"dst/good": b"x"}
    (told,) = [str(one.error) for one in caught.value.report.failures if one.relpath == "\udcff\udcfe"]
    assert told == "text that is not valid Unicode in a path: 't:dst/\udcff\udcfe'"  # the path once


def test_t25_a_folding_target(memory: Mount) -> None:
    there, _ = objects("t", case_sensitive=False)
    plant(memory, **{"src__a.txt": b"2", "src__A.txt": b"1"})
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(memory, "src"), at(there, "dst"))
    assert isinstance(caught.value.__cause__, StorageExistsError)
    assert "'t:dst/a.txt'" in str(caught.value)
    assert caught.value.__cause__.mount == "t"
    assert files(there) == {"dst/A.txt": b"1"}


# --- markers ---


def test_t20_a_marker_becomes_a_directory_and_a_marker(local: Mount) -> None:
    here, origin = objects("s")
    there, store = objects("t")
    for key in ("src/", "src/e/", "src/f/", "src/f/x"):
        origin.set(key)
    report = transfer.copy(at(here, "src"), at(there, "dst"))
    assert sorted(store.keys) == ["dst/e/", "dst/f/x"]
    assert (report.directories_created, report.files_copied) == (1, 1)
    transfer.copy(at(here, "src"), at(local, "dst"))
    assert (local.is_dir("dst/e"), files(local)) == (True, {"dst/f/x": b""})


def test_t22_an_empty_source_makes_an_empty_target(local: Mount, memory: Mount) -> None:
    local.mkdir("src")
    assert transfer.copy(at(local, "src"), at(memory, "a/b")).directories_created == 1
    assert memory.is_dir("a/b")
    assert transfer.copy(at(local, "src"), at(memory, "a/b")).directories_created == 0
    assert transfer.copy(at(local, "src"), at(memory, "c"), empty_dirs=False).directories_created == 0
    assert not memory.exists("c")


# --- links ---


@pytest.fixture
def linked(local: Mount, tmp_path: Path) -> Path:
    """A tree with links: to a file, to a directory, above itself, outwards, to nothing."""
    plant(local, src__a=b"a", src__d__x=b"x", elsewhere__y=b"y")
    base = tmp_path / "l" / "src"
    (tmp_path / "secret").write_bytes(b"secret")
    (base / "to_file").symlink_to("a")
    (base / "to_dir").symlink_to("../elsewhere")
    return base


def test_t23_follow_copies_what_links_point_at(local: Mount, memory: Mount, linked: Path) -> None:
    assert transfer.copy(at(local, "src"), at(memory, "dst")).files_copied == 4
    assert files(memory, "dst") == {"a": b"a", "d/x": b"x", "to_file": b"a", "to_dir/y": b"y"}


def test_t23_a_loop_fails_its_entry(local: Mount, memory: Mount, linked: Path) -> None:
    (linked / "d" / "up").symlink_to("..")
    (linked / "d" / "top").symlink_to("../..")
    (linked / "d" / "self").symlink_to(".")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(memory, "dst"))
    assert sorted(one.relpath for one in caught.value.report.failures) == ["d/self", "d/top", "d/up"]
    assert len(files(memory, "dst")) == 4


def test_t23_a_loop_over_two_links(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, src__a__x=b"x", src__b__y=b"y")
    (tmp_path / "l/src/a/to_b").symlink_to("../b")
    (tmp_path / "l/src/b/to_a").symlink_to("../a")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(memory, "dst"))
    assert sorted(one.relpath for one in caught.value.report.failures) == ["a/to_b/to_a", "b/to_a/to_b"]
    assert files(memory, "dst") == {"a/x": b"x", "b/y": b"y", "a/to_b/y": b"y", "b/to_a/x": b"x"}


def test_t23_dangling_and_outward_links_fail(local: Mount, memory: Mount, linked: Path, tmp_path: Path) -> None:
    (linked / "lost").symlink_to("nothing")
    (linked / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(memory, "dst"))
    assert sorted(one.relpath for one in caught.value.report.failures) == ["lost", "out"]
    assert b"secret" not in files(memory).values()


def test_t23_skip(local: Mount, memory: Mount, linked: Path) -> None:
    (linked / "lost").symlink_to("nothing")
    report = transfer.copy(at(local, "src"), at(memory, "dst"), symlinks="skip")
    assert report.skip_reasons == {"symlink": 3}
    assert files(memory, "dst") == {"a": b"a", "d/x": b"x"}


def test_t23_copy_recreates_links(local: Mount, other: Mount, memory: Mount, linked: Path, tmp_path: Path) -> None:
    (linked / "lost").symlink_to("nothing")
    for _ in range(2):
        transfer.copy(at(local, "src"), at(other, "deep/dst"), symlinks="copy")
        copied = tmp_path / "other/deep/dst"
        assert os.readlink(copied / "to_file") == "a"
        assert os.readlink(copied / "to_dir") == "../elsewhere"
        assert os.readlink(copied / "lost") == "nothing"
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(memory, "dst"), symlinks="copy")
    assert caught.value.report.files_failed == 3


def test_t23_a_link_replaces_only_a_link(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, src__a=b"a", src__b=b"b")
    plant(other, dst__c=b"c", dst__file=b"mine")
    here, there = tmp_path / "l/src", tmp_path / "other/dst"
    (here / "link").symlink_to("b")
    (here / "file").symlink_to("b")
    (there / "link").symlink_to("c")
    report = transfer.copy(at(local, "src"), at(other, "dst"), symlinks="copy", overwrite=False, errors="report")
    assert sorted(one.relpath for one in report.failures) == ["file", "link"]
    assert all(isinstance(one.error, StorageExistsError) for one in report.failures)
    assert os.readlink(there / "link") == "c"
    report = transfer.copy(at(local, "src"), at(other, "dst"), symlinks="copy", errors="report")
    assert [one.relpath for one in report.failures] == ["file"]
    assert os.readlink(there / "link") == "b"
    assert (there / "file").read_bytes() == b"mine"


def test_t23_copy_fails_what_would_lead_out(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, a__b__src__x=b"x")
    base = tmp_path / "l/a/b/src"
    (base / "up").symlink_to("../../y")
    (base / "absolute").symlink_to(tmp_path / "l")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "a/b/src"), at(other, "dst"), symlinks="copy")
    assert sorted(one.relpath for one in caught.value.report.failures) == ["absolute", "up"]
    assert sorted(os.listdir(tmp_path / "other/dst")) == ["x"]


def test_a_link_into_the_target_is_not_followed(local: Mount, tmp_path: Path) -> None:
    plant(local, src__a=b"a", dst__old=b"o")
    (tmp_path / "l/src/loop").symlink_to("../dst")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(local, "src"), at(local, "dst"))
    assert [one.relpath for one in caught.value.report.failures] == ["loop"]
    assert files(local, "dst") == {"a": b"a", "old": b"o"}


def test_special_files_are_skipped_with_a_warning(local: Mount, memory: Mount, tmp_path: Path) -> None:
    plant(local, src__a=b"a")
    os.mkfifo(tmp_path / "l/src/fifo")
    report = transfer.copy(at(local, "src"), at(memory, "dst"))
    assert report.skip_reasons == {"special file": 1}
    assert "fifo" in report.warnings[0]
    assert files(memory, "dst") == {"a": b"a"}


# --- listings that fail ---


def test_a_failing_first_page_is_raised_itself(memory: Mount) -> None:
    here, origin = objects("s")
    origin.set("src/a")

    def refuse(name: str, path: str) -> None:
        if name == "walk":
            raise StorageUnavailableError("gone", retryable=False)

    origin.hook = refuse
    with pytest.raises(StorageUnavailableError, match="'s:src'"):
        transfer.copy(at(here, "src"), at(memory, "dst"))
    assert files(memory) == {}


@pytest.mark.parametrize("errors", ["continue", "report"])
def test_a_listing_that_fails_on_its_way_never_ends_in_silence(memory: Mount, errors: str) -> None:
    class Broken(ObjectStore):
        def walk(self, path, *, after="", limit=None):  # type: ignore[no-untyped-def]
            yield [Stat("src/a", 1), Stat("src/b", 1)]
            raise PermissionError

    mount = Mount("s", Broken())
    mount.put("src/a", b"1")
    if errors == "report":
        report = transfer.copy(at(mount, "src"), at(memory, "dst"), errors="report")
    else:
        with pytest.raises(StorageTransferError) as caught:
            transfer.copy(at(mount, "src"), at(memory, "dst"))
        report = caught.value.report
    assert (report.complete, report.ok, report.files_copied, report.failed) == (False, False, 1, 1)
    assert report.failures[0].operation == "list"
    assert files(memory) == {"dst/a": b"1"}


def unreadable(mount: Mount, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Directories of these names cannot be listed, as for a user without the right (root may everything)."""
    scan = mount.backend.scan

    def denied(path: str, **how: Any) -> Any:
        if path.rpartition("/")[2] in names:
            raise PermissionError(13, "denied")
        return scan(path, **how)

    monkeypatch.setattr(mount.backend, "scan", denied)


def test_a_directory_that_cannot_be_read_fails_alone(
    local: Mount, memory: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local, src__a=b"1", src__closed__b=b"2", src__d__closed__e=b"3", src__z=b"4", shut__f=b"5")
    (tmp_path / "l/src/link").symlink_to("../shut")
    unreadable(local, monkeypatch, "closed", "link")
    report = transfer.copy(at(local, "src"), at(memory, "dst"), errors="report")
    assert sorted(one.relpath for one in report.failures) == ["closed", "d/closed", "link"]
    assert all(isinstance(one.error, StoragePermissionError) for one in report.failures)
    assert (report.complete, report.files_copied) == (False, 2)
    assert files(memory) == {"dst/a": b"1", "dst/z": b"4"}
    (tmp_path / "l/src/link").unlink()
    assert transfer.copy(at(local, "src"), at(memory, "dst"), exclude="closed/").ok
    with pytest.raises(StoragePermissionError):
        transfer.copy(at(local, "src/closed"), at(memory, "dst"))


def test_a_directory_that_cannot_be_read_is_not_moved(
    local: Mount, other: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local, src__a=b"1", src__closed__b=b"2")
    with monkeypatch.context() as patch:
        unreadable(local, patch, "closed")
        report = transfer.move(at(local, "src"), at(memory, "dst"), errors="report")
        assert (report.ok, report.files_copied) == (False, 1)
    assert files(local, "src") == {"closed/b": b"2"}


def test_planned_needs_no_memory_where_order_is_our_own(local: Mount, memory: Mount) -> None:
    plant(local, a=b"1")
    source, target = Listing(at(local)), TargetListing(at(memory))
    assert not source.claims_order
    source.start(), target.start()
    assert [action.kind for action in planned(source, target, Rules())] == ["copy"]


# --- links of a server ---


@pytest.fixture
def server(sshd: Sshd) -> Iterator[tuple[Mount, Path]]:
    """A mount of a directory that only a server can resolve, and where it is on this machine."""
    root = sshd.make_root()
    with closing(SftpBackend(SftpBackend.Options(**sshd.options(root)))) as backend:
        yield Mount("far", backend), sshd.local(root)


def test_t23_links_of_a_server(server: tuple[Mount, Path], memory: Mount) -> None:
    """Directories inside are followed, over links on the way too; what leads out or round in a circle fails alone."""
    far, base = server
    plant(far, src__a=b"a", src__d__x=b"x", elsewhere__y=b"y")
    (base / "src/to_dir").symlink_to("../elsewhere")
    (base / "elsewhere/deeper").symlink_to("../src/d")
    (base / "src/d/up").symlink_to("..")
    (base / "src/out").symlink_to("../..")
    (base / "src/one").symlink_to("two")
    (base / "src/two").symlink_to("one")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(far, "src"), at(memory, "dst"))
    assert sorted(one.relpath for one in caught.value.report.failures) == [
        *("d/up", "one", "out", "to_dir/deeper/up", "two")
    ]
    assert files(memory, "dst") == {"a": b"a", "d/x": b"x", "to_dir/y": b"y", "to_dir/deeper/x": b"x"}


def test_t12_no_link_of_a_server_leads_into_the_target(server: tuple[Mount, Path]) -> None:
    far, base = server
    plant(far, src__a=b"a", dst__b=b"b")
    (base / "src/there").symlink_to("../dst")
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(at(far, "src"), at(far, "dst"))
    assert [one.relpath for one in caught.value.report.failures] == ["there"]
    assert files(far, "dst") == {"a": b"a", "b": b"b"}
