"""Temporary files of this process as a mount: private, invisible to other processes, gone with this one."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from msgspec.structs import replace

from ..tempfiles import TempFileManager
from ..tempfiles.manager import MIN_FREE_BYTES
from ._nofollow import Tree, base_directory, local_features
from .local import LocalStorage
from .options import Context, Options, Size

_FILE, _DIRECTORY = 0o600, 0o700


class TempOptions(Options, frozen=True, kw_only=True):
    """`base_dir`: where all processes make their directories; by default `$TEMP_FILE_BASE_DIR`, else the system's own.

    `owner_check`, `min_free_bytes`: as for `TempFileManager`.
    """

    base_dir: str = ""
    owner_check: bool = True
    min_free_bytes: Size = Size(MIN_FREE_BYTES)


class TempBackend(LocalStorage):
    """A local tree inside the directory that a `TempFileManager` holds for this process; a fork has its own, empty."""

    Options: ClassVar[Any] = TempOptions

    temp_manager: TempFileManager
    """Who owns the directory; `close` closes it."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        self.options = options
        self.context = context
        self.root = options.path.strip("/")
        self._file_mode, self._dir_mode = _FILE, _DIRECTORY
        base_dir = os.path.join(context.directory, os.path.expanduser(options.base_dir)) if options.base_dir else None
        self.temp_manager = TempFileManager(
            base_dir, owner_check=options.owner_check, min_free_bytes=options.min_free_bytes
        )
        self._owns = True
        self._nodes_dir = ""
        self.features = replace(local_features(self.temp_manager.base_dir), temporary=True)

    @property
    def _tree(self) -> Tree:
        """Looked up at every use: a fork has another directory than its parent."""
        nodes_dir = self.temp_manager.nodes_dir
        if nodes_dir != self._nodes_dir:
            self._current = Tree(os.path.realpath(nodes_dir), self.root, "inside", _DIRECTORY)
            if self.options.path:
                base_directory(self.options.path, self._current.base, True, _DIRECTORY)
            self._nodes_dir = nodes_dir
        return self._current

    @_tree.setter
    def _tree(self, tree: Tree) -> None:
        self._current = tree

    def rooted(self, path: str) -> Self:
        twin = super().rooted(path)
        twin._owns = False
        return twin

    def close(self) -> None:
        if self._owns:
            self.temp_manager.close()
