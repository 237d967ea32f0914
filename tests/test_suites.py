"""Every storage type passes the suite that ships with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import table
from genro_storage.backends import StorageBackend
from genro_storage.config import Config
from genro_storage.testing import BackendSuite


def backend_of(**entry: Any) -> StorageBackend:
    """The backend of one mount entry, as a manager builds it."""
    entries = table.entries_of(Config([{"name": "m", **entry}], directory=""))
    return table.Builder("tests", {}).build(entries, table.Table()).mounts["m"].backend


class TestLocal(BackendSuite):
    lacks = frozenset(
        {"content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk", "atomic_if_match"}
    )

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        backend = backend_of(type="local", path=str(tmp_path))
        yield backend
        backend.close()


class TestLocalFollowingLinks(TestLocal):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        backend = backend_of(type="local", path=str(tmp_path), symlinks="follow", fsync=True)
        yield backend
        backend.close()


class TestLocalRefusingLinks(TestLocal):
    lacks = TestLocal.lacks | {"symlink"}

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        backend = backend_of(type="local", path=str(tmp_path), symlinks="refuse")
        yield backend
        backend.close()


class TestRelative(TestLocal):
    """A directory below another mount is a storage like any other."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        backend = backend_of(type="local", path=str(tmp_path)).rooted("deep/down")
        (tmp_path / "deep/down").mkdir(parents=True)
        yield backend
        backend.close()
