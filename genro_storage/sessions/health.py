"""Whether a session store works, and what it did: a real round trip, and counts that cost nothing to read."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from ..exceptions import StorageError, StorageSchemaError, StorageTimeoutError, VersionConflictError
from ..observe import RecordMeter
from ..records.base import Delete, Put, RecordStore
from .keys import GARBAGE, META
from .models import shown_time
from .options import SessionOptions
from .shared import Shared

LIMIT = 5.0
"""Seconds that a round trip may take."""
PENDING = 1000
PATIENCE = 0.003
"""Seconds that metrics wait for a server."""
LAYOUT = 1
"""Version of the key layout that this release writes."""


class Health(Shared):
    """`health_check` and `get_metrics`."""

    def __init__(self, records: RecordStore, options: SessionOptions) -> None:
        super().__init__(records, options)
        if records.meter is None:
            records.meter = RecordMeter(store=records.name)
        self._statuses: set[str] = set()
        self._count: int | None = None
        self._asking: set[asyncio.Task[Any]] = set()

    async def judge_layout(self) -> None:
        """Marks an empty store with the layout of this release; one of a newer → `StorageSchemaError`."""
        found = await self.records.get(META, "layout")
        if found is None:
            try:
                await self.records.commit([Put(META, "layout", b"%d" % LAYOUT, expect=0)])
            except VersionConflictError:
                return await self.judge_layout()
        elif int(found.data) > LAYOUT:
            raise StorageSchemaError(
                f"these sessions have layout {int(found.data)}, this release knows {LAYOUT}: a newer one wrote them"
            )
        return None

    async def health_check(self) -> dict[str, Any]:
        """Writes, reads and deletes one record within 5 seconds; tells, never raises."""
        told: dict[str, Any] = {
            "status": "healthy",
            "backend": self.records.name,
            "latency_ms": None,
            "layout": LAYOUT,
            "pending_gc": None,
            "pending_reconcile": 0,
            "warnings": [],
            "timestamp": shown_time(self.records.clock()),
        }
        start = time.perf_counter()
        try:
            told["pending_gc"] = await self._within_limit()
        except StorageError as error:
            told |= {"status": "unhealthy", "error": str(error)}
        except Exception as error:  # noqa: BLE001 - a health check tells whatever it is
            told |= {"status": "unhealthy", "error": f"{type(error).__name__}: {error}"}
        told["latency_ms"] = round((time.perf_counter() - start) * 1000, 3)
        told["durability"] = self.records.durability  # some servers tell it only when they are asked
        if self.records.warnings:
            told["warnings"] += self.records.warnings
            told["status"] = "degraded" if told["status"] == "healthy" else told["status"]
        if told["pending_gc"]:
            told["warnings"].append(f"{told['pending_gc']} deletions wait for a sweep")
        return told

    async def _within_limit(self) -> int:
        """As `_round_trip`; a commit that hangs outlasts its cancellation, so nobody waits for that."""
        task = asyncio.get_running_loop().create_task(self._round_trip())
        self._asking.add(task)
        task.add_done_callback(self._asked)
        try:
            await asyncio.wait([task], timeout=LIMIT)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        raise StorageTimeoutError(f"no answer within {LIMIT:g} s", operation="health_check")

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it

    async def _round_trip(self) -> int:
        """The number of deletions that wait."""
        key, data = f"health/{os.urandom(8).hex()}", os.urandom(16)
        await self.records.commit([Put(META, key, data, expires_at=self.records.clock() + 60_000_000)])
        found = await self.records.get(META, key)
        await self.records.commit([Delete(META, key)])
        if found is None or found.data != data:
            raise StorageError("what was written could not be read", operation="health_check")
        return len(await self.records.scan(GARBAGE, limit=PENDING))

    async def get_metrics(self) -> dict[str, Any]:
        """Counts of this process since it opened the store: operations, errors, latencies in seconds, conflicts.

        `approximate_records` is what the store knows without counting, at most some calls old; None where it cannot.
        """
        meter = self.records.meter
        assert meter is not None
        operations: dict[str, Any] = {}
        for labels, histogram in meter.histograms("genro_records_operation_seconds").items():
            name = dict(labels)["op"]
            total = meter.value("genro_records_operations_total", op=name)
            operations[name] = {
                "count": int(total),
                "errors": int(total - meter.value("genro_records_operations_total", op=name, outcome="ok")),
                "mean": histogram.total / max(1, histogram.count),
                "p50": histogram.percentile(50),
                "p95": histogram.percentile(95),
                "p99": histogram.percentile(99),
            }
        await self._estimate()
        batches = list(meter.histograms("genro_records_commit_batch_size").values())
        return {
            "backend": self.records.name,
            "operations": operations,
            "conflicts": int(meter.value("genro_records_conflicts_total")),
            "commit_batch_size": sum(one.total for one in batches) / max(1, sum(one.count for one in batches)),
            "queue_depth": getattr(self.records, "queue_depth", 0),
            "approximate_records": self._count,
            "checkpoint_bytes": {
                kind: int(self.meter.value("genro_checkpoints_bytes_total", kind=kind))
                for kind in ("logical", "stored")
            },
            "sessions_created": int(self.meter.value("genro_sessions_created_total")),
            "sessions_ended": int(self.meter.value("genro_sessions_ended_total")),
            "sessions_expired": int(self.meter.value("genro_sessions_expired_total")),
            "messages": int(self.meter.value("genro_sessions_messages_total")),
            "timestamp": shown_time(self.records.clock()),
        }

    def metrics_text(self) -> str:
        """The same in Prometheus' exposition format."""
        meter = self.records.meter
        assert meter is not None
        meter.set("genro_records_queue_depth", getattr(self.records, "queue_depth", 0))
        return meter.text() + self.meter.text()

    async def _estimate(self) -> None:
        """Asks for the count and waits for a moment only: an answer that comes later is told by the next call."""
        task = asyncio.get_running_loop().create_task(self._estimated())
        self._asking.add(task)
        task.add_done_callback(self._asked)
        await asyncio.wait([task], timeout=PATIENCE)

    async def _estimated(self) -> None:
        try:
            self._count = await self.records.approximate_count()
        except StorageError:
            pass  # health_check tells what is wrong
