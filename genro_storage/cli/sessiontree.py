"""The files of a sessions mount, wherever they were copied to, as sessions and checkpoints of a store again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..exceptions import (
    SessionConflictError,
    StorageCorruptedError,
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
)
from .places import name_of

if TYPE_CHECKING:
    from ..nodes import StorageNode
    from ..sessions.store import SessionStore

MICROSECOND = timedelta(microseconds=1)


class Restored:
    """What became of a tree: made, here already, not restorable (`views`), and what failed by its name."""

    def __init__(self) -> None:
        self.sessions = self.checkpoints = self.same = self.views = 0
        self.failures: list[tuple[str, StorageError]] = []

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        failures = [
            {"path": name, "error": type(error).__name__, "message": str(error)} for name, error in self.failures
        ]
        counts = {name: getattr(self, name) for name in ("sessions", "checkpoints", "same", "views")}
        return {"operation": "import", **counts, "failures": failures, "ok": not failures}


def restored(store: SessionStore, tree: StorageNode) -> Restored:
    """Stores what the tree holds; what is here already, the very same, is left alone, what differs is a failure.

    Raises:
        StorageNotFoundError: there is no tree.
        StorageCorruptedError: this is no tree of sessions.
    """
    from ..sessions.tree import THREADS

    report = Restored()
    threads: dict[str, StorageNode] = {}
    if not tree.is_dir:
        raise StorageNotADirectoryError(f"'{name_of(tree)}' is no directory") if tree.exists else tree.not_found()
    found = [node for node in tree.children() if node.is_dir]
    for node in found:
        if node.basename == THREADS:
            threads |= {name: one for one in node.children() if (name := _thread_id(report, one)) is not None}
        elif _tried(report, node, lambda node=node: _session(store, report, node)):
            checkpoints = node / "checkpoints"
            if checkpoints.is_dir:
                threads.setdefault(_read(node / "session.json")["session_id"], node)
    for name, node in threads.items():
        _tried(report, node, lambda name=name, node=node: _thread(store, report, name, node))
    if not (found or report.failures):
        raise StorageCorruptedError(f"'{name_of(tree)}' is no tree of sessions: it holds no directory")
    return report


def _tried(report: Restored, node: StorageNode, what: Any) -> bool:
    try:
        what()
    except StorageError as error:
        report.failures.append((name_of(node), error))
        return False
    return True


def _read(node: StorageNode) -> Any:
    """A file's tagged JSON."""
    from ..sessions.codec import decode

    return _decoded(decode, node.read_bytes(), node)


def _decoded(decode: Any, data: bytes, node: StorageNode) -> Any:
    try:
        return decode(data)
    except ValueError as error:
        raise StorageCorruptedError(f"'{name_of(node)}' is no file of a sessions mount: {error}") from error


# --- sessions ---


def _session(store: SessionStore, report: Restored, node: StorageNode) -> None:
    from ..sessions.exports import FORMAT

    facts = _read(node / "session.json")
    try:
        data = {
            "format": FORMAT,
            "session": {**facts, "ttl": _ttl(facts)},
            "messages": list(_messages(node / "messages.ndjson")),
            "contexts": list(_contexts(node / "contexts")),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise StorageCorruptedError(f"'{name_of(node)}' is no session: {error!r}") from error
    made = store.sync.import_session(data)
    report.sessions += made
    report.same += not made


def _ttl(facts: dict[str, Any]) -> float | None:
    """Seconds without use after which it ends, from the two times that tell it."""
    if facts["expires_at"] is None:
        return None
    lasting = datetime.fromisoformat(facts["expires_at"]) - datetime.fromisoformat(facts["last_activity"])
    return lasting // MICROSECOND / 1e6


def _messages(node: StorageNode) -> Iterator[dict[str, Any]]:
    from ..sessions.codec import decode

    with node.open("rb") as lines:
        for line in lines:
            yield _decoded(decode, line, node)


def _contexts(node: StorageNode) -> Iterator[dict[str, Any]]:
    try:
        files = node.children()
    except StorageNotFoundError:
        return
    for file in sorted(files, key=lambda file: int(file.stem)):
        yield {"version": int(file.stem), **_read(file)}


# --- threads ---


def _thread_id(report: Restored, node: StorageNode) -> str | None:
    try:
        return str(_read(node / "thread.json")["thread_id"])
    except (StorageError, KeyError, TypeError) as error:
        told = error if isinstance(error, StorageError) else StorageCorruptedError("thread.json tells no thread_id")
        report.failures.append((name_of(node), told))
        return None


def _thread(store: SessionStore, report: Restored, name: str, node: StorageNode) -> None:
    """The named checkpoints of a thread, in the order in which they were stored."""
    directory = node / "checkpoints"
    try:
        entries = directory.children()
    except StorageNotFoundError:
        return
    views = [entry for entry in entries if entry.is_dir]
    report.views += sum(stat.is_file for view in views for _, stat in view.scan(recursive=True))
    told = [_read(entry) for entry in entries if entry not in views]
    for one in sorted(told, key=lambda one: (one["created_at"], one["checkpoint_id"])):
        existing = store.sync.get_checkpoint(name, one["checkpoint_id"])
        if existing is None:
            store.sync.store_checkpoint(name, one["checkpoint_id"], one["data"], one["metadata"])
            report.checkpoints += 1
        elif (existing["data"], existing["metadata"]) == (one["data"], one["metadata"]):
            report.same += 1
        else:
            raise SessionConflictError(
                f"thread '{name}' has a checkpoint '{one['checkpoint_id']}' that is something different"
            )
