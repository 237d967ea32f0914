"""`cleanup`: what killed transfers left behind, found and taken away."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..console import counted, escaped, local_time, utc_time
from ..failures import FAILED, OK, UsageError, local_names
from ..parser import duration
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...mount import Mount

WEEK = 7 * 86400.0


def _options(parser: ArgumentParser) -> None:
    told = "only what was begun so long ago: seconds, or a time as 12h or 7d (default)"
    parser.add_argument("--older-than", metavar="TIME", type=duration, default=WEEK, help=told)
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be removed")


def _cleanup(session: Session, options: Namespace) -> int:
    from ...transfer.recover import recover

    storage, console = session.places.configure(), session.console
    mounts = [_mount(session, text) for text in options.paths or session.places.own]
    report = recover(mounts, storage.node, older_than=options.older_than, dry_run=options.dry_run)
    said = "would remove" if report.dry_run else "removed"
    for one in report.aborted:
        path = local_names(one.fullpath)
        facts = {"path": path, "started": utc_time(one.started), "removed": not report.dry_run}
        if console.json or console.verbose or report.dry_run:
            console.result(f"{said} {escaped(path)}, begun {local_time(one.started)}", facts)
    for path, error in report.failures:
        console.error(error, "" if error.path or error.mount else path)
    if not console.quiet:
        forgot = "would forget" if report.dry_run else "forgot"
        told = f"{said} {counted(len(report.aborted), 'leftover')}; {forgot} {counted(report.jobs, 'transfer')}"
        counts = {"removed": len(report.aborted), "jobs": report.jobs, "failed": len(report.failures)}
        console.result(told, {"operation": "cleanup", "dry_run": report.dry_run, **counts})
    return FAILED if report.failures else OK


def _mount(session: Session, text: str) -> Mount:
    """The mount that is named, as ``name`` or ``name:``."""
    name, _, below = text.partition(":")
    if below:
        raise UsageError(f"cleanup takes mounts as '{name}:', not places below them: '{text}'")
    return session.places.configure()._mount(name)


VERBS = {"cleanup": Verb("[MOUNT…]", 0, _options, _cleanup)}
