"""`cp` and `mv`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ...exceptions import StorageNotADirectoryError, StorageTransferError
from ..console import escaped
from ..failures import FAILED, OK, UsageError, local_names
from ..parser import number
from ..places import STREAM, name_of
from ..progress import Progress
from ..registry import Verb
from ..session import Session
from .reading import pour, standard_input

if TYPE_CHECKING:
    from ...nodes import StorageNode
    from ...transfer import TransferReport

VERIFY = ("none", "size", "checksum", "read")
KEPT = "mtime, content_type, metadata, mode"


def _cp_options(parser: ArgumentParser) -> None:
    parser.add_argument("-r", dest="recursive", action="store_true", help="directories too, with all that is below")
    _options(parser, VERIFY, "follow")


def _mv_options(parser: ArgumentParser) -> None:
    parser.set_defaults(recursive=True)  # as a shell's mv; and a source goes only once its copy is proven:
    _options(parser, VERIFY[1:], "copy where both storages have links, else follow")


def _options(parser: ArgumentParser, verify: tuple[str, ...], links: str) -> None:
    add = parser.add_argument
    add("--into", action="store_true", help="place a source inside DST, under its own name")
    add("--include", metavar="PATTERN", action="append", help="only files that match; may be repeated")
    add("--exclude", metavar="PATTERN", action="append", help="no files that match; may be repeated")
    add("--no-overwrite", action="store_true", help="an existing file is a failure and stays as it is")
    add("--verify", choices=verify, help="how a copy is proven (default: checksum)")
    add("--preserve", metavar="LIST", help=f"what goes along: {KEPT}; 'none' for nothing (default: all but mode)")
    add("--symlinks", choices=("follow", "skip", "copy"), help=f"what becomes of links (default: {links})")
    add("--retries", metavar="N", type=number, help="tries after the first, for each file (default: 3)")
    told = "after a failed file: go on, stop, or go on and count without a line for each (default: continue)"
    add("--on-error", choices=("continue", "stop", "report"), help=told)


def _fields(options: Namespace) -> dict[str, Any]:
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
    fields = _fields(options)
    if STREAM in (*sources, target):
        return _stream(operation, session, options, fields)
    end = session.places.node(target)
    if len(sources) > 1:
        fields["into"] = True
        _need_directory(end, target)

    def one(source: StorageNode) -> int:
        if not options.recursive and not source.is_file and source.is_dir:
            raise UsageError(f"'{name_of(source)}' is a directory; -r takes directories too")
        return _one(operation, session, source, session.places.address(target), fields)

    return session.each(sources, one)


def _need_directory(node: StorageNode, target: str) -> None:
    """Several sources go into a directory: one that is there, or one called so by a slash at its end."""
    if not node.is_dir and (node.is_file or not target.endswith("/")):
        name = name_of(node)
        raise StorageNotADirectoryError(f"several sources need a directory, and '{name}' is none; '{name}/' makes it")


def _one(operation: str, session: Session, source: StorageNode, end: str, fields: dict[str, Any]) -> int:
    if operation == "move" and "symlinks" not in fields and _have_links(source, session.places.node(end)):
        fields = {**fields, "symlinks": "copy"}  # who moves a link means the link
    progress = Progress("cp" if operation == "copy" else "mv") if session.console.may_progress else None
    if progress:
        fields = {**fields, "progress": progress.update}
    try:
        with progress or nullcontext():
            report = getattr(session.places.manager, operation)(source, end, **fields)
    except StorageTransferError as error:
        report = error.report
    return _tell(session, report, every=fields.get("errors") != "report")


def _have_links(source: StorageNode, target: StorageNode) -> bool:
    return source.mount.can("readlink") and target.mount.can("symlink")


def _tell(session: Session, report: TransferReport, *, every: bool) -> int:
    console = session.console
    for warning in report.warnings:
        console.note(f"warning: {warning}")
    for failure in report.failures if every else ():
        console.error(failure.error, "" if failure.error.path else failure.relpath)
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
    line, by_checksum, by_size = session.console.line, report.verified_checksum, report.verified_size
    line(f"  verified by checksum {by_checksum}, by size {by_size}; tries again {report.retries}")
    line(f"  directories made {report.directories_created}; bytes moved by the storage {report.bytes_server_side}")
    for reason, count in sorted(report.skip_reasons.items()):
        line(f"  skipped {count}: {reason}")


# --- standard input and output ---


def _stream(operation: str, session: Session, options: Namespace, fields: dict[str, Any]) -> int:
    """``cp - PATH`` stores the standard input, ``cp PATH… -`` is ``cat``."""
    *sources, target = options.paths
    storing = sources == [STREAM] and target != STREAM
    if operation == "move":
        raise UsageError("mv cannot use '-', for nothing can be moved there; use cp")
    if options.recursive or set(fields) - ({"overwrite"} if storing else set()):
        raise UsageError("with '-' cp takes no option but --no-overwrite, and that only when storing")
    if storing:
        return session.each([target], partial(_store, session, target.endswith("/"), options.no_overwrite))
    if STREAM in sources:
        raise UsageError("'-' is the only source or the target, and not both")
    return session.each(sources, pour)


def _store(session: Session, slash: bool, if_absent: bool, node: StorageNode) -> None:
    if slash or node.is_dir:
        raise UsageError(f"the standard input has no name; write '{name_of(node)}/NAME'")
    count = 0

    def chunks() -> Iterator[bytes]:
        nonlocal count
        for chunk in standard_input():
            count += len(chunk)
            yield chunk

    node.write_from(chunks(), if_absent=if_absent)
    if not session.console.quiet:
        facts = {"operation": "store", "destination": name_of(node), "bytes_copied": count}
        session.console.result(f"stored {escaped(name_of(node))}: {count} bytes", facts)


VERBS = {
    "cp": Verb("SRC… DST", 2, _cp_options, partial(_transfer, "copy")),
    "mv": Verb("SRC… DST", 2, _mv_options, partial(_transfer, "move")),
}
