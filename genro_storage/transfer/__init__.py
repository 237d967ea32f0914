"""Copy, move and rename between any two places: a pure plan, a bounded engine, a report."""

from __future__ import annotations

from typing import Any

from ..types import Place
from .call import Call
from .crew import flow_of
from .events import TransferEvent
from .inline import into_path
from .landing import landed
from .options import CopyOptions, options_from
from .places import same_place
from .rename import rename
from .report import Failure, TransferReport

__all__ = ["CopyOptions", "Failure", "TransferEvent", "TransferReport", "copy", "move", "rename", "same_place"]


def copy(
    source: Place, target: Place, *, options: CopyOptions | None = None, slash: bool = False, **fields: Any
) -> TransferReport:
    """Copies a file or a directory; see `CopyOptions` for the options, `landing` for where things land.

    `slash`: the destination was text ending in "/", so that a file goes below it. The report's `target_path` is the
    path in the target's mount where the source went. Raises what went wrong with a single file or with the two places
    themselves, `StorageTransferError` with `.report` if entries of a tree failed.
    """
    given = options_from(options, fields)
    if target.mount.features.literal:
        return into_path(source, target)
    return _transfer("copy", source, target, given, slash)


def move(
    source: Place, target: Place, *, options: CopyOptions | None = None, slash: bool = False, **fields: Any
) -> TransferReport:
    """As `copy`, and each source goes once its copy is proven; what is skipped or fails stays."""
    given = options_from(options, fields)
    if given.verify == "none":
        raise ValueError("verify='none' cannot be used with a move: the source goes only once its copy is proven")
    return _transfer("move", source, target, given, slash)


def _transfer(operation: str, source: Place, target: Place, options: CopyOptions, slash: bool) -> TransferReport:
    flow = flow_of(options)
    landing = flow.waited(lambda: landed(source, target, options, slash=slash, moving=operation == "move"))
    return Call(operation, landing, options, (source, target), flow).run()
