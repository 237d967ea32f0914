"""What a caller may ask of a copy or a move, judged when it is said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from .filters import Filters

Links = Literal["follow", "skip", "copy"]
Verify = Literal["none", "size", "checksum", "read"]
Errors = Literal["continue", "stop", "report"]
Kept = Literal["mtime", "content_type", "metadata", "mode"]
Progress = Callable[[int, int], object]
Patterns = str | Sequence[str] | None

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "symlinks": get_args(Links),
    "verify": get_args(Verify),
    "errors": get_args(Errors),
}


class CopyOptions(Struct, frozen=True, kw_only=True):
    """The options of `copy` and `move`; a bad value → `ValueError`, an unknown name → `TypeError`.

    `overwrite` False: an existing file is a failure `StorageExistsError`. `include`, `exclude`: see `Filters`.
    `into`: place the source inside the destination, under its own name. `symlinks`: what becomes of links in a tree.
    `preserve`: what goes along with the bytes, where the target can hold it. `verify`: `none`, `size` (bytes read =
    bytes written = size told by the target), `checksum` (also a true hash that either end has), `read` (the target is
    read again). `empty_dirs`: make directories that are empty. `errors`: `continue` and raise at the end, `stop` at the
    first, or only `report`. `progress(done, total)`: called in the caller's thread after each file. `retries`: tries
    after the first, per file.
    """

    overwrite: bool = True
    include: Patterns = None
    exclude: Patterns = None
    into: bool = False
    symlinks: Links = "follow"
    preserve: Collection[Kept] = ("mtime", "content_type", "metadata")
    verify: Verify = "checksum"
    empty_dirs: bool = True
    errors: Errors = "continue"
    progress: Progress | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            _judge_choice(name, getattr(self, name), known)
        if isinstance(self.preserve, str):
            raise ValueError(f"preserve takes a list of names, not the text {self.preserve!r}")
        for name in self.preserve:
            _judge_choice("preserve", name, get_args(Kept))
        for name in ("overwrite", "into", "empty_dirs"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is True or False, not {getattr(self, name)!r}")
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise ValueError(f"retries is a number from 0 up, not {self.retries!r}")
        if self.progress is not None and not callable(self.progress):
            raise ValueError(f"progress is a function (done, total), not {self.progress!r}")
        force_setattr(self, "preserve", frozenset(self.preserve))
        self.filters()

    def filters(self) -> Filters:
        """The compiled include and exclude patterns; a bad one → `ValueError`."""
        return Filters(self.include, self.exclude)


def _judge_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")


def options_from(options: CopyOptions | None, fields: Mapping[str, Any]) -> CopyOptions:
    """What `copy(…, options=…)` or `copy(…, overwrite=False, …)` means; both at once → `TypeError`."""
    if options is None:
        return CopyOptions(**fields)
    if not isinstance(options, CopyOptions):
        raise TypeError(f"options is a CopyOptions, not {type(options).__name__}")
    if fields:
        raise TypeError(f"give options= or its fields, not both: {', '.join(sorted(fields))}")
    return options
