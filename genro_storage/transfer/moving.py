"""What makes a move of a copy: one rename where that is the same, else sources that go once their copies are proven."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .. import paths
from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from ..mount import Mount
from ..types import Place, Stat, WriteOptions
from .listing import Listing
from .options import CopyOptions
from .places import At, fault
from .plan import Entry


class Survey(NamedTuple):
    """What a tree holds, before it is moved.

    `links`: links are among it, or nobody can tell; `empty`: so are empty directories, or it is one.
    """

    files: int
    size: int
    links: bool
    empty: bool = False


def survey(source: Place, facts: Stat) -> Survey:
    """Looks through the source once, without following links."""
    if not facts.is_dir:
        return Survey(1, facts.size or 0, facts.is_symlink)
    files = size = 0
    links, empty = facts.is_symlink, False
    bare: str | None = source.path  # a directory of which nothing was listed so far
    for entry in Listing(source).entries(by_level=True):
        links = links or entry.stat.is_symlink or entry.unlisted
        empty = empty or (bare is not None and not paths.is_below(entry.stat.path, bare))
        bare = entry.stat.path if entry.stat.is_dir and not entry.stat.is_symlink else None
        files += not entry.stat.is_dir
        size += entry.stat.size or 0
    return Survey(files, size, links, empty or bare is not None)


def renamed(source: Place, target: At, options: CopyOptions, found: Survey) -> bool:
    """Moves all in one step where the target is missing and a copy would be no different; False: nothing was done.

    A rename moves links as they are, which is what `symlinks="copy"` asks for and nothing else does.
    """
    if (
        (found.links and options.symlinks != "copy")
        or (found.empty and not options.empty_dirs)
        or options.filters()
        or options.filter is not None
        or options.dry_run
        or (options.content_type is not None and target.mount.features.content_type)
        or not source.path
        or target.mount.exists(target.path)
    ):
        return False
    try:
        target.mount.rename_from(source.mount, source.path, target.path, WriteOptions(if_absent=True))
    except (UnsupportedOperation, StorageExistsError):
        return False
    return True


class Removal:
    """The sources of a move, each removed after its copy is proven, directories at the end if they are empty.

    `links`: the tree holds links. What they lead to may be needed by entries still to come, so that every removal waits
    for the end; what is reached through a link to a directory is never removed, only the link itself.
    """

    def __init__(self, root: Place, links: bool) -> None:
        self._mount: Mount = root.mount
        self._root = root.path
        self._wait = links
        self._lock = threading.Lock()
        self._waiting: list[tuple[Entry, Stat]] = []
        self._directories: list[str] = []
        self._links: list[str] = []
        self._emptied: set[str] = set()
        self._tick: Callable[[], object] = lambda: None

    # --- from the listing and the workers ---

    def seen(self, directory: Stat) -> None:
        """A real directory, or a marker, of the source."""
        self._directories.append(directory.path)

    def descended(self, link: Stat) -> None:
        """A link to a directory that the listing followed."""
        self._links.append(link.path)

    def made(self, entry: Entry) -> None:
        """An empty directory was made at the target."""
        self._left(entry.stat.path, itself=not entry.linked)

    def proven(self, entry: Entry, copied: Stat) -> StorageError | None:
        """A file was copied or a link made; returns why its source could not be removed."""
        if self._wait or entry.linked:
            with self._lock:
                self._waiting.append((entry, copied))
            return None
        return self._remove(entry, copied)

    # --- removing ---

    def _remove(self, entry: Entry, copied: Stat) -> StorageError | None:
        path = entry.stat.path
        try:
            if entry.stat.is_symlink:
                self._mount.delete(path)
            else:
                remove_exactly(At(self._mount, path), copied)
        except StorageNotFoundError:
            pass  # somebody else removed what we have a proven copy of
        except StorageError as error:
            return error
        self._left(path)
        return None

    def _left(self, path: str, itself: bool = False) -> None:
        with self._lock:
            if itself:
                self._emptied.add(path)
            above = paths.parent(path)
            while above and above not in self._emptied and paths.is_below(above, self._root):
                self._emptied.add(above)
                above = paths.parent(above)

    def finish(
        self,
        everything: bool,
        tick: Callable[[], object] = lambda: None,
        goes: Callable[[str], bool] = lambda relpath: False,
    ) -> Iterator[tuple[str, StorageError]]:
        """Removes what waited, then the emptied directories; yields the relative paths that could not be removed.

        `everything`: nothing was skipped or failed, so that no followed link has anything left below it. `tick` is
        called before each removal and may raise. `goes`: whether an empty directory goes that nothing here emptied, as
        an interrupted run may have.
        """
        self._tick = tick
        for entry, copied in self._waiting:
            tick()
            if not entry.linked and (error := self._remove(entry, copied)) is not None:
                yield entry.relpath, error
        if everything:
            for link in self._links:
                yield from self._tried(self._mount.delete, link)
                self._left(link)
        if not self._mount.can("rmdir"):
            return
        emptied = [path for path in self._directories if path in self._emptied or goes(self._relative(path))]
        for directory in sorted(emptied, key=lambda path: path.count("/"), reverse=True):
            yield from self._tried(self._mount.rmdir, directory)
        if self._root and self._root not in self._links:
            yield from self._tried(self._mount.rmdir, self._root)

    def _tried(self, remove: Callable[[str], object], path: str) -> Iterator[tuple[str, StorageError]]:
        self._tick()
        try:
            remove(path)
        except (StorageNotEmptyError, StorageNotFoundError, StorageNotADirectoryError):
            pass  # something stayed behind, or it was only implied by what it held
        except StorageError as error:
            yield self._relative(path), error

    def _relative(self, path: str) -> str:
        return path[len(self._root) + 1 :] if self._root else path


def remove_exactly(place: At, copied: Stat) -> None:
    """Removes the very file that was copied; another one there by now → `StorageConflictError`."""
    mount = place.mount
    if copied.etag is not None and mount.features.if_match != "none":
        try:
            mount.delete(place.path, if_match=copied.etag)
            return
        except UnsupportedOperation:
            pass  # conditional writes, but no conditional removal: look and remove
    now = mount.stat_file(place.path)
    facts = ((now.size, copied.size), (now.etag, copied.etag))
    if any(None not in pair and pair[0] != pair[1] for pair in facts):
        raise fault(StorageConflictError, "changed after it was copied, so it stays", place, "move")
    mount.delete(place.path)
