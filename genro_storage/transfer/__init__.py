"""Copy, move, synchronise and compare any two places: a pure plan, a bounded engine, a report."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ..types import Place
from .call import Call
from .crew import flow_of
from .events import TransferEvent
from .inline import into_path
from .landing import closed, compared, landed
from .listing import OutOfOrder
from .options import SYNC_ONLY, CopyOptions, options_from
from .places import same_place
from .rename import rename
from .report import Failure, ReportedAction, TransferReport
from .skips import SkipStrategy

__all__ = [
    "CopyOptions",
    "Failure",
    "ReportedAction",
    "SkipStrategy",
    "TransferEvent",
    "TransferReport",
    "compare",
    "copy",
    "move",
    "rename",
    "same_place",
    "sync",
]

COMPARISONS = ("hash", "size", "mtime")
COMPARING = frozenset(
    {
        *("include", "exclude", "filter", "symlinks", "errors", "progress", "on_event", "on_skip", "on_error"),
        *("concurrency", "buffer", "retries", "deadline", "cancel", "executor"),
    }
)
"""The options that mean something to a comparison."""
_DEFAULTS = CopyOptions()


def copy(
    source: Place, target: Place, *, options: CopyOptions | None = None, slash: bool = False, **fields: Any
) -> TransferReport:
    """Copies a file or a directory; see `CopyOptions` for the options, `landing` for where things land.

    `slash`: the destination was text ending in "/", so that a file goes below it. The report's `target_path` is the
    path in the target's mount where the source went. Raises what went wrong with a single file or with the two places
    themselves, `StorageTransferError` with `.report` if entries of a tree failed.
    """
    given = _of_one_way("copy", options_from(options, fields))
    if target.mount.features.literal:
        return into_path(source, target)
    return _transfer("copy", source, target, given, slash)


def move(
    source: Place, target: Place, *, options: CopyOptions | None = None, slash: bool = False, **fields: Any
) -> TransferReport:
    """As `copy`, and each source goes once its copy is proven; what is skipped or fails stays."""
    given = _of_one_way("move", options_from(options, fields))
    if given.verify == "none":
        raise ValueError("verify='none' cannot be used with a move: the source goes only once its copy is proven")
    return _transfer("move", source, target, given, slash)


def sync(
    source: Place, target: Place, *, options: CopyOptions | None = None, slash: bool = False, **fields: Any
) -> TransferReport:
    """Makes the directory `target` hold what the directory `source` holds; with `delete` nothing else.

    As `copy`, but a file that the target has with equal size and time is skipped unless `skip` says otherwise. Raises
    `StorageTransferError` where a guard refuses to delete. `slash` means nothing: a directory lands as it is named.
    """
    given = options_from(options, fields)
    if given.skip is None:
        given = replace(given, skip=SkipStrategy.MTIME)
    return _transfer("sync", source, target, given, slash)


def compare(
    source: Place, target: Place, *, by: str = "hash", options: CopyOptions | None = None, **fields: Any
) -> TransferReport:
    """What is the same on both sides, what differs, what only one has; writes nothing.

    `by`: ``hash``, ``size`` or ``mtime``, as the strategies of `SkipStrategy`. Of the options those count that choose
    files or tell of them. Paths come to `on_event`, those of differences also into the report's `actions`.
    """
    if by not in COMPARISONS:
        raise ValueError(f"by: {by!r} is not one of {', '.join(COMPARISONS)}")
    given = options_from(options, fields)
    if meaningless := [name for name in given.__struct_fields__ if name not in COMPARING and _is_set(given, name)]:
        raise TypeError(f"a comparison takes no {', '.join(meaningless)}")
    given = replace(given, skip=SkipStrategy(by), overwrite=True, delete=True, dry_run=True)
    try:
        return _compare(source, target, given)
    except OutOfOrder:
        return _compare(source, target, given, by_level=True)


def _compare(source: Place, target: Place, options: CopyOptions, by_level: bool = False) -> TransferReport:
    flow = flow_of(options)
    landing = flow.waited(lambda: compared(source, target))
    return Call("compare", landing, options, (source, target), flow, by_level=by_level).run()


def _of_one_way(operation: str, options: CopyOptions) -> CopyOptions:
    """The options, without those that only a synchronisation knows."""
    if wrong := [name for name in SYNC_ONLY if _is_set(options, name)]:
        raise TypeError(f"{operation} takes no {', '.join(wrong)}: that is for sync")
    return options


def _is_set(options: CopyOptions, name: str) -> bool:
    return bool(getattr(options, name) != getattr(_DEFAULTS, name))


def _transfer(operation: str, source: Place, target: Place, options: CopyOptions, slash: bool) -> TransferReport:
    flow = flow_of(options)
    landing = flow.waited(lambda: landed(source, target, options, slash=slash, operation=operation), closed)
    return Call(operation, landing, options, (source, target), flow).run()
