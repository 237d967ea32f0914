"""A third party's backend of five simple methods passes the suite: what the base derives from them is enough."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from genro_storage.backends import StorageBackend
from genro_storage.testing import SIMPLE, BackendSuite


class DictBackend(StorageBackend):
    """Files in a dict; directories are implied by the keys."""

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.files: dict[str, bytes] = {}

    def read_bytes(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write_bytes(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def exists(self, path: str) -> bool:
        return path in self.files

    def delete(self, path: str) -> None:
        self.files.pop(path, None)

    def list_dir(self, path: str) -> Iterator[str]:
        start = f"{path}/" if path else ""
        below = [key.removeprefix(start).partition("/") for key in self.files.copy() if key.startswith(start)]
        yield from {name + slash for name, slash, _ in below}


class TestDictBackend(BackendSuite):
    lacks = SIMPLE

    @pytest.fixture
    def backend(self) -> DictBackend:
        return DictBackend()
