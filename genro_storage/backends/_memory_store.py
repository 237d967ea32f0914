"""A tree of files in memory: what the memory backend keeps, and which process keeps it."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from copy import copy
from typing import TypeAlias

from ..types import Stat

NONCE = uuid.uuid4().hex
"""Says which process holds the bytes: a fork inherits it together with them, no other process has it."""

_changes = itertools.count(time.time_ns())
"""Never one number for two contents, not even after a restart: an HTTP client may still hold the etag of before."""


class File:
    """One object. `data` becomes a bytearray while it is edited in place, and bytes again when it is read."""

    __slots__ = ("born", "content_type", "data", "etag", "metadata", "mtime", "tags", "version")

    def __init__(
        self,
        data: bytes,
        mtime: float | None,
        content_type: str | None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.data: bytes | bytearray = data
        self.content_type = content_type
        self.metadata = {key.lower(): value for key, value in (metadata or {}).items()}
        self.tags = dict(tags or {})
        self.renew()
        self.etag = self.version
        self.mtime = self.born if mtime is None else mtime

    def renew(self) -> None:
        """From here on it is another version."""
        self.version = f"{next(_changes):x}"
        self.born = time.time()

    def snapshot(self) -> File:
        """This version, which no later change reaches."""
        self.frozen()
        return copy(self)

    def frozen(self) -> bytes:
        """The bytes of this moment, which no later edit changes."""
        if isinstance(self.data, bytearray):
            self.data = bytes(self.data)
        return self.data

    def thawed(self) -> bytearray:
        """The bytes to change in place; it counts as a change.

        What somebody has read is never changed: after a reading look it is another version.
        """
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)
            self.renew()
        self.mtime = time.time()
        self.etag = f"{next(_changes):x}"
        return self.data


class Directory:
    """Names → what they are."""

    __slots__ = ("children", "mtime")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.mtime = time.time()

    def put(self, name: str, node: Node) -> None:
        self.children[name] = node
        self.mtime = time.time()

    def remove(self, name: str) -> None:
        del self.children[name]
        self.mtime = time.time()

    def listed(self) -> list[tuple[str, Node]]:
        """(name, node) in bytewise order, a directory's name with a "/" behind it.

        The order of code points is the order of their UTF-8 bytes, so text sorts as it is.
        """
        return sorted(
            (name if isinstance(node, File) else name + "/", node) for name, node in list(self.children.items())
        )


Node: TypeAlias = File | Directory


class Deletion:
    """That a file was removed, where versions are kept."""

    __slots__ = ("born", "version")

    def __init__(self) -> None:
        self.version = f"{next(_changes):x}"
        self.born = time.time()


class Parts:
    """What is staged for `path`: offset → bytes."""

    __slots__ = ("born", "data", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.born = time.time()
        self.data: dict[int, bytes] = {}


class Store:
    """A root directory and the lock that every look and every change takes.

    Where it is `versioned`, `past` has of each path what is no longer its file, oldest first: deletions, and files that
    are never changed again.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.root = Directory()
        self.versioned = False
        self.past: dict[str, list[File | Deletion]] = {}
        self.staged: dict[str, Parts] = {}
        self.lock = threading.RLock()
        with _registry:
            _all.add(self)

    def find(self, path: str) -> Node:
        """What is at `path`; `FileNotFoundError`, or `NotADirectoryError` if a file is on the way."""
        node: Node = self.root
        for name in path.split("/") if path else ():
            if isinstance(node, File):
                raise failure(errno.ENOTDIR)
            found = node.children.get(name)
            if found is None:
                raise failure(errno.ENOENT)
            node = found
        return node

    def look(self, path: str) -> Node | None:
        """What is at `path`, or None."""
        try:
            return self.find(path)
        except FileNotFoundError:
            return None

    def file(self, path: str) -> File:
        """As `find`; `IsADirectoryError` for a directory."""
        node = self.find(path)
        if isinstance(node, Directory):
            raise failure(errno.EISDIR)
        return node

    def directory(self, path: str) -> Directory:
        """As `find`; `NotADirectoryError` for a file."""
        node = self.find(path)
        if isinstance(node, File):
            raise failure(errno.ENOTDIR)
        return node

    def above(self, path: str, make: bool = False) -> tuple[Directory, str]:
        """The directory of `path`, made with its parents if asked, and the last name."""
        parent, _, name = path.rpartition("/")
        if make:
            self.make(parent)
        return self.directory(parent), name

    def make(self, path: str) -> None:
        """Makes a directory and its parents, where they are missing."""
        node = self.root
        for name in path.split("/") if path else ():
            below = node.children.get(name)
            if below is None:
                below = Directory()
                node.put(name, below)
            if isinstance(below, File):
                raise failure(errno.ENOTDIR)
            node = below

    def keep(self, path: str, node: Node | None) -> None:
        """Call it before what is at `path` is changed or replaced."""
        if self.versioned and isinstance(node, File):
            self.past.setdefault(path, []).append(node.snapshot())

    def leave(self, path: str, node: Node) -> None:
        """Call it before a file, or a directory with all below it, goes away from `path`."""
        if self.versioned:
            for key, file in files(path, node):
                self.keep(key, file)
                self.past[key].append(Deletion())


def files(path: str, node: Node) -> Iterator[tuple[str, File]]:
    """Every file at or below `path`."""
    if isinstance(node, File):
        yield path, node
        return
    for name, below in node.children.items():
        yield from files(f"{path}/{name}" if path else name, below)


def failure(number: int) -> OSError:
    """What the operating system would raise."""
    return OSError(number, os.strerror(number))


def described(path: str, node: Node, *, metadata: bool = False, versions: bool = False) -> Stat:
    """The facts of a node; those that `metadata` and `versions` add only on request."""
    if isinstance(node, Directory):
        return Stat(path, None, True, mtime=node.mtime)
    return Stat(
        path,
        len(node.frozen() if versions else node.data),
        mtime=node.mtime,
        etag=node.etag,
        content_type=node.content_type,
        version_id=node.version if versions else None,
        metadata=dict(node.metadata) if metadata else None,
    )


# --- which stores there are ---

_registry = threading.RLock()
_all: weakref.WeakSet[Store] = weakref.WeakSet()
_by_name: weakref.WeakValueDictionary[str, Store] = weakref.WeakValueDictionary()
_kept: set[Store] = set()
"""The stores with a name of the user's: they live as long as the process."""


def shared(name: str) -> Store:
    """The store that all mounts of this process with `store: name` share."""
    with _registry:
        store = _named(f"name:{name}")
        _kept.add(store)
        return store


def private(manager: str, mount: str) -> Store:
    """The store of one mount of one manager, as long as a backend holds it."""
    with _registry:
        return _named(f"mount:{manager}:{mount}")


def _named(name: str) -> Store:
    store = _by_name.get(name)
    if store is None:
        store = _by_name[name] = Store(name)
    return store


def address(store: Store) -> str:
    """What finds this store again in this process and its forks."""
    return f"@{NONCE}/{store.name}"


def at_address(text: str) -> Store | None:
    """The store of an `address`, or None where this process does not hold it."""
    nonce, _, name = text[1:].partition("/")
    with _registry:
        return _by_name.get(name) if nonce == NONCE else None


# A fork happens while no other thread is inside a store: the child finds every tree whole and every lock free.


def _hold() -> None:
    _registry.acquire()
    for store in sorted(_all, key=id):
        store.lock.acquire()


def _release() -> None:
    for store in _all:
        store.lock.release()
    _registry.release()


os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)
