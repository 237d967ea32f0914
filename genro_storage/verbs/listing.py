"""Listings: one level, everything below, by pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .. import paths
from ..backends.base import order
from ..exceptions import StorageError, StorageNotADirectoryError, StorageNotFoundError
from ..types import Stat

if TYPE_CHECKING:
    from ..mount import Mount
    from ..nodes import StorageNode

Node = TypeVar("Node", bound="StorageNode")


def names(mount: Mount, path: str) -> Iterator[str]:
    """The paths one level below, each once, in the storage's order."""
    pages = mount.scan(path, facts=False)
    if mount.features.real_dirs:
        for page in pages:
            yield from [entry.path for entry in page]
        return
    both: set[str] = set()  # an object store may hold e and e/…: one node
    for page in pages:
        for entry in page:
            if entry.path not in both:
                both.add(entry.path)
                yield entry.path


def children(node: Node) -> list[Node]:
    """One level, sorted by name."""
    below = sorted(names(node.mount, node.path))
    return [node.sibling(path) for path in below]


def scan(node: Node, recursive: bool) -> Iterator[tuple[Node, Stat]]:
    """(node, facts) in bytewise path order, from the listing alone."""
    mount = node.mount
    if recursive:
        for page in mount.walk(node.path):
            for entry in page:
                yield node.sibling(entry.path), entry
    else:
        for entry in sorted((entry for page in mount.scan(node.path) for entry in page), key=order):
            yield node.sibling(entry.path), entry


def walk(
    node: Node, top_down: bool, on_error: Callable[[StorageError], object] | None
) -> Iterator[tuple[Node, list[str], list[str]]]:
    """(directory, names of directories, names of files) as `pathlib.Path.walk`; links are not descended."""
    try:
        entries = [entry for page in node.mount.scan(node.path, facts=False) for entry in page]
    except StorageError as error:
        if on_error is not None:
            on_error(error)
        return
    directories = sorted({paths.basename(entry.path) for entry in entries if entry.is_dir and not entry.is_symlink})
    files = sorted({paths.basename(entry.path) for entry in entries if not entry.is_dir or entry.is_symlink})
    if top_down:
        yield node, directories, files
    for name in directories:
        yield from walk(node.sibling(paths.join(node.path, name, rules=node.mount.rules)), top_down, on_error)
    if not top_down:
        yield node, directories, files


def usage(node: Any) -> tuple[int, int, int]:
    """(files, directories, bytes) below."""
    files = size = 0
    directories: set[str] = set()
    real = node.mount.features.real_dirs
    count = 0
    for page in node.mount.walk(node.path):
        for entry in page:
            if entry.is_dir:
                count += real
                directories.update(() if real else (entry.path,))
            elif entry.is_file:
                files += 1
                size += entry.size or 0
            if not real:
                directories.update(_above(entry.path, node.path, directories))
    return files, count or len(directories), size


def _above(path: str, root: str, known: set[str]) -> Iterator[str]:
    """The implied directories above a key, up to one already known."""
    while (path := paths.parent(path)) != root and path not in known:
        yield path


def glob(node: Node, pattern: str) -> list[Node]:
    """What matches below, sorted, each once; links are not descended."""
    segments = paths.pattern_segments(pattern)
    literal = 0
    while literal < len(segments) and not paths.has_magic(segments[literal]):
        literal += 1
    base = paths.join(node.path, *segments[:literal], rules=node.mount.rules)
    rest = segments[literal:]
    if not rest:
        return [node.sibling(base)] if node.mount.exists(base) else []
    mount = node.mount
    try:
        found = _below(mount, base, rest) if "**" in rest else _level(mount, base, rest)
        return [node.sibling(path) for path in sorted(found)]
    except (StorageNotFoundError, StorageNotADirectoryError):
        if base == node.path:
            raise
        return []


def _level(mount: Mount, base: str, segments: tuple[str, ...]) -> set[str]:
    """Matches of a pattern without ``**``, one listing per directory that matched so far."""
    first, rest = segments[0], segments[1:]
    if not paths.has_magic(first):
        path = paths.join(base, first, rules=mount.rules)
        if not rest:
            return {path} if mount.exists(path) else set()
        return _level(mount, path, rest) if mount.is_dir(path) else set()
    regex = paths.compile_pattern((first,), mount.features.case_sensitive)
    found: set[str] = set()
    for page in mount.scan(base, facts=False):
        for entry in page:
            if not regex.fullmatch(paths.basename(entry.path)):
                continue
            if not rest:
                found.add(entry.path)
            elif entry.is_dir and not entry.is_symlink:
                found |= _level(mount, entry.path, rest)
    return found


def _below(mount: Mount, base: str, segments: tuple[str, ...]) -> set[str]:
    """Matches of a pattern with ``**``: one walk below the literal prefix."""
    regex = paths.compile_pattern(segments, mount.features.case_sensitive)
    cut = len(base) + 1 if base else 0
    found = {base} if regex.fullmatch("") else set()
    implied: set[str] = set()
    for page in mount.walk(base):
        for entry in page:
            if regex.fullmatch(entry.path[cut:]):
                found.add(entry.path)
            if not mount.features.real_dirs:
                implied.update(_above(entry.path, base, implied))
    return found | {path for path in implied if regex.fullmatch(path[cut:])}


def match(path: str, pattern: str, case_sensitive: bool) -> bool:
    """Whether the end of the path matches, as `pathlib.PurePath.match`."""
    segments = paths.pattern_segments(pattern)
    parts = path.split("/")
    if "**" in segments:
        return any(
            paths.compile_pattern(segments, case_sensitive).fullmatch("/".join(parts[at:])) for at in range(len(parts))
        )
    if len(segments) > len(parts):
        return False
    end = "/".join(parts[len(parts) - len(segments) :])
    return paths.compile_pattern(segments, case_sensitive).fullmatch(end) is not None
