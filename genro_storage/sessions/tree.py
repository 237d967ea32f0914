"""What a session store looks like as files: who is there, and what each file says, as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from ..exceptions import StorageNotFoundError
from ..types import Stat
from . import codec
from .contexts import context_of
from .graphs import Graph
from .keys import COLD, THREAD, contexts, number, quoted
from .lanes import State, read_state
from .models import shown_session
from .store import SessionStore
from .threads import ThreadState, shown_thread
from .values import Typed, Value

THREADS = ".threads"
ROOT_NAMESPACE = "="
"""Begins the directory of every namespace: the name of the graph itself is empty."""
PAGE = 500

SESSION_FILES = ("context.json", "messages.ndjson", "session.json")
Shown = Callable[[Value], Any]
"""A channel's value as plain data; what JSON cannot hold as ``{"$type": …, "$size": …}``."""


def named(key: str) -> str:
    """The file name of a record's key: none begins with a dot."""
    return "%2E" + key[1:] if key.startswith(".") else key


def keyed(name: str) -> str:
    """The record's key of a file name."""
    return "." + name[3:] if name.startswith("%2E") else name


class SessionTree:
    """Directories and files of one store; paths are tuples of segments."""

    def __init__(self, store: SessionStore, shown: Shown) -> None:
        self._store = store
        self._shown = shown

    # --- directories ---

    async def listed(self, parts: Sequence[str]) -> AsyncIterator[list[Stat]]:
        """The entries of a directory, in pages; not there → NotFound."""
        match tuple(parts):
            case ():
                yield [Stat(THREADS, is_dir=True)]
                async for page in self._keys(COLD):
                    yield [Stat(named(key), is_dir=True) for key in page]
            case (one,) if one == THREADS:
                async for page in self._keys(THREAD):
                    yield [Stat(f"{THREADS}/{named(key)}", is_dir=True) for key in page]
            case (one, tid, *rest) if one == THREADS:
                yield await self._in_thread(f"{THREADS}/{tid}", await self._thread(keyed(tid)), rest)
            case (sid, *rest):
                yield await self._in_session(sid, await self._session(sid), rest)

    async def _keys(self, space: str) -> AsyncIterator[list[str]]:
        after = ""
        while page := await self._store.records.scan(space, after=after, limit=PAGE):
            after = page[-1].key
            states: Sequence[State | ThreadState | None]
            if space == COLD:
                states = [await read_state(self._store.records, one.key) for one in page]
            else:
                states = await self._store.states(page)
            yield [one.key for one, state in zip(page, states, strict=True) if state is not None]

    async def _in_session(self, sid: str, state: State, rest: Sequence[str]) -> list[Stat]:
        name, at = state.cold.session_id, state.hot.last_activity / 1e6
        if not rest:
            entries = [Stat(f"{sid}/{file}", mtime=at) for file in SESSION_FILES[1:]]
            if state.hot.context_seq:
                entries += [Stat(f"{sid}/context.json", mtime=at), Stat(f"{sid}/contexts", is_dir=True)]
            if await self._store.thread(name) is not None:
                entries.append(Stat(f"{sid}/checkpoints", is_dir=True))
            return entries
        if rest[0] == "checkpoints":
            return await self._in_thread(sid, await self._thread(quoted(name)), rest)
        if list(rest) == ["contexts"] and state.hot.context_seq:
            told = await self._store.list_task_contexts(name)
            return [Stat(f"{sid}/contexts/{one['version']}.json", mtime=at) for one in told]
        raise StorageNotFoundError("No such directory")

    async def _in_thread(self, above: str, state: ThreadState, rest: Sequence[str]) -> list[Stat]:
        at = state.bump.last_put / 1e6
        match tuple(rest):
            case ():
                return [Stat(f"{above}/checkpoints", is_dir=True), Stat(f"{above}/thread.json", mtime=at)]
            case ("checkpoints",):
                told = await self._store.list_checkpoints(state.thread.thread_id, None)
                names = sorted(named(quoted(one["checkpoint_id"])) for one in told)
                entries = [Stat(f"{above}/checkpoints/{name}.json", mtime=at) for name in names]
                if state.bump.highest:
                    entries.append(Stat(f"{above}/checkpoints/ns", is_dir=True))
                return entries
            case ("checkpoints", "ns") if state.bump.highest:
                spaces = sorted(ROOT_NAMESPACE + quoted(ns) for ns in state.bump.highest)
                return [Stat(f"{above}/checkpoints/ns/{name}", is_dir=True) for name in spaces]
            case ("checkpoints", "ns", space):
                ns = _namespace(state, space)
                found = await self._store.list_graphs(state.thread.thread_id, ns)
                directory = f"{above}/checkpoints/ns/{space}"
                names = sorted(named(quoted(one.header.checkpoint_id)) for one in found)
                return [Stat(f"{directory}/{name}.json", mtime=at) for name in names]
        raise StorageNotFoundError("No such directory")

    # --- files ---

    async def told(self, parts: Sequence[str]) -> tuple[AsyncIterator[bytes], float, str]:
        """A file as pieces of bytes, its mtime and its etag; not there → NotFound."""
        match tuple(parts):
            case (one, tid, *rest) if one == THREADS and rest:
                return await self._thread_file(await self._thread(keyed(tid)), rest)
            case (sid, "checkpoints", *rest) if sid != THREADS and rest:
                state = await self._session(sid)
                thread = await self._thread(quoted(state.cold.session_id))
                return await self._thread_file(thread, ["checkpoints", *rest])
            case (sid, *rest) if sid != THREADS and rest:
                state = await self._session(sid)
                etag = f"{state.cold_version}-{state.hot_version}"
                return await self._session_file(state, rest), state.hot.last_activity / 1e6, etag
        raise StorageNotFoundError("No such file")

    async def _session_file(self, state: State, rest: Sequence[str]) -> AsyncIterator[bytes]:
        name = state.cold.session_id
        match tuple(rest):
            case ("session.json",):
                return _one(shown_session(state.cold, state.hot))
            case ("messages.ndjson",):
                return self._messages(name)
            case ("context.json",) if state.hot.context_seq:
                return _one(await self._context(state, state.hot.context_seq))
            case ("contexts", file) if file.endswith(".json") and file[:-5].isdecimal():
                return _one(await self._context(state, int(file[:-5])))
        raise StorageNotFoundError("No such file")

    async def _context(self, state: State, version: int) -> Any:
        found = await self._store.records.get(contexts(state.hot.inc), number(version))
        if found is None:
            raise StorageNotFoundError("No such version of the context")
        return context_of(await self._store.decoded(found.data))

    async def _messages(self, name: str) -> AsyncIterator[bytes]:
        state = await self._session(named(quoted(name)))
        for start in range(state.hot.first_seq, state.hot.last_seq + 1, PAGE):
            end = min(start + PAGE, state.hot.last_seq + 1)
            page = await self._store.get_conversation_history(name, end - start, before_seq=end)
            yield b"".join(codec.encode(one) + b"\n" for one in page)

    async def _thread_file(self, state: ThreadState, rest: Sequence[str]) -> tuple[AsyncIterator[bytes], float, str]:
        return _one(await self._thread_facts(state, rest)), state.bump.last_put / 1e6, str(state.version)

    async def _thread_facts(self, state: ThreadState, rest: Sequence[str]) -> Any:
        name = state.thread.thread_id
        match tuple(rest):
            case ("thread.json",):
                return shown_thread(state) | {"namespaces": state.bump.highest}
            case ("checkpoints", file) if file.endswith(".json"):
                for one in await self._store.list_checkpoints(name, None):
                    if named(quoted(one["checkpoint_id"])) == file[:-5]:
                        return one
            case ("checkpoints", "ns", space, file) if file.endswith(".json"):
                ns = _namespace(state, space)
                for found in await self._store.list_graphs(name, ns):
                    if named(quoted(found.header.checkpoint_id)) == file[:-5]:
                        graph = await self._store.hydrated(state, ns, found.header.checkpoint_id)
                        if graph is not None:
                            return self._graph(graph)
        raise StorageNotFoundError("No such file")

    def _graph(self, graph: Graph) -> dict[str, Any]:
        header = graph.header
        assert header.body is not None
        return {
            "checkpoint_id": header.checkpoint_id,
            "thread_id": graph.thread_id,
            "checkpoint_ns": header.ns,
            "parent_id": header.parent,
            "metadata": self._shown(Value([Typed(*header.metadata)])),
            "checkpoint": self._shown(Value([Typed(*header.body)])),
            "channel_values": {channel: self._shown(value) for channel, value in graph.values.items()},
            "pending_writes": [
                [one.task_id, one.channel, self._shown(Value([Typed(one.type, one.data)]))] for one in graph.writes
            ],
        }

    # --- who ---

    async def _session(self, sid: str) -> State:
        state = await read_state(self._store.records, keyed(sid))
        if state is None:
            raise StorageNotFoundError("No such session")
        return state

    async def session_id(self, sid: str) -> str:
        """The id of the session whose directory this is."""
        return (await self._session(sid)).cold.session_id

    async def _thread(self, key: str) -> ThreadState:
        record = await self._store.records.get(THREAD, key)
        (state,) = [None] if record is None else await self._store.states([record])
        if state is None:
            raise StorageNotFoundError("No such thread")
        return state


def _namespace(state: ThreadState, name: str) -> str:
    for ns in state.bump.highest:
        if ROOT_NAMESPACE + quoted(ns) == name:
            return ns
    raise StorageNotFoundError("No such namespace")


async def _one(value: Any) -> AsyncIterator[bytes]:
    yield msgspec.json.format(codec.encode(value), indent=2) + b"\n"
