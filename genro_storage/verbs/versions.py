"""Versions: list, resolve, roll back, undelete, diff, compact, prune."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, SupportsIndex, TypeVar, overload

from ..exceptions import (
    StorageNotEmptyError,
    StorageNotFoundError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from ..mount import Level, Mount
from ..types import Version, WriteOptions
from . import content

if TYPE_CHECKING:
    from ..names import NodeName

Node = TypeVar("Node", bound="NodeName")

Which = str | int | Version
"""A version by its id, by its index among `versions` (-1 is the newest), or itself."""


class VersionList(list[Version]):
    """Versions, oldest first; also by id: ``versions["…"]`` and ``"…" in versions``."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> Version: ...
    @overload
    def __getitem__(self, key: str) -> Version: ...
    @overload
    def __getitem__(self, key: slice) -> list[Version]: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> Version | list[Version]:
        if isinstance(key, str):
            return next(version for version in self if version.version_id == key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return any(version.version_id == key for version in self)
        return super().__contains__(key)


def listed(node: NodeName, delete_markers: bool, limit: int | None = None) -> VersionList:
    """Oldest first, in the server's order; the newest `limit` only."""
    mount = node.mount
    if not mount.can("versions"):
        return VersionList()
    newest_first: list[Version] = []
    for version in mount.versions(node.path):
        if limit is not None and len(newest_first) >= limit:
            break
        if delete_markers or not version.is_delete_marker:
            newest_first.append(version)
    return VersionList(reversed(newest_first))


def resolved(mount: Mount, path: str, version: Which | None, as_of: datetime | float | None) -> str:
    """The id of a version told by id, index or time; one listing for the latter two."""
    if version is not None and as_of is not None:
        raise ValueError("Cannot specify both version and as_of")
    if not mount.can("versions"):
        raise _fault(mount, path, UnsupportedOperation, f"mount '{mount.name}' does not support versioning")
    if isinstance(version, Version):
        return version.version_id
    if isinstance(version, str):
        return version
    if as_of is not None:
        return _at(mount, path, as_of)
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"version is an id, an index or a Version, not {type(version).__name__}")
    found = [one for one in mount.versions(path) if not one.is_delete_marker][::-1]
    if not found:
        raise _fault(mount, path, StorageVersionNotFoundError, "No versions available")
    try:
        return found[version].version_id
    except IndexError:
        reason = f"version index {version} is out of range: there are {len(found)} versions"
        raise _fault(mount, path, StorageVersionNotFoundError, reason) from None


def _at(mount: Mount, path: str, as_of: datetime | float) -> str:
    """The version that was the current one at a time; a naive datetime is UTC."""
    if isinstance(as_of, datetime):
        as_of = (as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)).timestamp()
    for version in mount.versions(path):
        if version.last_modified is not None and version.last_modified <= as_of:
            if version.is_delete_marker:
                break
            return version.version_id
    when = datetime.fromtimestamp(as_of, UTC).isoformat()
    raise _fault(mount, path, StorageVersionNotFoundError, f"at {when} there was no such file")


def _fault(mount: Mount, path: str, kind: type, reason: str) -> Exception:
    return mount.guard.failure(kind(reason), "versions", path)


def find(node: NodeName, which: Which) -> Version:
    """The version meant; unknown → `StorageVersionNotFoundError`."""
    wanted = resolved(node.mount, node.path, which, None)
    for version in node.mount.versions(node.path):
        if version.version_id == wanted:
            return version
    raise _fault(node.mount, node.path, StorageVersionNotFoundError, f"no version '{wanted}'")


# --- changes ---


def rollback(node: NodeName, which: Which) -> Version:
    """Makes the bytes, type and metadata of a version the newest again; returns the version that this makes."""
    content.refuse_snapshot(node)
    mount, path = node.mount, node.path
    mount.require(Level.readwrite, "rollback", path)
    wanted = find(node, which)
    if wanted.is_delete_marker:
        raise _fault(mount, path, StorageVersionNotFoundError, "a deletion has no content to go back to")
    if mount.can("copy_from"):
        mount.copy_from(mount, path, path, version=wanted.version_id)
    else:
        data = mount.reader(path, version=wanted.version_id)
        try:
            how = WriteOptions(content_type=data.stat.content_type, metadata=data.stat.metadata)
            content.stream(mount.writer(path, how), iter(lambda: data.read(content.CHUNK), b""))
        finally:
            data.close()
    return listed(node, False)[-1]


def undelete(node: NodeName) -> Version:
    """Takes the latest deletion back; the version that is current afterwards."""
    content.refuse_snapshot(node)
    mount, path = node.mount, node.path
    mount.require(Level.delete, "undelete", path)
    for version in mount.versions(path):
        if not version.is_delete_marker:
            return _current(node)
        mount.delete(path, version=version.version_id)
    raise _fault(mount, path, StorageVersionNotFoundError, "No versions available")


