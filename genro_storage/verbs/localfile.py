"""`local_path`: a real file for programs that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import paths
from ..backends import backend_class
from ..exceptions import StorageNotFoundError
from ..mount import Level, Mount
from . import content

if TYPE_CHECKING:
    from ..nodes import StorageNode


@contextmanager
def local_path(node: StorageNode, mode: str) -> Iterator[str]:
    """The path of a real file; see `StorageNode.local_path`."""
    if mode not in ("r", "w", "rw"):
        raise ValueError(f"local_path mode is 'r', 'w' or 'rw', not {mode!r}")
    mount = node.mount
    if "w" in mode:
        content.refuse_snapshot(node)
        mount.judge(node.path, "local_path")
    own = mount.local_path(node.path) if node.version is None else None
    if own is not None:
        yield _own(node, own, mode)
    else:
        yield from _fetched(node, mode)


def _own(node: StorageNode, own: str, mode: str) -> str:
    if mode == "r" and not node.mount.exists(node.path):
        raise node.not_found()
    if "w" in mode and (above := paths.parent(node.path)):
        node.mount.mkdir(above, parents=True, exist_ok=True)
    return own


def _fetched(node: StorageNode, mode: str) -> Iterator[str]:
    from .. import transfer  # with the whole engine, which most programs do without here

    manager = node.manager
    stat = _known(node) if "r" in mode else None
    if stat is None and mode == "r":
        raise node.not_found()
    size = stat.size if stat else None
    with manager.scratch.scratch(_file_name(node), size=size) as path:
        place = ScratchPlace(path)
        if stat is not None:
            transfer.copy(node, place)
        before = _identity(path)
        yield path
        if "w" in mode and _identity(path) not in (None, before):
            transfer.copy(place, node)


def _file_name(node: StorageNode) -> str:
    return node.basename if node.basename and not node.mount.features.literal else "file"


def _known(node: StorageNode):  # type: ignore[no-untyped-def]
    try:
        return node.mount.stat_file(node.path, version=node.version)
    except StorageNotFoundError:
        return None


def _identity(path: str) -> tuple[int, int, int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class ScratchPlace:
    """A file in a scratch directory as a place that transfer can read and write."""

    version = None

    def __init__(self, path: str) -> None:
        local = backend_class("local")
        directory, self.path = os.path.split(path)
        self.mount = Mount("scratch", local(local.Options(path=directory)), level=Level.delete)
