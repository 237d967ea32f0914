"""What happened, counted in constant memory: counters, histograms and recent latencies, also as Prometheus text."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from .exceptions import StorageDriverError

T = TypeVar("T")

LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of buckets, seconds."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
RECENT = 1024
"""Latencies kept for percentiles."""

Labels = tuple[tuple[str, str], ...]


class Telemetry:
    """OpenTelemetry: spans of calls to record stores, and every counter and histogram under its name with dots."""

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise StorageDriverError("telemetry needs opentelemetry-api: pip install 'genro-storage[otel]'") from error
        self._tracer = trace.get_tracer("genro_storage", tracer_provider=tracer_provider)
        self._meter = metrics.get_meter("genro_storage", meter_provider=meter_provider)
        self._failed = trace.StatusCode.ERROR
        self._made: dict[str, Any] = {}

    @contextmanager
    def span(self, operation: str, store: str) -> Iterator[None]:
        """A span of one call; it names the call and the kind of store, nothing of what is stored."""
        name, attributes = f"genro.records.{operation}", {"db.system": store}
        with self._tracer.start_as_current_span(
            name,
            attributes=attributes,
            record_exception=False,  # texts of errors name sessions
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(self._failed, type(error).__name__)
                raise

    def count(self, name: str, number: float, labels: Labels) -> None:
        self._instrument(name, self._meter.create_counter).add(number, dict(labels))

    def add(self, name: str, value: float, labels: Labels) -> None:
        self._instrument(name, self._meter.create_histogram).record(value, dict(labels))

    def _instrument(self, name: str, make: Any) -> Any:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = make(name.replace("_", ".", 2))
        return found


_telemetry: Telemetry | None = None


def set_telemetry(telemetry: Telemetry | None) -> None:
    """What all meters of this process tell besides their own counts; None, as at the start: nothing."""
    global _telemetry
    _telemetry = telemetry


class Histogram:
    """Cumulative buckets as Prometheus has them, and the latest values for percentiles."""

    def __init__(self, bounds: Sequence[float] = LATENCIES) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.least = self.most = 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        if value < self.least or not self.recent:
            self.least = value
        if value > self.most:
            self.most = value
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        self.recent.append(value)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def percentile(self, percent: float) -> float:
        """Of the latest values; 0 where there are none."""
        values = sorted(self.recent)
        return values[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0.0

    def lines(self, name: str, labels: Labels) -> list[str]:
        """The lines of the exposition format."""
        lines, total = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            lines.append(f"{name}_bucket{_shown((*labels, ('le', bound)))} {total}")
        return [*lines, f"{name}_sum{_shown(labels)} {self.total}", f"{name}_count{_shown(labels)} {total}"]


class Meter:
    """Named counters and histograms with labels; thread-safe. `common` labels stand on every one."""

    def __init__(self, **common: str) -> None:
        self._common: Labels = tuple(common.items())
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, float]] = {}
        self._gauges: dict[str, float] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        """Adds to a counter."""
        key = tuple(labels.items())
        with self._lock:
            told = self._counters.get(name)
            if told is None:
                told = self._counters[name] = {}
            told[key] = told.get(key, 0) + number
        if _telemetry is not None:
            _telemetry.count(name, number, self._common + key)

    def set(self, name: str, value: float) -> None:
        """Tells what something is at this moment."""
        with self._lock:
            self._gauges[name] = value

    def add(self, name: str, value: float, bounds: Sequence[float] = LATENCIES, **labels: str) -> None:
        """Adds a value to a histogram."""
        key = tuple(labels.items())
        with self._lock:
            told = self._histograms.get(name)
            if told is None:
                told = self._histograms[name] = {}
            histogram = told.get(key)
            if histogram is None:
                histogram = told[key] = Histogram(bounds)
            histogram.add(value)
        if _telemetry is not None:
            _telemetry.add(name, value, self._common + key)

    def value(self, name: str, **labels: str) -> float:
        """The sum of a counter over all labels that include these."""
        wanted = set(labels.items())
        with self._lock:
            return sum(number for key, number in self._counters.get(name, {}).items() if wanted <= set(key))

    def histograms(self, name: str) -> Mapping[Labels, Histogram]:
        """The histograms of a name by their labels."""
        with self._lock:
            return dict(self._histograms.get(name, {}))

    def text(self) -> str:
        """Everything in Prometheus' exposition format."""
        lines: list[str] = []
        with self._lock:
            for name, numbers in self._counters.items():
                lines.append(f"# TYPE {name} counter")
                lines += [f"{name}{_shown(self._common + key)} {number}" for key, number in numbers.items()]
            for name, number in self._gauges.items():
                lines += [f"# TYPE {name} gauge", f"{name}{_shown(self._common)} {number}"]
            for name, told in self._histograms.items():
                lines.append(f"# TYPE {name} histogram")
                for key, histogram in told.items():
                    lines += histogram.lines(name, self._common + key)
        return "\n".join([*lines, ""])


class RecordMeter(Meter):
    """What is asked of a record store, under the names that the specification fixes."""

    def __init__(self, **common: str) -> None:
        super().__init__(**common)
        self._well: dict[str, tuple[Histogram, Histogram | None, dict[Labels, float], Labels]] = {}

    async def measured(self, operation: str, call: Awaitable[T], size: int | None = None) -> T:
        """Awaits a call and counts it, its time and its outcome; `size`: changes of a commit."""
        start = time.perf_counter()
        try:
            if _telemetry is None:
                result = await call
            else:
                with _telemetry.span(operation, dict(self._common)["store"]):
                    result = await call
        except BaseException as error:
            self._ended(operation, start, type(error).__name__, size)
            raise
        well = None if _telemetry is not None else self._well.get(operation)
        if well is None:
            self._ended(operation, start, "ok", size)
        else:  # the same, the short way: it goes with each call
            seconds, sizes, counts, labels = well
            with self._lock:
                seconds.add(time.perf_counter() - start)
                counts[labels] += 1
                if sizes is not None and size is not None:
                    sizes.add(size)
        return result

    def _ended(self, operation: str, start: float, outcome: str, size: int | None) -> None:
        if size is not None:
            self.add(_BATCHES, size, SIZES)
        self.add(_SECONDS, time.perf_counter() - start, op=operation)
        self.count(_OPERATIONS, op=operation, outcome=outcome)
        if outcome == "VersionConflictError":
            self.count("genro_records_conflicts_total")
        if outcome == "ok":
            labels: Labels = ("op", operation), ("outcome", outcome)
            seconds = self._histograms[_SECONDS][labels[:1]]
            sizes = None if size is None else self._histograms[_BATCHES][()]
            self._well[operation] = seconds, sizes, self._counters[_OPERATIONS], labels


_SECONDS, _OPERATIONS = "genro_records_operation_seconds", "genro_records_operations_total"
_BATCHES = "genro_records_commit_batch_size"


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    told = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in told) + "}"
