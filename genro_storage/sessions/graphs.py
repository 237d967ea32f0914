"""Checkpoints of graphs: each a header with links to values, which are stored once per thread and shared by all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ..exceptions import (
    CommitOutcomeUnknownError,
    RecordTooLargeError,
    StorageConflictError,
    StorageCorruptedError,
    VersionConflictError,
)
from ..records.base import Change, Check, Put, Record, RecordStore
from .drafts import Draft
from .garbage import VALUES
from .keys import BUMP, THREAD, blobs, by_run, graph, graph_writes, namespaces, quoted
from .lanes import TRIES, pause
from .models import pack, reader
from .options import SessionOptions
from .shared import HEAVY, LIGHT, aside
from .threads import Bump, Planned, Threads, ThreadState, state_of, values_of
from .values import Offer, Slot, Typed, Value

_REMEMBERED = 2000
FEW = 50
GUESSED = 256 << 10
"""Bytes of values that are asked for before it is known that they are wanted: less than another request costs."""
_MOST, _MOST_BYTES = 900, 32 << 20
"""Values, and bytes of them, in one commit with their header; more go ahead of it."""


class Header(Struct, frozen=True, array_like=True):
    """One checkpoint without its values. `body` None: nothing is here yet but writes."""

    checkpoint_id: str
    ns: str
    parent: str | None = None
    run: str | None = None
    metadata: tuple[str, bytes] = ("", b"")
    body: tuple[str, bytes] | None = None
    slots: dict[str, Slot] = {}

    @property
    def digests(self) -> set[str]:
        return {digest for slot in self.slots.values() for digest in slot.digests}


class Write(Struct, frozen=True, array_like=True):
    """One pending write of a task; `idx` is negative for the special channels."""

    task_path: str
    task_id: str
    idx: int
    channel: str
    type: str
    data: bytes


class Graph(NamedTuple):
    """A checkpoint with all that belongs to it."""

    thread_id: str
    header: Header
    values: dict[str, Value]
    writes: list[Write]

    @property
    def serialised(self) -> list[Typed]:
        """All that is serialised in it and may be large."""
        pieces = [piece for value in self.values.values() for piece in value.pieces]
        return [Typed(*self.header.metadata), *pieces, *(Typed(one.type, one.data) for one in self.writes)]


class _Kept(NamedTuple):
    header: Header
    version: int


class _Guess(NamedTuple):
    """A checkpoint that is probably still as it was kept."""

    inc: str
    kept: _Kept

    @property
    def place(self) -> tuple[str, str]:
        return graph(self.inc, self.kept.header.ns), quoted(self.kept.header.checkpoint_id)

    @property
    def values(self) -> list[tuple[str, str]]:
        return [(blobs(self.inc), digest) for digest in sorted(self.kept.header.digests)]

    def holds(self, state: ThreadState, wanted: str, found: Record | None) -> bool:
        """Whether it is what is wanted, and nobody wrote it since."""
        header = self.kept.header
        same = found is not None and found.version == self.kept.version and header.body is not None
        return same and state.thread.inc == self.inc and header.checkpoint_id == wanted


Told = Callable[[Any], Value]
"""Serialises the value of a channel; may be called in another thread."""

header_of = reader(Header)
_write_of = reader(Write)
_typed_of = reader(tuple[str, bytes])


class Graphs(Threads):
    """Storing and reading checkpoints of graphs; what values are is the caller's affair."""

    def __init__(self, records: RecordStore, options: SessionOptions) -> None:
        super().__init__(records, options)
        self._headers: OrderedDict[tuple[str, str, str], _Kept] = OrderedDict()
        self._headers_lock = threading.Lock()

    async def put_graph(
        self, thread_id: str, header: Header, values: Mapping[str, Any], changed: Iterable[str], told: Told
    ) -> None:
        """Stores a checkpoint; a value that did not change is taken from the parent and not serialised by `told`."""
        fresh = set(changed)
        offer = Offer(values, told, self.records.digest_key)
        written: list[Header] = []
        stored = [0]
        ahead = _Ahead(self)

        async def plan(state: ThreadState, conflicted: bool) -> Planned:
            inc, bump = state.thread.inc, state.bump
            parent = await self._parent(inc, header, conflicted)
            old = {} if parent is None else parent.slots
            filed = await offer.filed(channel for channel in values if channel in fresh or channel not in old)
            slots = {channel: filed[channel][0] if channel in filed else old[channel] for channel in values}
            new = {digest: data for _, own in filed.values() for digest, data in own.items()}
            there = set() if parent is None else parent.digests
            sent = [Put(blobs(inc), digest, data) for digest, data in new.items() if digest not in there]
            whole = replace(header, slots=slots)
            self._judge_size(whole, sent)
            stored[0] = sum(len(put.data) for put in sent)
            sent = await ahead.send(state, sent)
            written[:] = [whole]
            return _raised(bump, header), [*sent, *_filed(state, thread_id, whole), *ahead.finished()]

        try:
            done = await self.put_in_thread(thread_id, plan)
        except Exception:
            await ahead.give_up()
            raise
        assert done is not None
        inc = done.state.thread.inc
        self._count_bytes(written[0], stored[0])
        self._keep(inc, written[0], done.versions[graph(inc, header.ns), quoted(header.checkpoint_id)])

    def _count_bytes(self, header: Header, sent: int) -> None:
        """What a checkpoint would take by itself, and what was stored for it."""
        own = len(header.metadata[1]) + len(header.body[1] if header.body else b"")
        own += sum(len(slot.data) for slot in header.slots.values())
        shared = sum(slot.size for slot in header.slots.values())
        self.meter.count("genro_checkpoints_bytes_total", own + shared, kind="logical")
        self.meter.count("genro_checkpoints_bytes_total", own + sent, kind="stored")

    async def get_graph(self, thread_id: str, ns: str, checkpoint_id: str | None = None) -> Graph | None:
        """A checkpoint with its values and writes; without an id the one with the greatest."""
        guess = self._guess(thread_id, ns, checkpoint_id)
        record: Record | None = None
        found: list[Record | None] = []
        if guess is None:
            state = await self.thread(thread_id)
            if state is not None and not state.bump.held:
                self._remember(thread_id, state)
        else:
            key = quoted(thread_id)
            names = [(THREAD, key), (BUMP, key), guess.place, *guess.values]
            thread, bump, record, *found = await self.records.get_many(names)
            state = None if thread is None else state_of(thread, bump)
        wanted = checkpoint_id if state is None or checkpoint_id is not None else state.bump.highest.get(ns)
        if state is None or wanted is None:
            return None
        if guess is not None and guess.holds(state, wanted, record):
            values = await self._shared(guess.kept.header, found)
            if values is not None:
                writes = await self._writes(state.thread.inc, ns, wanted)
                return Graph(thread_id, guess.kept.header, values, writes)
        return await self.hydrated(state, ns, wanted)

    async def hydrated(self, state: ThreadState, ns: str, checkpoint_id: str) -> Graph | None:
        """A checkpoint of a thread with its values and writes; None where there is none."""
        inc = state.thread.inc
        for last in (False, True):
            record = await self.records.get(graph(inc, ns), quoted(checkpoint_id))
            header = None if record is None else header_of(record.data)
            if record is None or header is None or header.body is None:
                return None
            self._keep(inc, header, record.version)
            values = await self._values(inc, header)
            if values is not None:
                writes = await self._writes(inc, ns, checkpoint_id)
                return Graph(state.thread.thread_id, header, values, writes)
            if last:
                break
        raise StorageCorruptedError(f"values of the checkpoint {checkpoint_id!r} are missing", operation="get")

    async def put_graph_writes(self, thread_id: str, ns: str, checkpoint_id: str, writes: Sequence[Write]) -> None:
        """Keeps writes of a task: special ones replace, others stay as they were first given."""
        conflicted = False
        size = sum(len(one.data) for one in writes)
        packed = await aside(size > HEAVY, lambda: {_write_key(one): (one.idx, pack(one)) for one in writes})
        for attempt in range(TRIES):
            state = await self._living(thread_id, conflicted)
            inc = state.thread.inc
            known = None if conflicted else self._kept(inc, ns, checkpoint_id)
            space, key = graph(inc, ns), quoted(checkpoint_id)
            changes: list[Change] = await self._judged_writes(graph_writes(inc, ns, checkpoint_id), packed, conflicted)
            if not changes:
                return
            version = known.version if known else _version(await self.records.get(space, key))
            if version:
                changes.append(Check(space, key, expect=version))
            else:  # they came before their checkpoint: a header without a body finds them again
                changes.append(Put(space, key, pack(Header(checkpoint_id, ns)), expect=0))
                changes.append(Put(namespaces(inc), f"={quoted(ns)}", ns.encode()))
            changes.append(Check(THREAD, quoted(thread_id), expect=state.born))  # else it is being removed
            try:
                await self.records.commit(changes)
            except (VersionConflictError, CommitOutcomeUnknownError):
                conflicted = True
                await pause(attempt)
            else:
                return
        raise StorageConflictError(f"the thread {thread_id!r} changed {TRIES} times in a row", operation="put_writes")

    # --- how ---

    async def _parent(self, inc: str, header: Header, conflicted: bool) -> Header | None:
        if header.parent is None:
            return None
        kept = None if conflicted else self._kept(inc, header.ns, header.parent)
        if kept is not None:
            return kept.header
        record = await self.records.get(graph(inc, header.ns), quoted(header.parent))
        return None if record is None else header_of(record.data)

    def _judge_size(self, header: Header, sent: Sequence[Put]) -> None:
        size = len(header.body[1] if header.body else b"") + sum(len(slot.data) for slot in header.slots.values())
        size += sum(len(put.data) for put in sent)
        if size > self.options.max_checkpoint:
            raise RecordTooLargeError(
                f"the checkpoint {header.checkpoint_id!r} has {size} new bytes, "
                f"at most {self.options.max_checkpoint} are allowed"
            )

    async def _values(self, inc: str, header: Header) -> dict[str, Value] | None:
        """None where a value is missing: it was collected between two reads, or lost."""
        names = [(blobs(inc), digest) for digest in sorted(header.digests)]
        return await self._shared(header, await self.records.get_many(names) if names else [])

    async def _shared(self, header: Header, found: Sequence[Record | None]) -> dict[str, Value] | None:
        """As `_values`, of the records at its digests."""
        if any(record is None for record in found):
            return None
        there = [record for record in found if record is not None]
        large = sum(len(record.data) for record in there) > LIGHT
        data = await aside(large, lambda: {one.key: Typed(*_typed_of(one.data)) for one in there})
        return {
            channel: Value([data[digest] for digest in slot.digests] or [Typed(slot.type, slot.data)], slot.is_list)
            for channel, slot in header.slots.items()
        }

    async def _writes(self, inc: str, ns: str, checkpoint_id: str) -> list[Write]:
        space = graph_writes(inc, ns, checkpoint_id)
        found = await self.records.scan(space, limit=FEW)  # a store may have a short way to a few
        if len(found) == FEW:
            found += await self.records.scan(space, after=found[-1].key)
        large = sum(len(one.data) for one in found) > HEAVY
        writes = await aside(large, lambda: [_write_of(one.data) for one in found])
        return sorted(writes, key=lambda one: (one.task_path, one.task_id, one.idx))

    async def _judged_writes(
        self, space: str, packed: Mapping[str, tuple[int, bytes]], conflicted: bool
    ) -> list[Change]:
        """What is to be written of these; only after a conflict somebody looks what is there."""
        there: set[str] = set()
        if conflicted:
            found = await self.records.get_many([(space, key) for key in packed])
            there = {record.key for record in found if record is not None}
        return [
            Put(space, key, data, expect=None if idx < 0 else 0)
            for key, (idx, data) in packed.items()
            if idx < 0 or key not in there
        ]

    async def _living(self, thread_id: str, conflicted: bool) -> ThreadState:
        """The thread, made if it is missing."""
        state = None if conflicted else self._remembered(thread_id)
        state = state or await self.thread(thread_id)
        while state is None:

            async def plan(state: ThreadState, conflicted: bool) -> Planned:
                return state.bump, []

            await self.put_in_thread(thread_id, plan)
            state = await self.thread(thread_id)
        return state

    def _guess(self, thread_id: str, ns: str, checkpoint_id: str | None) -> _Guess | None:
        """What is probably wanted, so that one reading may do; None where nothing tells, or it is too large."""
        state = self._remembered(thread_id)
        wanted = state and (checkpoint_id or state.bump.highest.get(ns))
        kept = self._kept(state.thread.inc, ns, wanted) if state and wanted else None
        if state is None or kept is None or sum(slot.size for slot in kept.header.slots.values()) > GUESSED:
            return None
        return _Guess(state.thread.inc, kept)

    def _keep(self, inc: str, header: Header, version: int) -> None:
        with self._headers_lock:
            self._headers[inc, header.ns, header.checkpoint_id] = _Kept(header, version)
            while len(self._headers) > _REMEMBERED:
                self._headers.popitem(last=False)

    def _kept(self, inc: str, ns: str, checkpoint_id: str) -> _Kept | None:
        with self._headers_lock:
            return self._headers.get((inc, ns, checkpoint_id))


