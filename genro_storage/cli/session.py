"""What a running command has at hand: the console, the places, and how it goes on after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..exceptions import StorageError
from .console import Console
from .failures import OK, Refused, UsageError, common_code
from .places import Places

if TYPE_CHECKING:
    from ..nodes import StorageNode


class Session:
    """One run of one command."""

    def __init__(self, console: Console, places: Places) -> None:
        self.console = console
        self.places = places

    def each(self, texts: Iterable[str], action: Callable[[StorageNode], object]) -> int:
        """Does something with every path, whatever happens to the others; returns the exit code."""
        codes = set()
        for text in texts:
            try:
                action(self.places.node(text))
                codes.add(OK)
            except (StorageError, Refused, UsageError) as error:
                codes.add(self.console.error(error))
        return common_code(codes)
