"""The command `genro-storage`: the library's verbs for a shell; everything heavy is imported when a verb needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .app import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; `arguments` without the program's name, by default those of the process."""
    return run(sys.argv[1:] if arguments is None else list(arguments))
