"""Every type of storage has a page: its keys, what it can, what is emulated, what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from genro_storage.backends import _BUILTIN

PAGES = Path(__file__).parents[2] / "docs/backends"


@pytest.mark.parametrize("kind", sorted(_BUILTIN))
def test_its_page_tells_everything(kind: str) -> None:
    page = (PAGES / f"{kind}.rst").read_text(encoding="utf-8").lower()
    assert page.startswith(f"{kind}\n{'=' * len(kind)}\n")
    assert f'type = "{kind}"' in page or f'"type": "{kind}"' in page, "an example of its configuration"
    assert "common-keys" in page
    for word in ("emulated", "requests"):
        assert word in page, word


def test_the_index_names_every_page() -> None:
    index = (PAGES / "index.rst").read_text(encoding="utf-8")
    assert [kind for kind in _BUILTIN if f":doc:`{kind}`" not in index] == []
