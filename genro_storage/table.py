"""The mount table: checked entries become mounts; a new immutable table replaces the old one whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from . import paths
from .backends import ALIASES, backend_class
from .backends.base import StorageBackend
from .backends.build import built, fields_of, parsed
from .backends.options import Context, Duration, Size, secrets_in, shown
from .config import Config
from .exceptions import StorageConfigError, StorageError
from .limits import Limit, LimitedMount
from .mount import Level, Mount
from .retry import RetryPolicy

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_RELATIVE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}:(?!//)")
_STANDS = {"relative": "path", "zip": "file", "tar": "file", "libarchive": "file", "sessions": "storage"}
"""Type → the key that names a place in the mount it stands on."""
_COMMON = (
    *("name", "type", "protocol", "permissions", "retries", "retry_max_delay", "allow_backslash"),
    *("base_url", "internal_url", "max_file_size", "quota"),
)
_OWN = {"http": ("base_url",), "temp": ("max_file_size", "quota")}
"""Type → common keys that it understands in its own way."""


class Entry(msgspec.Struct, frozen=True):
    """One mount as configured: what was given (interpolated), and what the common keys mean."""

    name: str
    type: str
    given: Mapping[str, Any]
    directory: str
    level: Level
    retry: RetryPolicy
    allow_backslash: bool
    base_url: str | None = None
    internal_url: str | None = None
    max_file_size: int | None = None
    quota: int | None = None

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of the type alone."""
        own = _OWN.get(self.type, ())
        return {key: value for key, value in self.given.items() if key not in _COMMON or key in own}

    @property
    def parent(self) -> str | None:
        """The mount that this one stands on."""
        return self.below.partition(":")[0] if self.below else None

    @property
    def below(self) -> str | None:
        """The place ``mount:path`` that this mount stands on."""
        place = self.given.get(_STANDS.get(self.type, ""))
        return place if isinstance(place, str) and _RELATIVE.match(place) else None


class Table(msgspec.Struct, frozen=True):
    """Names → mounts, in configuration order."""

    entries: Mapping[str, Entry] = MappingProxyType({})
    mounts: Mapping[str, Mount] = MappingProxyType({})

    def with_entries(self, new: Mapping[str, Entry], builder: Builder) -> Table:
        """A table that also has `new`, same names replaced; mounts whose entry and parents stay are kept."""
        built = builder.build({**self.entries, **new}, self)
        for name, mount in self.mounts.items():
            if built.mounts[name] is not mount and hasattr(mount.backend, "flush"):
                mount.backend.flush()  # what is staged in an archive would go with the mount that is replaced
        return built

    def parents_first(self) -> list[Mount]:
        """The mounts, each after the one it stands on."""
        return [self.mounts[name] for name in _parents_first(self.entries)]

    def without(self, name: str, builder: Builder) -> Table:
        """A table that lacks one mount; `StorageConfigError` naming those that stand on it."""
        needed = [entry.name for entry in self.entries.values() if entry.parent == name]
        if needed:
            raise StorageConfigError(f"mount '{name}' is needed by {', '.join(needed)}; delete those first")
        return builder.build({key: entry for key, entry in self.entries.items() if key != name}, self)


def entries_of(config: Config) -> dict[str, Entry]:
    """The checked entries of one source; a duplicate name is a `StorageConfigError`."""
    found: dict[str, Entry] = {}
    for given in config.mounts:
        entry = _entry(given, config.directory)
        if entry.name in found:
            raise StorageConfigError(f"mount '{entry.name}' is configured twice in one source")
        found[entry.name] = entry
    return found


