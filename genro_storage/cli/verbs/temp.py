"""`temp`: what killed processes left, seen and removed."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ..console import escaped
from ..failures import FAILED, OK, UsageError
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...tempfiles import TempFileManager


def _status(session: Session, manager: TempFileManager) -> int:
    told = manager.health_check()
    for name in ("active_files", "bytes", "failed_deletions", "last_sweep"):
        told.pop(name, None)  # of this short process, of which nobody asks
    text = "\n".join(f"{name:<12} {escaped(str(value))}" for name, value in told.items() if name != "timestamp")
    session.console.result(text, told)
    return FAILED if told["status"] == "unhealthy" else OK


def _sweep(session: Session, manager: TempFileManager) -> int:
    return _swept(session, manager, left_is_failure=False)


def _clear(session: Session, manager: TempFileManager) -> int:
    return _swept(session, manager, left_is_failure=True)


def _swept(session: Session, manager: TempFileManager, *, left_is_failure: bool) -> int:
    report = manager.sweep()
    text = f"removed {report.removed} directories of dead processes, {report.alive} belong to living ones"
    session.console.result(text, {"removed": report.removed, "alive": report.alive, "failed": report.failed})
    for path, reason in report.failed.items():
        session.console.note(f"cannot remove {escaped(path)}: {reason}")
    return FAILED if report.failed or (left_is_failure and report.alive) else OK


_ACTIONS = {"status": _status, "sweep": _sweep, "clear": _clear}


def _temp(session: Session, options: Namespace) -> int:
    action, *mounts = options.paths
    if action not in _ACTIONS or len(mounts) > 1:
        raise UsageError("expected status, sweep or clear, and at most one mount; see 'genro-storage temp --help'")
    storage: Any = session.places.configure()
    manager = storage.temp(mounts[0].removesuffix(":") if mounts else "temp")
    return _ACTIONS[action](session, manager)


VERBS = {"temp": Verb("status|sweep|clear [MOUNT]", 1, lambda parser: None, _temp)}
