"""Symbolic links of local mounts, made and read."""

from __future__ import annotations

import errno
import os

from ..exceptions import StoragePathError, StoragePermissionError
from ._nofollow import Tree, real_path


def symlink(tree: Tree, path: str, target: str) -> None:
    """Makes a relative link to `target`, a normalised path of this mount, existing or not."""
    if tree.links == "refuse":
        raise StoragePermissionError("the mount follows no symbolic links ('symlinks: refuse') and makes none")
    goal = os.path.join(real_path(tree.absolute("")), target)
    above = real_path(os.path.dirname(tree.absolute(path)))
    with tree.spot(path) as (at, name):
        os.symlink(os.path.relpath(goal, above), name, dir_fd=at)


def readlink(tree: Tree, path: str) -> str:
    """What a link says, verbatim."""
    with tree.spot(path) as (at, name):
        try:
            return os.readlink(name, dir_fd=at)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise StoragePathError("not a symbolic link") from error
            raise
