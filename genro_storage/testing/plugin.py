"""A pytest plugin (`-p genro_storage.testing.plugin`): temporary files, and a table of the suites that ran."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .temporary import temp_manager, temp_storage

__all__ = ["pytest_configure", "temp_manager", "temp_storage"]


def pytest_configure(config: Any) -> None:
    """Registers the table on the process that prints (with pytest-xdist the one that runs no test)."""
    config.pluginmanager.register(SuiteTable())


class SuiteTable:
    """Counts the reports of suite cases."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        self.lacking: dict[str, list[str]] = {}
        self.written_by: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call":
            return
        for key, value in report.user_properties:
            if key == "storage_suite":
                name, self.lacking[value[0]], *writer = value
                self.written_by[name] = "".join(writer)
                self.outcomes.setdefault(name, Counter())[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.outcomes:
            return
        terminalreporter.section("storage suites: cases run, and the abilities each storage lacks")
        width = max(map(len, self.outcomes))
        for name, outcomes in sorted(self.outcomes.items()):
            failed = f"{outcomes['failed']} FAILED  " if outcomes["failed"] else ""
            how = f"read-only, written by {self.written_by[name]}; " if self.written_by[name] else ""
            lacks = f"lacks {', '.join(self.lacking[name])}" if self.lacking[name] else ""
            terminalreporter.line(f"{name:<{width}}  {outcomes.total():>4}  {failed}{how}{lacks}".rstrip())
