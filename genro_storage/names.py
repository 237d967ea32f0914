"""The pure half of a node: identity, names and paths, without any I/O."""

from __future__ import annotations

from functools import total_ordering
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Self

from . import paths
from .capabilities import BackendCapabilities, capabilities
from .exceptions import StorageExistsError, StorageIsADirectoryError, StorageNotFoundError, StoragePathError
from .mount import Level, Mount
from .verbs import listing

if TYPE_CHECKING:
    from .manager import StorageManager
    from .nodes import StorageNode


@total_ordering
class NodeName:
    """What a node is without asking the storage: a value, immutable, hashable, ordered by `fullpath`, picklable."""

    __slots__ = ("_manager", "_mount_name", "_path", "_version")

    def __init__(self, manager: StorageManager, mount_name: str, path: str, version: str | None = None) -> None:
        self._manager = manager
        self._mount_name = mount_name
        self._path = path
        self._version = version

    # --- a value ---

    def __repr__(self) -> str:
        shown = self._manager._shown(self._mount_name, self._path)
        return (
            f"{type(self).__name__}({shown!r})"
            if self._version is None
            else f"{type(self).__name__}({shown!r}, version={self._version!r})"
        )

    def __str__(self) -> str:
        return self.fullpath

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NodeName):
            return NotImplemented
        return self._key() == other._key()

    def __lt__(self, other: NodeName) -> bool:
        if not isinstance(other, NodeName):
            return NotImplemented
        return self.fullpath < other.fullpath

    def __hash__(self) -> int:
        return hash((self._mount_name, self._path, self._version))

    def _key(self) -> tuple[int, str, str, str | None]:
        return (id(self._manager), self._mount_name, self._path, self._version)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__ if hasattr(self, "__dict__") else None
        needed = self._manager._pickled(self._mount_name)
        return (_unpickle, (type(self), needed, self._mount_name, self._path, self._version), state)

    def _create_node(self, manager: StorageManager, mount_name: str, path: str) -> Self:
        """Makes every node that verbs derive from this one; subclasses override it to keep their type and state."""
        return type(self)(manager, mount_name, path)

    def sibling(self, path: str) -> Self:
        """The node at a normalised path of the same mount."""
        return self._create_node(self._manager, self._mount_name, path)

    def snapshot(self, version: str) -> Self:
        """The node of one version of this file, told by its id."""
        node = self.sibling(self._path)
        node._version = version
        return node

    # --- names: no I/O ---

    @property
    def manager(self) -> StorageManager:
        return self._manager

    @property
    def mount_name(self) -> str:
        return self._mount_name

    @property
    def mount(self) -> Mount:
        """The mount of that name, as configured now."""
        return self._manager._mount(self._mount_name)

    @property
    def path(self) -> str:
        """Relative to the mount, without slashes at the ends; "" is the root."""
        return self._path

    @property
    def version(self) -> str | None:
        return self._version

    @property
    def fullpath(self) -> str:
        """``mount:path``, or the URL of a node made from one."""
        return paths.full(self._mount_name, self._path)

    @property
    def basename(self) -> str:
        return paths.basename(self._path)

    name = basename

    @property
    def stem(self) -> str:
        return PurePosixPath(self.basename).stem

    @property
    def suffix(self) -> str:
        """With its dot; "" if there is none."""
        return PurePosixPath(self.basename).suffix

    @property
    def suffixes(self) -> list[str]:
        return PurePosixPath(self.basename).suffixes

    @property
    def ext(self) -> str:
        """The suffix without its dot."""
        return self.suffix[1:]

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._path.split("/")) if self._path else ()

    @property
    def parent(self) -> Self:
        """The directory above; the root's is the root."""
        return self.sibling(paths.parent(self._path))

    @property
    def parents(self) -> tuple[Self, ...]:
        above, path = [], self._path
        while path:
            path = paths.parent(path)
            above.append(self.sibling(path))
        return tuple(above)

    @property
    def dirname(self) -> str:
        return self.parent.fullpath

    @property
    def mimetype(self) -> str:
        """The media type that the name stands for, else ``application/octet-stream``."""
        return paths.content_type(self._path)

    @property
    def resolved_path(self) -> str | None:
        """The absolute path of the real file, existing or not, where the mount has real files; else None."""
        return self.mount.local_path(self._path)

    def splitext(self) -> tuple[str, str]:
        """(path without suffix, suffix)."""
        suffix = self.suffix
        return (self._path.removesuffix(suffix) if suffix else self._path), suffix

    def child(self, *parts: str) -> Self:
        """The node below; absolute parts and ``..`` raise `StoragePathError`."""
        return self.sibling(paths.join(self._path, *parts, rules=self.mount.rules))

    joinpath = child

    def __truediv__(self, part: str) -> Self:
        return self.child(part)

    def with_name(self, name: str) -> Self:
        """The same place under another name."""
        if not self._path:
            raise StoragePathError(
                f"the root has no name: '{self.fullpath}'", operation="with_name", mount=self._mount_name
            )
        name = paths.name(name, self.mount.rules)
        above = paths.parent(self._path)
        return self.sibling(f"{above}/{name}" if above else name)

    def with_stem(self, stem: str) -> Self:
        return self.with_name(stem + self.suffix)

    def with_suffix(self, suffix: str) -> Self:
        """Another suffix, with its dot; "" takes it away."""
        if suffix and (not suffix.startswith(".") or suffix == "." or "/" in suffix):
            raise StoragePathError(f"not a suffix: {suffix!r}", operation="with_suffix", mount=self._mount_name)
        return self.with_name(self.stem + suffix)

    def relative_to(self, other: StorageNode | str) -> PurePosixPath:
        """The path from `other` down to here; `ValueError` if `other` is not above."""
        above = self._manager.node(other)
        if not self.is_relative_to(above):
            raise ValueError(f"'{self.fullpath}' is not below '{above.fullpath}'")
        return PurePosixPath(self._path[len(above.path) :].lstrip("/"))

    def is_relative_to(self, other: StorageNode | str) -> bool:
        above = self._manager.node(other)
        return above.mount_name == self._mount_name and paths.is_below(self._path, above.path)

    def match(self, pattern: str) -> bool:
        """Whether the end of the path matches, as `pathlib.PurePath.match`."""
        return listing.match(self._path, pattern, self.mount.features.case_sensitive)

    @property
    def capabilities(self) -> BackendCapabilities:
        """What can be done here, under this mount's permissions; no I/O."""
        mount = self.mount
        return capabilities(
            mount.features,
            mount.backend.abilities,
            may_write=mount.level >= Level.readwrite,
            may_delete=mount.level >= Level.delete,
            snapshot=self._version is not None,
        )

    # --- errors verbs raise ---

    def not_found(self) -> StorageNotFoundError:
        return StorageNotFoundError(
            f"No such file or directory: '{self.fullpath}'", mount=self._mount_name, path=self._path
        )

    def already_exists(self) -> StorageExistsError:
        return StorageExistsError(f"Already exists: '{self.fullpath}'", mount=self._mount_name, path=self._path)

    def is_a_directory(self, reason: str) -> StorageIsADirectoryError:
        return StorageIsADirectoryError(f"{reason}: '{self.fullpath}'", mount=self._mount_name, path=self._path)


def _unpickle(
    cls: type[NodeName], manager: StorageManager, mount_name: str, path: str, version: str | None
) -> NodeName:
    node = cls.__new__(cls)
    NodeName.__init__(node, manager, mount_name, path, version)
    return node
