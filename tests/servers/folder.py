"""What the servers of a folder have in common: fresh roots inside it, and the folder itself as the witness."""

from __future__ import annotations

import itertools
from pathlib import Path

from .process import ServerProcess


class FolderServer(ServerProcess):
    """A server process that serves the folder `data`, and nothing of this machine beside it."""

    def __init__(self) -> None:
        super().__init__()
        self._roots = itertools.count(1)

    @property
    def data(self) -> Path:
        """The folder that is served, on this machine."""
        return self.folder / "data"

    def make_root(self) -> str:
        """Make a folder nobody else has; returns its path as the server's clients name it, for `options`."""
        root = f"/r{next(self._roots)}"
        self.local(root).mkdir()
        return root

    def local(self, path: str) -> Path:
        """Where a path of the server's clients is on this machine."""
        return self.data / path.lstrip("/")

    def files(self, root: str) -> dict[str, bytes]:
        """Every file below a root: relative path → bytes."""
        top = self.local(root)
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}
