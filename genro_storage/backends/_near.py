"""A tree of local files for one thread that stays in one directory for a while: its descriptor is opened once."""

from __future__ import annotations

import os
from threading import get_ident

from . import _kernel
from ._nofollow import KIND, READ, REGULAR, Tree


class NearTree(Tree):
    """The same as `far`; what `locate` opened last stays open until another directory is asked for, or `close`.

    So for the thread that made it; others, which read parts of one large file with it, open and close by themselves.
    """

    def __init__(self, far: Tree) -> None:
        self.__dict__.update(far.__dict__)
        self._far, self._thread, self._follows = far, get_ident(), far.links == "follow"
        self._folder: str | None = None
        self._at = -1

    def locate(self, path: str, *, through: bool = False, make: bool = False) -> tuple[int | None, str]:
        folder, _, name = path.rpartition("/")
        if through or make or ".." in path or not path or self._follows or get_ident() != self._thread:
            return self._far.locate(path, through=through, make=make)
        if folder != self._folder:
            at = _kernel.open_directory(self.absolute(folder))
            if at < 0:
                return self._far.locate(path)
            self.close()
            self._folder, self._at = folder, at
        return self._at, name

    def leave(self, at: int | None) -> None:
        if at != self._at:
            super().leave(at)

    def stat(self, path: str) -> os.stat_result:
        with self.spot(path) as (at, name):
            return os.stat(name, dir_fd=at, follow_symlinks=False)

    def open_file(self, path: str) -> tuple[int, os.stat_result]:
        at, fd = None, -1
        try:
            at, name = self.locate(path)
            fd = os.open(name, READ, dir_fd=at)  # without a look before: what is near was listed as a file
            st = os.fstat(fd)
            if st.st_mode & KIND == REGULAR:
                return fd, st
        except OSError:
            pass
        finally:
            self.leave(at)
        if fd >= 0:
            os.close(fd)
        return self._far.open_file(path)  # the directory may be another one by now, or this is no file

    def target(self, path: str, *, parents: bool = True) -> tuple[int | None, str, os.stat_result | None]:
        return self._far.target(path, parents=parents)  # the descriptor will be the caller's

    def close(self) -> None:
        """Closes what is open; the tree stays usable."""
        at, self._folder, self._at = self._at, None, -1
        if at >= 0:
            os.close(at)
