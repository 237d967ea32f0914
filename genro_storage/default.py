"""The process's own manager, which `genro_storage.node` and its like use."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from . import config
from .manager import StorageManager, builtin_config
from .nodes import StorageNode
from .transfer import TransferReport
from .verbs.versions import Which

if TYPE_CHECKING:
    from .virtual import VirtualNode

_default: StorageManager | None = None
_default_lock = threading.Lock()


def default_manager() -> StorageManager:
    """The process's own manager, made on first use from the discovered configuration, else the built-in mounts."""
    global _default
    with _default_lock:
        if _default is None:
            found = config.discover()
            manager = StorageManager(urls=True)
            manager._add(found if found is not None else builtin_config())
            _default = manager
        return _default


def set_default_manager(manager: StorageManager | None) -> None:
    """Replaces the default manager; None lets the next use discover again."""
    global _default
    with _default_lock:
        _default = manager


def node(
    path: str | StorageNode | PurePosixPath,
    *parts: str,
    version: Which | None = None,
    as_of: datetime | float | None = None,
) -> StorageNode:
    """`StorageManager.node` of the default manager."""
    return default_manager().node(path, *parts, version=version, as_of=as_of)


def copy(source: str | StorageNode | VirtualNode, dest: str | StorageNode, **options: Any) -> TransferReport:
    """`StorageManager.copy`, on the source's own manager if it is a node, else the default one."""
    return _manager_of(source, dest).copy(source, dest, **options)


def move(source: str | StorageNode, dest: str | StorageNode, **options: Any) -> TransferReport:
    """`StorageManager.move`, on the source's own manager if it is a node, else the default one."""
    return _manager_of(source, dest).move(source, dest, **options)


def sync(source: str | StorageNode, dest: str | StorageNode, **options: Any) -> TransferReport:
    """`StorageManager.sync`, on the source's own manager if it is a node, else the default one."""
    return _manager_of(source, dest).sync(source, dest, **options)


def compare(a: str | StorageNode, b: str | StorageNode, by: str = "hash", **options: Any) -> TransferReport:
    """`StorageManager.compare`, on the first one's own manager if it is a node, else the default one."""
    return _manager_of(a, b).compare(a, b, by, **options)


def _manager_of(*places: str | StorageNode | VirtualNode) -> StorageManager:
    return next((place.manager for place in places if not isinstance(place, str)), None) or default_manager()
