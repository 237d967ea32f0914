"""What a node can be asked: facts, hashes, metadata, tags, addresses, versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Self

from .exceptions import StorageNotFoundError
from .names import NodeName
from .types import SignedRequest, Stat, Version
from .verbs import attributes, hashes, listing, tree, versions
from .verbs.versions import VersionList, Which

if TYPE_CHECKING:
    from .nodes import StorageNode


class Predicate:
    """A fact that reads like an attribute and may be called like a method: ``node.exists`` and ``node.exists()``."""

    __slots__ = ("_value",)

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value

    def __call__(self) -> bool:
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == bool(other) if isinstance(other, (bool, Predicate)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return repr(self._value)


YES, NO = Predicate(True), Predicate(False)


class NodeFacts(NodeName):
    """The questions; each one asks the storage."""

    __slots__ = ()

    # --- facts: each access asks the storage ---

    @property
    def exists(self) -> Predicate:
        """False only for a proven absence; anything that keeps the storage from answering is raised."""
        return YES if self.mount.exists(self._path, version=self._version) else NO

    @property
    def is_file(self) -> Predicate:
        return YES if self.mount.is_file(self._path, version=self._version) else NO

    @property
    def is_dir(self) -> Predicate:
        return YES if self._version is None and self.mount.is_dir(self._path) else NO

    @property
    def is_symlink(self) -> Predicate:
        return YES if self.mount.is_symlink(self._path) else NO

    def stat(self) -> Stat:
        """All facts in one request; unknown ones are None."""
        return self.mount.stat(self._path, version=self._version)

    @property
    def size(self) -> int:
        """Bytes of a file; a directory raises `StorageIsADirectoryError`."""
        stat = self.stat()
        if stat.is_dir or stat.size is None:
            raise self.is_a_directory("Is a directory, which has no size")
        return stat.size

    @property
    def mtime(self) -> float | None:
        """POSIX seconds of the last change, or None where the storage knows none."""
        return self.stat().mtime

    @property
    def ext_attributes(self) -> tuple[float | None, int | None, bool]:
        """(mtime, size, is_dir) in one request; (None, None, False) if missing."""
        try:
            stat = self.stat()
        except StorageNotFoundError:
            return None, None, False
        return stat.mtime, None if stat.is_dir else stat.size, stat.is_dir

    def usage(self) -> tuple[int, int, int]:
        """(files, directories, bytes) below this directory."""
        return listing.usage(self)

    def hash(self, algorithm: str = "sha256") -> str:
        """Lowercase hex (sha256 sha1 md5 crc32c blake2b sha512); a stored value where it is true, else by reading."""
        return hashes.hash_of(self, algorithm)

    def md5hash(self) -> str:
        return self.hash("md5")

    def same_place(self, other: StorageNode) -> bool:
        """Whether both are really the same bytes, through relative mounts, links and hard links too."""
        return tree.same_place(self, other)

    # --- metadata, tags, addresses ---

    def get_metadata(self) -> dict[str, str]:
        """The user's metadata, keys in lower case; {} where the storage keeps none."""
        return attributes.get_metadata(self)

    def set_metadata(self, metadata: Mapping[str, str], replace: bool = True) -> None:
        """Replaces the metadata, or with `replace` False adds to it; bytes, type and tags stay."""
        attributes.set_metadata(self, metadata, replace)

    def get_tags(self) -> dict[str, str]:
        """The tags of this file; {} where the storage has none."""
        return attributes.get_tags(self)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Replaces the tags: at most 10, keys up to 128, values up to 256 characters."""
        attributes.set_tags(self, tags)

    def url(
        self,
        expires_in: float = 3600,
        method: str = "GET",
        *,
        download_name: str | None = None,
        content_type: str | None = None,
    ) -> str | None:
        """Where others reach this file: signed for `expires_in` seconds, public, or below `base_url`; else None."""
        given = {"download_name": download_name, "content_type": content_type}
        return attributes.url(self, expires_in, method, attributes.sign_options(self.version, given))

    def sign(
        self,
        method: str = "PUT",
        expires_in: float = 3600,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_length: int | None = None,
    ) -> SignedRequest:
        """A request others may send, its headers part of the signature; else `UnsupportedOperation`."""
        given = {"content_type": content_type, "metadata": metadata, "content_length": content_length}
        return attributes.sign(self, method, expires_in, attributes.sign_options(self.version, given))

    def internal_url(self, nocache: bool = False) -> str | None:
        """The mount's `internal_url` with this path; `nocache` adds the time of last change."""
        return attributes.internal_url(self, nocache)

    # --- versions ---

    @property
    def versions(self) -> VersionList:
        """Oldest first, without deletions; [] where the storage has none. Also by id: ``node.versions["…"]``."""
        return versions.listed(self, delete_markers=False)

    @property
    def version_count(self) -> int:
        return len(self.versions)

    def list_versions(self, delete_markers: bool = True, limit: int | None = None) -> VersionList:
        """Oldest first, deletions among them; `limit`: only so many of the newest."""
        return versions.listed(self, delete_markers, limit)

    def at(self, version: Which | None = None, *, as_of: datetime | float | None = None) -> Self:
        """This file as a read-only snapshot: a version by id or index (-1 is the newest), or the state at a time."""
        return versions.at(self, version, as_of)

    def rollback(self, version: Which) -> Version:
        """Makes the bytes, type and metadata of a version the newest."""
        return versions.rollback(self, version)

    def undelete(self) -> Version:
        """Takes the latest deletion back."""
        return versions.undelete(self)

    def diff(self, a: Which = -2, b: Which = -1) -> str:
        """Two versions as a unified diff, "" where equal."""
        return versions.diff(self, a, b)

    def compact_versions(self, dry_run: bool = False) -> int:
        """Removes the later ones of a run of identical versions, never the current one; how many."""
        return versions.compact(self, dry_run)

    def prune_versions(
        self, keep_last: int | None = None, keep_within: float | None = None, dry_run: bool = False
    ) -> int:
        """Removes versions neither among the last `keep_last` nor younger than `keep_within` seconds; how many."""
        return versions.prune(self, keep_last, keep_within, dry_run)

    def delete_version(self, version: Which) -> None:
        """Erases one version."""
        versions.delete_version(self, version)
