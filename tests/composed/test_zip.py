"""Zip archives as mounts: read in place wherever they are, written as a whole or not at all."""

from __future__ import annotations

import gc
import io
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends.base import StorageBackend
from genro_storage.backends.options import Context
from genro_storage.composed.zip import StagedZip, ZipBackend, ZipOptions
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
    StorageWarning,
    UnsupportedOperation,
)
from genro_storage.testing import OBJECT_STORE, BackendSuite

FILES = {"a.txt": b"alpha", "d/b.bin": bytes(range(256)) * 40, "d/e/c": b"", "caf\u00e9/[x]*.txt": b"odd"}


def packed(files: dict[str, bytes] = FILES, *, directories: tuple[str, ...] = ("empty/",)) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in directories:
            archive.writestr(name, b"")
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def mounted(file: Path | str, **keys: Any) -> StorageManager:
    return StorageManager([{"name": "z", "type": "zip", "file": str(file), **keys}])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "some.zip"
    file.write_bytes(packed())
    return file


class TestStagedZip(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk"),
        *("free_space", "keeps_mode", "parts", "readlink", "set_mode", "surrogates", "symlink", "unfinished"),
    }

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        backend = StagedZip(ZipOptions(file=str(tmp_path / "new.zip"), mode="w"), Context("m"))
        yield backend
        backend.close()


# --- reading ---


@pytest.mark.parametrize("where", ["local", "mount"])
def test_read(archive: Path, where: str) -> None:
    """R51: mode r tells that it is read-only."""
    entries = [
        {"name": "z", "type": "zip", "file": str(archive) if where == "local" else "mem:up/x.zip"},
        {"name": "mem", "type": "memory"},  # what another mount stands on may come after it
    ]
    with StorageManager(entries) as storage:
        storage.node("mem:up/x.zip").write_bytes(archive.read_bytes())
        root = storage.node("z:")
        assert root.capabilities.readonly
        assert sorted(node.path for node, stat in root.scan(recursive=True) if stat.is_file) == sorted(FILES)
        assert storage.node("z:empty").is_dir
        assert storage.node("z:d").is_dir
        assert [node.basename for node in storage.node("z:d").children()] == ["b.bin", "e"]
        for name, data in FILES.items():
            node = storage.node(f"z:{name}")
            assert (node.read_bytes(), node.size) == (data, len(data))
            assert node.read_bytes(100, 300) == data[100:300]
            assert node.read_bytes(-3) == data[-3:]
        root.copy_to("mem:out")
        assert storage.node("mem:out/d/b.bin").read_bytes() == FILES["d/b.bin"]
        for verb in (lambda: storage.node("z:n").write("x"), lambda: storage.node("z:a.txt").delete()):
            with pytest.raises(UnsupportedOperation, match="read-only"):
                verb()
        for path, error in (("z:absent", StorageNotFoundError), ("z:d", StorageIsADirectoryError)):
            with pytest.raises(error):
                storage.node(path).read_bytes()
        with pytest.raises(StorageNotADirectoryError):
            storage.node("z:a.txt").children()
        assert not storage.node("z:a.txt/x").exists


def test_path_and_relative_mounts(archive: Path) -> None:
    entries = [
        {"name": "z", "type": "zip", "file": str(archive), "path": "d"},
        {"name": "e", "path": "z:e"},
    ]
    with StorageManager(entries) as storage:
        assert storage.node("z:b.bin").size == len(FILES["d/b.bin"])
        assert [node.path for node in storage.node("z:").children()] == ["b.bin", "e"]
        assert [node.path for node in storage.node("e:").children()] == ["c"]
        assert not storage.node("z:a.txt").exists


def test_threads_read_one_archive(archive: Path) -> None:
    data = {f"n{number}": os.urandom(300_000) for number in range(8)}
    archive.write_bytes(packed(data))
    with mounted(archive) as storage, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda name: storage.node(f"z:{name}").read_bytes(), list(data) * 4))
    assert read == list(data.values()) * 4


