"""The third-party backend of docs/howto/backend.rst: it is short, and it passes the suite that it shows."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))

from test_sqlite_backend import TestSqliteBackend  # noqa: E402, F401 - collected here

MOST_LINES = 60


def test_it_is_short() -> None:
    files = ("sqlite_backend.py", "test_sqlite_backend.py")
    code = [line for file in files for line in (EXAMPLES / file).read_text().splitlines() if line.strip()]
    assert len(code) <= MOST_LINES
