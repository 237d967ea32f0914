"""How a finished transfer is told: failures, the report, and the exit code that they mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..exceptions import StorageError, StorageTransferError
from .console import Console, escaped, human_size
from .failures import FAILED, OK, REFUSED, Refused, common_code, local_names

if TYPE_CHECKING:
    from ..transfer import Failure, TransferReport


def report_of(error: StorageTransferError) -> TransferReport:
    """What an error tells of the transfer that it ended."""
    if error.report is None:
        raise error
    report: TransferReport = error.report
    return report


def tell(console: Console, report: TransferReport, *, every: bool = True) -> int:
    """Prints a report, and its failures if `every`; returns the exit code."""
    refusals = {str(failure.error) for failure in report.failures if _is_refusal(failure)}
    for warning in report.warnings:
        if warning not in refusals:
            console.note(f"warning: {warning}")
    for failure in report.failures:
        if _is_refusal(failure):
            console.error(refused(failure.error))
        elif every:
            console.error(failure.error, "" if failure.error.path else failure.relpath)
    if not console.quiet:
        console.result(escaped(local_names(report.sentence(human_size))), facts_of_report(report))
        if console.verbose and not console.json:
            _details(console, report)
    if report.ok:
        return OK
    return common_code({REFUSED if _is_refusal(failure) else FAILED for failure in report.failures} or {FAILED})


def _is_refusal(failure: Failure) -> bool:
    """Whether a guard of the transfer said no: of single entries other errors tell."""
    return type(failure.error) is StorageTransferError


def refused(error: StorageError) -> Refused:
    """What a guard said, in the words of the command line."""
    told = re.sub(r"max_delete='?([0-9.]+%?)'?", r"--max-delete \1", str(error))
    return Refused(local_names(told.replace("allow_empty_source=True", "--allow-empty-source")))


def facts_of_report(report: TransferReport) -> dict[str, Any]:
    """The report as JSON has it, local files by their paths."""
    facts = report.to_dict()
    facts |= {key: local_names(facts[key]) for key in ("source", "destination")}
    facts["failures"] = [{**failure, "message": local_names(failure["message"])} for failure in facts["failures"]]
    return facts


def _details(console: Console, report: TransferReport) -> None:
    line, by_checksum, by_size = console.line, report.verified_checksum, report.verified_size
    line(f"  verified by checksum {by_checksum}, by size {by_size}; tries again {report.retries}")
    line(f"  directories made {report.directories_created}; bytes moved by the storage {report.bytes_server_side}")
    if report.resumed:
        line(f"  went on with an earlier run; bytes it had brought {report.bytes_resumed}")
    for reason, count in sorted(report.skip_reasons.items()):
        line(f"  skipped {count}: {reason}")
