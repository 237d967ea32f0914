"""Local files for a run of calls in one directory, which stays open meanwhile."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genro_storage.backends import local
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.exceptions import StorageConflictError, StorageError
from genro_storage.types import PLAIN, STEADY
from tests.backends.local_tools import descriptors, names


def test_what_is_near_keeps_one_directory_open_and_leaves_nothing_open(tmp_path: Path) -> None:
    backend = LocalStorage(LocalOptions(path=str(tmp_path)))
    before = descriptors()
    with backend.near() as near:
        for path in ("a/f", "a/g", "b/f", "top"):
            near.put(path, path.encode(), PLAIN)
        assert descriptors() == before + 1
        assert [near.get(path)[0] for path in ("a/f", "b/f", "top")] == [b"a/f", b"b/f", b"top"]
        assert near.stat("a/g").size == 3
        near.copy_from(near, "a/g", "b/g", PLAIN)
        near.delete("a/g")
    assert descriptors() == before
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "a/f",
        "b/f",
        "b/g",
        "top",
    ]


def test_what_is_near_notices_that_its_directory_is_another_one(tmp_path: Path) -> None:
    with LocalStorage(LocalOptions(path=str(tmp_path))).near() as near:
        near.put("d/f", b"old", PLAIN)
        (tmp_path / "d/f").unlink()
        (tmp_path / "d").rmdir()
        near.put("d/g", b"new", PLAIN)
        assert near.get("d/g")[0] == b"new"
        near.put("d/h", b"too", PLAIN)
    assert names(tmp_path / "d") == ["g", "h"]


@pytest.mark.parametrize("links", ["inside", "refuse"])
def test_what_is_near_follows_no_link_out(tmp_path: Path, links: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"theirs")
    (tmp_path / "base/d").mkdir(parents=True)
    backend = LocalStorage(LocalOptions(path=str(tmp_path / "base"), symlinks=links))
    with backend.near() as near:
        near.put("d/f", b"ours", PLAIN)
        (tmp_path / "base/e").symlink_to(outside)
        for call in (lambda: near.get("e/f"), lambda: near.put("e/g", b"", PLAIN), lambda: near.get("../outside/f")):
            with pytest.raises(StorageError):
                call()
    assert names(outside) == ["f"]


def test_what_was_read_is_told_to_be_one_state_only_if_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalStorage(LocalOptions(path=str(tmp_path)))
    backend.put("f", b"abc", PLAIN)
    assert backend.get("f")[1].hashes is STEADY
    read = local.read_exactly

    def grown(fd: int, size: int, offset: int) -> bytes:
        with (tmp_path / "f").open("ab") as file:
            file.write(b"d")
        return read(fd, size, offset)

    monkeypatch.setattr(local, "read_exactly", grown)
    data, stat = backend.get("f")
    assert (data, stat.size) == (b"abc", 3)
    assert stat.hashes is not STEADY


def test_a_source_that_changes_while_it_is_copied_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalStorage(LocalOptions(path=str(tmp_path)))
    backend.put("f", b"abc", PLAIN)
    read = os.pread

    def grown(fd: int, size: int, offset: int) -> bytes:
        data = read(fd, size, offset)
        with (tmp_path / "f").open("ab") as file:
            file.write(b"d")
        return data

    monkeypatch.setattr(os, "pread", grown)
    with pytest.raises(StorageConflictError):
        backend.copy_from(backend, "f", "g", PLAIN)
    assert names(tmp_path) == ["f"]


def test_threads_that_share_it_read_their_own_files(tmp_path: Path) -> None:
    """The parts of a large file are read by several threads: a descriptor is never closed under one of them."""
    backend = LocalStorage(LocalOptions(path=str(tmp_path)))
    for number in range(8):
        backend.put(f"{number}/f", b"%d" % number, PLAIN)
    with backend.near() as near, ThreadPoolExecutor(8) as threads:

        def read(number: int) -> set[bytes]:
            return {near.get(f"{number}/f")[0] for _ in range(300)}

        assert near.get("0/f")[0] == b"0"
        assert list(threads.map(read, range(8))) == [{b"%d" % number} for number in range(8)]
