"""What the README promises at its very top: two commands are all the set-up."""

from __future__ import annotations

import re
from pathlib import Path

import docutils.core
import docutils.utils

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
INSTALL_AND_COPY = (
    'python3 -m venv .venv && .venv/bin/pip install -q ".[test]" && '
    ".venv/bin/genro-storage cp -r genro_storage memory:genro_storage --verify read"
)
TEST = ".venv/bin/python -m pytest"


def shell_blocks() -> list[str]:
    """The content of each shell block, in order."""
    blocks = re.findall(r"\.\. code-block:: shell\n\n((?:   .*\n|\n)+)", README)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE).strip() for block in blocks]


def test_the_first_two_commands() -> None:
    assert shell_blocks()[:2] == [INSTALL_AND_COPY, TEST]


def test_ci_calls_the_same_tests() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert TEST.removeprefix(".venv/bin/") in ci
    assert '".[test]"' in ci


def test_it_is_plain_rest() -> None:
    """The package index renders it with docutils alone: no directive or role of Sphinx."""
    settings = {"report_level": 2, "halt_level": 2, "file_insertion_enabled": False}
    docutils.core.publish_string(README, writer="html5", settings_overrides=settings)


def test_every_file_it_sends_to_exists() -> None:
    named = re.findall(r"``(docs/[\w./-]*)``", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
