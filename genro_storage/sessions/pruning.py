"""Checkpoints of graphs found, listed and removed, with the values that only they needed."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ..records.base import Change, Delete, Put, Record, RecordStore
from .drafts import Draft
from .garbage import BESIDE, KINDS, SPACE, VALUES, emptied, left, told
from .garbage import THREAD as OF_THREAD
from .graphs import Graphs, Header, header_of, in_run
from .keys import (
    GARBAGE,
    THREAD,
    blobs,
    by_run,
    checkpoint_ids,
    checkpoint_writes,
    checkpoints,
    graph,
    graph_writes,
    namespaces,
    quoted,
)
from .models import pack, reader
from .shared import aside
from .threads import Planned, Thread, ThreadState, values_of

PAGE = 100
AT_ONCE = 200
"""Checkpoints removed in one commit, with their values and what else changes."""
_MOST = 950
MANY = 1000
"""Checkpoints of a thread that a thread of its own looks through, so that the event loop goes on."""

Id = tuple[str, str]
"""Namespace and checkpoint id."""
Chosen = Callable[[Mapping[Id, Header]], Collection[Id]]
_run_entry_of = reader(tuple[str, str, str])


def run_of(entry: Record) -> tuple[str, str, str]:
    """Thread, namespace and id of the checkpoint that an entry of a run's index tells of."""
    return _run_entry_of(entry.data)


class Found(NamedTuple):
    """A listed checkpoint, and the thread it belongs to."""

    state: ThreadState
    header: Header


class _Gone(NamedTuple):
    """Checkpoints that go together, and what follows: who stays, the values that nobody needs, who loses its parent."""

    ids: list[Id]
    stay: dict[Id, Header]
    dead: set[str]
    orphans: list[Id]

    @property
    def changes(self) -> int:
        """At most so many in the commit."""
        return 3 * len(self.ids) + len(self.dead) + len(self.orphans)


