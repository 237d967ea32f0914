"""A clean place for examples: an empty current directory, no home, no configuration, a fresh default manager."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import genro_storage

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty directory in which an example runs; the modules of docs/examples can be imported."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in ("GENRO_STORAGE_CONFIG", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEMP_FILE_BASE_DIR", str(tmp_path / "temp"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    genro_storage.set_default_manager(None)
    yield tmp_path / "here"
    made = genro_storage.default_manager()
    genro_storage.set_default_manager(None)
    made.close()
