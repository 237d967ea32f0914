"""What a manager can tell of itself: statistics, health, permissions, and metrics."""

from __future__ import annotations

import os
import stat
import time
from typing import Any

from ..exceptions import StorageError
from .cleanup import born_files
from .keeping import absolute
from .lease import open_base
from .limits import Limiter
from .sweep import dead_owners


class Teller(Limiter):
    """The half of a manager that answers questions."""

    _owner_check: bool
    _background: bool
    _metrics: bool
    _last_sweep: float | None
    _begun: float

    def _ages(self) -> list[float]:
        """The age in seconds of each managed file."""
        ages: list[float] = []
        owner = self._owner
        if owner is not None:
            with owner.busy:
                if owner.fd >= 0:
                    ages += [max(0.0, self._clocks.age(st)) for _, _, _, st in born_files(owner)]
        now = self._clocks.monotonic()
        with self.lock:
            tracked = [item for item in self._registry.entries.items() if not self.is_inside(item[0])]
        return ages + [max(0.0, now - entry.born) for _, entry in tracked]

    def statistics(self) -> dict[str, Any]:
        """Counts of this process, and what there is now: files, bytes, ages and durations in seconds."""
        ages = self._ages()
        counts = self._counts
        return {
            "registered": counts.registered,
            "created": counts.created,
            "cleaned": counts.cleaned,
            "failed": counts.reasons.total(),
            "active": len(ages),
            "bytes": self._look()[1] if self._owner is not None else 0,
            "oldest_age": max(ages, default=None),
            "mean_age": sum(ages) / len(ages) if ages else None,
            "sweeps": counts.sweeps,
            "owners_swept": counts.owners,
            "last_duration": counts.last_duration,
        }

    def prometheus(self) -> str:
        """The metrics of this manager as Prometheus text, to be served by the program; empty with `metrics=False`."""
        if not self._metrics:
            return ""
        files, size = self._look() if self._owner is not None else (0, 0)
        return self._counts.exposition(files, size)

    def health_check(self) -> dict[str, Any]:
        """How things are: ``status`` is ``healthy``, ``degraded`` (see ``warning``) or ``unhealthy`` (see ``error``).

        With ``active_files bytes free_bytes owners dead_owners failed_deletions last_sweep base_dir max_age
        timestamp``; times in POSIX seconds. Never raises.
        """
        told: dict[str, Any] = {
            "status": "healthy",
            "base_dir": self.base_dir,
            "max_age": self.max_age,
            "timestamp": time.time(),
            "failed_deletions": len(self.failed),
            "last_sweep": self._last_sweep,
        }
        try:
            told |= self._facts()
            warnings = self._warnings(told)
        except Exception as error:  # noqa: BLE001 - a health check tells of every failure and has none
            return {**told, "active_files": 0, "status": "unhealthy", "error": str(error)}
        return {**told, "status": "degraded", "warning": "; ".join(warnings)} if warnings else told

    def _facts(self) -> dict[str, Any]:
        if not os.path.isdir(self.base_dir):  # asked first: opening would make it anew
            raise StorageError(f"base_dir '{self.base_dir}' is missing")
        base_fd = open_base(self.base_dir, self._owner_check)
        try:
            if not os.access(self.base_dir, os.W_OK | os.X_OK):
                raise StorageError(f"base_dir '{self.base_dir}' is not writable")
            owners, dead = dead_owners(base_fd)
            space = os.fstatvfs(base_fd)
        finally:
            os.close(base_fd)
        if self._closed:
            raise StorageError("this manager is closed")
        files, size = self._look() if self._owner is not None else (0, 0)
        return {
            "active_files": files,
            "bytes": size,
            "free_bytes": space.f_bavail * space.f_frsize,
            "owners": owners,
            "dead_owners": dead,
        }

    def _warnings(self, told: dict[str, Any]) -> list[str]:
        found = []
        if self.max_files is not None and told["active_files"] > self.max_files:
            found.append(f"{told['active_files']} files, over max_files {self.max_files}")
        if self.max_total_bytes is not None and told["bytes"] > self.max_total_bytes:
            found.append(f"{told['bytes']} bytes, over max_total_bytes {self.max_total_bytes}")
        if told["free_bytes"] < self.min_free_bytes:
            found.append(f"{told['free_bytes']} bytes free, under min_free_bytes {self.min_free_bytes}")
        if told["failed_deletions"]:
            found.append(f"{told['failed_deletions']} files resist deletion")
        since = self._clocks.wall() - (self._last_sweep or self._begun)
        if self._background and self._owner is not None and since > 3 * self._interval + 1:
            found.append(f"the last sweep was {since:.0f} s ago, the interval is {self._interval:.0f} s")
        return found

    def check_file_permissions(self, path: str) -> dict[str, Any]:
        """What may be done with a file, without trying: ``path exists mode readable writable deletable ours links``."""
        path = absolute(path)
        told: dict[str, Any] = {"path": path, "exists": False, "readable": False, "writable": False}
        try:
            st = os.lstat(path)
        except OSError as error:
            return {**told, "deletable": False, "ours": False, "links": 0, "mode": None, "error": str(error)}
        return {
            **told,
            "exists": True,
            "mode": stat.filemode(st.st_mode),
            "readable": os.access(path, os.R_OK),
            "writable": os.access(path, os.W_OK),
            "deletable": os.access(os.path.dirname(path), os.W_OK | os.X_OK),
            "ours": st.st_uid == os.geteuid(),
            "links": st.st_nlink,
        }
