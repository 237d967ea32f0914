"""Where a copy lands, and everything that must hold before its first byte (T01–T16)."""

from __future__ import annotations

from msgspec import Struct

from .. import paths
from ..backends.base import BackendReader
from ..exceptions import (
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..mount import Level
from ..types import Place, Stat
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


def landed(source: Place, target: Place, options: CopyOptions, *, slash: bool, moving: bool) -> Landing:
    """Judges both places; nothing is written. A file's `opened` is the caller's to close.

    `slash`: the destination was text ending in "/". Requests: a source of an object store costs the GET that will
    read it (a directory that fails and a listing more), a target there one listing of one key.
    """
    _judge_permissions(source, target, moving)
    start, end = At(source.mount, source.path, source.version), At(target.mount, target.path)
    facts, opened = _look(start, end)
    try:
        if facts.is_dir:
            return _tree(start, end, facts, options)
        return _file(start, end, facts, opened, options, slash)
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def _judge_permissions(source: Place, target: Place, moving: bool) -> None:
    target.mount.require(Level.readwrite, "write", target.path)
    if moving:
        source.mount.require(Level.delete, "move", source.path)
    for place in (target, source) if moving else (target,):
        if place.version is not None:
            raise fault(UnsupportedOperation, "Cannot write to versioned snapshot", place, "write")


def _look(source: At, target: At) -> tuple[Stat, BackendReader | None]:
    """What the source is. Where directories are implied, what is no file counts as one: its listing will tell."""
    mount, path, version = source
    try:
        if mount.features.real_dirs or not path:
            return mount.stat(path, version=version), None
        if target.mount.can("copy_from") and type(mount.backend) is type(target.mount.backend):
            return mount.stat_file(path, version=version), None  # the bytes may never come this way
        reader = mount.reader(path, version=version)
        return reader.stat, reader
    except StorageNotFoundError as error:
        if version is not None:
            raise  # it says more: no such version
        if mount.features.real_dirs:
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
    if not options.overwrite and target.mount.is_file(target.path):
        raise fault(StorageExistsError, "the file exists and is not to be overwritten", target)
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
    if target.mount.features.real_dirs and target.mount.is_file(target.path):  # elsewhere its listing will tell
        raise onto_file(target)
    return Landing(source, target, facts)


def _below(target: At, name: str) -> At:
    return At(target.mount, f"{target.path}/{name}" if target.path else name)
