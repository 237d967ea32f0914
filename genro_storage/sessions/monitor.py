"""Session stores watched: health, performance, logs, and what to ask when something is wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from hashlib import blake2b
from inspect import iscoroutinefunction
from typing import Any

from ..observe import Histogram
from .forwarding import Forwarding
from .interfaces import Facts, IStorageBackend
from .keys import quoted
from .models import shown_time


def _now() -> str:
    return str(shown_time(time.time_ns() // 1000))


class StorageHealthChecker:
    """Asks a store how it is."""

    def __init__(self, backend: IStorageBackend) -> None:
        self.storage = backend

    async def check_health(self) -> Facts:
        """``{status, timestamp, checks: {connection, performance}}``; a store that says it is not healthy is not."""
        told: Facts = {"status": "healthy", "timestamp": _now(), "checks": {}}
        try:
            answer = await self.storage.health_check()
            fine = answer.get("status") == "healthy"
            told["checks"]["connection"] = "ok" if fine else f"error: {answer.get('error') or answer.get('warnings')}"
            told["status"] = answer.get("status", "unhealthy")
        except Exception as error:  # noqa: BLE001 - a health check tells whatever it is
            told["checks"]["connection"], told["status"] = f"error: {error}", "unhealthy"
        start = time.perf_counter()
        try:
            await self.storage.get_metrics()
            told["checks"]["performance"] = f"ok ({time.perf_counter() - start:.3f}s)"
        except Exception as error:  # noqa: BLE001 - as above
            told["checks"]["performance"], told["status"] = f"error: {error}", "unhealthy"
        return told


class StorageMonitor:
    """Counts operations and their latencies, in constant memory."""

    def __init__(self, backend: IStorageBackend) -> None:
        self.storage = backend
        self._latencies: dict[str, Histogram] = {}
        self._errors: dict[str, int] = {}

    async def record_operation(self, operation: str, latency: float, success: bool) -> None:
        """Counts one operation that took `latency` seconds."""
        self._latencies.setdefault(operation, Histogram()).add(latency)
        self._errors[operation] = self._errors.get(operation, 0) + (not success)

    def get_performance_report(self) -> dict[str, Facts]:
        """By operation: total_operations, error_count, error_rate and latencies in seconds.

        Average, least and most are of all operations; p50, p95 and p99 of the latest 1,024.
        """
        return {
            name: {
                "total_operations": told.count,
                "error_count": self._errors[name],
                "error_rate": self._errors[name] / told.count,
                "avg_latency": told.total / told.count,
                "min_latency": told.least,
                "max_latency": told.most,
                "p50": told.percentile(50),
                "p95": told.percentile(95),
                "p99": told.percentile(99),
            }
            for name, told in self._latencies.items()
        }

    def instrument(self) -> MonitoredStorageBackend:
        """The store, every call of which is counted here."""
        return MonitoredStorageBackend(self)


class MonitoredStorageBackend(Forwarding):
    """A store whose calls a `StorageMonitor` counts."""

    def __init__(self, monitor: StorageMonitor) -> None:
        super().__init__(monitor.storage)
        self.monitor = monitor

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not iscoroutinefunction(found):
            return found

        async def counted(*args: Any, **kwargs: Any) -> Any:
            start, success = time.perf_counter(), False
            try:
                told = await found(*args, **kwargs)
                success = True
                return told
            finally:
                await self.monitor.record_operation(name, time.perf_counter() - start, success)

        return counted


class StorageLogger:
    """Writes what a store does to the log ``genro_storage.sessions``.

    Session ids may be credentials: they are logged as a digest of 8 characters unless `log_ids`.
    """

    def __init__(self, backend: IStorageBackend, *, log_ids: bool = False) -> None:
        self.storage = backend
        self.logger = logging.getLogger("genro_storage.sessions")
        self._log_ids = log_ids

    async def log_operation(
        self, operation: str, session_id: str, success: bool, latency: float, error: str | None = None
    ) -> None:
        """Logs one operation; `latency` in seconds."""
        shown = (
            session_id
            if self._log_ids
            else blake2b(session_id.encode(errors="surrogatepass"), digest_size=4).hexdigest()
        )
        told = {"operation": operation, "session_id": shown, "success": success, "latency": latency}
        told["timestamp"] = _now()
        if error:
            told["error"] = error if self._log_ids else _without(error, session_id, shown)
        if success:
            self.logger.info("Storage operation completed: %s", told)
        else:
            self.logger.error("Storage operation failed: %s", told)

    async def log_health_check(self, health_status: Facts) -> None:
        """Logs an answer of `health_check`; one that is not healthy as a warning."""
        self.logger.info("Storage health check: %s", health_status)
        if health_status.get("status") != "healthy":
            self.logger.warning("Storage health issues detected: %s", health_status)


def _without(error: str, session_id: str, shown: str) -> str:
    """The text of an error without the id in any of the forms in which errors tell it."""
    forms = [session_id, repr(session_id)[1:-1]]
    with suppress(UnicodeEncodeError):  # then it is in no name of a record
        forms.append(quoted(session_id))
    for form in filter(None, forms):
        error = error.replace(form, shown)
    return error


async def diagnose_connection_issue(storage_backend: IStorageBackend) -> Facts:
    """What works of a store: ``{initialized, health, metrics, error?, advice}``."""
    told: Facts = {"initialized": False, "health": None, "metrics": None}
    for name, call in (
        ("initialized", storage_backend.initialize),
        ("health", storage_backend.health_check),
        ("metrics", storage_backend.get_metrics),
    ):
        try:
            told[name] = await asyncio.wait_for(call(), 30)
        except Exception as error:  # noqa: BLE001 - the report is about errors
            told["error"] = f"{name}: {type(error).__name__}: {error}"
            break
    healthy = told["health"] is not None and told["health"].get("status") == "healthy"
    told["advice"] = "nothing" if healthy else "is the server running, its address right, the account allowed?"
    return told


async def diagnose_data_consistency(storage_backend: IStorageBackend) -> Facts:
    """Makes a session, reads it, and removes it again: ``{consistent, created, retrieved, error?}``."""
    name = f"genro-consistency-{time.time_ns()}"
    told: Facts = {"consistent": False, "created": None, "retrieved": None}
    try:
        told["created"] = await storage_backend.create_session(name, "genro-consistency")
        told["retrieved"] = await storage_backend.get_session(name)
        told["consistent"] = told["created"] == told["retrieved"]
    except Exception as error:  # noqa: BLE001 - the report is about errors
        told["error"] = f"{type(error).__name__}: {error}"
    finally:
        remove = getattr(storage_backend, "delete_session", storage_backend.end_session)
        try:
            await remove(name)
        except Exception as error:  # noqa: BLE001 - as above
            told.setdefault("error", f"the session {name!r} was left: {error}")
    return told
