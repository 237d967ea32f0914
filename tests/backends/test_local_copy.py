"""Copies within the local file system: holes stay, small files go the short way, every other file the long one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from genro_storage.backends import _kernel, _localcopy
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.exceptions import StorageConflictError, StoragePermissionError
from genro_storage.types import PLAIN, WriteOptions


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def backend(base: Path) -> LocalStorage:
    return LocalStorage(LocalOptions(path=str(base)))


def holes(path: Path, size: int, *data: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        for offset, piece in data:
            file.seek(offset)
            file.write(piece)
        file.truncate(size)


@pytest.mark.parametrize(
    "data",
    [
        (),
        ((0, b"begin"),),
        ((20 << 20, b"end"),),
        ((0, b"a" * 5000), (3 << 20, b"b" * 9000), (12 << 20, b"c" * (1 << 20))),
    ],
)
def test_t24_holes_stay_holes(base: Path, backend: LocalStorage, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_reflink", lambda source, target: False)
    holes(base / "sparse", 40 << 20, *data)
    ticked: list[int] = []
    stat = backend.copy_from(backend, "sparse", "twin", tick=ticked.append)
    assert stat.size == 40 << 20
    assert (base / "twin").read_bytes() == (base / "sparse").read_bytes()
    assert (base / "twin").stat().st_blocks <= (base / "sparse").stat().st_blocks + 64
    assert sum(ticked) < 8 << 20


def test_a_small_file_with_a_hole(base: Path, backend: LocalStorage) -> None:
    holes(base / "sparse", 500_000, (300_000, b"x"))
    backend.copy_from(backend, "sparse", "twin")
    assert (base / "twin").read_bytes() == (base / "sparse").read_bytes()
    assert (base / "twin").stat().st_blocks <= (base / "sparse").stat().st_blocks + 8


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20, (1 << 20) + 1, 9 << 20])
@pytest.mark.parametrize("there", [False, True])
def test_all_sizes(base: Path, backend: LocalStorage, size: int, there: bool) -> None:
    data = os.urandom(size)
    (base / "a").write_bytes(data)
    if there:
        (base / "d").mkdir()
        (base / "d" / "b").write_bytes(b"old")
        (base / "d" / "b").chmod(0o640)
    ticked: list[int] = []
    stat = backend.copy_from(backend, "a", "d/b", WriteOptions(size=size, mtime=1e9), tick=ticked.append)
    assert (base / "d" / "b").read_bytes() == data
    assert (stat.size, stat.mtime, sum(ticked)) == (size, 1e9, size)
    assert stat == backend.stat("d/b")
    assert os.listdir(base / "d") == ["b"]
    if there:
        assert (base / "d" / "b").stat().st_mode & 0o777 == 0o640


def test_the_short_way_is_taken(base: Path, backend: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    if not _kernel.open_directory("/") >= 0:
        pytest.fail("this system has no openat2")
    (base / "a").write_bytes(b"x")
    monkeypatch.setattr(LocalStorage, "writer", lambda *args: pytest.fail("the long way"))
    backend.copy_from(backend, "a", "b")
    assert (base / "b").read_bytes() == b"x"


def test_no_link_leads_out(base: Path, tmp_path_factory: pytest.TempPathFactory, backend: LocalStorage) -> None:
    out = tmp_path_factory.mktemp("out")
    (out / "secret").write_bytes(b"secret")
    (base / "a").write_bytes(b"x")
    (base / "link").symlink_to(out / "secret")
    (base / "dir").symlink_to(out)
    for source, target in (("link", "b"), ("dir/secret", "b"), ("a", "dir/b"), ("a", "link")):
        with pytest.raises(StoragePermissionError):
            backend.copy_from(backend, source, target)
    assert os.listdir(out) == ["secret"]
    assert (out / "secret").read_bytes() == b"secret"
    assert not (base / "b").exists()


def test_no_fifo_is_read(base: Path, backend: LocalStorage) -> None:
    os.mkfifo(base / "fifo")
    with pytest.raises(Exception, match="neither file nor directory"):
        backend.copy_from(backend, "fifo", "b")


def test_t32_a_small_file_that_changes_while_it_is_read(
    base: Path, backend: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "a").write_bytes(b"x" * 100)
    real = os.pread

    def growing(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        with (base / "a").open("ab") as file:
            file.write(b"more")
        return data

    monkeypatch.setattr(_localcopy.os, "pread", growing)
    with pytest.raises(StorageConflictError) as caught:
        backend.copy_from(backend, "a", "b")
    assert caught.value.retryable
    assert os.listdir(base) == ["a"]


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_source_that_is_not_what_was_asked_for_is_a_conflict(tmp_path: Path, size: int) -> None:
    backend = LocalStorage(LocalOptions(path=str(tmp_path)))
    stale = backend.put("f", b"x" * size, PLAIN).etag
    now = backend.put("f", b"y" * (size + 1), PLAIN).etag
    with pytest.raises(StorageConflictError):
        backend.copy_from(backend, "f", "g", WriteOptions(size=size, source_match=stale))
    assert not backend.has("g")
    assert backend.copy_from(backend, "f", "g", WriteOptions(size=size + 1, source_match=now)).size == size + 1
    assert backend.get("g")[0] == b"y" * (size + 1)
