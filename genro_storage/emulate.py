"""What a backend cannot do by itself, done with what it can: each missing ability once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .backends.base import StorageBackend, order
from .exceptions import StorageExistsError, StorageNotADirectoryError, StorageNotEmptyError
from .types import Stat

PAGE = 1000


def is_dir(backend: StorageBackend, path: str) -> bool:
    """Whether a directory is implied by a marker or a key below it."""
    try:
        for _ in backend.scan(path, limit=1, facts=False):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def walk(backend: StorageBackend, path: str, after: str = "") -> Iterator[Sequence[Stat]]:
    """Everything below in bytewise order: the backend's own walk where it has an ordered one, else `ordered_walk`."""
    if "walk" in backend.abilities and backend.features.ordered:
        return backend.walk(path, after=after)
    return ordered_walk(backend, path)


def ordered_walk(backend: StorageBackend, path: str) -> Iterator[Sequence[Stat]]:
    """Everything below in bytewise order, one directory at a time; holds one directory's entries per level."""
    page: list[Stat] = []
    levels = [iter(_sorted_level(backend, path))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        page.append(entry)
        if len(page) >= PAGE:
            yield page
            page = []
        if entry.is_dir and not entry.is_symlink:
            try:
                levels.append(iter(_sorted_level(backend, entry.path)))
            except FileNotFoundError:
                continue  # it went meanwhile
    yield page


def _sorted_level(backend: StorageBackend, path: str) -> list[Stat]:
    return sorted((entry for page in backend.scan(path) for entry in page), key=order)


def mkdir(backend: StorageBackend, path: str, parents: bool) -> None:
    """`backend.mkdir` that looks first where directories are implied, and makes the parents if asked."""
    if not backend.features.real_dirs:
        if exists(backend, path):
            raise StorageExistsError("Already exists")
        return backend.mkdir(path)
    try:
        backend.mkdir(path)
    except FileNotFoundError:
        above = path.rpartition("/")[0]
        if not parents or not above:
            raise
        try:
            mkdir(backend, above, True)
        except FileExistsError:
            pass  # somebody else made it meanwhile
        backend.mkdir(path)


def exists(backend: StorageBackend, path: str) -> bool:
    """Whether a file or a directory is there; one request for a file."""
    try:
        backend.stat(path)
    except FileNotFoundError:
        return not backend.features.real_dirs and is_dir(backend, path)
    return True


def rmdir(backend: StorageBackend, path: str) -> None:
    """Removes an empty directory, where directories are implied its marker."""
    if not backend.features.real_dirs:
        try:
            for page in backend.scan(path, limit=1, facts=False):
                if page:
                    raise StorageNotEmptyError("Directory not empty")
        except FileNotFoundError:
            backend.stat(path)
            raise StorageNotADirectoryError("Not a directory") from None
    backend.rmdir(path)


def delete_many(backend: StorageBackend, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
    """Removes exactly these files; yields the failures."""
    if "delete_many" in backend.abilities:
        yield from backend.delete_many(paths)
        return
    for path in paths:
        try:
            backend.delete(path)
        except FileNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - a driver call: the caller translates
            yield path, error


def delete_tree(backend: StorageBackend, path: str) -> None:
    """Removes everything below, reserved and unaddressable names too; then `path` unless it is the root.

    A link to a directory is only unlinked.
    """
    if path and "readlink" in backend.abilities and backend.stat(path).is_symlink:
        return backend.delete(path)
    empty(backend, path)
    if path and "rmdir" in backend.abilities:
        _remove_directory(backend, path)
    return None


def empty(backend: StorageBackend, path: str) -> None:
    """Removes everything below, deepest first, and keeps `path`, by a marker where directories are implied."""
    directories: list[str] = []
    for page in _everything(backend, path):
        files = [entry.path for entry in page if not entry.is_dir or entry.is_symlink]
        directories += [entry.path for entry in page if entry.is_dir and not entry.is_symlink]
        for _, error in delete_many(backend, files):
            raise error
    if "rmdir" in backend.abilities:
        for directory in sorted(directories, key=lambda one: one.count("/"), reverse=True):
            _remove_directory(backend, directory)
    if path and not backend.features.real_dirs and "mkdir" in backend.abilities:
        backend.mkdir(path)


def _remove_directory(backend: StorageBackend, path: str) -> None:
    try:
        backend.rmdir(path)
    except FileNotFoundError:
        pass  # somebody else was faster, or it was only implied


def _everything(backend: StorageBackend, path: str) -> Iterator[Sequence[Stat]]:
    if "walk" in backend.abilities:
        return backend.walk(path)
    return ordered_walk(backend, path)
