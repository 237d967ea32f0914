"""Transfers between what a user names: nodes, or paths that a manager resolves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from .. import transfer
from ..exceptions import UnsupportedOperation
from ..transfer import CopyOptions, TransferReport
from ..transfer.options import options_from

if TYPE_CHECKING:
    from ..manager import StorageManager
    from ..nodes import StorageNode
    from ..virtual import VirtualNode


def transferred(
    manager: StorageManager,
    operation: str,
    source: str | StorageNode | VirtualNode,
    dest: str | StorageNode,
    options: dict[str, Any],
) -> tuple[StorageNode, TransferReport]:
    """Copies, moves or synchronises; returns the node where it went, and the report."""
    if _is_virtual(dest):
        raise UnsupportedOperation("Cannot write to virtual node (no path)", operation=operation)
    if _is_virtual(source):
        return _poured(manager, operation, cast("VirtualNode", source), dest, options)
    start, end = _node(manager, cast("str | StorageNode", source)), _node(manager, dest)
    slash = isinstance(dest, str) and dest.endswith("/")
    report = getattr(transfer, operation)(start, end, slash=slash, **_resolved(manager, options))
    return end if report.target_path == end.path else end.sibling(report.target_path), report


def compared(
    manager: StorageManager, a: str | StorageNode, b: str | StorageNode, by: str, options: dict[str, Any]
) -> TransferReport:
    """Compares two files or trees."""
    return transfer.compare(_node(manager, a), _node(manager, b), by=by, **options)


def _node(manager: StorageManager, place: str | StorageNode) -> StorageNode:
    return manager.node(place) if isinstance(place, str) else place


def _is_virtual(place: object) -> bool:
    return not isinstance(place, str) and not hasattr(place, "mount")


def _poured(
    manager: StorageManager, operation: str, source: VirtualNode, dest: str | StorageNode, options: dict[str, Any]
) -> tuple[StorageNode, TransferReport]:
    """A virtual node, which is no place, is written as one file; of the options only `overwrite` means something."""
    if operation != "copy":
        raise UnsupportedOperation(f"a virtual node can only be copied: it has no path to {operation}")
    given = options_from(options.get("options"), {name: value for name, value in options.items() if name != "options"})
    if given != CopyOptions(overwrite=given.overwrite):
        raise TypeError("the copy of a virtual node takes no option but overwrite")
    end = _node(manager, dest)
    if given.overwrite is False and end.exists:
        raise end.already_exists()
    report = TransferReport("copy", repr(source), end.fullpath, end.path)
    landed = source.copy_to(dest if isinstance(dest, str) else end)
    report.files_copied, report.bytes_copied, report.finished = 1, landed.size, time.time()
    return landed, report


def _resolved(manager: StorageManager, options: dict[str, Any]) -> dict[str, Any]:
    """The options with `backup`, which may be a path, as a node."""
    given = options.get("options")
    if isinstance(given, CopyOptions) and isinstance(given.backup, str):
        return {**options, "options": replace(given, backup=manager.node(given.backup))}
    backup = options.get("backup")
    return {**options, "backup": manager.node(backup)} if isinstance(backup, str) else options
