"""The rest of `pathlib.Path`: what a node can mean by each of its names, and `UnsupportedOperation` for the others."""

from __future__ import annotations

import os
import posixpath
from functools import cached_property
from types import ModuleType
from typing import NoReturn, Self
from urllib.parse import quote

from . import paths
from .exceptions import StorageNotADirectoryError, StorageNotFoundError, UnsupportedOperation
from .facts import NO, YES, NodeFacts, Predicate
from .types import Stat
from .verbs import attributes


class PathInfo:
    """What is at a place, asked once and remembered, as `pathlib.Path.info`."""

    def __init__(self, node: NodeFacts) -> None:
        self._node = node

    @cached_property
    def _stat(self) -> Stat | None:
        try:
            return self._node.stat()
        except (StorageNotFoundError, StorageNotADirectoryError):
            return None

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._stat is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._stat is not None and self._stat.is_dir and (follow_symlinks or not self._stat.is_symlink)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._stat is not None and self._stat.is_file and (follow_symlinks or not self._stat.is_symlink)

    def is_symlink(self) -> bool:
        return self._stat is not None and self._stat.is_symlink


class PathNames(NodeFacts):
    """Names of `pathlib.Path` that are no everyday verbs of a node."""

    __slots__ = ()

    parser: ModuleType = posixpath

    @property
    def drive(self) -> str:
        """What stands before the path: ``mount:``."""
        return self.fullpath[: len(self.fullpath) - len(self._path)]

    @property
    def anchor(self) -> str:
        return self.drive

    @property
    def root(self) -> str:
        """Always "": a path has no slash before it."""
        return ""

    @property
    def info(self) -> PathInfo:
        """An object that asks once and remembers."""
        return PathInfo(self)

    def as_posix(self) -> str:
        return self.fullpath

    def as_uri(self) -> str:
        """``genro://mount/path``, percent-encoded."""
        return f"genro://{self._mount_name}/{quote(self._path, errors='surrogateescape')}"

    def is_absolute(self) -> bool:
        """Always True: a node says where it is."""
        return True

    def is_reserved(self) -> bool:
        return False

    def absolute(self) -> Self:
        return self

    def expanduser(self) -> Self:
        """Itself: ``~`` is a name like any other."""
        return self

    def with_segments(self, *segments: str) -> Self:
        """A place of the same mount."""
        return self.sibling(paths.join("", *segments, rules=self.mount.rules))

    def full_match(self, pattern: str, *, case_sensitive: bool | None = None) -> bool:
        """Whether the whole path matches."""
        case = self.mount.features.case_sensitive if case_sensitive is None else case_sensitive
        return paths.compile_pattern(paths.pattern_segments(pattern), case).fullmatch(self._path) is not None

    def resolve(self, strict: bool = False) -> Self:
        """The place that links lead to, inside this mount; `strict`: missing is `StorageNotFoundError`."""
        if strict and not self.exists:
            raise self.not_found()
        own, top = self.resolved_path, self.mount.local_path("")
        if own is None or top is None:
            return self
        below = os.path.relpath(os.path.realpath(own), os.path.realpath(top))
        return (
            self if below == ".." or below.startswith("../") else self.sibling(paths.normalise(below, self.mount.rules))
        )

    def lstat(self) -> Stat:
        """The facts; of a link `is_symlink` tells."""
        return self.stat()

    def samefile(self, other: NodeFacts | str) -> bool:
        """Whether both are the same bytes now."""
        place = self._manager.node(other) if isinstance(other, str) else other
        return self.same_place(place)  # type: ignore[arg-type]

    def owner(self, *, follow_symlinks: bool = True) -> str:
        """The name of the user whose file this is, where the mount has real files."""
        import pwd

        return pwd.getpwuid(self._real("owner").st_uid).pw_name

    def group(self, *, follow_symlinks: bool = True) -> str:
        """The name of the group whose file this is, where the mount has real files."""
        import grp

        return grp.getgrgid(self._real("group").st_gid).gr_name

    def _real(self, operation: str) -> os.stat_result:
        own = self.mount.local_path(self._path)
        if own is None:
            self._cannot(operation, "this storage tells no owner")
        return self.mount.guard.call(operation, self._path, os.stat, own)

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Sets the permission bits, where the storage has them (local, temp, sftp); of a link, its target's."""
        attributes.set_mode(self, mode, follow_symlinks)

    def lchmod(self, mode: int) -> None:
        """As `chmod`, but never through a link: those have no permission bits of their own here."""
        attributes.set_mode(self, mode, follow_symlinks=False)

    # --- what is at most a special file of a local folder, and never opened ---

    def _special(self) -> Predicate:
        return NO

    @property
    def is_mount(self) -> Predicate:
        """Whether this is the root of its mount."""
        return YES if not self._path else NO

    is_junction = is_block_device = is_char_device = is_fifo = is_socket = property(_special)

    # --- what a place in a storage cannot mean ---

    def _cannot(self, operation: str, reason: str) -> NoReturn:
        raise self.mount.guard.failure(UnsupportedOperation(reason), operation, self._path)

    def hardlink_to(self, target: object) -> NoReturn:
        self._cannot("hardlink_to", "a mount makes no hard links; use copy_to or symlink_to")

    def link_to(self, target: object) -> NoReturn:
        self._cannot("link_to", "a mount makes no hard links; use copy_to or symlink_to")

    @classmethod
    def cwd(cls) -> NoReturn:
        raise UnsupportedOperation("a node has no current directory; ask a manager: storage.node('local:')")

    @classmethod
    def home(cls) -> NoReturn:
        raise UnsupportedOperation("a node has no home directory; ask a manager: storage.node('home:')")

    @classmethod
    def from_uri(cls, uri: str) -> NoReturn:
        raise UnsupportedOperation("a URI names no manager; ask one: storage.node('mount:path')")
