"""Checkpoints by name: the last one stored is the newest, whatever its id; writes of tasks wait beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..exceptions import RecordTooLargeError
from ..records.base import Change, Delete, Put, Record
from . import codec
from .keys import checkpoint_ids, checkpoint_writes, checkpoints, judged_id, number, quoted
from .models import pack, reader, shown_time
from .pruning import Pruning
from .shared import HEAVY, aside, judged_limit, judged_metadata
from .threads import Planned, ThreadState

MOST_WRITES = 900
"""Writes of one task: they are stored together or not at all."""


class Stored(Struct, frozen=True, array_like=True):
    """One checkpoint; `data` and `metadata` tagged JSON, `at` in µs."""

    checkpoint_id: str
    at: int
    data: bytes
    metadata: bytes


_stored_of = reader(Stored)


class Checkpoints(Pruning):
    """Storing and reading named checkpoints and the writes that belong to them."""

    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Stores a checkpoint as the newest of its thread; one of that id is replaced.

        Raises:
            RecordTooLargeError: above `max_checkpoint` bytes.
        """
        judged_id(thread_id, "thread_id")
        judged_id(checkpoint_id, "checkpoint_id")
        most = self.options.max_checkpoint
        data = await self.encoded(checkpoint_data, "checkpoint_data", most)
        told = await self.encoded(judged_metadata(metadata), "metadata", most)
        whole = Stored(checkpoint_id, self.records.clock(), data, told)
        stored = await aside(len(data) + len(told) > HEAVY, pack, whole)

        async def plan(state: ThreadState, conflicted: bool) -> Planned:
            # A new id is the common case: only a conflict tells that it is there.
            inc, key, seq = state.thread.inc, quoted(checkpoint_id), state.bump.last_seq + 1
            known = await self.records.get(checkpoint_ids(inc), key) if conflicted else None
            changes: list[Change] = [
                Put(checkpoints(inc), number(seq), stored),
                Put(checkpoint_ids(inc), key, number(seq).encode(), expect=known.version if known else 0),
            ]
            if known is not None and known.data:
                changes.append(Delete(checkpoints(inc), known.data.decode()))
            return replace(state.bump, last_seq=seq), changes

        done = await self.put_in_thread(thread_id, plan) is not None
        for kind in ("logical", "stored"):
            self.meter.count("genro_checkpoints_bytes_total", len(data) + len(told), kind=kind)
        return done

    async def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """As `store_checkpoint`."""
        return await self.store_checkpoint(thread_id, checkpoint_id, checkpoint_data, metadata)

    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> dict[str, Any] | None:
        """A checkpoint as ``{checkpoint_id, thread_id, data, metadata, created_at}``; without an id the newest."""
        state = await self.thread(judged_id(thread_id, "thread_id"))
        if state is None:
            return None
        inc = state.thread.inc
        if checkpoint_id is None:
            found = await self._newest(state, 1)
            return (await _envelopes(thread_id, found))[0] if found else None
        known = await self.records.get(checkpoint_ids(inc), quoted(judged_id(checkpoint_id, "checkpoint_id")))
        record = (
            None if known is None or not known.data else await self.records.get(checkpoints(inc), known.data.decode())
        )
        return None if record is None else (await _envelopes(thread_id, [record]))[0]

    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[dict[str, Any]]:
        """The latest `limit` checkpoints (None: all), newest first, as `get_checkpoint` gives them."""
        judged_limit(limit)
        state = await self.thread(judged_id(thread_id, "thread_id"))
        if state is None or limit == 0:
            return []
        return await _envelopes(thread_id, await self._newest(state, limit))

    async def delete_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        """Removes a checkpoint and its writes; False when there is none."""
        judged_id(thread_id, "thread_id")
        return await self._deleted(thread_id, quoted(judged_id(checkpoint_id, "checkpoint_id")))

    async def _deleted(self, thread_id: str, key: str, seen: Record | None = None) -> bool:
        """As `delete_checkpoint`; only as it was `seen`, not one of that id that was stored since."""

        async def plan(state: ThreadState, conflicted: bool) -> Planned | None:
            inc = state.thread.inc
            known = await self.records.get(checkpoint_ids(inc), key)
            if known is None or not known.data:
                return None
            if seen is not None and (seen.space, seen.key) != (checkpoints(inc), known.data.decode()):
                return None
            changes: list[Change] = [Delete(checkpoints(inc), known.data.decode())]
            writes = await self.records.scan(checkpoint_writes(inc, key), limit=MOST_WRITES)
            changes += [Delete(checkpoint_writes(inc, key), one.key) for one in writes]
            if len(writes) < MOST_WRITES:
                changes.append(Delete(checkpoint_ids(inc), key, expect=known.version))
            else:  # more than one commit takes: the rest waits under the same name
                changes.append(Put(checkpoint_ids(inc), key, b"", expect=known.version))
            return state.bump, changes

        done = await self.put_in_thread(thread_id, plan, create=False) is not None
        while done and await self._more_writes(thread_id, key):
            pass
        return done

    async def prune(self, thread_ids: Sequence[str], *, keep_last: int = 1, older_than: float | None = None) -> int:
        """Removes all but the newest `keep_last` checkpoints of each thread; returns how many.

        Args:
            older_than: seconds; checkpoints stored later stay, however many they are.
        """
        if keep_last < 0:
            raise ValueError(f"keep_last is a number from 0 up, not {keep_last}")
        removed = 0
        for thread_id in thread_ids:
            state = await self.thread(judged_id(thread_id, "thread_id"))
            found = [] if state is None else (await self._newest(state, None))[keep_last:]
            until = None if older_than is None else self.records.clock() - round(older_than * 1e6)
            for record in found:
                stored = _stored_of(record.data)
                if until is None or stored.at <= until:
                    removed += await self._deleted(thread_id, quoted(stored.checkpoint_id), record)
        return removed

    # --- writes ---

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[tuple[Any, ...]]
    ) -> bool:
        """Keeps the writes of a task, at most 900; a second call for the task replaces them."""
        judged_id(thread_id, "thread_id")
        id_key, task_key = quoted(judged_id(checkpoint_id, "checkpoint_id")), quoted(judged_id(task_id, "task_id"))
        if len(writes_data) > MOST_WRITES:
            raise RecordTooLargeError(f"a task has {len(writes_data)} writes, at most {MOST_WRITES} are kept together")
        most = self.options.max_checkpoint
        packed = [
            await self.encoded([task_id, tuple(write)], f"writes_data[{at}]", most)
            for at, write in enumerate(writes_data)
        ]

        async def plan(state: ThreadState, conflicted: bool) -> Planned:
            inc = state.thread.inc
            space = checkpoint_writes(inc, id_key)
            there = await self.records.scan(space, after=f"{task_key}:", until=f"{task_key};")
            changes: list[Change] = [Put(space, f"{task_key}:{at:06}", data) for at, data in enumerate(packed)]
            changes += [Delete(space, one.key) for one in there[len(packed) :]]
            if await self.records.get(checkpoint_ids(inc), id_key) is None:
                changes.append(Put(checkpoint_ids(inc), id_key, b"", expect=0))
            return state.bump, changes

        return await self.put_in_thread(thread_id, plan) is not None

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        """All writes of a checkpoint as the tuples that were given, by task id, then in their given order."""
        state = await self.thread(judged_id(thread_id, "thread_id"))
        if state is None:
            return []
        space = checkpoint_writes(state.thread.inc, quoted(judged_id(checkpoint_id, "checkpoint_id")))
        found = [(await self.decoded(one.data), one.key) for one in await self.records.scan(space)]
        return [write for (_, write), _ in sorted(found, key=lambda one: (one[0][0], one[1]))]

    async def _more_writes(self, thread_id: str, key: str) -> bool:
        """Removes some more writes of a checkpoint that is gone; False when that were all."""
        state = await self.thread(thread_id)
        if state is None:
            return False
        inc = state.thread.inc
        known = await self.records.get(checkpoint_ids(inc), key)
        if known is None or known.data:
            return False
        writes = await self.records.scan(checkpoint_writes(inc, key), limit=MOST_WRITES)
        gone: list[Change] = [Delete(checkpoint_writes(inc, key), one.key) for one in writes]
        if len(writes) < MOST_WRITES:
            gone.append(Delete(checkpoint_ids(inc), key))
        await self.records.commit(gone)
        return len(writes) == MOST_WRITES

    # --- how ---

    async def _newest(self, state: ThreadState, limit: int | None) -> list[Record]:
        """The latest records of a thread, newest first, without reading what is older where that costs."""
        space, last = checkpoints(state.thread.inc), state.bump.last_seq
        if limit is None or self.records.features.reverse_scan:
            return await self.records.scan(space, reverse=True, limit=limit)
        window = limit
        while True:
            found = await self.records.scan(space, after=number(max(0, last - window)))
            if len(found) >= limit or window >= last:
                return found[::-1][:limit]
            window *= 4


async def _envelopes(thread_id: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Checkpoints as they are shown; many of them, or large ones, are decoded in a thread."""
    heavy = sum(len(record.data) for record in records) > HEAVY
    return await aside(heavy, lambda: [_envelope(thread_id, record) for record in records])


def _envelope(thread_id: str, record: Record) -> dict[str, Any]:
    stored = _stored_of(record.data)
    return {
        "checkpoint_id": stored.checkpoint_id,
        "thread_id": thread_id,
        "data": codec.decode_stored(stored.data),
        "metadata": codec.decode_stored(stored.metadata),
        "created_at": shown_time(stored.at),
    }
