"""Changes of the tree: touch, delete, empty, rename."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from .. import paths
from ..exceptions import (
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from ..mount import Level
from ..types import WriteOptions
from . import content, versions

if TYPE_CHECKING:
    from ..names import NodeName
    from ..nodes import StorageNode

Node = TypeVar("Node", bound="StorageNode")


def touch(node: StorageNode, exist_ok: bool, mtime: float | None) -> None:
    """Makes an empty file, or sets the time of an existing one."""
    content.refuse_snapshot(node)
    mount = node.mount
    mount.require(Level.readwrite, "touch", node.path)
    if mount.exists(node.path):
        if not exist_ok:
            raise node.already_exists()
        mount.set_mtime(node.path, time.time() if mtime is None else mtime)
        return
    how = content.options_for(node, mtime=mtime)
    absent = mount.features.if_absent != "none"
    try:
        mount.put(node.path, b"", WriteOptions(absent, content_type=how.content_type, mtime=mtime))
    except StorageExistsError:
        if not exist_ok:
            raise


def delete(node: StorageNode, recursive: bool, missing_ok: bool, all_versions: bool) -> None:
    """Removes exactly this file, or this directory and what is below."""
    content.refuse_snapshot(node)
    mount, path = node.mount, node.path
    mount.judge_removal(path)
    if all_versions:
        versions.erase(node, recursive, missing_ok)
        return
    try:
        if mount.features.real_dirs:
            _delete_real(node, recursive)
        else:
            _delete_keys(node, recursive, missing_ok)
    except StorageNotFoundError:
        if not missing_ok:
            raise


def _delete_real(node: StorageNode, recursive: bool) -> None:
    mount, path = node.mount, node.path
    try:
        mount.delete(path)
    except StorageIsADirectoryError:
        if recursive:
            mount.delete_tree(path)
        else:
            mount.rmdir(path)


def _delete_keys(node: StorageNode, recursive: bool, missing_ok: bool) -> None:
    """Where directories are implied, a path may be a file, a directory, or both."""
    mount, path = node.mount, node.path
    if not recursive and (below := next(iter(_first(node)), None)):
        raise StorageNotEmptyError(
            f"Directory not empty: '{node.fullpath}' holds '{below}'", operation="delete", mount=mount.name, path=path
        )
    if not missing_ok and not mount.exists(path):
        raise node.not_found()
    if recursive or mount.is_dir(path):
        try:
            mount.delete_tree(path)
        except (StorageNotFoundError, StorageNotADirectoryError):
            pass  # nothing is below: at most a file
    try:
        mount.delete(path)
    except StorageNotFoundError:
        if not missing_ok and not recursive:
            raise


def _first(node: StorageNode) -> list[str]:
    try:
        return [entry.path for page in node.mount.scan(node.path, facts=False) for entry in page][:1]
    except (StorageNotFoundError, NotADirectoryError):
        return []


def empty(node: StorageNode) -> None:
    """Clears what is below and keeps the directory."""
    content.refuse_snapshot(node)
    node.mount.empty(node.path)


def rename(node: Node, target: Node | str, overwrite: bool) -> Node:
    """Moves inside one storage; a string without ``:`` is relative to the parent."""
    from .. import transfer  # with the whole engine, which most verbs do without

    content.refuse_snapshot(node)
    if isinstance(target, str) and ":" not in target:
        above = paths.parent(node.path)
        place = node.sibling(paths.join(above, target, rules=node.mount.rules))
    else:
        place = node.manager.node(target)  # type: ignore[assignment]
    transfer.rename(node, place, overwrite=overwrite)
    return place


def unlink(node: StorageNode, missing_ok: bool) -> None:
    """Removes exactly this file or link; a directory is `StorageIsADirectoryError`."""
    content.refuse_snapshot(node)
    mount = node.mount
    mount.judge_removal(node.path)
    if not mount.features.tells_missing and not missing_ok:
        mount.stat_file(node.path)
    try:
        mount.delete(node.path)
    except StorageNotFoundError:
        if not missing_ok:
            raise


def symlink_to(node: Node, target: Node | str) -> None:
    """Makes a link to a place of the same mount; a string without ``:`` is relative to the parent."""
    content.refuse_snapshot(node)
    if isinstance(target, str) and ":" not in target:
        node.mount.symlink(node.path, paths.join(paths.parent(node.path), target, rules=node.mount.rules))
        return
    place = node.manager.node(target)
    if place.mount_name != node.mount_name:
        raise UnsupportedOperation(
            f"a link stays inside its mount: '{node.fullpath}' → '{place.fullpath}'",
            operation="symlink_to", mount=node.mount_name, path=node.path,
        )  # fmt: skip
    node.mount.symlink(node.path, place.path)


def same_place(node: NodeName, other: NodeName) -> bool:
    """Whether two nodes are the same bytes."""
    from .. import transfer

    return node.version == other.version and transfer.same_place(node, other)