class Pruning(Graphs):
    """Listing and removing checkpoints of graphs."""

    async def list_graphs(
        self,
        thread_id: str | None,
        ns: str | None,
        *,
        before: str | None = None,
        limit: int | None = None,
        accepted: Callable[[Header], bool] = lambda header: True,
    ) -> list[Found]:
        """Checkpoints of a thread (None: all) and namespace (None: all), greatest id first, those below `before`."""
        found: list[Found] = []
        for state in await self._threads(thread_id):
            for one in await self._namespaces(state) if ns is None else [ns]:
                found += await self._listed(state, one, before, limit, accepted)
        if limit is None:
            return sorted(found, key=lambda one: one.header.checkpoint_id, reverse=True)
        return heapq.nlargest(limit, found, key=lambda one: one.header.checkpoint_id)

    async def drop_graphs(self, thread_id: str, chosen: Chosen) -> int:
        """Removes the checkpoints that `chosen` picks from all of a thread's, with their writes and lonely values."""
        removed, version = 0, 0
        stay: Mapping[Id, Header] = {}
        while True:
            gone: list[_Gone] = []
            memories: list[Change] = []

            async def plan(
                state: ThreadState,
                conflicted: bool,
                gone: list[_Gone] = gone,
                memories: list[Change] = memories,
                known: tuple[int, Mapping[Id, Header]] = (version, stay),
            ) -> Planned | None:
                headers = known[1] if state.version == known[0] else await self.headers(state)
                gone[:] = await aside(len(headers) > MANY, _picked, headers, chosen)
                if not gone:
                    return None
                bump, changes = _dropped(state, headers, gone[0])
                memories[:] = [one for one in changes if one.space == GARBAGE]
                return bump, changes

            done = await self.put_in_thread(thread_id, plan, create=False)
            if done is None:
                return removed
            removed += len(gone[0].ids)
            version, stay = done.state.version, gone[0].stay
            await self.collected(*memories)

    async def drop_runs(self, run_ids: Sequence[str]) -> int:
        """Removes all checkpoints of these runs, in whatever thread."""
        removed = 0
        for run_id in run_ids:
            entries = await self.records.scan(by_run(run_id))
            wanted: dict[str, set[Id]] = {}
            for entry in entries:
                thread_id, ns, checkpoint_id = run_of(entry)
                wanted.setdefault(thread_id, set()).add((ns, checkpoint_id))
            for thread_id, picked in wanted.items():
                removed += await self.drop_graphs(thread_id, _these(picked))
            for start in range(0, len(entries), PAGE):
                await self.records.commit([Delete(by_run(run_id), one.key) for one in entries[start : start + PAGE]])
        return removed

    async def drop_orphans(self, thread_id: str) -> int:
        """Removes values that no checkpoint of a thread has: what a killed writer or a very wide checkpoint left."""
        removed = 0
        while True:
            orphans: list[str] = []

            async def plan(state: ThreadState, conflicted: bool, orphans: list[str] = orphans) -> Planned | None:
                live = await self.live(state)
                space, after = blobs(state.thread.inc), ""
                orphans.clear()
                while len(orphans) < AT_ONCE and (found := await self.records.scan(space, after=after, limit=PAGE)):
                    orphans += [one.key for one in found if one.key not in live]
                    after = found[-1].key
                return (state.bump, [Delete(space, digest) for digest in orphans]) if orphans else None

            if await self.put_in_thread(thread_id, plan, create=False) is None:
                return removed
            removed += len(orphans)

    # --- how ---

    async def collect(self, memory: Change | bytes) -> int:
        """As in every store, and values that a thread may or may not need."""
        kind, name = told(memory)
        if kind != VALUES:
            return await super().collect(memory)
        inc, _, thread_id = name.partition("/")
        state = await self.thread(thread_id)
        lives = state is not None and state.thread.inc == inc
        removed = await self.drop_orphans(thread_id) if lives else 0
        return removed + await emptied(self.records, [] if lives else [blobs(inc)], [memory])

    async def index_runs(self, thread: Thread, draft: Draft) -> None:
        """Files the checkpoints of a copied thread under their runs."""
        for ns in [one.data.decode() for one in await self.records.scan(namespaces(thread.inc))]:
            after = ""
            while found := await self.records.scan(graph(thread.inc, ns), after=after, limit=PAGE):
                headers = [header_of(one.data) for one in found]
                runs: list[Change] = [in_run(thread.inc, thread.thread_id, one) for one in headers if one.run]
                if runs:
                    await draft.add(runs)
                after = found[-1].key

    async def _threads(self, thread_id: str | None) -> list[ThreadState]:
        if thread_id is not None:
            state = await self.thread(thread_id)
            return [] if state is None else [state]
        states: list[ThreadState] = []
        after: str | None = ""
        while after is not None:
            entries = await self.records.scan(THREAD, after=after, limit=PAGE)
            states += [state for state in await self.states(entries) if state is not None]
            after = entries[-1].key if len(entries) == PAGE else None
        return states

    async def _namespaces(self, state: ThreadState) -> list[str]:
        return [one.data.decode() for one in await self.records.scan(namespaces(state.thread.inc))]

    async def _listed(
        self, state: ThreadState, ns: str, before: str | None, limit: int | None, accepted: Callable[[Header], bool]
    ) -> list[Found]:
        """The greatest ids of a namespace, a page at a time until there are enough."""
        found: list[Found] = []
        until = None if before is None else quoted(before)
        while True:
            records = await self.records.scan(graph(state.thread.inc, ns), until=until, limit=PAGE, reverse=True)
            for record in records:
                header = header_of(record.data)
                if header.body is not None and (before is None or header.checkpoint_id < before) and accepted(header):
                    found.append(Found(state, header))
                    if len(found) == limit:
                        return found
            if len(records) < PAGE:
                return found
            until = records[-1].key

    async def headers(self, state: ThreadState) -> dict[Id, Header]:
        """All checkpoints of a thread, in all namespaces."""
        headers: dict[Id, Header] = {}
        for ns in await self._namespaces(state):
            after = ""
            while found := await self.records.scan(graph(state.thread.inc, ns), after=after, limit=PAGE):
                for record in found:
                    header = header_of(record.data)
                    headers[ns, header.checkpoint_id] = header
                after = found[-1].key
                await asyncio.sleep(0)  # a thread may have many
        return headers

    async def live(self, state: ThreadState) -> set[str]:
        """The digests of all values that a checkpoint of the thread has."""
        headers = await self.headers(state)
        return await aside(len(headers) > MANY, _digests, headers)


