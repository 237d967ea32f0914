"""One file: bytes, what goes along, verification, errors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import transfer
from genro_storage.backends import _kernel, _localfile
from genro_storage.backends import local as local_backend
from genro_storage.exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageExistsError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
)
from genro_storage.mount import Level, Mount
from genro_storage.transfer.stream import CHUNK

from .conftest import local_mount
from .stores import objects
from .trees import at, files, plant

BIG = os.urandom(CHUNK * 2 + 17)


@pytest.fixture(params=[b"", b"small", BIG], ids=["empty", "small", "big"])
def data(request: pytest.FixtureRequest) -> bytes:
    return bytes(request.param)


def failing(*names: str, times: int = 1, error: Any = StorageUnavailableError) -> Any:
    """A hook that raises on the first calls of these names for a file `f`."""
    left = [times]

    def hook(name: str, path: str) -> None:
        if name in names and path.endswith("/f") and left[0]:
            left[0] -= 1
            raise error("injected")

    return hook


def test_bytes_arrive(data: bytes, local: Mount, other: Mount, memory: Mount) -> None:
    keys, store = objects()
    local.put("f", data)
    for source, target in (
        (local, memory),
        (memory, keys),
        (keys, other),
        (other, local),
        (local, keys),
        (keys, memory),
    ):
        assert transfer.copy(at(source, "f"), at(target, "g")).bytes_copied == len(data)
        assert transfer.move(at(target, "g"), at(target, "f")).ok
        assert target.get("f")[0] == data
    assert store.open_readers == store.open_writers == 0


# --- what goes along ---


def test_t28_the_mtime_goes_along(local: Mount, other: Mount, memory: Mount, data: bytes) -> None:
    keys, _ = objects()
    local.put("f", data)
    local.set_mtime("f", 1234567890.25)
    for source, target in ((local, memory), (memory, keys), (keys, other), (other, local)):
        transfer.copy(at(source, "f"), at(target, "g"))
        transfer.copy(at(source), at(target, "tree"), include="f")
        assert target.stat("g").mtime == target.stat("tree/f").mtime == 1234567890.25
        target.delete("tree/f")
        transfer.move(at(target, "g"), at(target, "f"))


def test_t28_the_mtime_comes_from_the_bytes_not_from_a_listing(local: Mount) -> None:
    keys, store = objects()
    keys.put("d/f", b"x")
    original = store._listed
    store._listed = lambda stat: replace(original(stat), mtime=99.0)  # type: ignore[method-assign]
    store.keys["d/f"] = (b"x", replace(store.keys["d/f"][1], mtime=55.5))
    transfer.copy(at(keys, "d"), at(local, "d"))
    assert local.stat("d/f").mtime == 55.5


def test_preserve_nothing(local: Mount) -> None:
    here, origin = objects("s")
    there, store = objects("t")
    origin.set("f.txt", b"x", mtime=1.0, content_type="x/y", metadata={"k": "v"})
    transfer.copy(at(here, "f.txt"), at(there, "f.txt"), preserve=())
    stat = store.keys["f.txt"][1]
    assert stat.mtime is not None
    assert stat.mtime > 1e9
    assert (stat.content_type, stat.metadata) == ("text/plain", {})


@pytest.mark.parametrize("copies", [False, True])
def test_t29_type_and_metadata_go_along(local: Mount, copies: bool) -> None:
    here, origin = objects("s", copies=copies, id="one")
    there, store = objects("t", copies=copies, id="one")
    for name in ("d/f.txt", "d/g.txt"):
        origin.set(name, b"x", content_type="x/y", metadata={"k": "v"}, mtime=5.0)
    transfer.copy(at(here, "d"), at(there, "e"))
    transfer.copy(at(here, "d/f.txt"), at(there, "single.txt"))
    for name in ("e/f.txt", "e/g.txt", "single.txt"):
        stat = store.keys[name][1]
        assert (stat.content_type, stat.metadata, stat.mtime) == ("x/y", {"k": "v"}, 5.0)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("preserve", [(), ("content_type", "metadata")])
def test_a_type_may_be_given(local: Mount, copies: bool, preserve: tuple[str, ...]) -> None:
    here, origin = objects("s", copies=copies, id="one")
    there, store = objects("t", copies=copies, id="one")
    for name in ("d/f.txt", "d/g.txt", "h"):
        origin.set(name, b"x", content_type="x/y", metadata={"k": "v"})
    given: dict[str, Any] = {"content_type": "text/odd", "preserve": preserve}
    transfer.copy(at(here, "d"), at(there, "e"), **given)
    transfer.copy(at(here, "d/f.txt"), at(there, "single.txt"), **given)
    transfer.move(at(here, "h"), at(there, "moved"), **given)
    for name in ("e/f.txt", "e/g.txt", "single.txt", "moved"):
        assert store.keys[name][1].content_type == "text/odd"
        assert store.keys[name][1].metadata == ({"k": "v"} if preserve else {})
    plant(local, f=b"1")
    transfer.copy(at(local, "f"), at(there, "new"), **given)
    assert store.keys["new"][1].content_type == "text/odd"
    assert transfer.move(at(local, "f"), at(local, "g"), **given).files_copied == 1


def test_a_move_with_another_type_is_no_rename(memory: Mount, local: Mount) -> None:
    for mount, sent in ((memory, "text/odd"), (local, None)):
        plant(mount, d__f=b"1")
        assert transfer.move(at(mount, "d"), at(mount, "e"), content_type="text/odd").files_copied == 1
        assert mount.stat_file("e/f").content_type == sent


def test_t29_the_type_of_a_file_without_one_follows_the_target_name(local: Mount) -> None:
    there, store = objects()
    plant(local, f=b"x")
    transfer.copy(at(local, "f"), at(there, "page.html"))
    assert store.keys["page.html"][1].content_type == "text/html"


def test_t30_metadata_the_target_cannot_hold_is_told_once(local: Mount) -> None:
    here, origin = objects()
    for number in range(3):
        origin.set(f"d/{number}", b"x", metadata={"k": "v"})
    report = transfer.copy(at(here, "d"), at(local, "d"))
    assert len(report.warnings) == 1
    assert "metadata" in report.warnings[0]
    assert not transfer.copy(at(here, "d"), at(local, "d"), preserve=["mtime"]).warnings


def test_t31_mode_only_if_asked(local: Mount, other: Mount, tmp_path: Path) -> None:
    plant(local, f=b"x")
    (tmp_path / "l/f").chmod(0o640)
    transfer.copy(at(local, "f"), at(other, "a"), preserve=["mode"])
    transfer.copy(at(local, "f"), at(other, "b"))
    assert (tmp_path / "other/a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "other/b").stat().st_mode & 0o777 == 0o644


# --- the storage's own copy ---


def test_the_storage_copies_where_it_can() -> None:
    here, origin = objects("s", copies=True, id="one")
    there, store = objects("t", copies=True, id="one")
    origin.set("d/f", b"bytes")
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.bytes_server_side, report.verified_checksum) == (5, 1)
    assert not {"get", "put", "reader", "writer"} & {*origin.names(), *store.names()}
    assert store.keys["e/f"][0] == b"bytes"


@pytest.mark.parametrize("error", [StoragePermissionError, None])
def test_not_supported_or_denied_falls_back_to_bytes(error: type[Exception] | None) -> None:
    here, origin = objects("s", copies=True, id="one")
    there, store = objects("t", copies=True, id="one" if error else "two")
    origin.set("d/f", b"bytes")
    if error:
        store.hook = failing("copy_from", error=error, times=9)
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert (report.bytes_server_side, report.bytes_copied) == (0, 5)


def test_other_errors_of_the_storage_do_not_fall_back() -> None:
    here, origin = objects("s", copies=True, id="one")
    there, store = objects("t", copies=True, id="one")
    origin.set("f", b"bytes")
    store.hook = failing("copy_from", error=StorageQuotaError)
    with pytest.raises(StorageQuotaError):
        transfer.copy(at(here, "f"), at(there, "g/f"))
    assert "put" not in store.names()


# --- verification ---


def test_checksums_are_counted_where_a_hash_is_known(local: Mount, memory: Mount, data: bytes) -> None:
    there, _ = objects()
    local.put("f", data)
    report = transfer.copy(at(local, "f"), at(there, "f"))
    assert (report.verified_checksum, report.verified_size) == (1, 0)
    assert transfer.copy(at(there, "f"), at(local, "g")).verified_checksum == 1
    assert transfer.copy(at(local, "f"), at(memory, "g")).verified_size == 1
    assert transfer.copy(at(local, "f"), at(there, "f"), verify="size").verified_size == 1
    report = transfer.copy(at(local, "f"), at(there, "f"), verify="none")
    assert (report.verified_checksum, report.verified_size) == (0, 0)
    assert transfer.copy(at(local, "f"), at(memory, "h"), verify="read").verified_checksum == 1


def test_a_stream_is_committed_with_its_hash(local: Mount) -> None:
    there, store = objects()
    local.put("f", BIG)
    transfer.copy(at(local, "f"), at(there, "f"))
    assert store.commit_hashes == {"md5": hashlib.md5(BIG).hexdigest()}


@pytest.mark.parametrize("size", ["small", "big"])
def test_bytes_that_are_not_what_the_source_says_never_become_visible(local: Mount, size: str) -> None:
    here, origin = objects()
    data = b"wrong" if size == "small" else BIG
    origin.set("d/f", data, hashes={"md5": "0" * 32})
    plant(local, g=b"old", e__f=b"old")
    with pytest.raises(StorageCorruptedError, match="'o:d/f'"):
        transfer.copy(at(here, "d/f"), at(local, "g"))
    report = transfer.copy(at(here, "d"), at(local, "e"), errors="report")
    assert isinstance(report.failures[0].error, StorageCorruptedError)
    assert report.failures[0].attempts == 4
    assert files(local) == {"g": b"old", "e/f": b"old"}


def test_a_short_read_is_not_a_file(local: Mount) -> None:
    here, origin = objects()
    origin.set("d/f", b"1234", size=5, hashes={})
    origin.set("d/g", BIG[:-1], size=len(BIG), hashes={})
    for verify in ("checksum", "none"):
        report = transfer.copy(at(here, "d"), at(local, "e"), errors="report", verify=verify)
        assert (report.files_failed, files(local)) == (2, {})


def test_a_target_that_tells_no_size_is_asked(local: Mount) -> None:
    there, store = objects()
    plant(local, f=b"bytes")
    store_it = store._store
    store._store = lambda key, data, options: replace(store_it(key, data, options), size=None)  # type: ignore[method-assign]
    assert transfer.copy(at(local, "f"), at(there, "g")).ok
    assert ("stat", "g") in store.calls
    store._store = lambda key, data, options: replace(store_it(key, data[:-1], replace(options, size=None)), size=None)  # type: ignore[method-assign]
    with pytest.raises(StorageCorruptedError, match="holds 4 bytes where 5"):
        transfer.copy(at(local, "f"), at(there, "h"), verify="size")
    assert "h" not in store.keys


def test_a_target_proven_wrong_that_may_not_be_removed_is_still_told(memory: Mount) -> None:
    _, store = objects()
    there = Mount("t", store, level=Level.readwrite)
    plant(memory, f=b"bytes")
    store_it = store._store
    store._store = lambda key, data, options: replace(store_it(key, data, options), hashes={"md5": "0" * 32})  # type: ignore[method-assign]
    with pytest.raises(StorageCorruptedError, match="'t:g'"):
        transfer.copy(at(memory, "f"), at(there, "g"))


def test_a_target_proven_wrong_is_taken_away(memory: Mount) -> None:
    there, store = objects()
    plant(memory, f=b"bytes")
    store_it = store._store
    store._store = lambda key, data, options: replace(store_it(key, data, options), hashes={"md5": "0" * 32})  # type: ignore[method-assign]
    with pytest.raises(StorageCorruptedError, match="'o:g'"):
        transfer.copy(at(memory, "f"), at(there, "g"))
    assert store.keys == {}


def test_read_finds_what_a_store_lies_about(local: Mount, data: bytes) -> None:
    there, store = objects(hashes=frozenset())
    local.put("f", data + b".")
    find = store._find
    store._find = lambda path: (find(path)[0][:-1] + b"!", find(path)[1])  # type: ignore[method-assign]
    assert transfer.copy(at(local, "f"), at(there, "g"), verify="size").ok
    with pytest.raises(StorageCorruptedError, match="reads otherwise"):
        transfer.copy(at(local, "f"), at(there, "g"), verify="read")
    assert "g" not in store.keys


def test_read_checks_copies_of_the_storage_too() -> None:
    here, origin = objects("s", copies=True, id="one")
    there, store = objects("t", copies=True, id="one")
    origin.set("d/f", b"bytes")
    store_it = store._store
    store._store = lambda key, data, options: store_it(key, b"other", options)  # type: ignore[method-assign]
    report = transfer.copy(at(here, "d"), at(there, "e"), verify="read", errors="report")
    assert isinstance(report.failures[0].error, StorageCorruptedError)
    assert store.keys == {}


# --- errors ---


@pytest.mark.parametrize("name", ["get", "put", "reader", "read", "writer", "write", "commit"])
def test_what_may_be_retried_is(name: str, data: bytes) -> None:
    here, origin = objects("s")
    there, store = objects("t")
    origin.set("d/f", data)
    store.set("e/f", b"old")
    origin.hook = store.hook = failing(name, times=3)
    report = transfer.copy(at(here, "d"), at(there, "e"))
    assert store.keys["e/f"][0] == data
    used = {one for one, path in origin.calls + store.calls if path.endswith("/f")}
    assert report.retries == (3 if name in used else 0)
    origin.hook = store.hook = failing(name, times=4)
    report = transfer.copy(at(here, "d"), at(there, "e"), errors="report")
    assert report.files_failed == (1 if report.retries else 0)
    assert store.keys["e/f"][0] == data
    assert origin.open_readers == store.open_writers == 0


def test_what_may_not_be_retried_is_not(local: Mount) -> None:
    there, store = objects()
    plant(local, f=b"x")
    store.hook = failing("commit", "put", error=StorageQuotaError)
    with pytest.raises(StorageQuotaError):
        transfer.copy(at(local, "f"), at(there, "d/f"))
    assert store.keys == {}
    store.hook = failing("commit", "put", times=2)
    with pytest.raises(StorageUnavailableError):
        transfer.copy(at(local, "f"), at(there, "d/f"), retries=1)
    assert store.keys == {}


def test_a_lost_answer_to_a_conditional_write_is_our_own_file(local: Mount, data: bytes) -> None:
    there, store = objects()
    local.put("f", data)
    store_it = store._store
    lost = [1]

    def store_and_fail(*args: Any) -> Any:
        stat = store_it(*args)
        if lost and lost.pop():
            raise StorageUnavailableError("the answer was lost")
        return stat

    store._store = store_and_fail  # type: ignore[method-assign]
    assert transfer.copy(at(local, "f"), at(there, "g"), overwrite=False).files_copied == 1
    assert store.keys["g"][0] == data


def test_somebody_elses_file_is_not_taken_for_ours(local: Mount) -> None:
    there, store = objects()
    plant(local, f=b"ours")
    first = [1]

    def interfere(name: str, path: str) -> None:
        if name in ("put", "writer") and first:
            first.pop()
            store.set("g", b"theirs")
            raise StorageUnavailableError("gone")

    store.hook = interfere
    with pytest.raises(StorageExistsError):
        transfer.copy(at(local, "f"), at(there, "g"), overwrite=False)
    assert store.keys["g"][0] == b"theirs"


# --- T32 ---


@contextmanager
def growing(path: Path, times: int) -> Iterator[None]:
    """Lets somebody append to a local file after each of the first readings."""
    left = [times]

    def then(read: Any) -> Any:
        def reading(*args: Any) -> Any:
            result = read(*args)
            if left[0]:
                left[0] -= 1
                with path.open("ab") as file:
                    file.write(b"+")
            return result

        return reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kernel, "copy_bytes", then(_kernel.copy_bytes))
        for name in ("read_exactly", "read_all"):
            for module in (local_backend, _localfile):
                if hasattr(module, name):
                    patch.setattr(module, name, then(getattr(module, name)))
        yield


@pytest.mark.parametrize("size", [5, CHUNK + 5])
@pytest.mark.parametrize("where", ["memory", "local"])
def test_t32_a_source_changed_while_read(
    size: int, where: str, local: Mount, other: Mount, memory: Mount, tmp_path: Path
) -> None:
    target = memory if where == "memory" else other
    local.put("d/f", b"x" * size)
    target.put("e/f", b"old")
    with growing(tmp_path / "l/d/f", 1000):
        report = transfer.copy(at(local, "d"), at(target, "e"), errors="report")
    assert isinstance(report.failures[0].error, StorageConflictError)
    assert files(target) == {"e/f": b"old"}
    with growing(tmp_path / "l/d/f", 1):
        assert transfer.copy(at(local, "d"), at(target, "e")).retries == 1
    assert target.get("e/f")[0] == local.get("d/f")[0]


def test_disk_full_keeps_the_old_target(tmp_path: Path, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    target = local_mount("t", tmp_path / "t")
    memory.put("f", BIG)
    plant(target, f=b"old")

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageQuotaError, match="'t:f'"):
        transfer.copy(at(memory, "f"), at(target, "f"))
    monkeypatch.undo()
    assert os.listdir(tmp_path / "t") == ["f"]
    assert files(target) == {"f": b"old"}
