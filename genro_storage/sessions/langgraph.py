"""The LangGraph checkpointer over any record store, sync and async, with a strict serialiser."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from threading import local
from typing import Any, Literal, Self, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ..default import node
from ..exceptions import StorageConfigError, StorageCorruptedError
from .graphs import Graph, Header, Write
from .pruning import Id
from .shared import HEAVY, LIGHT, aside, heavy
from .store import SessionStore
from .stores import open_store
from .values import Typed, Value

SEGMENT = 32
"""Elements of a list that are stored together, so that a growing list is stored once and not once per step."""
DELTAS = "counters_since_delta_snapshot"
_AS_THEY_ARE = ("bytes", "bytearray")
"""The serialiser's words for what it does not change."""
_LONG = (b"\xd9", b"\xda", b"\xdb", b"\xc4", b"\xc5", b"\xc6")
"""How one text, or bytes, begins in MessagePack, with 1, 2 or 4 bytes for its length."""

Tuples: TypeAlias = list[CheckpointTuple]  # the class below has a method of that name

_BLOCKED = local()
"""Names of the types that this thread's current reading met and did not revive."""


class GenroCheckpointSaver(BaseCheckpointSaver[str]):
    """Checkpoints of graphs in a `SessionStore`; sync calls may be made anywhere, also under a running loop.

    `serde`: by default LangGraph's own, strict: stored data revives only plain types and those of `allowed_types`;
    others come back as plain data with one warning, or with ``strict="raise"`` as `StorageCorruptedError`.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        serde: SerializerProtocol | None = None,
        allowed_types: Collection[type | tuple[str, ...]] = (),
        strict: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__(serde=serde or strict_serializer(allowed_types))
        if strict not in ("warn", "raise"):
            raise ValueError(f"strict is 'warn' or 'raise', not {strict!r}")
        self.store = store
        self._raises = strict == "raise"

    @classmethod
    def from_conn_string(cls, url: str, **options: Any) -> Self:
        """A saver over a store of its own, which ``with`` or ``async with`` opens and closes.

        ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://…``, ``redis://…``, or
        ``genro://mount/path``, a directory of a mount of the default manager. `options`: those of the store.
        """
        scheme, _, rest = url.partition("://")
        if scheme == "memory":
            return cls(open_store("memory", options))
        if scheme == "sqlite":
            return cls(open_store("sqlite", {"path": rest.removeprefix("/"), **options}))
        if scheme in ("postgresql", "postgres"):
            return cls(open_store("postgresql", {"url": url, **options}))
        if scheme in ("redis", "rediss"):
            return cls(open_store("redis", {"url": url, **options}))
        if scheme == "genro":
            return cls(open_store("mount", {"storage": node(rest.replace("/", ":", 1)), **options}))
        raise StorageConfigError(f"no store is known for '{scheme}://'")

    # --- a life of its own ---

    async def __aenter__(self) -> Self:
        await self.store.initialize()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.store.close()

    def __enter__(self) -> Self:
        self.store.sync.initialize()
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.sync.close()

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version after `current`, as text that sorts; its tail tells two branches apart."""
        counted = 0 if current is None else int(str(current).split(".")[0])
        return f"{counted + 1:032}.{random.random():.16f}"

    # --- async ---

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Stores a checkpoint; channels without a new version are taken from its parent."""
        thread_id, ns, parent = _named(config)
        told = dict(get_checkpoint_metadata(config, metadata))
        body = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        facts, shell = await aside(
            heavy([told, body], HEAVY), lambda: (self.serde.dumps_typed(told), self.serde.dumps_typed(body))
        )
        run = told.get("run_id")
        header = Header(checkpoint["id"], ns, parent, run if isinstance(run, str) else None, facts, shell)
        await self.store.put_graph(thread_id, header, checkpoint["channel_values"], new_versions, self._told)
        return _config(thread_id, ns, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keeps the writes of a task for the next step."""
        thread_id, ns, checkpoint_id = _named(config)
        assert checkpoint_id is not None

        def told() -> Sequence[Write]:
            return [
                Write(task_path, task_id, WRITES_IDX_MAP.get(channel, at), channel, *self.serde.dumps_typed(value))
                for at, (channel, value) in enumerate(writes)
            ]

        large = heavy([value for _, value in writes], HEAVY)
        await self.store.put_graph_writes(thread_id, ns, checkpoint_id, await aside(large, told))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint; without an id the newest of its thread and namespace."""
        thread_id, ns, checkpoint_id = _named(config)
        found = await self.store.get_graph(thread_id, ns, checkpoint_id)
        return None if found is None else await aside(_laborious(found), self._tuple, found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints with greatest ids first; all are read before the first one is given."""
        for found in await self._listed(config, filter, before, limit):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """Removes a thread with all it has."""
        await self.store.delete_thread(str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Removes the checkpoints and writes of these runs, in whatever thread."""
        await self.store.drop_runs(list(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copies a thread, all of it, in one step."""
        await self.store.copy_thread(str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keeps the newest checkpoint of each namespace (``keep_latest``), or nothing (``delete``).

        With delta channels also the ancestors stay that the newest needs, back to their last snapshots.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.store.delete_thread(str(thread_id))
            else:
                await self.store.drop_graphs(str(thread_id), self._superseded)

    # --- sync: the same, on the store's own loop ---

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `aput`."""
        config = self.store.sync.run(self.aput(config, checkpoint, metadata, new_versions))
        return config

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `aput_writes`."""
        self.store.sync.run(self.aput_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `aget_tuple`."""
        found: CheckpointTuple | None = self.store.sync.run(self.aget_tuple(config))
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """As `alist`."""
        yield from self.store.sync.run(self._listed(config, filter, before, limit))

    def delete_thread(self, thread_id: str) -> None:
        """As `adelete_thread`."""
        self.store.sync.run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `adelete_for_runs`."""
        self.store.sync.run(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `acopy_thread`."""
        self.store.sync.run(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `aprune`."""
        self.store.sync.run(self.aprune(thread_ids, strategy=strategy))

    # --- how ---

    async def _listed(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Tuples:
        wanted = {} if config is None else config.get("configurable", {})
        only = wanted.get("checkpoint_id")

        def accepted(header: Header) -> bool:
            if only is not None and header.checkpoint_id != only:
                return False
            if not filter:
                return True
            told = self.serde.loads_typed(header.metadata)
            return all(key in told and told[key] == value for key, value in filter.items())

        below = None if before is None else before["configurable"].get("checkpoint_id")
        thread_id = wanted.get("thread_id")
        found = await self.store.list_graphs(
            None if thread_id is None else str(thread_id),
            wanted.get("checkpoint_ns"),
            before=below,
            limit=limit,
            accepted=accepted,
        )
        tuples = []
        for one in found:
            graph = await self.store.hydrated(one.state, one.header.ns, one.header.checkpoint_id)
            if graph is not None:
                tuples.append(await aside(_laborious(graph), self._tuple, graph))
        return tuples

    def _told(self, value: Any) -> Value:
        if type(value) is list and len(value) > SEGMENT:
            cuts = range(0, len(value), SEGMENT)
            return Value([Typed(*self.serde.dumps_typed(value[at : at + SEGMENT])) for at in cuts], True)
        return Value([Typed(*self.serde.dumps_typed(value))])

    def _built(self, value: Value) -> Any:
        pieces = [self.serde.loads_typed(tuple(piece)) for piece in value.pieces]  # type: ignore[arg-type]
        return [item for piece in pieces for item in piece] if value.is_list else pieces[0]

    def _tuple(self, graph: Graph) -> CheckpointTuple:
        header, thread_id = graph.header, graph.thread_id
        assert header.body is not None
        _BLOCKED.names = []
        try:
            checkpoint = self.serde.loads_typed(header.body)
            metadata = self.serde.loads_typed(header.metadata)
            checkpoint["channel_values"] = {channel: self._built(value) for channel, value in graph.values.items()}
            writes = [(one.task_id, one.channel, self.serde.loads_typed((one.type, one.data))) for one in graph.writes]
        except (NotImplementedError, ValueError, TypeError, LookupError) as error:
            raise StorageCorruptedError(f"the checkpoint {header.checkpoint_id!r} cannot be read: {error}") from error
        if self._raises and _BLOCKED.names:
            names = ", ".join(sorted(set(_BLOCKED.names)))
            raise StorageCorruptedError(f"the checkpoint {header.checkpoint_id!r} holds types not allowed: {names}")
        parent = None if header.parent is None else _config(thread_id, header.ns, header.parent)
        return CheckpointTuple(
            _config(thread_id, header.ns, header.checkpoint_id), checkpoint, metadata, parent, writes
        )

    def _superseded(self, headers: Mapping[Id, Header]) -> set[Id]:
        """All but the newest of each namespace, and what the newest's delta channels are rebuilt from."""
        newest: dict[str, str] = {}
        for ns, checkpoint_id in headers:
            newest[ns] = max(checkpoint_id, newest.get(ns, ""))
        kept: set[Id] = set()
        for ns, name in newest.items():
            header: Header | None = headers[ns, name]
            needed = self._deltas(headers[ns, name])
            while header is not None:
                kept.add((ns, header.checkpoint_id))
                needed -= header.slots.keys()
                header = headers.get((ns, header.parent)) if needed and header.parent else None
        return headers.keys() - kept

    def _deltas(self, header: Header) -> set[str]:
        if header.body is None:
            return set()
        return set(self.serde.loads_typed(header.metadata).get(DELTAS) or ())


def strict_serializer(allowed_types: Collection[type | tuple[str, ...]] = ()) -> JsonPlusSerializer:
    """LangGraph's serialiser without pickle, reviving only plain types and those given.

    Its own default revives any class that stored data names (CVE-2025-64439, CVE-2026-27794, CVE-2026-28277).
    """
    serializer = JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)
    return serializer.with_msgpack_allowlist(allowed_types) if allowed_types else serializer


def _laborious(graph: Graph) -> bool:
    """Whether so much has to be taken apart, or copied, to read it back that the event loop should not wait."""
    parts = copies = 0
    for one in graph.serialised:
        if one.type in _AS_THEY_ARE or (one.type == "msgpack" and one.data[:1] in _LONG):
            copies += len(one.data)
        else:
            parts += len(one.data)
    return parts > HEAVY or parts + copies > LIGHT


def _named(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Thread, namespace and checkpoint of a config."""
    wanted = config["configurable"]
    checkpoint_id = wanted.get("checkpoint_id")
    return str(wanted["thread_id"]), wanted.get("checkpoint_ns", ""), checkpoint_id and str(checkpoint_id)


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _note_blocked(event: SerdeEvent) -> None:
    if "blocked" in event["kind"] and hasattr(_BLOCKED, "names"):
        _BLOCKED.names.append(f"{event['module']}.{event['name']}")


register_serde_event_listener(_note_blocked)
