"""The command `genro-storage`: the library's verbs for a shell; everything heavy is imported when a verb needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .app import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; `arguments`: what follows the program's name, None for `sys.argv`."""
    return run(sys.argv[1:] if arguments is None else list(arguments))
