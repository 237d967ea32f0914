"""The memory backend: the suite of all backends, and whose bytes are whose."""

from __future__ import annotations

import pytest

from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.backends.options import Context
from genro_storage.testing import BackendSuite


def storage(store: str = "", path: str = "", context: Context = Context("m", "manager")) -> MemoryBackend:  # noqa: B008
    return MemoryBackend(MemoryOptions(store=store, path=path), context)


class TestMemory(BackendSuite):
    lacks = frozenset(
        {"free_space", "hashes", "implied_dirs", "keeps_mode", "metadata", "readlink", "surrogates", "symlink"}
    )

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend(MemoryOptions())