def test_a_replaced_archive_is_seen(archive: Path) -> None:
    with mounted(archive) as storage:
        assert storage.node("z:a.txt").read_text() == "alpha"
        with storage.node("z:d/b.bin").open("rb") as file:
            first = file.read(10)
            other = archive.with_suffix(".new")
            other.write_bytes(packed({"other": b"1"}))
            other.replace(archive)
            assert [node.path for node in storage.node("z:").children()] == ["empty", "other"]
            try:
                assert first + file.read() == FILES["d/b.bin"]
            except StorageConflictError:
                pass
        archive.unlink()
        with pytest.raises(StorageUnavailableError, match="not there"):
            assert not storage.node("z:other").exists  # nobody knows


def test_configuration(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(StorageNotFoundError, match="no archive"):
        mounted(tmp_path / "absent.zip")
    with pytest.raises(StorageIsADirectoryError):
        mounted(tmp_path)
    with pytest.raises(StorageConfigError, match="read-only"):
        mounted(archive, permissions="readwrite")
    with pytest.raises(StorageConfigError, match="'file'"):
        StorageManager([{"name": "z", "type": "zip"}])
    with pytest.raises(StorageConfigError, match="Parent mount 'nobody' not found"):
        mounted("nobody:x.zip")
    with pytest.raises(StorageConfigError, match="circle"):
        mounted("z:x.zip")
    with pytest.raises(StorageConfigError, match="'password' is for reading"):
        mounted(archive, mode="a", password="x")
    with StorageManager([{"name": "m", "type": "memory"}]) as storage:
        storage.configure([{"name": "z", "type": "zip", "file": "m:x.zip"}])
        with pytest.raises(StorageConfigError, match="needed by z"):
            storage.delete_mount("m")


# --- hostile archives ---


@pytest.mark.parametrize("name", ["../evil", "/abs", "d/../../x", "a//b", "a\\b", "."])
def test_hostile_names(archive: Path, tmp_path: Path, name: str) -> None:
    """R25: such an entry is passed over with a warning, and nothing lands outside of a copy's target."""
    data = packed({"xxxxxxxxxxxx"[: len(name)]: b"evil", "good": b"1"}, directories=())
    archive.write_bytes(data.replace(b"x" * len(name), name.encode()))
    with mounted(archive) as storage:
        storage.configure([{"name": "out", "type": "memory"}])
        if name == ".":
            storage.node("z:").copy_to("out:t")
        else:
            with pytest.warns(StorageWarning):
                assert [node.path for node in storage.node("z:").children()] == ["good"]
            report = storage.copy("z:", "out:t", errors="report")
            assert report.files_copied == 1
        assert [node.path for node, stat in storage.node("out:").scan(recursive=True) if stat.is_file] == ["t/good"]
    if name != ".":
        with mounted(archive, mode="a") as changed, pytest.raises(UnsupportedOperation, match="only be read"):
            changed.node("z:n").write("x")


def test_expansion_is_bounded(archive: Path) -> None:
    archive.write_bytes(packed({"bomb": bytes(4 << 20), "small": bytes(1000)}))
    with mounted(archive, max_ratio=100) as storage:
        with pytest.raises(StorageCorruptedError, match="max_ratio"):
            storage.node("z:bomb").read_bytes()
        assert storage.node("z:bomb").size == 4 << 20
    with mounted(archive, max_ratio=2000) as storage:
        assert storage.node("z:bomb").read_bytes() == bytes(4 << 20)


@pytest.mark.parametrize("damage", ["not a zip", "cut", "content"])
def test_damage_is_told(archive: Path, damage: str) -> None:
    data = bytearray(archive.read_bytes())
    if damage == "content":
        at = data.index(b"a.txt") + len("a.txt")
        data[at : at + 4] = b"\0\0\0\0"
    archive.write_bytes({"not a zip": b"hello" * 100, "cut": bytes(data[:300])}.get(damage, bytes(data)))
    with mounted(archive) as storage, pytest.raises(StorageCorruptedError) as caught:
        storage.node("z:a.txt").read_bytes()
    assert "z:a.txt" in str(caught.value)


def test_encrypted_entries(tmp_path: Path) -> None:
    """Made by Info-ZIP: `zip -P secret`, stored; the standard library only reads them."""
    file = tmp_path / "locked.zip"
    file.write_bytes(_encrypted("f", b"hidden text", b"secret"))
    with mounted(file, password="secret") as storage:
        assert storage.node("z:f").read_text() == "hidden text"
        assert "secret" not in repr(storage.mounts["z"])
    for keys in ({}, {"password": "wrong"}):
        with mounted(file, **keys) as storage, pytest.raises((StoragePermissionError, StorageCorruptedError)):
            storage.node("z:f").read_bytes()


def _encrypted(name: str, data: bytes, password: bytes) -> bytes:
    """An archive with one entry in the traditional encryption of PKWARE's APPNOTE, section 6.1."""
    import struct
    import zlib

    table = [_crc_entry(number) for number in range(256)]
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = (keys[0] >> 8) ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = (keys[2] >> 8) ^ table[(keys[2] ^ (keys[1] >> 24)) & 0xFF]

    for byte in password:
        update(byte)
    crc, hidden = zlib.crc32(data), bytearray()
    for byte in bytes(11) + bytes([crc >> 24]) + data:
        mixed = keys[2] | 2
        hidden.append(byte ^ (((mixed * (mixed ^ 1)) >> 8) & 0xFF))
        update(byte)
    facts = struct.pack("<HHHHHIIIHH", 20, 1, 0, 0, 0x21, crc, len(hidden), len(data), len(name), 0)
    local = b"PK\3\4" + facts + name.encode() + hidden
    central = b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def _crc_entry(number: int) -> int:
    for _ in range(8):
        number = (number >> 1) ^ (0xEDB88320 if number & 1 else 0)
    return number


# --- writing ---


@pytest.mark.parametrize("file", ["local", "mem:d/new.zip"])
def test_write_a_new_archive(tmp_path: Path, file: str) -> None:
    """R51: valid after close(), for other programs too; nothing of it is visible before."""
    where = str(tmp_path / "new.zip") if file == "local" else file
    entries = [{"name": "mem", "type": "memory"}, {"name": "out", "type": "local", "path": str(tmp_path)}]
    with StorageManager(entries) as storage:
        storage.configure([{"name": "z", "type": "zip", "file": where, "mode": "w"}])
        for name, data in FILES.items():
            storage.node(f"z:{name}").write_bytes(data, mtime=1_234_567_891.0)
        storage.node("z:empty").mkdir()
        storage.node("z:gone").write("x")
        storage.node("z:gone").delete()
        target = storage.node("out:new.zip" if file == "local" else file)
        assert not target.exists
        assert storage.node("z:a.txt").read_text() == "alpha"
        storage.delete_mount("z")
        made = target.read_bytes()
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert {info.filename for info in archive.infolist() if not info.is_dir()} == set(FILES)
        assert {name: archive.read(name) for name in FILES} == FILES
        assert "empty/" in archive.namelist()
    (tmp_path / "again.zip").write_bytes(made)
    with mounted(tmp_path / "again.zip") as storage:
        assert storage.node("z:a.txt").mtime == 1_234_567_891.0


def test_closing_the_manager_publishes_before_what_it_stands_on_closes(tmp_path: Path) -> None:
    entries = [
        {"name": "base", "type": "local", "path": str(tmp_path)},
        {"name": "outer", "type": "zip", "file": "base:outer.zip", "mode": "w"},
        {"name": "inner", "type": "zip", "file": "outer:inner.zip", "mode": "w"},
    ]
    with StorageManager(entries) as storage:
        storage.node("inner:f").write("deep")
    with zipfile.ZipFile(tmp_path / "outer.zip") as outer:
        assert zipfile.ZipFile(io.BytesIO(outer.read("inner.zip"))).read("f") == b"deep"


def test_change_an_archive(archive: Path) -> None:
    before = archive.read_bytes()
    with mounted(archive, mode="a") as storage:
        storage.node("z:a.txt").write("changed")
        storage.node("z:d/e/c").delete()
        storage.node("z:caf\u00e9").rename("cafes")
        assert archive.read_bytes() == before
        storage.get_backend("z").flush()
        flushed = archive.read_bytes()
        assert flushed != before
        storage.get_backend("z").flush()
        assert archive.read_bytes() == flushed
    assert archive.read_bytes() == flushed
    with zipfile.ZipFile(archive) as read:
        assert read.read("a.txt") == b"changed"
        assert read.read("d/b.bin") == FILES["d/b.bin"]
        assert {"cafes/[x]*.txt", "empty/", "d/e/"} <= set(read.namelist())
        assert "d/e/c" not in read.namelist()


def test_an_archive_changed_by_somebody_else_stays(archive: Path) -> None:
    storage = mounted(archive, mode="a")
    storage.node("z:a.txt").write("ours")
    theirs = packed({"theirs": b"1"})
    archive.write_bytes(theirs)
    with pytest.raises(StorageConflictError):
        storage.get_backend("z").flush()
    assert archive.read_bytes() == theirs
    with pytest.raises(StorageConflictError):
        storage.close()
    assert archive.read_bytes() == theirs


def test_a_mount_that_is_replaced_publishes(tmp_path: Path) -> None:
    file = tmp_path / "new.zip"
    with mounted(file, mode="w") as storage:
        storage.node("z:f").write("kept")
        storage.configure([{"name": "other", "type": "memory"}])
        assert not file.exists()
        storage.configure([{"name": "z", "type": "memory"}])
        assert zipfile.ZipFile(file).read("f") == b"kept"


def test_nothing_is_staged_for_a_place_that_takes_no_writes(tmp_path: Path) -> None:
    entries = [
        {"name": "l", "type": "local", "path": str(tmp_path), "permissions": "readonly"},
        {"name": "z", "type": "zip", "file": "l:new.zip", "mode": "w"},
    ]
    with pytest.raises(StoragePermissionError, match="readonly"):
        StorageManager(entries)


def test_no_descriptor_stays_open(archive: Path) -> None:
    gc.collect()  # what earlier tests left
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with mounted(archive) as storage:
            storage.node("z:a.txt").read_bytes()
            os.utime(archive)
            storage.node("z:a.txt").read_bytes()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_what_nobody_used_is_not_written(tmp_path: Path, archive: Path) -> None:
    before = archive.read_bytes()
    for mode in ("w", "a"):
        mounted(archive, mode=mode).close()
        mounted(tmp_path / "none.zip", mode=mode).close()
        with mounted(archive, mode=mode) as storage:
            storage.node("z:").children()
    assert archive.read_bytes() == before
    assert not (tmp_path / "none.zip").exists()
    with pytest.raises(StorageError):  # nothing that a refused configuration opened is published
        StorageManager(
            [
                {"name": "z", "type": "zip", "file": str(archive), "mode": "w"},
                {"name": "bad", "type": "local", "path": str(tmp_path / "absent")},
            ]
        )
    assert archive.read_bytes() == before


def test_a_failed_pack_keeps_the_old_archive(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = archive.read_bytes()
    storage = mounted(archive, mode="a")
    storage.node("z:new").write("x" * 100_000)
    with monkeypatch.context() as patched:
        patched.setattr("genro_storage.composed.zip.shutil.copyfileobj", _full_disk)
        with pytest.raises(OSError, match="full"):
            storage.get_backend("z").flush()
    assert archive.read_bytes() == before
    assert os.listdir(archive.parent) == [archive.name]
    storage.close()
    assert zipfile.ZipFile(archive).read("new") == b"x" * 100_000


def _full_disk(*_: object) -> None:
    raise OSError(28, "full")


def test_a_fork_publishes_nothing_of_its_parent(archive: Path) -> None:
    before = archive.read_bytes()
    storage = mounted(archive, mode="a")
    storage.node("z:new").write("parent")
    child = os.fork()
    if child == 0:
        try:
            storage.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert archive.read_bytes() == before
    storage.close()
    assert zipfile.ZipFile(archive).read("new") == b"parent"


def test_the_types_of_one_name(archive: Path) -> None:
    assert isinstance(ZipBackend(ZipOptions(file=str(archive))), ZipBackend)
    assert isinstance(ZipBackend(ZipOptions(file=str(archive), mode="a")), StagedZip)
