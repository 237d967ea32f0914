"""What a caller may ask of a copy or a move, judged when it is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from ..types import Place
from .filters import Filters
from .flow import BUFFER, Cancel
from .pace import bytes_per_second
from .skips import SkipFn, SkipStrategy

Links = Literal["follow", "skip", "copy"]
Verify = Literal["none", "size", "checksum", "read"]
Errors = Literal["continue", "stop", "report"]
Kept = Literal["mtime", "content_type", "metadata", "tags", "mode"]
Progress = Callable[[int, int], object]
Callback = Callable[..., object]
Patterns = str | Sequence[str] | None
Filter = Callable[[Any, str], object]

_FLAGS = (
    "overwrite",
    "into",
    "empty_dirs",
    "dry_run",
    "delete",
    "delete_excluded",
    "allow_empty_source",
    "server_side",
)
SYNC_ONLY = ("delete", "max_delete", "delete_excluded", "allow_empty_source")
MAX_DELETE = "50%"
PART = 8 << 20

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "symlinks": get_args(Links),
    "verify": get_args(Verify),
    "errors": get_args(Errors),
}


class CopyOptions(Struct, frozen=True, kw_only=True):
    """The options of `copy`, `move` and `sync`; a bad value → `ValueError`, an unknown name → `TypeError`.

    `skip`: when an existing file is kept (`SkipStrategy` or its name; None: ``never``, for `sync` ``mtime``);
    `skip_fn(source, target)` decides for ``custom``. `overwrite` False: an existing file that is not skipped is a
    failure `StorageExistsError`. `include`, `exclude`: see `Filters`; `filter(node, relpath)` is asked last, for files;
    both functions are called in the caller's thread.
    `into`: place the source inside the destination, under its own name. `symlinks`: what becomes of links in a tree.
    `preserve`: what goes along with the bytes, where the target can hold it. `content_type`: the type of all that is
    written, instead of its own, where the target keeps types. `verify`: `none`, `size` (bytes read = bytes written =
    size told by the target), `checksum` (also a true hash that either end has), `read` (the target is read again).
    `empty_dirs`: make directories that are empty. `errors`: `continue` and raise at the end, `stop` at the first, or
    only `report`. `dry_run`: nothing is written, the report tells what would be. `backup`: a place (or its
    ``mount:path``) where files go that would be replaced or deleted. `progress(done, total)`: called in the caller's
    thread after each file. `retries`: tries after the first, per file.

    `on_event(TransferEvent)`, `on_file(source)`, `on_skip(source, reason)`, `on_error(source, error)` and
    `on_delete(target)` are called in the caller's thread too, one at a time; one that raises stops the transfer.
    `concurrency`: files at once, ``"auto"`` follows the throughput. `parts`: how many parts of a
    large file move at once, of `part_size` bytes each or more where a storage needs it. `server_side` False: all bytes
    pass through this process, even where the storage could copy. `buffer`: bytes held in memory at once, by all files
    together. `bandwidth`: bytes written to targets per second, a number or text like ``"20MiB/s"``. `deadline`: seconds
    for the whole call, then `StorageTimeoutError`. `cancel`: an object with `is_set()`; once set, `TransferCancelled`.
    `executor`: a `concurrent.futures.Executor` whose workers copy the files.

    `resume`: what was done is remembered until all is, so that the same call goes on after a kill (None: True for
    `sync`, and where a `journal` is given). `journal`: where that is remembered, a `RecordStore`, a `Journal`, or the
    path of a file; None: the one of this user, without which the transfer goes on with a warning.

    For `sync` only: `delete` what the source has not and the filters select; `max_delete`: refuse more deletions than a
    number, or a part of the target's files like ``"50%"`` (which never stops fewer than 100); `delete_excluded`: what
    the filters leave out goes too; `allow_empty_source`: else an empty source never empties a target.
    """

    skip: SkipStrategy | str | None = None
    skip_fn: SkipFn | None = None
    overwrite: bool = True
    include: Patterns = None
    exclude: Patterns = None
    filter: Filter | None = None
    into: bool = False
    symlinks: Links = "follow"
    preserve: Collection[Kept] = ("mtime", "content_type", "metadata")
    content_type: str | None = None
    verify: Verify = "checksum"
    empty_dirs: bool = True
    errors: Errors = "continue"
    dry_run: bool = False
    backup: Place | str | None = None
    delete: bool = False
    max_delete: int | str = MAX_DELETE
    delete_excluded: bool = False
    allow_empty_source: bool = False
    progress: Progress | None = None
    retries: int = 3
    on_event: Callback | None = None
    on_file: Callback | None = None
    on_skip: Callback | None = None
    on_error: Callback | None = None
    on_delete: Callback | None = None
    concurrency: int | Literal["auto"] = "auto"
    parts: int = 4
    part_size: int = PART
    server_side: bool = True
    buffer: int = BUFFER
    bandwidth: float | str | None = None
    deadline: float | None = None
    cancel: Cancel | None = None
    executor: Any = None
    resume: bool | None = None
    journal: Any = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            _judge_choice(name, getattr(self, name), known)
        if isinstance(self.preserve, str) or not isinstance(self.preserve, Collection):
            raise ValueError(f"preserve takes a list of names, not {self.preserve!r}")
        for name in self.preserve:
            _judge_choice("preserve", name, get_args(Kept))
        if self.content_type is not None:
            _judge_type(self.content_type)
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is True or False, not {getattr(self, name)!r}")
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise ValueError(f"retries is a number from 0 up, not {self.retries!r}")
        self._judge_choices_of_files()
        self._judge_engine()
        force_setattr(self, "preserve", frozenset(self.preserve))
        self.filters()

    def _judge_choices_of_files(self) -> None:
        if self.skip is not None:
            _judge_choice("skip", self.skip, tuple(SkipStrategy))
            force_setattr(self, "skip", SkipStrategy(self.skip))
        if self.skip is SkipStrategy.CUSTOM and self.skip_fn is None:
            raise ValueError("skip='custom' requires skip_fn")
        if self.skip_fn is not None and self.skip is not SkipStrategy.CUSTOM:
            raise ValueError("skip_fn is asked only with skip='custom'")
        for name in ("skip_fn", "filter"):
            if (function := getattr(self, name)) is not None and not callable(function):
                raise ValueError(f"{name} is a function, not {function!r}")
        share_of(self.max_delete)
        if not (self.backup is None or isinstance(self.backup, str) or hasattr(self.backup, "mount")):
            raise ValueError(f"backup is a node or its 'mount:path', not {self.backup!r}")

    def _judge_engine(self) -> None:
        if self.progress is not None and not callable(self.progress):
            raise ValueError(f"progress is a function (done, total), not {self.progress!r}")
        for name in ("on_event", "on_file", "on_skip", "on_error", "on_delete"):
            if (callback := getattr(self, name)) is not None and not callable(callback):
                raise ValueError(f"{name} is a function, not {callback!r}")
        if self.concurrency != "auto":
            _judge_positive("concurrency", self.concurrency, int)
        for name in ("parts", "part_size", "buffer"):
            _judge_positive(name, getattr(self, name), int)
        if self.deadline is not None:
            _judge_positive("deadline", self.deadline, int | float)
        if self.bandwidth is not None:
            force_setattr(self, "bandwidth", bytes_per_second(self.bandwidth))
        if self.cancel is not None and not callable(getattr(self.cancel, "is_set", None)):
            raise ValueError(f"cancel is an object with is_set(), as threading.Event, not {self.cancel!r}")
        if self.executor is not None and not callable(getattr(self.executor, "submit", None)):
            raise ValueError(f"executor is a concurrent.futures.Executor, not {self.executor!r}")
        self._judge_resume()

    def _judge_resume(self) -> None:
        if self.resume not in (None, True, False):
            raise ValueError(f"resume is True or False, not {self.resume!r}")
        journal = self.journal
        if journal is None:
            return
        if (
            not isinstance(journal, (str, os.PathLike))
            and not hasattr(journal, "sync")
            and not hasattr(journal, "jobs")
        ):
            raise ValueError(f"journal is a RecordStore, a Journal or the path of a file, not {journal!r}")
        if self.resume is False:
            raise ValueError("journal is used only with resume=True")

    def filters(self) -> Filters:
        """The compiled include and exclude patterns; a bad one → `ValueError`."""
        return Filters(self.include, self.exclude)


def share_of(max_delete: int | str) -> tuple[int | None, float | None]:
    """`max_delete` as (number of files, None) or (None, part of the target's files from 0 to 1)."""
    if isinstance(max_delete, int) and not isinstance(max_delete, bool) and max_delete >= 0:
        return max_delete, None
    if isinstance(max_delete, str) and max_delete.endswith("%"):
        try:
            percent = float(max_delete[:-1])
        except ValueError:
            percent = -1.0
        if 0 <= percent <= 100:
            return None, percent / 100
    raise ValueError(f"max_delete is a number of files or text like '50%', not {max_delete!r}")


def _judge_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")


def _judge_type(value: object) -> None:
    if not (isinstance(value, str) and value.isascii() and value.isprintable() and value.strip("/ ").count("/")):
        raise ValueError(f"content_type is text like 'text/plain', not {value!r}")


def _judge_positive(name: str, value: object, kind: Any) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name} is a number above 0, not {value!r}")


def _judge_names(fields: Mapping[str, Any]) -> None:
    known = CopyOptions.__struct_fields__
    for name in fields:
        if name not in known:
            import difflib  # only failures need it

            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def options_from(options: CopyOptions | None, fields: Mapping[str, Any]) -> CopyOptions:
    """What `copy(…, options=…)` or `copy(…, overwrite=False, …)` means; both at once → `TypeError`."""
    if options is None:
        _judge_names(fields)
        return CopyOptions(**fields)
    if not isinstance(options, CopyOptions):
        raise TypeError(f"options is a CopyOptions, not {type(options).__name__}")
    if fields:
        raise TypeError(f"give options= or its fields, not both: {', '.join(sorted(fields))}")
    return options
