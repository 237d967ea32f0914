"""What a running command has at hand: the console, the places, and how it goes on after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from ..exceptions import StorageError
from .console import Console
from .failures import OK, CommandError, common_code
from .places import Places

if TYPE_CHECKING:
    from ..nodes import StorageNode


class Session:
    """One run of one command."""

    def __init__(self, console: Console, places: Places) -> None:
        self.console = console
        self.places = places

    def attempt(self, action: Callable[[], int | None]) -> int:
        """Does something and returns its exit code, that of its failure if it fails."""
        try:
            return action() or OK
        except (StorageError, CommandError) as error:
            return self.console.error(error)

    def each(self, texts: Iterable[str], action: Callable[[StorageNode], int | None]) -> int:
        """Does something with every path, whatever happens to the others; returns one exit code for all."""

        def one(text: str) -> int | None:
            return action(self.places.node(text))

        return common_code({self.attempt(partial(one, text)) for text in texts})
