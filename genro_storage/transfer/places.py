"""Places compared: the same bytes, one inside the other, whatever mounts they are reached through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import NamedTuple, TypeVar

from .. import paths
from ..exceptions import StorageError, StorageNotFoundError
from ..mount import Mount
from ..types import Place

Error = TypeVar("Error", bound=StorageError)

MOST_LINKS = 40
"""On the way to one place, as Linux has it: more are a circle."""


class At(NamedTuple):
    """A place by its parts."""

    mount: Mount
    path: str
    version: str | None = None


@contextmanager
def near(place: At) -> Iterator[At]:
    """The place for one thread and a run of calls, of which the driver keeps open what they share."""
    mount = place.mount
    with mount.backend.near() as backend:
        if backend is mount.backend:
            yield place
            return
        twin = copy(mount)
        twin.backend = backend
        yield place._replace(mount=twin)


def shown(place: Place) -> str:
    """``mount:path``, or the URL, for messages."""
    return paths.full(place.mount.name, place.path)


def of_its_kind(place: Place, path: str) -> Place:
    """The place at `path` of the same mount; a node where `place` is one."""
    if path == place.path:
        return place
    sibling = getattr(place, "sibling", None)
    found: Place = At(place.mount, path) if sibling is None else sibling(path)
    return found


def below(root: Place, relpath: str) -> Place:
    """The place `relpath` below `root`, of its kind."""
    return of_its_kind(root, paths.below(root.path, relpath))


def fault(kind: type[Error], reason: str, place: Place, operation: str = "copy") -> Error:
    """An error that says where it happened, as a `Mount` does."""
    return kind(f"{reason}: '{shown(place)}'", operation=operation, mount=place.mount.name, path=place.path)


def placed(error: StorageError, place: Place) -> StorageError:
    """An error of the plan, which knows relative names only, as one that says where it happened."""
    if error.mount is not None:
        return error
    told = fault(type(error), error.message, place)
    told.__cause__ = error.__cause__
    return told


def same_place(a: Place, b: Place) -> bool:
    """Whether both name the same bytes now: through relative mounts, two mounts of one bucket, links or hard links."""
    one, other = a.mount.backend, b.mount.backend
    if one.storage_id == other.storage_id and one.native_path(a.path) == other.native_path(b.path):
        return True
    if not both_local(a.mount, b.mount):
        return False  # before a path is walked for nothing
    here, there = a.mount.local_path(a.path), b.mount.local_path(b.path)
    if here is None or there is None:
        return False
    try:
        return os.path.samefile(here, there)
    except OSError:  # one of them does not exist
        return False


def contains(directory: Place, place: Place) -> bool:
    """Whether `place`, existing or not, is `directory` or lies below it."""
    outer, inner = directory.mount.backend, place.mount.backend
    if outer.storage_id == inner.storage_id and paths.is_below(
        inner.native_path(place.path).strip("/"), outer.native_path(directory.path).strip("/")
    ):
        return True
    above, below = real_path(directory), real_path(place)
    return above is not None and below is not None and is_within(below, above)


def both_local(a: Mount, b: Mount) -> bool:
    """Whether both mounts are in the local file system."""
    return a.local_path("") is not None and b.local_path("") is not None


def real_path(place: Place) -> str | None:
    """The path in the local file system with all links resolved; None where there is none."""
    local = place.mount.local_path(place.path)
    return None if local is None else os.path.realpath(local)


def led_to(place: Place) -> str | None:
    """Where a place really is: `real_path`, else the storage's own path; None where links lead out of the mount."""
    if place.mount.local_path("") is not None:
        return real_path(place)
    if not place.mount.can("readlink"):
        return None
    top = place.mount.backend.native_path("")
    pending, found, links = place.path.split("/")[::-1], list[str](), 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not found:
                return None
            found.pop()
            continue
        text = _link_at(place.mount, "/".join([*found, part]))
        if text is None:
            found.append(part)
            continue
        links += 1
        if text.startswith("/"):
            if not is_within(text, top):
                return None
            found, text = [], text[len(top) :]
        if links > MOST_LINKS:
            return None
        pending += text.split("/")[::-1]
    return place.mount.backend.native_path("/".join(found))


def leads_back(link: Place, root: Place) -> bool:
    """Whether a link below `root` leads to a place of this tree, which is reached without it too."""
    try:
        there, top = led_to(link), led_to(root)
    except StorageError:
        return False  # it leads nowhere that anything could be written
    return there is not None and top is not None and (is_within(there, top) or is_within(top, there))


def _link_at(mount: Mount, path: str) -> str | None:
    """What a link says; None for anything else, and where nothing is."""
    try:
        return mount.readlink(path) if mount.stat(path).is_symlink else None
    except StorageNotFoundError:
        return None


def is_within(path: str, directory: str) -> bool:
    """Whether a real path is a directory's or lies below it."""
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)
