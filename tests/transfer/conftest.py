"""Mounts to move bytes between, and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.transfer import files


def local_mount(name: str, base: Path, **options: str) -> Mount:
    base.mkdir(exist_ok=True)
    return Mount(name, LocalStorage(LocalOptions(path=str(base), **options)))


def memory_mount(name: str = "m") -> Mount:
    return Mount(name, MemoryBackend(MemoryOptions()))


@pytest.fixture
def local(tmp_path: Path) -> Mount:
    return local_mount("l", tmp_path / "l")


@pytest.fixture
def other(tmp_path: Path) -> Mount:
    """A second local mount, of another directory."""
    return local_mount("other", tmp_path / "other")


@pytest.fixture
def memory() -> Mount:
    return memory_mount()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(files, "RetryPolicy", lambda retries, sleep: RetryPolicy(retries, 0.0, sleep))
