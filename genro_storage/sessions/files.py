"""A session store as a mount: its sessions, threads and checkpoints are files to read, copy and keep."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ..backends.base import BytesReader, StorageBackend, conflict, cut, no_version
from ..backends.options import Context, Duration, Options, Secret, Size
from ..exceptions import (
    StorageConfigError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
)
from ..transfer.places import At
from ..types import PLAIN, Features, Stat, WriteOptions
from .models import StorageType
from .store import SessionStore
from .stores import open_store
from .tree import THREADS, SessionTree
from .values import Value

T = TypeVar("T")

READ_ONLY = "the files of a sessions mount are views of its store: change them through storage.sessions(name)"


class SessionsOptions(Options, frozen=True, kw_only=True):
    """The keys of a sessions mount: where its records are, what ends them, and what only some kinds of store take."""

    path: str = ""
    backend: str = "sqlite"
    url: Secret | UnsetType = UNSET
    storage: str | UnsetType = UNSET
    allow_delete: bool = False
    encryption: dict[str, Any] | None = None
    session_ttl: Duration | None = None
    checkpoint_ttl: Duration | None = None
    conversation_limit: int | None = None
    context_versions: int = 10
    auto_create: bool = False
    sweep_interval: Duration = Duration(300)
    max_metadata: Size = Size(64 << 10)
    max_message: Size = Size(1 << 20)
    max_context: Size = Size(16 << 20)
    max_checkpoint: Size = Size(64 << 20)
    # sqlite
    synchronous: str | UnsetType = UNSET
    busy_timeout: Duration | UnsetType = UNSET
    readers: int | UnsetType = UNSET
    cache_mb: int | UnsetType = UNSET
    allow_network_fs: bool | UnsetType = UNSET
    # postgresql
    pool_size: int | UnsetType = UNSET
    max_overflow: int | UnsetType = UNSET
    acquire_timeout: Duration | UnsetType = UNSET
    command_timeout: Duration | UnsetType = UNSET
    statement_cache_size: int | UnsetType = UNSET
    schema: str | UnsetType = UNSET
    # redis
    max_connections: int | UnsetType = UNSET
    timeout: Duration | UnsetType = UNSET
    prefix: str | UnsetType = UNSET
    min_replicas: int | UnsetType = UNSET
    require_durable: bool | UnsetType = UNSET
    # mount
    lease: Duration | UnsetType = UNSET
    exclusive: bool | UnsetType = UNSET


class SessionsBackend(StorageBackend):
    """Read-only files over a `SessionStore`, which `store` carries; deleting a session's directory may be allowed."""

    Options: ClassVar[Any] = SessionsOptions
    aliases: ClassVar[dict[str, str]] = {"base_path": "path"}
    readonly_reason = READ_ONLY

    def __init__(self, options: SessionsOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(None)
        self.options, self.context = options, context
        self.features = Features(mtime_resolution=1e-6, writes=False, deletes=options.allow_delete)
        self.root = ""
        self.store = self._opened(options, context)
        self._tree = SessionTree(self.store, shown_value)

    def _opened(self, options: SessionsOptions, context: Context) -> SessionStore:
        given = {
            name: value
            for name in options.__struct_fields__
            if name not in ("backend", "allow_delete") and (value := getattr(options, name)) not in (UNSET, "")
        }
        try:
            kind = StorageType(options.backend)
        except ValueError as error:
            known = ", ".join(StorageType)
            raise StorageConfigError(f"'backend' is one of {known}, not '{options.backend}'") from error
        if kind is StorageType.SQLITE and "path" in given:
            given["path"] = os.path.join(context.directory, os.path.expanduser(given["path"]))
        if kind is StorageType.MOUNT and "storage" in given:
            if context.stands_on is None:
                raise StorageConfigError(f"'storage' is a place 'mount:path', not '{given['storage']}'")
            given["storage"] = At(*context.stands_on)
        return open_store(kind, {name: _plain(value) for name, value in given.items()})

    @property
    def storage_id(self) -> str:
        return f"sessions:{id(self.store)}"

    def rooted(self, path: str) -> Self:
        twin = super().rooted("")
        twin.root = self.native_path(path)
        return twin

    def close(self) -> None:
        self.store.sync.close()

    def check(self) -> dict[str, str]:
        """A real round trip to the record store."""
        told = self._run(self.store.health_check())
        if told["status"] == "unhealthy":
            self._run(self.store.records.ping())
        return {"durability": str(told["durability"])}

    # --- the port ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        data, stat = self._file_or_none(path)
        if data is not None:
            return stat
        next(iter(self.scan(path, limit=1)), None)  # raises where there is nothing
        return Stat(path, is_dir=True)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        pages = self._tree.listed(self._parts(path))
        given = 0
        while (page := self._page(pages, path)) is not None:
            entries = [self._relative(entry, path) for entry in page]
            entries = [one for one in entries if (f"{one.path}/" if one.is_dir else one.path) > after]
            if limit is not None:
                entries = entries[: limit - given]
            given += len(entries)
            if entries:
                yield entries
            if given == limit:
                return

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BytesReader:
        no_version(version)
        data, stat = self._file_or_none(path)
        if data is None:
            next(iter(self.scan(path, limit=1)), None)
            raise StorageIsADirectoryError("Is a directory")
        if if_match is not None and if_match != stat.etag:
            raise conflict(if_match, stat.etag)
        return BytesReader(cut(data, start, end), stat)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> Any:
        raise StoragePermissionError(READ_ONLY)

    def mkdir(self, path: str) -> None:
        raise StoragePermissionError(READ_ONLY)

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        """Deletes a session by its directory, if `allow_delete`; anything else is refused."""
        parts = self._parts(path)
        if len(parts) != 1 or parts[0] == THREADS:
            self.stat(path)
            raise StoragePermissionError(READ_ONLY)
        session_id = self._run(self._tree.session_id(parts[0]))
        if not self.options.allow_delete:
            raise StoragePermissionError("deleting a session by its directory needs 'allow_delete: true'")
        if not self._run(self.store.delete_session(session_id)):
            raise StorageNotFoundError("No such session")

    # --- how ---

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.store.sync.run(call)

    def _page(self, pages: AsyncIterator[list[Stat]], path: str) -> list[Stat] | None:
        try:
            return self._run(_next(pages))
        except StorageNotFoundError:
            if self._file_or_none(path)[0] is None:
                raise
            raise StorageNotADirectoryError("Not a directory") from None

    def _parts(self, path: str) -> list[str]:
        native = self.native_path(path)
        return native.split("/") if native else []

    def _relative(self, entry: Stat, path: str) -> Stat:
        name = entry.path.rpartition("/")[2]
        return msgspec.structs.replace(entry, path=f"{path}/{name}" if path else name)

    def _file_or_none(self, path: str) -> tuple[bytes | None, Stat]:
        try:
            data, mtime, etag = self._run(self._rendered(self._parts(path)))
        except StorageNotFoundError:
            return None, Stat(path)
        kind = "application/x-ndjson" if path.endswith(".ndjson") else "application/json"
        digest = blake2b(data, digest_size=8).hexdigest()
        return data, Stat(path, len(data), mtime=mtime, etag=f"{etag}-{digest}", content_type=kind)

    async def _rendered(self, parts: Sequence[str]) -> tuple[bytes, float, str]:
        pieces, mtime, etag = await self._tree.told(parts)
        return b"".join([piece async for piece in pieces]), mtime, etag


async def _next(pages: AsyncIterator[list[Stat]]) -> list[Stat] | None:
    return await anext(pages, None)


def _plain(value: Any) -> Any:
    """The value of a key as the stores take it."""
    plain = next((one for one in (str, float, int) if isinstance(value, one)), None)
    return value if plain is None or isinstance(value, bool) else plain(value)


def shown_value(value: Value) -> Any:
    """A stored value as JSON can hold it; what it cannot, or nobody here can read, by its type and size."""
    try:
        from .langgraph import strict_serializer
    except ImportError:
        return _sized(value)
    serializer = strict_serializer()
    try:
        pieces = [_jsonable(serializer.loads_typed((piece[0], piece[1]))) for piece in value.pieces]
    except Exception:  # noqa: BLE001 - foreign code on foreign data: what it cannot read is shown by its size
        return _sized(value)
    return [item for piece in pieces for item in piece] if value.is_list else pieces[0]


def _sized(value: Value) -> dict[str, Any]:
    return {"$type": value.pieces[0][0], "$size": sum(len(piece[1]) for piece in value.pieces)}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, bytes):
        return {"$type": "bytes", "$size": len(value)}
    return {"$type": f"{type(value).__module__}.{type(value).__qualname__}", "$size": len(repr(value))}
