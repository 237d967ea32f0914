"""`ls`, `tree` and `du`."""

from __future__ import annotations

import stat as modes
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from ...exceptions import StorageError, StorageNotADirectoryError
from ..console import counted, escaped, human_size, local_time
from ..facts import facts_of
from ..failures import common_code
from ..parser import number
from ..places import name_of
from ..registry import Verb
from ..session import Session
from .versions import need_versions, version_facts, version_line

if TYPE_CHECKING:
    from ...nodes import StorageNode
    from ...types import Stat


def hidden(path: str) -> bool:
    """Whether a segment begins with a dot."""
    return path.startswith(".") or "/." in path


def marked(name: str, entry: Stat) -> str:
    """A name as it is shown; a directory ends in a slash."""
    return escaped(name) + ("/" if entry.is_dir and not entry.is_symlink else "")


def level(node: StorageNode, *, facts: bool = True) -> list[Stat]:
    """One directory, sorted."""
    from ...backends.base import order

    return sorted((entry for page in node.mount.scan(node.path, facts=facts) for entry in page), key=order)


# --- ls ---


def _ls_options(parser: ArgumentParser) -> None:
    parser.add_argument("-l", dest="long", action="store_true", help="kind and mode, size, time, name")
    parser.add_argument("-a", dest="all", action="store_true", help="also names that begin with a dot")
    parser.add_argument("-R", dest="recursive", action="store_true", help="everything below, as relative paths")
    parser.add_argument("--limit", metavar="N", type=number, help="stop after N entries")
    parser.add_argument("--versions", action="store_true", help="each version of each file, one request per file")
    parser.add_argument("--bytes", action="store_true", help="with -l or --versions: exact sizes")


def _ls(session: Session, options: Namespace) -> int:
    places = options.paths or ["."]

    def show(node: StorageNode) -> None:
        if options.versions:
            need_versions(node)
        entries = _entries(node, options)
        if len(places) > 1 and not options.json:
            session.console.line(f"{escaped(name_of(node))}:")
        for entry in islice(entries, options.limit):
            _show(session, node, entry, options)
        if options.limit is not None and next(entries, None) is not None:
            session.console.note(f"{name_of(node)} has more than {options.limit} entries")

    return session.each(places, show)


def _entries(node: StorageNode, options: Namespace) -> Iterator[Stat]:
    """What is to be listed, in bytewise order; a file stands for itself. The first page is read at once."""
    try:
        if options.recursive:
            pages = node.mount.walk(node.path)
            first = next(pages, ())
            found = chain(first, chain.from_iterable(pages))
        else:
            found = chain(level(node, facts=options.long or options.json))
    except StorageNotADirectoryError:
        return iter([node.stat()])
    return (entry for entry in found if options.all or not hidden(_relative(node, entry)))


def _relative(node: StorageNode, entry: Stat) -> str:
    return entry.path[len(node.path) + 1 :] if node.path else entry.path


def _show(session: Session, node: StorageNode, entry: Stat, options: Namespace) -> None:
    name = _relative(node, entry) or node.basename
    if options.versions:
        if not entry.is_dir:
            _show_versions(session, node.sibling(entry.path), name, options)
    elif options.json:
        session.console.record(facts_of(node.sibling(entry.path), entry))
    elif options.long:
        session.console.line(_long(node, entry, name, options.bytes))
    else:
        session.console.line(marked(name, entry))


def _show_versions(session: Session, node: StorageNode, name: str, options: Namespace) -> None:
    for version in node.list_versions():
        line = f"{version_line(version, options.bytes)}  {escaped(name)}"
        session.console.result(line, version_facts(node, version))


def _long(node: StorageNode, entry: Stat, name: str, exact: bool) -> str:
    shown = marked(name, entry)
    if entry.is_symlink:
        shown += f" -> {escaped(node.mount.readlink(entry.path))}"
    size = human_size(None if entry.is_dir else entry.size, exact)
    return f"{_mode(entry)}  {size:>10}  {local_time(entry.mtime):<25}  {shown}"


def _mode(entry: Stat) -> str:
    """As ``ls -l`` has it; the bits are blank where the storage has none."""
    kind = "l" if entry.is_symlink else "d" if entry.is_dir else "?" if entry.is_other else "-"
    return kind + (" " * 9 if entry.mode is None else modes.filemode(entry.mode)[1:])


# --- tree ---