class _Ahead:
    """Values of one put that go ahead of the commit of their header, because they do not fit into it."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._draft: Draft | None = None

    async def send(self, state: ThreadState, puts: list[Put]) -> list[Put]:
        """Sends some of them; the rest comes back."""
        name, rest, size = values_of(state), len(puts), 0
        while rest and len(puts) - rest < _MOST and (size := size + len(puts[rest - 1].data)) <= _MOST_BYTES:
            rest -= 1
        if self._draft is not None and self._draft.name != name:  # the thread was made anew meanwhile
            await self.give_up()
        if not rest:
            return puts
        if self._draft is None:
            self._draft = Draft(self._graphs.records, VALUES, name)
        try:
            await self._draft.add_all(puts[:rest])
        except VersionConflictError:  # a sweep took it for dead
            self._draft = None
            raise
        return puts[rest:]

    def finished(self) -> list[Change]:
        return [] if self._draft is None else self._draft.finished()

    async def give_up(self) -> None:
        if self._draft is not None:
            await self._graphs.given_up(self._draft)
            self._draft = None


def _filed(state: ThreadState, thread_id: str, header: Header) -> list[Change]:
    """The changes that store a header and the ways to find it."""
    inc, ns = state.thread.inc, header.ns
    changes: list[Change] = [Put(graph(inc, ns), quoted(header.checkpoint_id), pack(header))]
    if ns not in state.bump.highest:
        changes.append(Put(namespaces(inc), f"={quoted(ns)}", ns.encode()))
    if header.run is not None:
        changes.append(in_run(inc, thread_id, header))
    return changes


def in_run(inc: str, thread_id: str, header: Header) -> Put:
    """The entry by which the checkpoints of a run are found."""
    assert header.run is not None
    key = f"{inc}/{quoted(header.ns)}/{quoted(header.checkpoint_id)}"
    return Put(by_run(header.run), key, pack((thread_id, header.ns, header.checkpoint_id)))


def _raised(bump: Bump, header: Header) -> Bump:
    highest = max(header.checkpoint_id, bump.highest.get(header.ns, ""))
    return replace(bump, highest=bump.highest | {header.ns: highest})


def _version(record: Record | None) -> int:
    return 0 if record is None else record.version


def _write_key(write: Write) -> str:
    return f"{quoted(write.task_id)}:{write.idx + 100:06}"
