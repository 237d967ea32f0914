"""The faces that special mounts carry: temporary files, scratch space, sessions, checkpoints."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, cast

from .backends import imported
from .exceptions import StorageConfigError, StorageError
from .mount import Mount
from .table import Table

if TYPE_CHECKING:
    from .manager import StorageManager
    from .nodes import StorageNode
    from .sessions.langgraph import GenroCheckpointSaver
    from .sessions.store import SessionStore
    from .tempfiles import TempFileManager


class SpecialMounts:
    """What a manager gives besides nodes; each is carried by the backend of its mount."""

    _table: Table

    def _mount(self, name: str) -> Mount:
        raise NotImplementedError

    def temp(self, name: str = "temp") -> TempFileManager:
        """The manager of temporary files behind a mount of type temp; its `node` gives new nodes there."""
        found = getattr(self._mount(name).backend, "temp_manager", None)
        if found is None:
            raise StorageConfigError(f"mount '{name}' is not of type temp")
        found.make_node = _nodes_of(cast("StorageManager", self), name)
        return cast("TempFileManager", found)

    def sessions(self, name: str = "sessions") -> SessionStore:
        """The session store behind a mount of type sessions: one per mount, opened by its first call."""
        found = getattr(self._mount(name).backend, "store", None)
        if found is None:
            raise StorageConfigError(f"mount '{name}' is not of type sessions")
        return cast("SessionStore", found)

    def checkpointer(self, name: str = "sessions") -> GenroCheckpointSaver:
        """A LangGraph checkpointer over the store of `sessions`; needs the extra ``langgraph``."""
        store = self.sessions(name)
        saver = imported("langgraph", "genro_storage.sessions.langgraph:GenroCheckpointSaver")
        return cast("GenroCheckpointSaver", saver(store))

    @cached_property
    def _own_scratch(self) -> TempFileManager:
        from .tempfiles import TempFileManager

        return TempFileManager()

    @property
    def scratch(self) -> TempFileManager:
        """Where files for programs are born: a temp mount with ``scratch``, else that named ``temp``, else our own."""
        mounts = self._table.mounts
        chosen = [mount for mount in mounts.values() if getattr(mount.backend, "is_scratch", False)]
        mount = chosen[0] if chosen else mounts.get("temp")
        found = getattr(mount.backend, "temp_manager", None) if mount else None
        return self._own_scratch if found is None else found


def _nodes_of(manager: StorageManager, mount: str) -> Callable[[str], StorageNode]:
    """Makes nodes of a mount, and does not keep its manager: a mount is kept by its manager."""
    found = weakref.ref(manager)

    def make(name: str) -> StorageNode:
        manager = found()
        if manager is None:
            raise StorageError(f"the manager of mount '{mount}' is gone")
        return manager.node(f"{mount}:{name}")

    return make
