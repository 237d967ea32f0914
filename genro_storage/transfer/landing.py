"""Where a copy lands, and everything that must hold before its first byte (T01–T16)."""

from __future__ import annotations

from msgspec import Struct

from .. import paths
from ..backends.base import BackendReader
from ..exceptions import (
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..mount import Level
from ..types import Place, Stat
from .backup import judge_backup
from .opened import Opened
from .options import CopyOptions
from .places import At, contains, fault, same_place, shown


class Landing(Struct, frozen=True):
    """What is to be copied, and to which place exactly.

    `opened`: the reader that told what the source is, where looking costs as much as reading. `same`: it is there
    already.
    """

    source: At
    target: At
    facts: Stat
    opened: BackendReader | None = None
    same: bool = False

    @property
    def name(self) -> str:
        """The source's own name."""
        return paths.basename(self.source.path)

    @property
    def is_tree(self) -> bool:
        return self.facts.is_dir


def landed(source: Place, target: Place, options: CopyOptions, *, slash: bool, operation: str = "copy") -> Landing:
    """Judges both places; nothing is written. A file's `opened` is the caller's to close.

    `slash`: the destination was text ending in "/". Requests: a source of an object store costs the GET that will
    read it (a directory that fails and a listing more), a target there one listing of one key.
    """
    _judge_permissions(source, target, operation == "move", options.delete)
    start, end = At(source.mount, source.path, source.version), At(target.mount, target.path)
    facts, opened = _look(start, end, options)
    try:
        if facts.is_dir:
            landing = _tree(start, end, facts, options)
            judge_backup(options.backup, start, landing.target)
            return landing
        if operation == "sync":
            raise fault(StorageNotADirectoryError, "only a directory is synchronised; copy a file", start, "sync")
        landing = _file(start, end, facts, opened, options, slash)
        judge_backup(options.backup, start, landing.target)
        return landing
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def closed(landing: Landing) -> None:
    """Lets go of what a landing opened that came when nobody waited for it any more."""
    if landing.opened is not None:
        landing.opened.close()


def _judge_permissions(source: Place, target: Place, moving: bool, deleting: bool) -> None:
    target.mount.require(Level.readwrite, "write", target.path)
    if deleting:
        target.mount.require(Level.delete, "delete", target.path)
    if moving:
        source.mount.require(Level.delete, "move", source.path)
    for place in (target, source) if moving else (target,):
        if place.version is not None:
            raise fault(UnsupportedOperation, "Cannot write to versioned snapshot", place, "write")


def _look(source: At, target: At, options: CopyOptions) -> tuple[Stat, BackendReader | None]:
    """What the source is. Where directories are implied, what is no file counts as one: its listing will tell.

    The request that tells it brings the first part where the others may come at the same time, unless an earlier run
    may have brought it.
    """
    mount, path, version = source
    try:
        if mount.features.real_dirs or not path:
            return mount.stat(path, version=version), None
        if target.mount.can("copy_from") and type(mount.backend) is type(target.mount.backend):
            return mount.stat_file(path, version=version), None  # the bytes may never come this way
        in_parts = mount.features.ranges and target.mount.can("parts") and options.verify != "read"
        if in_parts and (options.resume or (options.resume is None and options.journal is not None)):
            return mount.stat_file(path, version=version), None  # the first part may be there, and does not go again
        opened = Opened(source, options.part_size if in_parts else None)
        return opened.stat, opened
    except StorageNotFoundError as error:
        if version is not None:
            raise  # it says more: no such version
        if mount.features.real_dirs and not options.allow_empty_source:
            raise missing(source) from error
        return Stat(path, is_dir=True), None


def missing(source: Place) -> StorageNotFoundError:
    """The error for a source that is not there."""
    return fault(StorageNotFoundError, "Source not found", source)


def onto_file(target: Place) -> StorageNotADirectoryError:
    """The error for a directory where the target is a file."""
    return fault(StorageNotADirectoryError, "a directory cannot replace a file", target)


def _file(
    source: At, target: At, facts: Stat, opened: BackendReader | None, options: CopyOptions, slash: bool
) -> Landing:
    if options.into or slash or (target.mount.is_dir(target.path) and not _is_also_file(target)):
        target = _below(target, paths.basename(source.path))
    if source.version is None and same_place(source, target):
        return Landing(source, target, facts, opened, same=True)
    return Landing(source, target, facts, opened)


def _is_also_file(target: At) -> bool:
    """Object stores may hold a file and a directory of one name: then it is a file that is replaced."""
    return not target.mount.features.real_dirs and target.mount.is_file(target.path)


def _tree(source: At, target: At, facts: Stat, options: CopyOptions) -> Landing:
    if options.into:
        if not source.path:
            raise fault(StoragePathError, "the root of a mount has no name to be placed under", source)
        target = _below(target, paths.basename(source.path))
    if same_place(source, target):
        return Landing(source, target, facts, same=True)
    if contains(source, target):
        reason = f"a directory cannot be copied into itself, and this lies inside '{shown(source)}'"
        raise fault(StoragePathError, reason, target)
    if options.delete and contains(target, source):
        raise fault(StoragePathError, f"it holds the source, '{shown(source)}', which would be deleted", target, "sync")
    if target.mount.features.real_dirs and target.mount.is_file(target.path):  # elsewhere its listing will tell
        raise onto_file(target)
    return Landing(source, target, facts)


def _below(target: At, name: str) -> At:
    return At(target.mount, paths.below(target.path, name))


def compared(source: Place, target: Place) -> Landing:
    """As `landed`, for a comparison: both places as they are, the second one may be missing."""
    start, end = At(source.mount, source.path, source.version), At(target.mount, target.path, target.version)
    facts = _facts(start)
    if facts is None:
        raise missing(start)
    other = _facts(end)
    if other is not None and facts.is_dir != other.is_dir:
        raise fault(
            StorageIsADirectoryError if other.is_dir else StorageNotADirectoryError,
            f"a file and a directory are not compared: '{shown(start)}'", end, "compare",
        )  # fmt: skip
    return Landing(start, end, facts)


def _facts(place: At) -> Stat | None:
    try:
        return place.mount.stat(place.path, version=place.version)
    except StorageNotFoundError:
        if place.version is not None:
            raise
        return None
