"""The suite of all backends over read-only archives: what is written goes into a folder, and is packed to be read."""

from __future__ import annotations

import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage.backends.base import BackendReader, BackendWriter, StorageBackend
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.composed.archive import ArchiveBackend
from genro_storage.composed.libarchive import LibarchiveBackend
from genro_storage.composed.tar import TarBackend
from genro_storage.composed.zip import ZipBackend
from genro_storage.exceptions import UnsupportedOperation
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.testing.writing import NAMES
from genro_storage.types import PLAIN, Stat, WriteOptions

LACKS = OBJECT_STORE | {
    *(
        "atomic_if_absent",
        "atomic_if_match",
        "content_type",
        "copy_from",
        "delete_many",
        "edit",
        "free_space",
        "parts",
        "unfinished",
        "hashes",
    ),
    *("if_absent", "if_match", "implied_dirs", "keeps_mode", "keeps_mtime", "metadata", "readlink", "rename_from"),
    *("set_mode", "set_mtime", "symlink", "walk"),
}


class Packed(StorageBackend):
    """Writes into a folder; reads from an archive of it, packed anew after every change."""

    def __init__(self, folder: LocalStorage, archive: ArchiveBackend, base: Path, kind: str) -> None:
        super().__init__(archive.options)
        self._folder, self._archive, self._base, self._kind = folder, archive, base, kind
        self._state: dict[str, Any] = {"lock": threading.RLock(), "changed": True}
        self.features = replace(archive.features, readonly=False)

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"mkdir", "rmdir"})

    @property
    def storage_id(self) -> str:
        return self._archive.storage_id

    def native_path(self, path: str) -> str:
        return self._archive.native_path(path)

    def rooted(self, path: str) -> Packed:
        twin = Packed(self._folder.rooted(path), self._archive.rooted(path), self._base, self._kind)
        twin._state = self._state
        return twin

    def _read(self) -> ArchiveBackend:  # type: ignore[override]
        with self._state["lock"]:
            if self._state["changed"]:
                _pack(self._base, self._kind)
                self._state["changed"] = False
        return self._archive

    def _write(self) -> LocalStorage:
        self._state["changed"] = True
        return self._folder

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        with self._state["lock"]:
            return self._read().stat(path, version=version)

    def scan(self, path: str, **how: Any) -> Iterator[Sequence[Stat]]:
        with self._state["lock"]:
            return iter(list(self._read().scan(path, **how)))

    def reader(self, path: str, start: int = 0, end: int | None = None, **how: Any) -> BackendReader:
        with self._state["lock"]:
            return self._read().reader(path, start, end, **how)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        with self._state["lock"]:
            return _told(self._write().put(path, data, _plain(options)))

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        writer = self._folder.writer(path, _plain(options))
        commit = writer.commit

        def committed(*given: Any) -> Stat:
            with self._state["lock"]:
                self._write()
                return _told(commit(*given))

        return _Committing(writer, committed)

    def delete(self, path: str, **how: Any) -> None:
        with self._state["lock"]:
            self._write().delete(path, **how)

    def mkdir(self, path: str) -> None:
        with self._state["lock"]:
            self._write().mkdir(path)

    def rmdir(self, path: str) -> None:
        with self._state["lock"]:
            self._write().rmdir(path)


def _plain(options: WriteOptions) -> WriteOptions:
    if options.if_absent or options.if_match is not None:
        raise UnsupportedOperation("this storage has no conditional writes")
    return options


def _told(stat: Stat) -> Stat:
    """What an archive could tell: neither the etag nor the exact time that the folder has."""
    return replace(stat, etag=None, mtime=None)


class _Committing:
    def __init__(self, writer: BackendWriter, commit: Any) -> None:
        self.write, self.discard, self.commit = writer.write, writer.discard, commit


def _pack(base: Path, kind: str) -> None:
    """A new file takes the old one's place, as archives are replaced by others."""
    new = base / "new"
    paths = sorted(path for path in (base / "tree").rglob("*") if not path.name.startswith(".genro-"))
    if kind == "zip":
        with zipfile.ZipFile(new, "w") as archive:
            for path in paths:
                archive.write(path, path.relative_to(base / "tree"))
    else:
        with tarfile.open(new, "w:gz" if kind == "gzip" else "w") as tar:
            for path in paths:
                tar.add(path, str(path.relative_to(base / "tree")), recursive=False)
    new.replace(base / "archive")


def packed(base: Path, kind: str) -> Packed:
    (base / "tree").mkdir()
    (base / "archive").touch()
    cls: Any = {"zip": ZipBackend, "libarchive": LibarchiveBackend}.get(kind, TarBackend)
    archive = cls(cls.Options(file=str(base / "archive")))
    return Packed(LocalStorage(LocalOptions(path=str(base / "tree"))), archive, base, kind)


class Archive(BackendSuite):
    lent = frozenset({"mkdir", "rmdir"})
    written_by = "a folder, packed anew"


class TestZip(Archive):
    lacks = LACKS | {"surrogates"}

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return packed(tmp_path, "zip")


class TestTar(Archive):
    lacks = LACKS

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return packed(tmp_path, "tar")


class TestTarGzip(Archive):
    lacks = LACKS

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return packed(tmp_path, "gzip")


class TestLibarchive(Archive):
    lacks = LACKS
    names = tuple(name for name in NAMES if name != "cafe\u0301")  # libarchive composes the names of pax archives

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return packed(tmp_path, "libarchive")
