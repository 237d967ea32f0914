"""The options of `cp`, `mv` and `sync`, and the fields of `CopyOptions` that they mean."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from typing import TYPE_CHECKING, Any

from .failures import UsageError
from .parser import number

if TYPE_CHECKING:
    from .places import Places

VERIFY = ("none", "size", "checksum", "read")
SKIP = ("never", "exists", "size", "mtime", "newer", "hash")
KEPT = "mtime, content_type, metadata, tags, mode"
ATOMIC = "atomic"


def add_options(parser: ArgumentParser, *, verify: tuple[str, ...], links: str, skip: str) -> None:
    """What the three verbs have in common; `links` and `skip` are their defaults in words."""
    add_choice(parser, skip)
    add = parser.add_argument
    add("--into", action="store_true", help="place a source inside DST, under its own name")
    add("--no-overwrite", action="store_true", help="an existing file is a failure and stays as it is")
    add("--if-absent", action="store_true", help="the same, only where the storage judges that in one step")
    add("--backup", metavar="PATH", help="files that would be replaced or deleted go below this directory first")
    add("--verify", choices=verify, help="how a copy is proven (default: checksum)")
    add("--preserve", metavar="LIST", help=f"what goes along: {KEPT}; 'none' (default: mtime,content_type,metadata)")
    add(
        "--content-type",
        metavar="TYPE",
        help="of all that is written, where DST keeps types (default: their own)",
    )
    add("--symlinks", choices=("follow", "skip", "copy"), help=f"what becomes of links (default: {links})")
    add("--concurrency", metavar="N", type=concurrency, help="files at once; 'auto' (default) follows the throughput")
    add("--bandwidth", metavar="RATE", help="bytes per second written to targets, as 20MiB/s")
    add("--retries", metavar="N", type=number, help="tries after the first, for each file (default: 3)")
    told = "go on where an interrupted run of the same command stopped (default: yes)"
    add("--resume", action=BooleanOptionalAction, default=True, help=told)
    told = "after a failed file: go on, stop, or go on and count without a line for each (default: continue)"
    add("--on-error", choices=("continue", "stop", "report"), help=told)
    add("--dry-run", action="store_true", help="only tell what would be done")


def add_filters(parser: ArgumentParser) -> None:
    """Which files are meant."""
    add = parser.add_argument
    add("--include", metavar="PATTERN", action="append", help="only files that match; may be repeated")
    add("--exclude", metavar="PATTERN", action="append", help="no files that match; may be repeated")


def add_choice(parser: ArgumentParser, skip: str) -> None:
    """Which files are meant, and which of those that exist stay."""
    add_filters(parser)
    told = f"existing files that stay: by existence, size, size and time, later time or content (default: {skip})"
    parser.add_argument("--skip", choices=SKIP, help=told)


def add_deletion(parser: ArgumentParser) -> None:
    """What only a synchronisation knows."""
    add = parser.add_argument
    add("--delete", action="store_true", help="what DST has and SRC has not goes; asks first")
    add(
        "--max-delete",
        metavar="N",
        type=deletions,
        help="refuse more deletions: a number, or N%% of DST (default: 50%%)",
    )
    add("--delete-excluded", action="store_true", help="with --delete: what the filters leave out goes too")
    add("--allow-empty-source", action="store_true", help="with --delete: an empty SRC may empty DST")
    add("-y", dest="yes", action="store_true", help="do not ask")


def concurrency(text: str) -> int | str:
    """A number from 1 up, or ``auto``."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"expected a number from 1 up, or 'auto', not {text!r}")
    return int(text)


def deletions(text: str) -> int | str:
    """A number of files, or text as ``50%``."""
    return int(text) if text.isascii() and text.isdecimal() else text


def fields_of(options: Namespace, places: Places) -> dict[str, Any]:
    """What was asked for, as fields of `CopyOptions`; a bad value is a usage error before any work."""
    from ..transfer import CopyOptions

    absent = options.no_overwrite or options.if_absent
    given = {
        "skip": options.skip,
        "overwrite": False if absent else None,
        "into": options.into or None,
        "include": options.include,
        "exclude": options.exclude,
        "verify": options.verify,
        "preserve": _names(options.preserve),
        "content_type": options.content_type,
        "symlinks": options.symlinks,
        "concurrency": options.concurrency,
        "bandwidth": options.bandwidth,
        "retries": options.retries,
        "errors": options.on_error,
        "resume": options.resume and not options.dry_run,
        "dry_run": options.dry_run or None,
        **{name: getattr(options, name, None) or None for name in ("delete", "delete_excluded", "allow_empty_source")},
        "max_delete": getattr(options, "max_delete", None),
    }
    fields = {name: value for name, value in given.items() if value is not None}
    try:
        CopyOptions(**fields)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.backup is not None:
        fields["backup"] = places.node(options.backup)
    return fields


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(","))
