"""Mounts whose root a function tells at every operation, the same for all paths or one for each first segment."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from typing import Any, Self

from .. import paths
from ..exceptions import StorageError, StorageNotFoundError, StoragePathError
from .base import StorageBackend
from .forwarding import Forwarding

Resolve = Callable[..., Any]


class Switched(Forwarding):
    """Asks `resolve` where the root is, never remembering what it said.

    Without parameters it tells one base for all paths; with one it gets the first segment ("" for the root) and tells
    the base for the rest. A base is a path inside `prototype`, or for `absolute` storages a directory that `opened`
    opens. `LookupError` or None: there is no such base.
    """

    def __init__(
        self, prototype: StorageBackend, resolve: Resolve, opened: Callable[[str], StorageBackend] | None = None
    ) -> None:
        super().__init__(prototype.options)
        self.prototype = prototype
        self.root = ""
        self.context = prototype.context
        self._resolve = resolve
        self._by_segment = bool(inspect.signature(resolve).parameters)
        # What is opened is a directory, not the answer of `resolve`: keeping it open keeps nothing stale.
        self._opened = lru_cache(maxsize=128)(opened) if opened else None

    def rooted(self, path: str) -> Self:
        twin = copy(self)
        twin.root = paths.join(self.root, path, rules=paths.Rules(True, True))
        return twin

    def route(self, path: str) -> tuple[StorageBackend, str]:
        full = f"{self.root}/{path}" if self.root and path else self.root or path
        first, _, rest = full.partition("/") if self._by_segment else ("", "", full)
        base = self._base(first)
        if self._opened is not None:
            return self._opened(base), rest
        below = _inside(base)
        return self.prototype, f"{below}/{rest}" if below and rest else below or rest

    def _base(self, segment: str) -> str:
        try:
            base = self._resolve(segment) if self._by_segment else self._resolve()
        except LookupError as error:
            raise StorageNotFoundError(f"nothing is known for '{segment}'") from error
        except Exception as error:
            raise StorageError(f"the function that tells the path failed: {error}") from error
        if base is None:
            raise StorageNotFoundError(f"nothing is known for '{segment}'")
        return str(base)


def _inside(base: str) -> str:
    try:
        return paths.normalise(base.strip("/"))
    except StoragePathError as error:
        raise StoragePathError(f"Path escapes base directory: {base!r}") from error
