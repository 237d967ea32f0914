"""Facts about a file as JSON has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .console import utc_time
from .places import name_of

if TYPE_CHECKING:
    from ..nodes import StorageNode
    from ..types import Stat


def kind_of(entry: Stat) -> str:
    """``file``, ``directory`` or ``other``; a link is what it leads to."""
    return "directory" if entry.is_dir else "other" if entry.is_other else "file"


def facts_of(node: StorageNode, entry: Stat) -> dict[str, Any]:
    """Path, type, size and time always (null if unknown), the rest where it is known; times in UTC."""
    known: dict[str, Any] = {
        "created": utc_time(entry.created),
        "symlink": entry.is_symlink,
        "etag": entry.etag,
        "content_type": entry.content_type,
        "hashes": dict(entry.hashes),
        "version_id": entry.version_id,
        "mode": None if entry.mode is None else f"{entry.mode:04o}",
        "storage_class": entry.storage_class,
        "metadata": dict(entry.metadata or {}),
    }
    size = None if entry.is_dir else entry.size
    always = {"path": name_of(node), "type": kind_of(entry), "size": size, "mtime": utc_time(entry.mtime)}
    return always | {key: value for key, value in known.items() if value}
