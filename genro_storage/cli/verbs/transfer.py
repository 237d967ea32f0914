"""`cp` and `mv`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ...exceptions import StorageError, StorageNotADirectoryError, StorageTransferError
from ..console import escaped
from ..failures import FAILED, OK, Refused, UsageError, common_code, local_names
from ..parser import number
from ..places import STREAM, name_of
from ..progress import Progress
from ..registry import Verb
from ..session import Session
from .reading import pour

if TYPE_CHECKING:
    from ...nodes import StorageNode
    from ...transfer import TransferReport

KEPT = "mtime, content_type, metadata, mode"


def _options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-r", dest="recursive", action="store_true", help="directories too, with all that is below")
    add("--into", action="store_true", help="place a source inside DST, under its own name")
    add("--include", metavar="PATTERN", action="append", help="only files that match; may be repeated")
    add("--exclude", metavar="PATTERN", action="append", help="no files that match; may be repeated")
    add("--no-overwrite", action="store_true", help="an existing file is a failure and stays as it is")
    add("--verify", choices=("none", "size", "checksum", "read"), help="how a copy is proven (default: checksum)")
    add("--preserve", metavar="LIST", help=f"what goes along, of {KEPT}, with commas; 'none' for nothing (default: all but mode)")
    add("--symlinks", choices=("follow", "skip", "copy"), help="what becomes of links in a tree (default: follow)")
    add("--retries", metavar="N", type=number, help="tries after the first, for each file (default: 3)")
    add(
        "--on-error",
        choices=("continue", "stop", "report"),
        help="after a failed file: go on, stop, or go on and count without a line for each (default: continue)",
    )


def _fields(options: Namespace, operation: str) -> dict[str, Any]:
    """What was asked for, as fields of `CopyOptions`; a bad value is a usage error before any work."""
    from ...transfer import CopyOptions

    given = {
        "overwrite": False if options.no_overwrite else None,
        "into": options.into or None,
        "include": options.include,
        "exclude": options.exclude,
        "verify": options.verify,
        "preserve": _names(options.preserve),
        "symlinks": options.symlinks,
        "retries": options.retries,
        "errors": options.on_error,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    if operation == "move" and options.verify == "none":
        raise UsageError("--verify none cannot be used with mv: a source goes only once its copy is proven")
    try:
        CopyOptions(**fields)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return fields


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def _transfer(operation: str, session: Session, options: Namespace) -> int:
    *sources, target = options.paths
    fields = _fields(options, operation)
    if STREAM in (*sources, target):
        return _stream(operation, session, options, fields, sources, target)
    end = session.places.node(target)
    if len(sources) > 1:
        fields["into"] = True
        _need_directory(end, target)
    codes = set()
    for text in sources:
        try:
            source = session.places.node(text)
            if not options.recursive and source.is_dir and not source.is_file:
                raise UsageError(f"'{name_of(source)}' is a directory; -r takes directories too")
            codes.add(_one(operation, session, source, session.places.address(target), fields))
        except (StorageError, Refused, UsageError) as error:
            codes.add(session.console.error(error))
    return common_code(codes)


def _need_directory(node: StorageNode, target: str) -> None:
    """Several sources go into a directory: one that is there, or one called so by a slash at its end."""
    if not node.is_dir and (node.is_file or not target.endswith("/")):
        name = name_of(node)
        raise StorageNotADirectoryError(f"several sources need a directory, and '{name}' is none; '{name}/' makes it")


def _one(operation: str, session: Session, source: StorageNode, end: str, fields: dict[str, Any]) -> int:
    console = session.console
    progress = Progress("cp" if operation == "copy" else "mv") if console.may_progress else None
    if progress:
        fields = {**fields, "progress": progress.update}
    try:
        with progress or nullcontext():
            report = getattr(session.places.manager, operation)(source, end, **fields)
    except StorageTransferError as error:
        if error.report is None:
            raise
        report = error.report
    return _tell(session, report, every=fields.get("errors") != "report")


def _tell(session: Session, report: TransferReport, *, every: bool) -> int:
    console = session.console
    for warning in report.warnings:
        console.note(f"warning: {local_names(warning)}")
    for failure in report.failures if every else ():
        console.error(failure.error, "" if failure.error.path else escaped(failure.relpath))
    if not console.quiet:
        console.result(escaped(local_names(str(report))), _facts(report))
        if console.verbose and not console.json:
            _details(session, report)
    return OK if report.ok else FAILED


def _facts(report: TransferReport) -> dict[str, Any]:
    """The report as JSON has it, local files by their paths."""
    facts = report.to_dict()
    facts |= {key: local_names(facts[key]) for key in ("source", "destination")}
    facts["failures"] = [{**failure, "message": local_names(failure["message"])} for failure in facts["failures"]]
    return facts


def _details(session: Session, report: TransferReport) -> None:
    line = session.console.line
    line(f"  verified by checksum {report.verified_checksum}, by size {report.verified_size}; tries again {report.retries}")
    line(f"  directories made {report.directories_created}; moved by the storage itself {report.bytes_server_side} bytes")
    for reason, count in sorted(report.skip_reasons.items()):
        line(f"  skipped {count}: {reason}")


# --- standard input and output ---


def _stream(
    operation: str, session: Session, options: Namespace, fields: dict[str, Any], sources: list[str], target: str
) -> int:
    """``cp - PATH`` stores the standard input, ``cp PATH -`` is ``cat``."""
    if operation == "move":
        raise UsageError("mv cannot use '-', for nothing can be moved there; use cp")
    useless = sorted(set(fields) - ({"overwrite"} if sources == [STREAM] else set()))
    if useless or options.recursive:
        raise UsageError("with '-' cp takes no option but --no-overwrite, and that only when storing")
    if target == STREAM:
        if STREAM in sources:
            raise UsageError("'-' is both the source and the target")
        return session.each(sources, pour)
    if len(sources) > 1:
        raise UsageError("'-' is one source and cannot be combined with others")
    return session.each([target], partial(_store, session, target.endswith("/"), options.no_overwrite))


def _store(session: Session, slash: bool, if_absent: bool, node: StorageNode) -> None:
    if slash or node.is_dir:
        raise UsageError(f"the standard input has no name; write '{name_of(node)}/NAME'")
    if sys.stdin is None:
        raise UsageError("there is no standard input")
    count = 0

    def chunks() -> Any:
        nonlocal count
        while chunk := sys.stdin.buffer.read1(1 << 20):
            count += len(chunk)
            yield chunk

    node.write_from(chunks(), if_absent=if_absent)
    if not session.console.quiet:
        facts = {"operation": "store", "destination": name_of(node), "bytes_copied": count}
        session.console.result(f"stored {escaped(name_of(node))}: {count} bytes", facts)


VERBS = {
    "cp": Verb("SRC… DST", 2, _options, partial(_transfer, "copy")),
    "mv": Verb("SRC… DST", 2, _options, partial(_transfer, "move")),
}