def _these(picked: set[Id]) -> Chosen:
    return lambda headers: picked


def _picked(headers: Mapping[Id, Header], chosen: Chosen) -> list[_Gone]:
    """Of the chosen ones as many as one commit can remove, one at least; [] where none are left."""
    picked = sorted(set(chosen(headers)) & headers.keys())[:AT_ONCE]
    if not picked:
        return []
    while (gone := _without(headers, picked)).changes > _MOST and len(picked) > 1:
        picked = picked[: len(picked) // 2]
    return [gone]


def _without(headers: Mapping[Id, Header], ids: list[Id]) -> _Gone:
    lost = set(ids)
    stay = {one: header for one, header in headers.items() if one not in lost}
    dead = {digest for one in ids for digest in headers[one].digests} - _digests(stay)
    orphans = [one for one, header in stay.items() if (one[0], header.parent) in lost]
    stay |= {one: replace(stay[one], parent=None) for one in orphans}
    return _Gone(ids, stay, dead, orphans)


def _digests(headers: Mapping[Id, Header]) -> set[str]:
    """Of all values that these have."""
    return {digest for header in headers.values() for slot in header.slots.values() for digest in slot.digests}


def _dropped(state: ThreadState, headers: Mapping[Id, Header], gone: _Gone) -> Planned:
    """What removes these; values that do not fit the commit are left to `collect`."""
    inc = state.thread.inc
    changes: list[Change] = []
    for ns, checkpoint_id in gone.ids:
        header = headers[ns, checkpoint_id]
        changes.append(Delete(graph(inc, ns), quoted(checkpoint_id)))
        changes.append(left(graph_writes(inc, ns, checkpoint_id), SPACE))
        if header.run is not None:
            entry = in_run(inc, state.thread.thread_id, header)
            changes.append(Delete(entry.space, entry.key))
    changes += [Put(graph(inc, ns), quoted(name), pack(gone.stay[ns, name])) for ns, name in gone.orphans]
    room = max(0, _MOST - len(changes))
    changes += [Delete(blobs(inc), digest) for digest in sorted(gone.dead)[:room]]
    if len(gone.dead) > room:
        changes.append(left(values_of(state), VALUES))
    highest: dict[str, str] = {}
    for (ns, checkpoint_id), header in gone.stay.items():
        if header.body is not None:
            highest[ns] = max(checkpoint_id, highest.get(ns, ""))
    return replace(state.bump, highest=highest), changes


async def _of_thread(records: RecordStore, inc: str) -> Sequence[str]:
    """The spaces of a thread; what tells their names is emptied last."""
    spaces = [checkpoint_writes(inc, one.key) for one in await records.scan(checkpoint_ids(inc))]
    spaces += [checkpoints(inc), checkpoint_ids(inc)]
    known = [one.data.decode() for one in await records.scan(namespaces(inc))]
    for ns in known:
        after = ""
        while found := await records.scan(graph(inc, ns), after=after, limit=PAGE):
            spaces += [graph_writes(inc, ns, header_of(one.data).checkpoint_id) for one in found]
            after = found[-1].key
            await asyncio.sleep(0)
        spaces.append(graph(inc, ns))
    return [*spaces, blobs(inc), namespaces(inc)]


def _run_entry(inc: str, space: str, record: Record) -> Sequence[Change]:
    """A checkpoint that goes is not found by its run any more."""
    if not space.startswith(graph(inc, "")):
        return []
    header = header_of(record.data)
    if header.run is None:
        return []
    entry = in_run(inc, "", header)
    return [Delete(entry.space, entry.key)]


KINDS[OF_THREAD] = _of_thread
BESIDE[OF_THREAD] = _run_entry