def _current(node: NodeName) -> Version:
    return next(version for version in node.mount.versions(node.path))


def at(node: Node, version: Which | None, as_of: datetime | float | None) -> Node:
    """The node of one version, for good: later changes do not move it."""
    wanted = resolved(node.mount, node.path, version, as_of)
    return node.snapshot(wanted)


def diff(node: NodeName, a: Which, b: Which) -> str:
    """Two versions as a unified diff; "" where equal; binary content → `ValueError`."""
    import difflib

    sides = [(which, resolved(node.mount, node.path, which, None)) for which in (a, b)]
    texts = [_lines(node, version) for _, version in sides]
    names = [f"{node.fullpath}@{version}" for _, version in sides]
    return "".join(difflib.unified_diff(texts[0], texts[1], names[0], names[1]))


def _lines(node: NodeName, version: str) -> list[str]:
    data = node.mount.get(node.path, version=version)[0]
    try:
        if b"\0" in data:
            raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), data.index(b"\0") + 1, "NUL")
        return data.decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"Cannot diff binary files: '{node.fullpath}'") from error


def compact(node: NodeName, dry_run: bool) -> int:
    """Removes the later ones of a run of identical versions, never the current one; a deletion ends a run."""
    doomed: list[str] = []
    run: list[Version] = []
    for version in [*listed(node, True), None]:
        if version is not None and run and not version.is_delete_marker and _same(node, run[-1], version):
            run.append(version)
            continue
        doomed += _redundant(run)
        run = [version] if version is not None and not version.is_delete_marker else []
    return _removed(node, doomed, dry_run)


def _redundant(run: list[Version]) -> list[str]:
    """Of equal versions the oldest stays, but the current one always does."""
    if run and run[-1].is_latest:
        return [version.version_id for version in run[:-1]]
    return [version.version_id for version in run[1:]]


def _same(node: NodeName, one: Version, other: Version) -> bool:
    if one.size != other.size:
        return False
    if one.etag is not None and one.etag == other.etag:
        return True
    mount, path = node.mount, node.path
    readers = [mount.reader(path, version=version.version_id) for version in (one, other)]
    try:
        while True:
            left, right = (reader.read(content.CHUNK) for reader in readers)
            if left != right:
                return False
            if not left:
                return True
    finally:
        for reader in readers:
            reader.close()


def prune(node: NodeName, keep_last: int | None, keep_within: float | None, dry_run: bool) -> int:
    """Removes versions that are neither among the last `keep_last` nor younger than `keep_within` seconds."""
    if keep_last is None and keep_within is None:
        raise ValueError("prune_versions needs keep_last, keep_within, or both")
    if keep_last is not None and keep_last < 0:
        raise ValueError(f"keep_last is 0 or more, not {keep_last}")
    least = None if keep_within is None else time.time() - keep_within
    doomed = []
    for age, version in enumerate(reversed(listed(node, False))):
        recent = keep_last is not None and age < keep_last
        young = least is not None and version.last_modified is not None and version.last_modified >= least
        if not (recent or young or version.is_latest):
            doomed.append(version.version_id)
    return _removed(node, doomed, dry_run)


def _removed(node: NodeName, doomed: Iterable[str], dry_run: bool) -> int:
    content.refuse_snapshot(node)
    mount, path = node.mount, node.path
    mount.require(Level.delete, "delete", path)
    count = 0
    for version in doomed:
        if not dry_run:
            mount.delete(path, version=version)
        count += 1
    return count


def delete_version(node: NodeName, which: Which) -> None:
    """Erases one version."""
    content.refuse_snapshot(node)
    node.mount.delete(node.path, version=find(node, which).version_id)


def erase(node: NodeName, recursive: bool, missing_ok: bool) -> None:
    """Erases every version and every deletion of this file, or of the files that are below this directory now."""
    mount, path = node.mount, node.path
    if not mount.can("versions"):
        raise _fault(mount, path, UnsupportedOperation, f"mount '{mount.name}' does not support versioning")
    gone = _erase_file(mount, path)
    if mount.is_dir(path):
        if not recursive:
            raise _fault(mount, path, StorageNotEmptyError, "a directory is erased only with recursive=True")
        for page in mount.walk(path):
            for entry in page:
                if not entry.is_dir:
                    _erase_file(mount, entry.path)
        with suppress(StorageNotFoundError):  # in an object store it went with its last file
            mount.delete_tree(path)
    elif not gone and not missing_ok:
        raise node.not_found()


def _erase_file(mount: Mount, path: str) -> int:
    # Deletions last: some storages have none of their own, and take back what the bytes below them were.
    found = sorted(mount.versions(path), key=lambda version: version.is_delete_marker)
    for version in found:
        mount.delete(path, version=version.version_id)
    return len(found)
