"""sessions: seen, exported as files, restored from them, swept and migrated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager

from .conftest import Run

Configure = Callable[[list[dict[str, Any]]], Path]
ODD = "../a b/%2E:é"
CONTENT = {"at": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.10"), "parts": (1, b"\xff"), "$": "x"}


@pytest.fixture
def config(tmp_path: Path, configured: Configure) -> Path:
    """Three session stores: two of SQLite, one in this process."""
    return configured([
        *({"name": name, "type": "sessions", "path": str(tmp_path / f"{name}.db")} for name in ("sessions", "other")),
        {"name": "brief", "type": "sessions", "path": str(tmp_path / "brief.db"), "session_ttl": 3600},
        {"name": "flash", "type": "sessions", "path": str(tmp_path / "flash.db"), "session_ttl": 3},
    ])  # fmt: skip


@pytest.fixture
def store(config: Path) -> Iterator[Any]:
    """The store behind the mount ``sessions``, with two sessions."""
    with StorageManager(config) as storage:
        store = storage.sessions("sessions").sync
        filled(store)
        yield store


def filled(store: Any) -> None:
    store.create_session("s-1", "ada", {"day": date(2026, 1, 1)})
    for number in range(3):
        store.add_conversation_message("s-1", "user", f"message {number}")
    store.add_conversation_message("s-1", "tool", CONTENT, {"model": "small"})
    store.store_task_context("s-1", {"step": 1})
    store.store_task_context("s-1", {"step": 2, "seen": {1, 2}})
    store.store_checkpoint("s-1", "late", {"n": Decimal(1)}, {"k": "v"})
    store.store_checkpoint("s-1", "early", {"n": 2})
    store.store_checkpoint("alone", "only", {"n": 3})
    store.create_session(ODD, "eve")
    store.end_session(ODD, "completed")


def everything(store: Any) -> list[Any]:
    """All that can be told of a store, but the times at which checkpoints were stored."""
    exports = [store.export_session(one["session_id"]) for one in store.list_sessions(limit=None)]
    threads = [one["thread_id"] for one in store.list_threads(limit=None)]
    kept = [
        [(name, one["checkpoint_id"], one["data"], one["metadata"]) for one in store.list_checkpoints(name, None)]
        for name in threads
    ]
    return [exports, kept]


# --- seeing ---


def test_list(store: Any, cli: Run) -> None:
    lines = cli("sessions", "list").out.splitlines()
    assert sorted(line.split(maxsplit=3)[3] for line in lines) == [ODD, "s-1"]
    (told,) = cli("--json", "sessions", "list", "--user", "ada").objects
    assert (told["session_id"], told["metadata"]) == ("s-1", {"day": {"$": "date", "v": "2026-01-01"}})
    assert [one["session_id"] for one in cli("--json", "sessions", "list", "--status", "completed").objects] == [ODD]
    assert len(cli("sessions", "list", "--limit", "1").out.splitlines()) == 1
    assert cli("sessions", "list", "--limit", "0", "--mount", "other:") == (0, "", "")


def test_list_of_many(store: Any, cli: Run) -> None:
    store.batch_create_sessions([{"session_id": f"n{number:04}", "user_id": "u"} for number in range(1100)])
    told = [one["session_id"] for one in cli("--json", "sessions", "list", "--user", "u").objects]
    assert sorted(told) == [f"n{number:04}" for number in range(1100)]
    assert len(cli("sessions", "list", "--limit", "1001").out.splitlines()) == 1001


def test_show(store: Any, cli: Run) -> None:
    ran = cli("sessions", "show", "s-1", "none", ODD)
    assert ran.code == 3
    assert "there is no session 'none'" in ran.err
    assert [line for line in ran.out.splitlines() if not line.startswith(" ")] == ["s-1", ODD]
    assert '{"day": {"$": "date", "v": "2026-01-01"}}' in ran.out
    lines = cli("sessions", "show", "--messages", "2", "s-1").out.splitlines()
    assert lines[-2].endswith("  user: message 2")
    assert '"Decimal"' in lines[-1]
    (told,) = cli("--json", "sessions", "show", "--messages", "1", "s-1").objects
    assert told["messages"][0]["content"]["v"]["sum"] == {"$": "Decimal", "v": "1.10"}
    assert "messages" not in cli("--json", "sessions", "show", "s-1").report


def test_what_is_shown_cannot_write_to_the_terminal(store: Any, cli: Run) -> None:
    store.add_conversation_message("s-1", "user", "\x1b[2Jgone\n")
    assert "user: \\x1b[2Jgone\\n\n" in cli("sessions", "show", "--messages", "1", "s-1").out


# --- out and in ---


def test_export_and_import(store: Any, here: Path, cli: Run, config: Path) -> None:
    assert cli("sessions", "export", "out").code == 0
    assert (here / "out/s-1/messages.ndjson").read_text().count("\n") == 4
    ran = cli("sessions", "import", "out", "--mount", "other")
    assert (ran.code, ran.err, ran.out) == (0, "", f"import {here}/out: 2 sessions, 3 checkpoints\n")
    with StorageManager(config) as storage:
        other = storage.sessions("other").sync
        assert everything(other) == everything(store)
        assert other.get_checkpoint("s-1")["checkpoint_id"] == "early"
    again = cli("--json", "sessions", "import", "out", "--mount", "other").report
    assert (again["sessions"], again["checkpoints"], again["same"], again["ok"]) == (0, 0, 5, True)


def test_a_copy_of_the_mount_is_an_export(store: Any, here: Path, cli: Run, config: Path) -> None:
    assert cli("cp", "-r", "sessions:", "out").code == 0
    assert cli("sessions", "import", "out", "--mount", "other").code == 0
    with StorageManager(config) as storage:
        assert everything(storage.sessions("other").sync) == everything(store)


def test_export_of_some(store: Any, here: Path, cli: Run, config: Path) -> None:
    assert cli("sessions", "export", "out", "s-1").code == 0
    assert [path.name for path in (here / "out").iterdir()] == ["s-1"]
    assert cli("sessions", "export", "odd", ODD, "none").code == 3
    assert len(list((here / "odd").iterdir())) == 1
    for tree in ("out", "odd"):
        assert cli("sessions", "import", tree, "--mount", "other").code == 0
    with StorageManager(config) as storage:
        other = storage.sessions("other").sync
        assert other.export_session("s-1") == store.export_session("s-1")
        assert other.export_session(ODD) == store.export_session(ODD)
        assert [one["thread_id"] for one in other.list_threads()] == ["s-1"], "its checkpoints came along"


def test_a_session_that_ends_by_itself_does_so_again(here: Path, cli: Run, config: Path) -> None:
    with StorageManager(config) as storage:
        brief = storage.sessions("brief").sync
        brief.create_session("b", "u")
        assert cli("sessions", "export", "out", "--mount", "brief").code == 0
        assert cli("sessions", "import", "out").code == 0
        assert storage.sessions("sessions").sync.export_session("b") == brief.export_session("b")


def test_import_tells_what_is_different_and_goes_on(store: Any, here: Path, cli: Run, config: Path) -> None:
    assert cli("sessions", "export", "out").code == 0
    with StorageManager(config) as storage:
        other = storage.sessions("other").sync
        other.create_session("s-1", "eve")
        other.store_checkpoint("alone", "only", {"n": 4})
        ran = cli("sessions", "import", "out", "--mount", "other")
        assert (ran.code, len(ran.err.splitlines())) == (1, 2)
        assert "is something different" in ran.err
        assert other.get_session("s-1")["user_id"] == "eve"
        assert other.get_session(ODD)["user_id"] == "eve"
        assert other.get_checkpoint("alone")["data"] == {"n": 4}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("session.json", "no JSON"),
        ("session.json", "[1]"),
        ("session.json", '{"session_id": "s-1"}'),
        ("messages.ndjson", "{"),
    ],
)
def test_import_of_what_is_damaged(store: Any, here: Path, cli: Run, config: Path, name: str, text: str) -> None:
    assert cli("sessions", "export", "out").code == 0
    (here / "out/s-1" / name).write_text(text)
    ran = cli("sessions", "import", "out", "--mount", "other")
    assert (ran.code, f"'{here}/out/s-1" in ran.err, len(ran.err.splitlines())) == (1, True, 1), ran
    with StorageManager(config) as storage:
        assert [one["session_id"] for one in storage.sessions("other").sync.list_sessions()] == [ODD]


def test_import_of_what_is_no_tree(store: Any, here: Path, cli: Run) -> None:
    (here / "empty").mkdir()
    (here / "file").touch()
    assert cli("sessions", "import", "none").code == 3
    for name in ("empty", "file"):
        ran = cli("sessions", "import", name)
        assert (ran.code, f"{here}/{name}" in ran.err) == (1, True)


# --- upkeep ---


def test_sweep(config: Path, cli: Run) -> None:
    sweep = ("--json", "sessions", "sweep", "--mount", "flash")
    with StorageManager(config) as storage:
        flash = storage.sessions("flash").sync
        flash.create_session("old", "u")
        flash.add_conversation_message("old", "user", "x")
        time.sleep(3.1)
        assert cli(*sweep).report["sessions"] == 1
        assert flash.get_session("old") is None
    assert "removed 0 sessions and 0 threads" in cli("sessions", "sweep", "--mount", "flash").out


def test_migrate(store: Any, cli: Run, config: Path) -> None:
    ran = cli("sessions", "migrate", "--dry-run", "other")
    assert (ran.code, ran.out) == (0, "would copy 2 sessions and 2 threads, 0 there already; 0 verified\n")
    with StorageManager(config) as storage:
        other = storage.sessions("other").sync
        assert other.list_sessions() == []
        ran = cli("sessions", "migrate", "other:")
        assert (ran.code, ran.out) == (0, "copied 2 sessions and 2 threads, 0 there already; 4 verified\n")
        assert everything(other) == everything(store)
        store.create_session("clash", "ada")
        other.create_session("clash", "eve")
        ran = cli("--json", "sessions", "migrate", "other")
        assert (ran.code, ran.report["failed"], ran.report["sessions"]) == (1, 1, 0)
        assert "session clash" in ran.err
        assert cli("-q", "sessions", "migrate", "--no-verify", "other") == (0, "", "")


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["drop"], "expected list, show, export"),
        (["list", "x"], "expected sessions list"),
        (["show"], "expected sessions show SESSION"),
        (["import"], "expected sessions import TREE"),
        (["sweep", "--limit", "3"], "sessions sweep takes no --limit"),
        (["show", "--dry-run", "x"], "sessions show takes no --dry-run"),
        (["migrate", "sessions"], "the target is the source"),
    ],
)
def test_usage(config: Path, cli: Run, arguments: list[str], told: str) -> None:
    ran = cli("sessions", *arguments)
    assert (ran.code, told in ran.err) == (2, True), ran.err


def test_mounts_that_are_none_of_sessions(config: Path, cli: Run) -> None:
    ran = cli("sessions", "list", "--mount", "memory")
    assert (ran.code, "not of type sessions" in ran.err) == (5, True)
    ran = cli("sessions", "list", "--mount", "nowhere")
    assert (ran.code, ran.err.count("nowhere"), "--mount names" in ran.err) == (3, 1, True)