def _entry(given: Mapping[str, Any], directory: str) -> Entry:
    name = given.get("name")
    if name is None:
        raise StorageConfigError(f"missing required field: 'name' in {_shown(given)}")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        reason = "letters, digits, '_', '.' and '-', beginning with a letter or '_', 64 at most"
        raise StorageConfigError(f"mount {name!r}: not a mount name; it has {reason}")
    with _naming(name):
        return Entry(
            name=name,
            type=_type(given),
            given=MappingProxyType(dict(given)),
            directory=directory,
            level=_level(given.get("permissions", "delete")),
            retry=_retry(given),
            allow_backslash=_common(given, "allow_backslash", bool, False),
            base_url=_common(given, "base_url", str, None),
            internal_url=_common(given, "internal_url", str, None),
            max_file_size=_common(given, "max_file_size", Size, None),
            quota=_common(given, "quota", Size, None),
        )


def _shown(given: Mapping[str, Any]) -> str:
    return "the entry with the keys " + (", ".join(sorted(map(str, given))) or "(none)")


class _naming:
    """Puts the mount's name before the message of any error of ours."""

    def __init__(self, mount: str) -> None:
        self.mount = mount

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, StorageError) and error.mount is None:
            error.mount = self.mount
            error.message = f"mount '{self.mount}': {error.message}"
            error.args = (error.message,)


def _type(given: Mapping[str, Any]) -> str:
    kind, alias = given.get("type"), given.get("protocol")
    if kind is not None and alias is not None and ALIASES.get(kind, kind) != ALIASES.get(alias, alias):
        raise StorageConfigError(f"'type' says {kind!r} and 'protocol' says {alias!r}; give one of them")
    kind = alias if kind is None else kind
    path = given.get("path")
    if kind is None:
        if isinstance(path, str) and _RELATIVE.match(path):
            return "relative"
        raise StorageConfigError("missing required field: 'protocol' or 'type'")
    if not isinstance(kind, str):
        raise StorageConfigError(f"'type' is text, not {type(kind).__name__}")
    if kind == "relative" and not (isinstance(path, str) and _RELATIVE.match(path)):
        raise StorageConfigError("a relative mount needs a 'path' of the form 'parent:sub'")
    return ALIASES.get(kind, kind)


def _level(given: object) -> Level:
    if isinstance(given, str) and given in Level.__members__:
        return Level[given]
    raise StorageConfigError(f"Invalid permissions {given!r}; known: {', '.join(Level.__members__)}")


def _retry(given: Mapping[str, Any]) -> RetryPolicy:
    retries = _common(given, "retries", int, 3)
    if retries < 0:
        raise StorageConfigError(f"'retries' is 0 or more, not {retries}")
    return RetryPolicy(retries, _common(given, "retry_max_delay", Duration, 30.0))


