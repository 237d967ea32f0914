"""`sessions`: the sessions of a mount of that type, seen, exported, restored, swept and migrated."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from ...exceptions import SessionNotFoundError, StorageError, StorageMountNotFoundError, StorageTransferError
from ..console import counted, escaped, local_time
from ..failures import FAILED, OK, UsageError, common_code
from ..parser import number
from ..places import name_of
from ..registry import Verb
from ..reports import report_of, tell
from ..session import Session

if TYPE_CHECKING:
    from ...manager import StorageManager
    from ...sessions.store import SessionStore

PAGE = 500


def _options(parser: ArgumentParser) -> None:
    ways = (how.replace("sessions ", "sessions [options] ", 1) for how in USAGE.values())
    parser.usage = f"\n{'':7}".join(f"genro-storage {how}" for how in ways)
    add = parser.add_argument
    add("--mount", metavar="NAME", default="sessions", help="the mount of the sessions (default: sessions)")
    add("--user", metavar="ID", help="list: only the sessions of this user")
    add("--status", metavar="NAME", help="list: only those in this status")
    add("--limit", metavar="N", type=number, help="list: stop after N sessions")
    add("--messages", metavar="N", type=number, help="show: also the latest N messages")
    add("--dry-run", action="store_true", help="migrate: only tell what would be copied")
    add("--no-verify", action="store_true", help="migrate: do not read every copy again")


OPTIONS_OF = {"list": ("user", "status", "limit"), "show": ("messages",), "migrate": ("dry_run", "no_verify")}


def _sessions(session: Session, options: Namespace) -> int:
    action, *rest = options.paths
    if action not in ACTIONS:
        raise UsageError(f"expected {ACTIONS_TOLD}; see 'genro-storage sessions --help'")
    for name in {name for names in OPTIONS_OF.values() for name in names} - set(OPTIONS_OF.get(action, ())):
        if getattr(options, name) not in (None, False):
            raise UsageError(f"sessions {action} takes no --{name.replace('_', '-')}")
    least, most, run = ACTIONS[action]
    if not least <= len(rest) <= most:
        raise UsageError(f"expected {USAGE[action]}")
    storage = session.places.configure()
    mount = options.mount.removesuffix(":")
    try:
        store = storage.sessions(mount)
    except StorageMountNotFoundError as error:
        raise StorageMountNotFoundError(f"{error}; --mount names that of the sessions", mount=mount) from error
    return int(run(session, storage, store, rest, options))


# --- seeing ---


def _list(session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace) -> int:
    after, left = None, options.limit
    while left is None or left:
        page = store.sync.list_sessions(
            options.user, options.status, limit=PAGE if left is None else min(PAGE, left), after=after
        )
        for facts in page:
            at = facts["last_activity"]
            line = (
                f"{facts['status']:<10}  {_local(at)}  {escaped(facts['user_id']):<16}  {escaped(facts['session_id'])}"
            )
            session.console.result(line, plain(facts))
        after, left = page.next, None if left is None else left - len(page)
        if after is None:
            break
    return OK


def _show(session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace) -> int:
    def one(name: str) -> None:
        facts = store.sync.get_session(name)
        if facts is None:
            raise SessionNotFoundError(f"there is no session '{name}'", operation="show")
        messages = store.sync.get_conversation_history(name, options.messages or 0)
        if options.json:
            told = {"messages": messages} if options.messages is not None else {}
            session.console.record(plain({**facts, **told}))
            return
        session.console.line(escaped(name))
        for key, value in facts.items():
            if key != "session_id" and value is not None:
                session.console.line(f"  {key:<22} {escaped(_local(value) if key in TIMES else _text(value))}")
        for message in messages:
            said = _text(message["content"])
            session.console.line(f"  {_local(message['timestamp'])}  {escaped(message['role'])}: {escaped(said)}")

    return common_code({session.attempt(lambda name=name: one(name)) for name in rest})  # type: ignore[misc]


TIMES = ("created_at", "updated_at", "last_activity", "ended_at", "expires_at")


def _local(text: str) -> str:
    from datetime import datetime

    return local_time(datetime.fromisoformat(text).timestamp())


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value as JSON holds it, with tags for what JSON has no form for, as in the files of the mount."""
    import json

    from ...sessions.codec import encode

    return json.loads(encode(value))


