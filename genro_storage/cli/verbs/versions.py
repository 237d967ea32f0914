"""`url` and `versions`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from ...exceptions import UnsupportedOperation
from ..console import escaped, human_size, local_time, utc_time
from ..failures import UsageError
from ..parser import duration, number
from ..places import name_of
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...nodes import StorageNode
    from ...types import Version

# --- versions ---


def _versions_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--rollback", metavar="ID", help="make the content of this version the newest")
    add("--prune-keep", metavar="N", type=positive, help="erase all versions but the newest N")
    add("--dry-run", action="store_true", help="only tell what --rollback or --prune-keep would do")
    add("--bytes", action="store_true", help="exact sizes")


def positive(text: str) -> int:
    """A count from 1 up."""
    if not number(text):
        raise ArgumentTypeError(f"expected a number from 1 up, not {text!r}")
    return int(text)


def _versions(session: Session, options: Namespace) -> int:
    if len(options.paths) != 1:
        raise UsageError("versions takes one PATH")
    if options.rollback is not None and options.prune_keep is not None:
        raise UsageError("--rollback and --prune-keep do not go together")
    if options.dry_run and options.rollback is None and options.prune_keep is None:
        raise UsageError("--dry-run is for --rollback and --prune-keep")

    def act(node: StorageNode) -> None:
        need_versions(node)
        if options.rollback is not None:
            _rollback(session, node, options.rollback, dry_run=options.dry_run)
        elif options.prune_keep is not None:
            _prune(session, node, options.prune_keep, dry_run=options.dry_run)
        else:
            _list(session, node, exact=options.bytes)

    return session.each(options.paths, act)


def need_versions(node: StorageNode) -> None:
    """Raises where a storage keeps no versions at all."""
    if not node.mount.can("versions"):
        raise UnsupportedOperation(f"the storage of '{name_of(node)}' keeps no versions", operation="versions")


def _list(session: Session, node: StorageNode, *, exact: bool) -> None:
    found = node.list_versions()
    if not found:
        raise node.not_found()
    for version in found:
        session.console.result(version_line(version, exact), version_facts(node, version))


def version_line(version: Version, exact: bool = False) -> str:
    """Size, time, id, and what is special about it."""
    size = "deleted" if version.is_delete_marker else human_size(version.size, exact)
    latest = "  latest" if version.is_latest else ""
    return f"{size:>10}  {local_time(version.last_modified):<25}  {escaped(version.version_id)}{latest}"


def version_facts(node: StorageNode, version: Version) -> dict[str, Any]:
    """A version as JSON has it."""
    return {
        "path": name_of(node),
        "version_id": version.version_id,
        "latest": version.is_latest,
        "deleted": version.is_delete_marker,
        "size": version.size,
        "mtime": utc_time(version.last_modified),
        "etag": version.etag,
    }


def _rollback(session: Session, node: StorageNode, wanted: str, *, dry_run: bool) -> None:
    name, console = name_of(node), session.console
    if dry_run:
        node.at(wanted).stat()  # raises where there is no such version, or it is a deletion
        console.result(f"would roll {escaped(name)} back to {escaped(wanted)}", {"path": name, "rolled_back": False})
        return
    made = node.rollback(wanted)
    text = f"rolled {escaped(name)} back to {escaped(wanted)}: now {escaped(made.version_id)}"
    if not console.quiet:
        console.result(text, {"path": name, "rolled_back": True, "version_id": made.version_id})


def _prune(session: Session, node: StorageNode, keep: int, *, dry_run: bool) -> None:
    count = node.prune_versions(keep_last=keep, dry_run=dry_run)
    if not session.console.quiet or dry_run:
        said = "would erase" if dry_run else "erased"
        facts = {"path": name_of(node), "erased": count, "dry_run": dry_run}
        session.console.result(f"{said} {count} versions of {escaped(name_of(node))}", facts)


# --- url ---


def _url_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--expires", metavar="TIME", type=duration, default=3600.0, help="how long it holds, as 3600 or 1h (default)")
    add("--method", choices=("GET", "HEAD", "PUT"), default="GET", help="what it is for (default: GET)")
    add("--download-name", metavar="NAME", help="the name under which a browser stores it")


def _url(session: Session, options: Namespace) -> int:
    def show(node: StorageNode) -> None:
        try:
            url = node.url(options.expires, options.method, download_name=options.download_name)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if url is None:
            raise UnsupportedOperation(f"nobody reaches '{name_of(node)}' by a URL: give its mount a 'base_url'")
        session.console.result(url, {"path": name_of(node), "method": options.method, "url": url})

    return session.each(options.paths, show)


VERBS = {
    "url": Verb("PATH…", 1, _url_options, _url),
    "versions": Verb("PATH", 1, _versions_options, _versions),
}
