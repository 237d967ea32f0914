"""Session stores by name: where the records live, and the keys that each kind of store takes."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ..crypto import Keyring
from ..exceptions import StorageConfigError, StorageDriverError
from ..records.base import RecordStore
from ..records.encrypted import EncryptedRecordStore
from .models import StorageType
from .options import SessionOptions
from .store import SessionStore


class Kind(NamedTuple):
    """A kind of record store: its class, its options, the key that says where it is, and that key's other names.

    Without a struct of options, the keywords of its class are its keys.
    """

    store: str
    options: str | None = None
    place: str | None = None
    spellings: tuple[str, ...] = ()
    extra: str | None = None
    driver: str | None = None


KINDS: Mapping[StorageType, Kind] = {
    StorageType.MEMORY: Kind("memory:MemoryRecordStore"),
    StorageType.SQLITE: Kind("sqlite:SQLiteRecordStore", "_sqlite.file:SQLiteOptions", "path", ("sqlite_path",)),
    StorageType.POSTGRESQL: Kind(
        "postgres:PostgresRecordStore",
        "postgres:PostgresOptions",
        "url",
        ("postgresql_url", "connection_string"),
        "postgres",
        "asyncpg",
    ),
    StorageType.REDIS: Kind("redis:RedisRecordStore", "redis:RedisOptions", "url", ("redis_url",), "redis", "redis"),
    StorageType.MOUNT: Kind("mount:MountRecordStore", None, "storage", ("mount", "node")),
}


def _imported(name: str, kind: Kind) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(f"genro_storage.records.{module}"), attribute)
    except ImportError as error:
        if kind.driver is None or (error.name or "").partition(".")[0] != kind.driver:
            raise
        raise StorageDriverError(
            f"this store needs '{error.name}': pip install 'genro-storage[{kind.extra}]'"
        ) from error


def storage_type(value: StorageType | str) -> StorageType:
    """The type, by itself or its value; another → `ValueError`."""
    try:
        return StorageType(value)
    except ValueError:
        known = ", ".join(one.value for one in StorageType)
        raise ValueError(f"Unsupported storage type: {value!r}; known: {known}") from None


def open_store(
    kind: StorageType | str, config: Mapping[str, Any], make: Callable[..., SessionStore] = SessionStore
) -> SessionStore:
    """A session store from the keys of its records and its own options; an unknown key → `StorageConfigError`.

    With the key `encryption`, ``{"keys": [{"id", "key_env" or "key"}, …]}``, its data is sealed (`Keyring`); with
    ``"allow_plaintext_read": true`` in it, what was written without is read too.
    """
    plain = dict(config)
    encryption = plain.pop("encryption", None)
    of_records, of_sessions = _split(storage_type(kind), plain)
    keys = None if encryption is None else _judged_encryption(encryption)
    records = open_records(kind, of_records)
    if keys is not None:
        plaintext = bool(encryption.get("allow_plaintext_read", False))
        records = EncryptedRecordStore(records, keys, allow_plaintext_read=plaintext)
    return make(records, **of_sessions)


def _judged_encryption(told: Any) -> Keyring:
    """Its keys; what else it says is judged here too."""
    known = {"keys", "allow_plaintext_read"}
    if not isinstance(told, Mapping) or not set(told) <= known or not isinstance(told.get("keys"), Sequence):
        raise StorageConfigError("encryption takes 'keys', a list of {id, key_env}, and 'allow_plaintext_read'")
    if not isinstance(told.get("allow_plaintext_read", False), bool):
        raise StorageConfigError("allow_plaintext_read is true or false")
    if not all(isinstance(entry, Mapping) for entry in told["keys"]):
        raise StorageConfigError("each of the keys of encryption is {id, key_env}")
    return Keyring(told["keys"])


def open_records(kind: StorageType | str, keys: Mapping[str, Any]) -> RecordStore:
    """A record store from its keys."""
    found = KINDS[storage_type(kind)]
    options = dict(keys)
    place = [] if found.place is None else [options.pop(found.place)]
    store: RecordStore = _imported(found.store, found)(*place, **options)
    return store


def _split(kind: StorageType, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of the records, under their own names, and those of the sessions."""
    found = KINDS[kind]
    known = _keys_of(found)
    sessions = SessionOptions.__struct_fields__
    of_records: dict[str, Any] = {}
    of_sessions: dict[str, Any] = {}
    for key, value in config.items():
        name = found.place if key in found.spellings else key
        if name in sessions:
            of_sessions[key] = value
        elif name in known and name is not None:
            of_records[name] = value
        else:
            raise _unknown(kind, key, [*known, *found.spellings, *sessions, "encryption"])
    if found.place is not None and found.place not in of_records:
        spellings = " or ".join(repr(one) for one in (found.place, *found.spellings))
        raise StorageConfigError(f"a session store of type {kind.value!r} needs {spellings}")
    return of_records, of_sessions


def _keys_of(kind: Kind) -> set[str]:
    known = {kind.place} if kind.place else set()
    if kind.options is not None:
        return known | set(_imported(kind.options, kind).__struct_fields__)
    keywords = inspect.signature(_imported(kind.store, kind)).parameters.values()
    return known | {one.name for one in keywords if one.kind is one.KEYWORD_ONLY} - {"clock"}


def _unknown(kind: StorageType, key: str, known: list[str]) -> StorageConfigError:
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(set(known)))}"
    return StorageConfigError(f"a session store of type {kind.value!r} has no key {key!r}; {hint}")


class StorageFactory:
    """Session stores by their type."""

    @staticmethod
    def create_storage_backend(storage_type: StorageType | str, config: Mapping[str, Any]) -> SessionStore:
        """A session store of this type.

        Args:
            storage_type: the enum or its value; unknown → `ValueError`.
            config: `redis_url`, `postgresql_url`, `sqlite_path` or `mount` (a directory node), and any option.

        Raises:
            StorageConfigError: a key is missing or unknown.
        """
        return open_store(storage_type, config)


# --- the same, each by a class of its own ---


class MemoryStorageBackend(SessionStore):
    """Sessions in this process; gone with it."""

    def __init__(self, **options: Any) -> None:
        open_store(StorageType.MEMORY, options, super().__init__)  # type: ignore[arg-type]


class SQLiteStorageBackend(SessionStore):
    """Sessions in one SQLite file, shared by the processes of a host."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        open_store(StorageType.SQLITE, {"path": path, **options}, super().__init__)  # type: ignore[arg-type]


class PostgreSQLStorageBackend(SessionStore):
    """Sessions in PostgreSQL, shared by many hosts."""

    def __init__(self, connection_string: str, **options: Any) -> None:
        open_store(StorageType.POSTGRESQL, {"url": connection_string, **options}, super().__init__)  # type: ignore[arg-type]


class RedisStorageBackend(SessionStore):
    """Sessions in Redis, shared by many hosts."""

    def __init__(self, redis_url: str, **options: Any) -> None:
        open_store(StorageType.REDIS, {"url": redis_url, **options}, super().__init__)  # type: ignore[arg-type]


class MountStorageBackend(SessionStore):
    """Sessions as files below a directory node of any mount; one owner at a time."""

    def __init__(self, node: Any, **options: Any) -> None:
        open_store(StorageType.MOUNT, {"storage": node, **options}, super().__init__)  # type: ignore[arg-type]
