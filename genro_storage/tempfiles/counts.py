"""What a manager counted, in constant memory: statistics, and the same as Prometheus text under fixed names."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

_AGES = (60.0, 300.0, 900.0, 3600.0, 10800.0, 86400.0)
_DURATIONS = (0.005, 0.05, 0.5, 5.0, 30.0)


class Histogram:
    """Cumulative buckets as Prometheus has them, in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += sum(values)

    def text(self, name: str) -> str:
        """The lines of the exposition format."""
        lines, total = [f"# TYPE {name} histogram"], 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return "\n".join([*lines, f"{name}_sum {self._sum}", f"{name}_count {total}"])


class Counts:
    """Counters of one manager in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.registered = self.created = self.cleaned = self.sweeps = self.owners = 0
        self.reasons: Counter[str] = Counter()
        self.ages = Histogram(_AGES)
        self.durations = Histogram(_DURATIONS)
        self.last_duration: float | None = None

    def count(self, *, registered: int = 0, created: int = 0) -> None:
        with self._lock:
            self.registered += registered
            self.created += created

    def aged(self, ages: Sequence[float]) -> None:
        """Files of these ages, in seconds, were removed."""
        with self._lock:
            self.cleaned += len(ages)
            self.ages.observe(ages)

    def cleaned_up(self, duration: float, failures: list[str]) -> None:
        """A cleanup ended; `failures`: the classes of what resisted."""
        with self._lock:
            self.last_duration = duration
            self.durations.observe([duration])
            self.reasons.update(failures)

    def swept(self, owners: int) -> None:
        with self._lock:
            self.sweeps += 1
            self.owners += owners

    def exposition(self, active: int, size: int) -> str:
        """Prometheus text; the names are those that dashboards already use."""
        with self._lock:
            failed = [f'temp_files_failed_total{{reason="{reason}"}} {n}' for reason, n in sorted(self.reasons.items())]
            return (
                "\n".join(
                    [
                        "# TYPE temp_files_registered_total counter",
                        f"temp_files_registered_total {self.registered}",
                        "# TYPE temp_files_cleaned_total counter",
                        f"temp_files_cleaned_total {self.cleaned}",
                        "# TYPE temp_files_failed_total counter",
                        *failed,
                        "# TYPE temp_owners_swept_total counter",
                        f"temp_owners_swept_total {self.owners}",
                        "# TYPE temp_files_active gauge",
                        f"temp_files_active {active}",
                        "# TYPE temp_files_bytes gauge",
                        f"temp_files_bytes {size}",
                        self.ages.text("temp_file_age_seconds"),
                        self.durations.text("temp_file_cleanup_duration_seconds"),
                    ]
                )
                + "\n"
            )
