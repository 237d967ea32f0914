"""`cp`, `mv`, `sync` and `check`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ...exceptions import StorageNotADirectoryError, StorageTransferError, UnsupportedOperation
from ..console import escaped
from ..copying import ATOMIC, VERIFY, add_deletion, add_filters, add_options, fields_of
from ..failures import DIFFERENT, OK, UsageError
from ..guards import confirm, guard_clearing
from ..places import STREAM, name_of
from ..registry import Verb
from ..reports import report_of, tell
from ..session import Session
from .reading import pour, standard_input

if TYPE_CHECKING:
    from ...nodes import StorageNode

VERBS_OF = {"copy": "cp", "move": "mv", "sync": "sync"}
GOES_ON = "the same command goes on from here"


def _cp_options(parser: ArgumentParser) -> None:
    parser.add_argument("-r", dest="recursive", action="store_true", help="directories too, with all that is below")
    add_options(parser, verify=VERIFY, links="follow", skip="never")


def _mv_options(parser: ArgumentParser) -> None:
    parser.set_defaults(recursive=True)  # as a shell's mv; and a source goes only once its copy is proven:
    links = "copy where both storages have links, else follow"
    add_options(parser, verify=VERIFY[1:], links=links, skip="never")


def _sync_options(parser: ArgumentParser) -> None:
    parser.set_defaults(recursive=True)
    add_options(parser, verify=VERIFY, links="follow", skip="mtime: size and time")
    add_deletion(parser)


def _transfer(operation: str, session: Session, options: Namespace) -> int:
    *sources, target = options.paths
    fields = fields_of(options, session.places)
    if STREAM in (*sources, target):
        return _stream(operation, session, options, fields)
    end = session.places.node(target)
    if options.if_absent:
        _need_atomic(end)
    if len(sources) > 1:
        fields["into"] = True
        _need_directory(end, target)
    places = iter(range(1, len(sources) + 1))

    def one(source: StorageNode) -> int:
        place = f"{next(places)}/{len(sources)}" if len(sources) > 1 else ""
        if not options.recursive and not source.is_file and source.is_dir:
            raise UsageError(f"'{name_of(source)}' is a directory; -r takes directories too")
        return _one(operation, session, source, session.places.address(target), fields, place)

    return session.each(sources, one)


def _need_directory(node: StorageNode, target: str) -> None:
    """Several sources go into a directory: one that is there, or one called so by a slash at its end."""
    if not node.is_dir and (node.is_file or not target.endswith("/")):
        name = name_of(node)
        raise StorageNotADirectoryError(f"several sources need a directory, and '{name}' is none; '{name}/' makes it")


def _need_atomic(node: StorageNode) -> None:
    if node.mount.features.if_absent != ATOMIC:
        raise UnsupportedOperation(
            f"'{name_of(node)}' is on a storage that cannot judge in one step whether a file exists; use --no-overwrite"
        )


def _one(
    operation: str, session: Session, source: StorageNode, end: str, fields: dict[str, Any], place: str = ""
) -> int:
    from ..watching import watched

    if operation == "move" and "symlinks" not in fields and _have_links(source, session.places.node(end)):
        fields = {**fields, "symlinks": "copy"}  # who moves a link means the link
    dry_run = fields.get("dry_run", False)
    try:
        with watched(session.console, VERBS_OF[operation], place=place, dry_run=dry_run) as watching:
            report = getattr(session.places.manager, operation)(source, end, **fields, **watching)
    except StorageTransferError as error:
        report = report_of(error)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GOES_ON if fields["resume"] else "") from None
    return tell(session.console, report, every=fields.get("errors") != "report")


def _have_links(source: StorageNode, target: StorageNode) -> bool:
    return source.mount.can("readlink") and target.mount.can("symlink")


# --- sync ---


def _sync(session: Session, options: Namespace) -> int:
    if len(options.paths) != 2 or STREAM in options.paths:
        raise UsageError("sync takes one SRC and one DST, both directories")
    if not options.delete and (only := _only_with_delete(options)):
        raise UsageError(f"{', '.join(only)}: only with --delete")
    if options.delete:
        source, target = (session.places.node(text) for text in options.paths)
        guard_clearing(target)
        if not (options.yes or options.dry_run):
            confirm(
                f"Delete from '{escaped(name_of(target))}' all that '{escaped(name_of(source))}' has not?",
                "sync --delete",
            )
    return _transfer("sync", session, options)


def _only_with_delete(options: Namespace) -> list[str]:
    given = {
        "--max-delete": options.max_delete is not None,
        "--delete-excluded": options.delete_excluded,
        "--allow-empty-source": options.allow_empty_source,
    }
    return [name for name, is_given in given.items() if is_given]


# --- check ---


def _check_options(parser: ArgumentParser) -> None:
    told = "what makes two files the same (default: hash)"
    parser.add_argument("--by", choices=("hash", "size", "mtime"), default="hash", help=told)
    parser.add_argument("--one-way", action="store_true", help="what only B has is no difference")
    add_filters(parser)


def _check(session: Session, options: Namespace) -> int:
    from ..watching import Differences, drawn

    if len(options.paths) != 2 or STREAM in options.paths:
        raise UsageError("check takes two places, A and B")
    a, b = (session.places.node(text) for text in options.paths)
    console = session.console
    fields = {name: given for name in ("include", "exclude") if (given := getattr(options, name)) is not None}
    try:
        with drawn(console, "check") as progress:
            told = Differences(console, progress, one_way=options.one_way)
            report = session.places.manager.compare(a, b, options.by, on_event=told, **fields)
    except StorageTransferError as error:
        report = report_of(error)
    except ValueError as error:
        raise UsageError(str(error)) from error
    code = tell(console, report)
    different = report.differ + report.only_source + (0 if options.one_way else report.only_destination)
    return code or (DIFFERENT if different else OK)


# --- standard input and output ---


def _stream(operation: str, session: Session, options: Namespace, fields: dict[str, Any]) -> int:
    """``cp - PATH`` stores the standard input, ``cp PATH… -`` is ``cat``."""
    *sources, target = options.paths
    storing = sources == [STREAM] and target != STREAM
    if operation != "copy":
        raise UsageError("mv cannot use '-', for nothing can be moved there; use cp")
    if options.recursive or set(fields) - ({"resume", "overwrite", "content_type"} if storing else {"resume"}):
        taken = "--no-overwrite, --if-absent and --content-type, and those only to store"
        raise UsageError(f"with '-' cp takes no option but {taken}")
    if storing:
        return session.each([target], partial(_store, session, target.endswith("/"), options))
    if STREAM in sources:
        raise UsageError("'-' is the only source or the target, and not both")
    return session.each(sources, pour)


def _store(session: Session, slash: bool, options: Namespace, node: StorageNode) -> None:
    if slash or node.is_dir:
        raise UsageError(f"the standard input has no name; write '{name_of(node)}/NAME'")
    if options.if_absent:
        _need_atomic(node)
    count = 0

    def chunks() -> Iterator[bytes]:
        nonlocal count
        for chunk in standard_input():
            count += len(chunk)
            yield chunk

    node.write_from(chunks(), if_absent=options.no_overwrite or options.if_absent, content_type=options.content_type)
    if not session.console.quiet:
        facts = {"operation": "store", "destination": name_of(node), "bytes_copied": count}
        session.console.result(f"stored {escaped(name_of(node))}: {count} bytes", facts)


VERBS = {
    "cp": Verb("SRC… DST", 2, _cp_options, partial(_transfer, "copy")),
    "mv": Verb("SRC… DST", 2, _mv_options, partial(_transfer, "move")),
    "sync": Verb("SRC DST", 2, _sync_options, _sync),
    "check": Verb("A B", 2, _check_options, _check),
}