def _tree_options(parser: ArgumentParser) -> None:
    parser.add_argument("-a", dest="all", action="store_true", help="also names that begin with a dot")
    parser.add_argument("--depth", metavar="N", type=number, help="levels to show")
    parser.add_argument("--sizes", action="store_true", help="the size of each file")
    parser.add_argument("--bytes", action="store_true", help="with --sizes: exact sizes")


def _tree(session: Session, options: Namespace) -> int:
    return session.each(options.paths or ["."], lambda node: _draw(session, node, options))


def _draw(session: Session, node: StorageNode, options: Namespace) -> int:
    """Prints the tree as it is read, one listing for each directory; one that fails is told and passed over."""
    codes, directories, files = {0}, 0, 0
    levels = [("", _downwards(node, options))]
    if not options.json:
        session.console.line(escaped(name_of(node)))
    while levels:
        indent, entries = levels[-1]
        if not entries or len(levels) - 1 == options.depth:
            levels.pop()
            continue
        entry = entries.pop()
        child = node.sibling(entry.path)
        drawn = f"{indent}{'├── ' if entries else '└── '}{marked(child.basename, entry)}"
        session.console.result(drawn + _size(entry, options), facts_of(child, entry))
        directories, files = directories + entry.is_dir, files + (not entry.is_dir)
        if entry.is_dir and not entry.is_symlink and len(levels) != options.depth:
            try:
                levels.append((indent + ("│   " if entries else "    "), _downwards(child, options)))
            except StorageError as error:
                codes.add(session.console.error(error))
    if not options.json:
        session.console.line(f"\n{counted(directories, 'directory', 'directories')}, {counted(files, 'file')}")
    return common_code(codes)


def _downwards(node: StorageNode, options: Namespace) -> list[Stat]:
    """One directory, the last entry first."""
    entries = level(node, facts=options.sizes or options.json)
    return [entry for entry in reversed(entries) if options.all or not hidden(_relative(node, entry))]


def _size(entry: Stat, options: Namespace) -> str:
    return f"  ({human_size(entry.size, options.bytes)})" if options.sizes and not entry.is_dir else ""


# --- du ---


def _du_options(parser: ArgumentParser) -> None:
    parser.add_argument("--depth", metavar="N", type=number, default=0, help="also each directory, N levels down")
    parser.add_argument("--bytes", action="store_true", help="exact sizes")


def _du(session: Session, options: Namespace) -> int:
    def show(node: StorageNode) -> None:
        try:
            totals = _usage(node, options.depth)
        except StorageNotADirectoryError:
            totals = {node.path: [1, 0, node.size]}
        for path, (files, directories, size) in sorted(totals.items()):
            name = name_of(node.sibling(path))
            counts = f"{files:>8} files  {directories:>8} directories"
            facts = {"path": name, "files": files, "directories": directories, "bytes": size}
            session.console.result(f"{human_size(size, options.bytes):>10}  {counts}  {escaped(name)}", facts)

    return session.each(options.paths or ["."], show)


def _usage(node: StorageNode, depth: int) -> dict[str, list[int]]:
    """path → [files, directories, bytes] below, for this directory and those up to `depth` levels down, by one walk."""
    totals, known = {node.path: [0, 0, 0]}, {node.path}
    for page in node.mount.walk(node.path):
        for entry in page:
            above = _above(entry.path, node.path)
            for directory in [*above, entry.path] if entry.is_dir else above:
                if directory not in known:  # an object store lists few of its directories
                    known.add(directory)
                    up = _above(directory, node.path)
                    _count(totals, up, (0, 1, 0))
                    if len(up) <= depth:
                        totals[directory] = [0, 0, 0]
            if entry.is_file:
                _count(totals, above, (1, 0, entry.size or 0))
    return totals


def _above(path: str, root: str) -> list[str]:
    """The directories over a path, from the root down."""
    above = []
    while path != root:
        path = path.rpartition("/")[0]
        above.append(path)
    return above[::-1]


def _count(totals: dict[str, list[int]], directories: list[str], amounts: tuple[int, int, int]) -> None:
    for directory in directories:
        if directory in totals:
            totals[directory] = [have + more for have, more in zip(totals[directory], amounts, strict=True)]


VERBS = {
    "ls": Verb("[PATH…]", 0, _ls_options, _ls),
    "tree": Verb("[PATH…]", 0, _tree_options, _tree),
    "du": Verb("[PATH…]", 0, _du_options, _du),
}
