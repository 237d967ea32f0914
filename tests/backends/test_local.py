"""The local backend: the suite of all backends, and what only a file system has."""

from __future__ import annotations

from pathlib import Path

import pytest

from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.testing import BackendSuite


def storage(path: Path, **keys: object) -> LocalStorage:
    return LocalStorage(LocalOptions(path=str(path), **keys))  # type: ignore[arg-type]


class TestLocal(BackendSuite):
    lacks = frozenset(
        {"atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk"}
    )

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalStorage:
        return storage(tmp_path)