# --- moving ---


def _export(session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace) -> int:
    from ...sessions.keys import quoted
    from ...sessions.tree import named
    from ..watching import watched

    target, *names = rest
    end = session.places.node(target)
    mount = storage.node(f"{options.mount.removesuffix(':')}:")
    sources = [mount / named(quoted(name)) for name in names]

    def one(source: Any, into: bool) -> int:
        try:
            with watched(session.console, "export") as watching:
                report = storage.copy(source, end, into=into, **watching)
        except StorageTransferError as error:
            report = report_of(error)
        return tell(session.console, report)

    if not sources:
        return one(mount, False)
    return common_code({session.attempt(lambda source=source: one(source, True)) for source in sources})  # type: ignore[misc]


def _import(session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace) -> int:
    from ..sessiontree import restored

    tree = session.places.node(rest[0])
    report = restored(store, tree)
    for name, error in report.failures:
        session.console.error(error, "" if error.path else name)
    if report.views:
        told = "checkpoints of LangGraph are views that cannot be restored; 'sessions migrate' copies them"
        session.console.note(f"{report.views} {told}")
    if not session.console.quiet:
        text = f"import {escaped(name_of(tree))}: "
        text += f"{counted(report.sessions, 'session')}, {counted(report.checkpoints, 'checkpoint')}"
        same, failed = f", {report.same} here already" if report.same else "", len(report.failures)
        session.console.result(f"{text}{same}{f', {failed} failed' if failed else ''}", report.to_dict())
    return FAILED if report.failures else OK


def _sweep(session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace) -> int:
    report = store.sync.sweep()
    told = {name: getattr(report, name) for name in report.__struct_fields__}
    text = f"removed {counted(report.sessions, 'session')} and {counted(report.threads, 'thread')} that had ended"
    if not session.console.quiet:
        session.console.result(f"{text}, {report.remains + report.records} records of what was deleted", told)
    return OK


def _migrate(
    session: Session, storage: StorageManager, store: SessionStore, rest: list[str], options: Namespace
) -> int:
    from ...sessions.migrate import StorageMigrator

    target = storage.sessions(rest[0].removesuffix(":"))
    if target is store:
        raise UsageError("the target is the source")
    migrator = StorageMigrator(store, target)
    report = store.sync.run(migrator.migrate_all(dry_run=options.dry_run, verify=not options.no_verify))
    for kind, name, reason in report.failures:
        session.console.error(StorageError(reason, operation="migrate"), f"{kind} {name}")
    would = "would copy" if report.dry_run else "copied"
    text = f"{would} {counted(report.sessions, 'session')} and {counted(report.threads, 'thread')}"
    text += f", {report.skipped} there already"
    facts = {name: getattr(report, name) for name in report.__struct_fields__ if name != "failures"}
    if not session.console.quiet:
        failed = f", {report.failed} failed" if report.failed else ""
        session.console.result(f"{text}{failed}; {report.verified} verified", {**facts, "ok": report.ok})
    return OK if report.ok else FAILED


MANY = 1 << 20
USAGE = {
    "list": "sessions list",
    "show": "sessions show SESSION…",
    "export": "sessions export TREE [SESSION…]",
    "import": "sessions import TREE",
    "sweep": "sessions sweep",
    "migrate": "sessions migrate MOUNT",
}
ACTIONS = {
    "list": (0, 0, _list),
    "show": (1, MANY, _show),
    "export": (1, MANY, _export),
    "import": (1, 1, _import),
    "sweep": (0, 0, _sweep),
    "migrate": (1, 1, _migrate),
}
ACTIONS_TOLD = "list, show, export, import, sweep or migrate"

VERBS = {"sessions": Verb("list|show|export|import|sweep|migrate […]", 1, _options, _sessions)}
