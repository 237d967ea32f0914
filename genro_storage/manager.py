"""The manager: names → mounts; and the default manager that `genro_storage.node` uses."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from . import config, paths, table
from .backends import register_backend_type
from .backends.base import StorageBackend
from .exceptions import StorageError, StorageMountNotFoundError, StoragePathError
from .mount import Mount
from .mountinfo import MountCheck, MountInfo, checked, told
from .nodes import StorageNode
from .specials import SpecialMounts
from .urls import url_entry
from .verbs.versions import Which

if TYPE_CHECKING:
    from .transfer import TransferReport
    from .transfer.recover import RecoverReport
    from .virtual import DiffNode, IterNode, VirtualNode

BUILTIN_MOUNTS: tuple[dict[str, Any], ...] = (
    {"name": "local", "type": "local", "path": "."},
    {"name": "home", "type": "local", "path": "~"},
    {"name": "temp", "type": "temp", "max_files": None, "max_file_bytes": None},
    {"name": "memory", "type": "memory"},
)

_managers: weakref.WeakValueDictionary[str, StorageManager] = weakref.WeakValueDictionary()
"""By identity, so that a node unpickled in its own process finds its own manager."""


class StorageManager(SpecialMounts):
    """Names mounts and makes nodes.

    No global state and no mounts unless given; thread-safe; a context manager that closes. `urls=True` also takes
    fsspec URLs as paths. `mounts` is passed to `configure`.
    """

    def __init__(self, mounts: object = None, *, urls: bool = False) -> None:
        self._identity = os.urandom(16).hex()
        self._urls = urls
        self._own_types: dict[str, Any] = {}
        self._table = table.Table()
        self._url_mounts: dict[str, Mount] = {}
        self._closed = False
        self._lock = threading.RLock()
        _managers[self._identity] = self
        if mounts is not None:
            self.configure(mounts)

    def __repr__(self) -> str:
        return f"StorageManager(mounts=[{', '.join(self._table.mounts)}])"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._pickled(*self._table.entries).__reduce__()

    # --- mounts ---

    def configure(self, source: object, *, interpolate: bool = True) -> Self:
        """Adds mounts from a file (YAML, TOML, JSON), a list of entries or a dict; a same name replaces.

        All or nothing: after any error the table is as it was. Opens no connection; a local directory is checked.
        """
        parsed = config.load(source, interpolate=interpolate)
        self._add(parsed)
        return self

    def _add(self, parsed: config.Config) -> None:
        entries = table.entries_of(parsed)
        if parsed.builtin_mounts:
            entries = {**table.entries_of(builtin_config()), **entries}
        with self._lock:
            self._refuse_closed()
            self._table = self._table.with_entries(entries, self._builder)
            self._urls = self._urls or parsed.urls

    @property
    def _builder(self) -> table.Builder:
        return table.Builder(self._identity, self._own_types)

    def add_mount(self, entry: Mapping[str, Any]) -> Self:
        """`configure` with one entry."""
        if not isinstance(entry, Mapping):
            raise TypeError(f"an entry is a dict, not {type(entry).__name__}")
        return self.configure([entry])

    def delete_mount(self, name: str) -> None:
        """Takes a mount away; `StorageConfigError` if others stand on it."""
        with self._lock:
            mount = self._mount(name)
            self._table = self._table.without(name, self._builder)
        mount.backend.close()

    def get_mount_names(self) -> list[str]:
        """In configuration order."""
        return list(self._table.mounts)

    def has_mount(self, name: str) -> bool:
        return name in self._table.mounts

    @property
    def mounts(self) -> Mapping[str, MountInfo]:
        """name → `MountInfo`, read-only."""
        current = self._table
        views = {name: StorageNode(self, name, "").capabilities for name in current.mounts}
        return MappingProxyType(
            {name: told(current.entries[name], current.mounts[name], view) for name, view in views.items()}
        )

    def check(self, name: str | None = None) -> list[MountCheck]:
        """Asks each mount (or one) with one real request: does it answer, how fast, and what only a server knows."""
        names = list(self._table.mounts) if name is None else [name]
        return [checked(self._mount(one)) for one in names]

    @property
    def _mounts(self) -> Mapping[str, Mount]:
        return self._table.mounts

    def _mount(self, name: str) -> Mount:
        try:
            return self._table.mounts[name]
        except KeyError:
            found = self._url_mounts.get(name)
        if found is not None:
            return found
        self._refuse_closed()
        if self._urls and "://" in name:
            return self._url_mount(f"{name}/")[0]
        raise self._unknown(name)

    def _unknown(self, name: str) -> StorageMountNotFoundError:
        known = list(self._table.mounts)
        import difflib  # only failures need it

        near = difflib.get_close_matches(name, known, n=1)
        spelling = ". A path is 'mount:path'" if "/" in name else ""
        hint = f". Did you mean '{near[0]}'?" if near else spelling
        listed = ", ".join(known) or "(none configured)"
        return StorageMountNotFoundError(
            f"Mount point '{name}' not found. Available mounts: {listed}{hint}", mount=name
        )

    def _url_mount(self, url: str) -> tuple[Mount, str, str]:
        key, entry, path = url_entry(url)
        with self._lock:
            self._refuse_closed()
            mount = self._url_mounts.get(key)
            if mount is None:
                mount = self._url_mounts[key] = self._builder.mount(entry, name=redacted_url(key))
        return mount, key, path

    # --- nodes ---

    def node(
        self,
        path: str | StorageNode | PurePosixPath,
        *parts: str,
        version: Which | None = None,
        as_of: datetime | float | None = None,
    ) -> StorageNode:
        """The node at ``mount:path``, parts joined below; a node is rebound to this manager.

        `version` (an id or an index as in a list) or `as_of` (a time) make it a read-only snapshot; an index or a time
        costs one listing. An unknown mount raises `StorageMountNotFoundError`, a bad path `StoragePathError`.
        """
        try:
            name, _, rest = path.partition(":")  # type: ignore[union-attr]
            if rest[:2] == "//":
                raise KeyError(name)  # a URL is never a path, not even where a mount has the name of its scheme
            mount = self._table.mounts[name]
            rest = paths.normalise(rest, mount.rules)
        except (AttributeError, KeyError, StoragePathError):
            name, rest, mount = self._judged(path)
        if parts:
            rest = paths.join(rest, *parts, rules=mount.rules)
        made = StorageNode(self, name, rest)
        return made if version is None and as_of is None else made.at(version, as_of=as_of)

    def iternode(self, *nodes: StorageNode | str) -> IterNode:
        """A virtual node: the contents of nodes one after another."""
        from .virtual import IterNode

        return IterNode(self, nodes)

    def diffnode(self, a: StorageNode | str, b: StorageNode | str) -> DiffNode:
        """A virtual node: the unified diff of two text files."""
        from .virtual import DiffNode

        return DiffNode(self, a, b)

    def _judged(self, path: object) -> tuple[str, str, Mount]:
        """(mount name, path, mount) for what the fast way did not take; every refusal is raised here."""
        if isinstance(path, StorageNode):
            return path.mount_name, path.path, self._mount(path.mount_name)
        if path is None:
            raise StoragePathError("None is not a path; write 'mount:path'")
        text = str(path) if isinstance(path, PurePosixPath) else path
        if not isinstance(text, str):
            raise TypeError(f"a path is a str 'mount:path', not {type(text).__name__}")
        name, _, rest = text.partition(":")
        if name in self._table.mounts and self._table.mounts[name].rules.literal:
            return name, rest, self._table.mounts[name]
        if paths.SCHEME.match(text) and self._urls:
            mount, name, rest = self._url_mount(text)
        else:
            name, rest = paths.split(text)
            mount = self._mount(name)
        try:
            return name, paths.normalise(rest, mount.rules), mount
        except StoragePathError as error:
            error.mount = mount.name
            raise

    def _shown(self, name: str, path: str) -> str:
        return paths.full(redacted_url(name), path)

    # --- transfer ---

    def copy(self, source: str | StorageNode | VirtualNode, dest: str | StorageNode, **options: Any) -> TransferReport:
        """Copies a file or a tree between any two places; see `CopyOptions` for the options."""
        return self._transferred("copy", source, dest, options)[1]

    def move(self, source: str | StorageNode, dest: str | StorageNode, **options: Any) -> TransferReport:
        """As `copy`; each source goes once its copy is proven."""
        return self._transferred("move", source, dest, options)[1]

    def sync(self, source: str | StorageNode, dest: str | StorageNode, **options: Any) -> TransferReport:
        """Makes a directory hold what another holds, what is unchanged stays; with ``delete=True`` nothing else."""
        return self._transferred("sync", source, dest, options)[1]

    def compare(self, a: str | StorageNode, b: str | StorageNode, by: str = "hash", **options: Any) -> TransferReport:
        """What two files or trees have in common and what not: by ``hash``, ``size`` or ``mtime``; writes nothing."""
        from .verbs import transfers  # with the whole engine, which reading and writing do without

        return transfers.compared(self, a, b, by, options)

    def _transferred(
        self, operation: str, source: str | StorageNode | VirtualNode, dest: str | StorageNode, options: dict[str, Any]
    ) -> tuple[StorageNode, TransferReport]:
        from .verbs import transfers

        return transfers.transferred(self, operation, source, dest, options)

    def recover(
        self, *, older_than: float | str | timedelta = "7d", journal: Any = None, dry_run: bool = False
    ) -> RecoverReport:
        """Takes away what killed transfers left, once it is `older_than`; with `dry_run` only tells what there is.

        An age is a number of seconds, a timedelta, or text like ``"12h"``. `journal` as for a transfer. Costs a listing
        of the unfinished writes of each mount that can be written to; of a local one that is a walk through all of it.
        """
        from .transfer.recover import recover

        self._refuse_closed()
        return recover(self._table.mounts.values(), self.node, older_than=older_than, journal=journal, dry_run=dry_run)

    # --- behind the mounts ---

    def get_backend(self, name: str) -> StorageBackend:
        """The backend of a mount; it bypasses the mount's permissions."""
        return self._mount(name).backend

    def register_backend_type(self, name: str, cls: type, *, replace: bool = False) -> None:
        """Makes a `StorageBackend` subclass the type `name` for this manager."""
        register_backend_type(name, cls, replace=replace, into=self._own_types)

    def close(self) -> None:
        """Closes every backend and removes owned temporary data; later calls raise. Idempotent."""
        with self._lock:
            mounts = [*self._url_mounts.values(), *self._table.parents_first()]
            self._table, self._url_mounts, self._closed = table.Table(), {}, True
        with ExitStack() as ending:  # those that stand on others close before them; one that fails keeps no other open
            if "_own_scratch" in self.__dict__:
                ending.callback(self._own_scratch.close)
            for mount in mounts:
                ending.callback(mount.backend.close)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StorageError("this StorageManager is closed")

    # --- pickling ---

    def _pickled(self, *names: str) -> _Portable:
        """This manager as far as these mounts need it."""
        entries = self._table.entries
        needed: dict[str, tuple[dict[str, Any], str]] = {}
        for name in names:
            self._mount(name)
            entry = entries.get(name)
            while entry is not None:
                needed[entry.name] = (self._portable_keys(entry), entry.directory)
                entry = entries[entry.parent] if entry.parent else None
        own = {
            name: cls for name, cls in self._own_types.items() if any(k.get("type") == name for k, _ in needed.values())
        }
        return _Portable(
            type(self), self._identity, self._urls, own, {name: needed[name] for name in entries if name in needed}
        )

    def _portable_keys(self, entry: table.Entry) -> dict[str, Any]:
        changed = getattr(self._table.mounts[entry.name].backend, "pickle_options", None)
        return {**entry.given, **(changed() if changed and entry.parent is None else {})}


