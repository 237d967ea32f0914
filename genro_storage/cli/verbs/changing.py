"""`rm`, `mkdir` and `touch`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...exceptions import StorageIsADirectoryError, StorageNotEmptyError, StorageNotFoundError
from ..console import escaped
from ..failures import UsageError
from ..guards import confirm, guard_removal
from ..places import name_of
from ..registry import Verb
from ..session import Session
from .versions import need_versions

if TYPE_CHECKING:
    from ...nodes import StorageNode


# --- rm ---


def _rm_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-r", dest="recursive", action="store_true", help="directories too, with all that is below; asks first")
    add("-f", dest="force", action="store_true", help="what is missing is no error")
    add("--all-versions", action="store_true", help="erase every version too; nothing brings them back")
    add("-y", dest="yes", action="store_true", help="do not ask")
    add("--dry-run", action="store_true", help="only tell what would be deleted")


def _rm(session: Session, options: Namespace) -> int:
    for text in options.paths:
        guard_removal(session.places.node(text))
    if options.recursive and not (options.yes or options.dry_run):
        shown = ", ".join(f"'{escaped(path)}'" for path in options.paths)
        confirm(f"Delete {shown} and everything below?", "rm -r")

    def remove(node: StorageNode) -> None:
        for path in _doomed(node, options) if options.dry_run else [name_of(node)]:
            if not options.dry_run:
                _remove(node, options)
            if options.dry_run or options.json or options.verbose:
                said = "would delete" if options.dry_run else "deleted"
                session.console.result(f"{said} {escaped(path)}", {"path": path, "deleted": not options.dry_run})

    return session.each(options.paths, remove)


def _remove(node: StorageNode, options: Namespace) -> None:
    if options.all_versions:
        _erase(node, options)
        return
    if options.recursive:
        node.delete(recursive=True, missing_ok=options.force)
        return
    try:
        node.unlink()
    except StorageIsADirectoryError:
        raise _needs_recursion(node) from None
    except StorageNotFoundError:
        if node.is_dir:  # in an object store a directory is no key
            raise _needs_recursion(node) from None
        if not options.force:
            raise


def _erase(node: StorageNode, options: Namespace) -> None:
    try:
        node.delete(recursive=options.recursive, missing_ok=options.force, all_versions=True)
    except StorageNotEmptyError:
        raise _needs_recursion(node) from None


def _needs_recursion(node: StorageNode) -> UsageError:
    return UsageError(f"'{name_of(node)}' is a directory; -r deletes directories too")


def _doomed(node: StorageNode, options: Namespace) -> Iterator[str]:
    """What would go, links not followed; with all versions also a file of which only older ones are left."""
    try:
        if options.all_versions:
            need_versions(node)
            if not node.exists and node.list_versions():
                yield name_of(node)
                return
        entry = node.stat()
    except StorageNotFoundError:
        if not options.force:
            raise
        return
    real_directory = entry.is_dir and not entry.is_symlink
    if real_directory and not options.recursive:
        raise _needs_recursion(node)
    yield name_of(node)
    if options.recursive and (real_directory or (not node.mount.features.real_dirs and node.is_dir)):
        yield from (name_of(below) for below, _ in node.scan(recursive=True))


# --- mkdir, touch ---


def _mkdir_options(parser: ArgumentParser) -> None:
    parser.add_argument("-p", dest="parents", action="store_true", help="parents too; one that exists is no error")


def _mkdir(session: Session, options: Namespace) -> int:
    parents = options.parents
    return session.each(options.paths, lambda node: node.mkdir(parents=parents, exist_ok=parents))


def _touch(session: Session, options: Namespace) -> int:
    return session.each(options.paths, lambda node: node.touch())


VERBS = {
    "rm": Verb("PATH…", 1, _rm_options, _rm),
    "mkdir": Verb("PATH…", 1, _mkdir_options, _mkdir),
    "touch": Verb("PATH…", 1, lambda parser: None, _touch),
}
