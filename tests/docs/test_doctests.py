"""Every example in README.rst and docs/ runs, in an empty directory, and prints what the page says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(page: Path) -> doctest.DocTest:
    """All examples of a page, as one session."""
    return doctest.DocTestParser().get_doctest(page.read_text(encoding="utf-8"), {}, page.name, str(page), 0)


WITH_EXAMPLES = [page for page in PAGES if examples(page).examples]


@pytest.mark.usefixtures("clean_place")
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_of(page: Path) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(examples(page), out=said.append)
    assert result.failed == 0, "".join(said)


def test_the_pages_that_teach_have_examples() -> None:
    taught = {page.relative_to(ROOT).as_posix(): len(examples(page).examples) for page in PAGES}
    assert taught["README.rst"] >= 15
    assert taught["docs/tutorial.rst"] >= 40


def test_no_example_is_switched_off() -> None:
    """`+SKIP` and shell prompts hide in prose; an example that does not run is a `code-block`."""
    assert [page.name for page in PAGES if re.search(r"doctest:.*SKIP", page.read_text(encoding="utf-8"))] == []