class _Portable(NamedTuple):
    """A manager on its way to another process."""

    kind: type[StorageManager]
    identity: str
    urls: bool
    own_types: dict[str, Any]
    mounts: dict[str, tuple[dict[str, Any], str]]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, tuple(self))


def _restored(
    kind: type[StorageManager],
    identity: str,
    urls: bool,
    own_types: dict[str, Any],
    mounts: dict[str, tuple[dict[str, Any], str]],
) -> StorageManager:
    """The manager of that identity in this process, with at least these mounts."""
    found = _managers.get(identity)
    if found is None:
        found = kind(urls=urls)
        found._identity = identity
        _managers[identity] = found
    found._own_types.update(own_types)
    entries: dict[str, table.Entry] = {}
    for name, (given, directory) in mounts.items():
        if not found.has_mount(name):
            entries.update(table.entries_of(config.Config([given], directory=directory)))
    if entries:
        with found._lock:
            found._table = found._table.with_entries(entries, found._builder)
    return found


def redacted_url(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(?<=//)([^/@:]*):[^/@]*@", r"\1:***@", url)


def builtin_config() -> config.Config:
    """The mounts that are there without configuration: an account without a home directory has no ``home``."""
    there = [e for e in BUILTIN_MOUNTS if e["type"] != "local" or os.path.isdir(os.path.expanduser(e["path"]))]
    return config.Config([dict(entry) for entry in there], directory=os.getcwd())
