"""Another name for a file or a directory in the same storage."""

from __future__ import annotations

from ..exceptions import (
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StoragePathError,
    UnsupportedOperation,
)
from ..mount import Level
from ..types import Place, WriteOptions
from .call import Call
from .landing import Landing
from .options import CopyOptions
from .places import At, contains, fault, same_place, shown


def rename(source: Place, target: Place, *, overwrite: bool) -> None:
    """Gives a file or a directory exactly the name `target`; onto itself it does nothing.

    In one step where the storage can, else each file is copied by the storage and then removed. Another storage →
    `UnsupportedOperation`, something there already (unless `overwrite`) → `StorageExistsError`.
    """
    start, end = At(source.mount, source.path, source.version), At(target.mount, target.path)
    if start.mount.backend.storage_id != end.mount.backend.storage_id:
        reason = f"this is in another storage than '{shown(start)}'; use move_to"
        raise fault(UnsupportedOperation, reason, end, "rename")
    start.mount.judge_removal(start.path, "rename")
    end.mount.require(Level.readwrite, "rename", end.path)
    facts = start.mount.stat(start.path)
    if same_place(start, end):
        return
    if facts.is_dir and not facts.is_symlink and contains(start, end):
        raise fault(StoragePathError, f"a directory cannot go into itself, '{shown(start)}'", end, "rename")
    try:
        end.mount.rename_from(start.mount, start.path, end.path, WriteOptions(if_absent=not overwrite))
    except UnsupportedOperation:
        _one_by_one(Landing(start, end, facts), overwrite)


def _one_by_one(landing: Landing, overwrite: bool) -> None:
    _judge_target(landing, overwrite)
    Call("move", landing, CopyOptions(overwrite=overwrite, symlinks="copy")).run()


def _judge_target(landing: Landing, overwrite: bool) -> None:
    """What a rename may replace, as pathlib has it: a file by a file, an empty directory by a directory."""
    mount, path, _ = landing.target
    is_file = mount.is_file(path)
    is_dir = not is_file and mount.is_dir(path)
    if not overwrite and (is_file or is_dir):
        raise fault(StorageExistsError, "Already exists", landing.target, "rename")
    if is_file and landing.is_tree:
        raise fault(StorageNotADirectoryError, "a directory cannot replace a file", landing.target, "rename")
    if is_dir and not landing.is_tree:
        raise fault(StorageIsADirectoryError, "a file cannot replace a directory", landing.target, "rename")
    if is_dir and any(page for page in mount.scan(path, facts=False)):
        raise fault(StorageNotEmptyError, "Directory not empty", landing.target, "rename")
