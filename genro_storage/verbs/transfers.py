"""Transfers between what a user names: nodes, or paths that a manager resolves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from .. import transfer
from ..transfer import CopyOptions, TransferReport

if TYPE_CHECKING:
    from ..manager import StorageManager
    from ..nodes import StorageNode


def transferred(
    manager: StorageManager, operation: str, source: str | StorageNode, dest: str | StorageNode, options: dict[str, Any]
) -> tuple[StorageNode, TransferReport]:
    """Copies, moves or synchronises; returns the node where it went, and the report."""
    start, end = _node(manager, source), _node(manager, dest)
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


def _resolved(manager: StorageManager, options: dict[str, Any]) -> dict[str, Any]:
    """The options with `backup`, which may be a path, as a node."""
    given = options.get("options")
    if isinstance(given, CopyOptions) and isinstance(given.backup, str):
        return {**options, "options": replace(given, backup=manager.node(given.backup))}
    backup = options.get("backup")
    return {**options, "backup": manager.node(backup)} if isinstance(backup, str) else options
