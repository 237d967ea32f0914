"""The versions of one path of a store in memory: what is there now, and what was there before."""

from __future__ import annotations

import errno

from ..exceptions import StorageVersionNotFoundError
from ..types import Version
from ._memory_store import Deletion, Directory, File, Store, failure


def current(store: Store, path: str) -> File | None:
    """The file that is at `path` now."""
    try:
        node = store.find(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return node if isinstance(node, File) else None


def listed(store: Store, path: str) -> list[Version]:
    """Newest first, in the order of the changes."""
    file = current(store, path)
    found = [*store.past.get(path, ()), *([file] if file else [])]
    return [_version(one, number == 0) for number, one in enumerate(reversed(found))]


def _version(one: File | Deletion, latest: bool) -> Version:
    if isinstance(one, Deletion):
        return Version(one.version, latest, one.born, is_delete_marker=True)
    return Version(one.version, latest, one.born, len(one.frozen()), one.etag)


def at(store: Store, path: str, version: str) -> File:
    """A version of the file at `path`; none of this id, or a deletion → `StorageVersionNotFoundError`."""
    file = current(store, path)
    if file is not None and file.version == version:
        return file
    for one in store.past.get(path, ()):
        if one.version == version:
            if isinstance(one, Deletion):
                raise StorageVersionNotFoundError("this version is a deletion")
            return one
    raise StorageVersionNotFoundError("No such version of this file")


def erase(store: Store, path: str, version: str) -> None:
    """Forgets a version or a deletion; the newest of what is left becomes what is there now, if it is a file."""
    file, past = current(store, path), list(store.past.get(path, ()))
    if file is None or file.version != version:
        place = next((number for number, one in enumerate(past) if one.version == version), None)
        if place is None:
            raise StorageVersionNotFoundError("No such version of this file")
        del past[place]
        if file is None and place == len(past):
            _bring_back(store, path, past)
    elif not _bring_back(store, path, past):
        directory, name = store.above(path)
        directory.remove(name)
    store.past[path] = past
    if not past:
        del store.past[path]


def _bring_back(store: Store, path: str, past: list[File | Deletion]) -> bool:
    """Puts the newest of `past` at `path` if it is a file; something else in the way → `IsADirectoryError`."""
    if not past or isinstance(past[-1], Deletion):
        return False
    directory, name = store.above(path, make=True)
    if isinstance(directory.children.get(name), Directory):
        raise failure(errno.EISDIR)
    directory.put(name, past[-1])
    past.pop()
    return True
