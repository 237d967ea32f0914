"""`stat` and `mounts`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..console import escaped, human_size, local_time
from ..facts import facts_of
from ..failures import FAILED, OK
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...mountinfo import MountInfo
    from ...nodes import StorageNode
    from ...types import Stat


def _stat_options(parser: ArgumentParser) -> None:
    parser.add_argument("--bytes", action="store_true", help="the exact size")


def _stat(session: Session, options: Namespace) -> int:
    def show(node: StorageNode) -> None:
        entry = node.stat()
        capabilities = node.capabilities
        facts = facts_of(node, entry)
        if options.json:
            fields = capabilities.__struct_fields__
            told = {name: getattr(capabilities, name) for name in fields}
            session.console.record({**facts, "capabilities": told})
            return
        for line in _lines(facts, entry, exact=options.bytes):
            session.console.line(line)
        session.console.line(f"  {'can':<13} {capabilities}")

    return session.each(options.paths, show)


def _lines(facts: dict[str, Any], entry: Stat, *, exact: bool) -> list[str]:
    """A heading, and one line for each fact that is known."""
    shown = {**facts, "size": human_size(facts["size"], exact), "mtime": local_time(entry.mtime)}
    if entry.created is not None:
        shown["created"] = local_time(entry.created)
    for key in ("hashes", "metadata"):
        if key in shown:
            shown[key] = ", ".join(f"{name}={value}" for name, value in sorted(shown[key].items()))
    heading = escaped(shown.pop("path"))
    return [heading, *(f"  {key:<13} {escaped(str(value))}" for key, value in shown.items())]


def _mounts_options(parser: ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="ask each mount with one request whether it answers")


def _check(session: Session) -> int:
    code = OK
    for check in session.places.configure().check():
        facts = {**check.facts, "latency": round(check.latency, 4)}
        if check.error is not None:
            session.console.error(check.error)
            code = FAILED
            continue
        told = " ".join(f"{key}={value}" for key, value in facts.items())
        session.console.result(f"{check.name}  ok  {told} s", {"name": check.name, "ok": True, **facts})
    return code


def _mounts(session: Session, options: Namespace) -> int:
    if options.check:
        return _check(session)
    storage = session.places.configure()
    mounts = storage.mounts
    names = max((len(name) for name in mounts), default=0)
    kinds = max((len(info.type) for info in mounts.values()), default=0)
    for name, info in mounts.items():
        told = " ".join(f"{key}={escaped(value)}" for key, value in _keys(info, storage._mount(name).backend.options))
        line = f"{name:<{names}}  {info.type:<{kinds}}  {info.permissions:<9}  {escaped(info.root)}  {told}"
        facts = {"name": name, "type": info.type, "permissions": info.permissions, "root": info.root}
        session.console.result(line.rstrip(), {**facts, "options": dict(info.options)})
    return 0


def _keys(info: MountInfo, options: object) -> Iterator[tuple[str, str]]:
    """The options that say something beyond the root: what is not as it is without them."""
    from msgspec import Struct
    from msgspec.structs import fields

    from ...backends.options import Octal

    usual = {field.name: field.default for field in fields(options)} if isinstance(options, Struct) else {}
    for key, value in info.options.items():
        if value not in (None, "", {}) and value != usual.get(key, False) and (key != "path" or not info.root):
            yield key, f"{value:04o}" if isinstance(value, Octal) else str(value)


VERBS = {
    "stat": Verb("PATH…", 1, _stat_options, _stat),
    "mounts": Verb("", 0, _mounts_options, _mounts),
}
