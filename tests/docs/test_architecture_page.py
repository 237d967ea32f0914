"""The map of the house names only what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "genro_storage"


def test_every_module_on_the_page_exists() -> None:
    page = (ROOT / "docs/architecture.rst").read_text()
    named = set(re.findall(r"``((?:\w+/)*\w+\.py|(?:\w+/)+)``", page))
    assert len(named) > 50
    places = (PACKAGE, PACKAGE / "transfer", PACKAGE / "backends", ROOT)
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()


def test_the_walk_of_a_transfer_passes_its_modules() -> None:
    """Those of a step of their own: what only helps one of them may stay unnamed."""
    page = (ROOT / "docs/architecture.rst").read_text()
    for name in ("call", "landing", "plan", "engine", "files", "stream", "parallel", "proof", "resume", "report"):
        assert f"``{name}.py``" in page