def _common(given: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    if key not in given:
        return default
    try:
        return msgspec.convert(given[key], kind, strict=False, dec_hook=parsed)
    except msgspec.ValidationError as error:
        raise StorageConfigError(f"key '{key}': {error}") from None


class Builder:
    """Turns entries into mounts for one manager."""

    def __init__(self, manager: str, own_types: dict[str, Any]) -> None:
        self._manager = manager
        self._own_types = own_types

    def build(self, entries: Mapping[str, Entry], old: Table) -> Table:
        """All or nothing: any bad entry raises and what was opened on the way is closed."""
        mounts: dict[str, Mount] = {}
        fresh: list[Mount] = []
        try:
            for name in _parents_first(entries):
                entry = entries[name]
                kept = old.mounts.get(name) if old.entries.get(name) == entry else None
                if kept and (entry.parent is None or mounts[entry.parent] is old.mounts.get(entry.parent)):
                    mounts[name] = kept
                    continue
                with _naming(name):
                    mounts[name] = self._made(entry, mounts)
                fresh.append(mounts[name])
        except BaseException:
            for mount in fresh:
                if mount.name not in old.mounts:
                    mount.backend.close()
            raise
        ordered = {name: mounts[name] for name in entries}
        return Table(MappingProxyType(dict(entries)), MappingProxyType(ordered))

    def _made(self, entry: Entry, mounts: Mapping[str, Mount]) -> Mount:
        if entry.type == "relative":
            return self._relative(entry, mounts)
        if entry.below is None:
            return self.mount(entry)
        above, path = paths.split(entry.below)
        return self.mount(entry, stands_on=(mounts[above], path))

    def _relative(self, entry: Entry, mounts: Mapping[str, Mount]) -> Mount:
        unknown = sorted(set(entry.keys) - {"path"})
        if unknown:
            raise StorageConfigError(
                f"unknown key '{unknown[0]}' for a relative mount; its keys are those of its parent"
            )
        above, path = paths.split(entry.given["path"])
        if above not in mounts:
            raise StorageConfigError(f"Parent mount '{above}' not found. Mounts: {', '.join(mounts) or 'none'}")
        parent = mounts[above]
        return _mounted(
            entry,
            entry.name,
            parent.backend.rooted(paths.normalise(path, parent.rules)),
            parent,
            level=min(entry.level, parent.level),
            retry=entry.retry,
            allow_backslash=entry.allow_backslash or parent.rules.backslash,
            base_url=entry.base_url or _below(parent.base_url, path),
            internal_url=entry.internal_url or _below(parent.internal_url, path),
            secrets=parent.guard.secrets,
        )

    def mount(self, entry: Entry, *, name: str | None = None, stands_on: tuple[Mount, str] | None = None) -> Mount:
        """The mount of an entry with a backend of its own; `name` is what errors call it."""
        cls = backend_class(entry.type, self._own_types)
        context = Context(entry.name, self._manager, entry.directory, stands_on)
        backend = built(cls, entry.type, entry.keys, context, spellings=_COMMON)
        if backend.features.readonly and entry.given.get("permissions", "readonly") != "readonly":
            raise StorageConfigError(f"type '{entry.type}' is read-only; its 'permissions' can only be readonly")
        if entry.allow_backslash and not backend.features.backslash:
            raise StorageConfigError(
                f"'allow_backslash' is not possible here: type '{entry.type}' takes it as a separator"
            )
        return _mounted(
            entry,
            name or entry.name,
            backend,
            None,
            level=entry.level,
            retry=entry.retry,
            allow_backslash=entry.allow_backslash,
            base_url=entry.base_url,
            internal_url=entry.internal_url,
            secrets=list(secrets_in(fields_of(backend.options))),
        )


def _mounted(entry: Entry, name: str, backend: StorageBackend, parent: Mount | None, **policy: Any) -> Mount:
    """A mount, with limits if it or its parent has any."""
    limits = list(parent.limits) if isinstance(parent, LimitedMount) else []
    if "quota" not in _OWN.get(entry.type, ()) and (entry.max_file_size, entry.quota) != (None, None):
        limits.append(Limit(backend, entry.max_file_size, entry.quota))
    return LimitedMount(name, backend, limits=limits, **policy) if limits else Mount(name, backend, **policy)


def _below(base: str | None, path: str) -> str | None:
    """The URL of a directory of a mount that has a URL."""
    return None if base is None else f"{base.rstrip('/')}/{quote(path, safe='/')}".rstrip("/")


def _parents_first(entries: Mapping[str, Entry]) -> Iterator[str]:
    done: set[str] = set()
    for name in entries:
        chain = [name]
        while (above := entries[chain[-1]].parent) is not None and above not in done:
            if above in chain:
                raise StorageConfigError(f"mounts stand on each other in a circle: {' → '.join([*chain, above])}")
            if above not in entries:
                reason = f"Parent mount '{above}' not found. Mounts: {', '.join(sorted(entries))}"
                raise StorageConfigError(f"mount '{chain[-1]}': {reason}")
            chain.append(above)
        for link in reversed(chain):
            if link not in done:
                done.add(link)
                yield link


def redacted(mount: Mount) -> dict[str, Any]:
    """The options of a mount with every secret shown as ``***``; without those that nobody has given."""
    unset = (None, "", msgspec.UNSET)
    return shown({key: value for key, value in fields_of(mount.backend.options).items() if value not in unset})
