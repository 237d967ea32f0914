"""Backends that hold what no process can send: elsewhere they are made anew from their options."""

from __future__ import annotations

from typing import Any, Self

from .base import StorageBackend
from .options import Context


class PortableBackend(StorageBackend):
    """Picklable by options, context and root; a rooted twin shares all that its backend holds."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.options, self.context, self.root)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))  # not by `__reduce__`, which would connect anew
        twin.__dict__.update(self.__dict__)
        return twin


def _rebuilt(cls: type[PortableBackend], options: Any, context: Context, root: str) -> PortableBackend:
    backend = cls(options, context)
    backend.root = root
    return backend
