"""How a finished transfer is told: failures, the report, and the exit code that they mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..exceptions import StorageError, StorageQuotaError, StorageTransferError
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
    told = [(failure, 0) for failure in report.failures] if console.json else list(_full_once(report.failures))
    for failure, more in told:
        if _is_refusal(failure):
            console.error(refused(failure.error))
        elif every:
            untold = report.failed > len(report.failures)
            console.error(failure.error, "" if failure.error.path else failure.relpath, _and_more(more, untold))
    if not console.quiet:
        console.result(escaped(local_names(report.sentence(human_size))), facts_of_report(report))
        if console.verbose and not console.json:
            _details(console, report)
    if report.ok:
        return OK
    return common_code({REFUSED if _is_refusal(failure) else FAILED for failure in report.failures} or {FAILED})


def _full_once(failures: Sequence[Failure]) -> Iterator[tuple[Failure, int]]:
    """The failures, and how many more say the same: a storage that is full says so for each file that is left."""
    same = Counter(_reason(failure.error) for failure in failures if isinstance(failure.error, StorageQuotaError))
    for failure in failures:
        if not isinstance(failure.error, StorageQuotaError):
            yield failure, 0
        elif count := same.pop(_reason(failure.error), 0):
            yield failure, count - 1


def _reason(error: StorageError) -> str:
    """What an error says, without the place."""
    return error.message.rpartition(": '")[0] or error.message


def _and_more(count: int, untold: bool) -> str:
    """`untold`: not all failures are known one by one."""
    if not count:
        return ""
    return f", and {count:,} more file{'' if count == 1 else 's'} for the same reason{' at least' if untold else ''}"


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
    line(f"  verified by checksum {by_checksum}, by size {by_size}; retries {report.retries}")
    line(f"  directories made {report.directories_created}; bytes moved by the storage {report.bytes_server_side}")
    if report.resumed:
        line(f"  went on with an earlier run; bytes it had brought {report.bytes_resumed}")
    for reason, count in sorted(report.skip_reasons.items()):
        line(f"  skipped {count}: {reason}")
