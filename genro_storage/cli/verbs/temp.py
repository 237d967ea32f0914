"""`temp`: what killed processes left, seen and removed."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..console import escaped
from ..failures import FAILED, OK, UsageError
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...tempfiles import TempFileManager


def _status(session: Session, manager: TempFileManager) -> int:
    if _metrics_wanted(os.environ):
        return _metrics(session, manager, os.environ.get("PROMETHEUS_PORT", "").strip())
    told = manager.health_check()
    for name in ("active_files", "bytes", "failed_deletions", "last_sweep"):
        told.pop(name, None)  # of this short process, of which nobody asks
    text = "\n".join(f"{name:<12} {escaped(str(value))}" for name, value in told.items() if name != "timestamp")
    session.console.result(text, told)
    return FAILED if told["status"] == "unhealthy" else OK


def _metrics_wanted(environ: Mapping[str, str]) -> bool:
    backend = environ.get("METRICS_BACKEND", "").strip()
    if backend not in ("", "none", "prometheus"):
        raise UsageError(f"METRICS_BACKEND is prometheus or none, not {backend!r}")
    return backend == "prometheus"


def _metrics(session: Session, manager: TempFileManager, port: str) -> int:
    """Prints the base directory's metrics once; or serves them at a port of this machine until interrupted."""
    if not port:
        session.console.line(_exposition(manager).rstrip("\n"))
        return OK
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"PROMETHEUS_PORT is the number of a port, not {port!r}")
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Scrape(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _exposition(manager).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing of each scrape."""

    with ThreadingHTTPServer(("127.0.0.1", int(port)), Scrape) as server:
        session.console.note(f"metrics at http://127.0.0.1:{server.server_port}/metrics until interrupted")
        server.serve_forever()
    return OK


def _exposition(manager: TempFileManager) -> str:
    """What is known of the base directory, beside the counts of this process."""
    told = manager.health_check()
    facts = {
        "temp_healthy": int(told["status"] == "healthy"),
        "temp_owners": told.get("owners", 0),
        "temp_dead_owners": told.get("dead_owners", 0),
        "temp_free_bytes": told.get("free_bytes", 0),
    }
    return manager.prometheus() + "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in facts.items())


def _sweep(session: Session, manager: TempFileManager) -> int:
    return _swept(session, manager, left_is_failure=False)


def _clear(session: Session, manager: TempFileManager) -> int:
    return _swept(session, manager, left_is_failure=True)


def _swept(session: Session, manager: TempFileManager, *, left_is_failure: bool) -> int:
    report = manager.sweep()
    text = f"removed {report.removed} directories of dead processes, {report.alive} belong to living ones"
    session.console.result(
        text, {"removed": report.removed, "alive": report.alive, "failed": report.failed, "left": report.left}
    )
    if report.left:
        session.console.note(f"{report.left} were not reached within cleanup_timeout; run it again")
    for path, reason in report.failed.items():
        session.console.note(f"cannot remove {escaped(path)}: {reason}")
    return FAILED if report.failed or report.left or (left_is_failure and report.alive) else OK


_ACTIONS = {"status": _status, "sweep": _sweep, "clear": _clear}


def _temp(session: Session, options: Namespace) -> int:
    action, *mounts = options.paths
    if action not in _ACTIONS or len(mounts) > 1:
        raise UsageError("expected status, sweep or clear, and at most one mount; see 'genro-storage temp --help'")
    storage: Any = session.places.configure()
    manager = storage.temp(mounts[0].removesuffix(":") if mounts else "temp")
    return _ACTIONS[action](session, manager)


VERBS = {"temp": Verb("status|sweep|clear [MOUNT]", 1, lambda parser: None, _temp)}
