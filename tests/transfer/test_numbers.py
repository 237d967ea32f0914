"""Each number of the specification of transfers, T01 to T49, is carried by the name or the first words of a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPECTED = {f"T{number:02}" for number in range(1, 50)}
FOLDERS = ("tests", "genro_storage/testing")


def carried(path: Path) -> Iterator[str]:
    """The numbers that the tests of a file carry: ``test_t07_…``, or ``T07`` in the docstring of a test."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r"\bT\d\d\b|_t\d\d", text):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield from (name.upper() for name in re.findall(r"(?<=_)t\d\d(?=_|$)", node.name))
            yield from re.findall(r"\bT\d\d\b", ast.get_docstring(node) or "")


def test_every_number_has_a_test() -> None:
    found = {number for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") for number in carried(path)}
    assert found == EXPECTED
