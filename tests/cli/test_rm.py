"""rm: what it deletes, what it asks, and what it never deletes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genro_storage import StorageNode
from genro_storage.cli.failures import Refused
from genro_storage.cli.guards import guard_removal
from genro_storage.cli.places import Places

from .conftest import Run, Space


@pytest.fixture
def filled(space: Space) -> Space:
    for path in ("a", "d/b", "d/e/c", "keep"):
        space.node(path).write_text(path)
    return space


def test_rm_deletes_exactly_the_files_named(filled: Space, cli: Run) -> None:
    filled.node("d*").write_text("a star is a name")
    assert cli("rm", filled.name("d*"), filled.name("a")) == (0, "", "")
    assert filled.files() == ["d/b", "d/e/c", "keep"]


def test_a_directory_needs_r(filled: Space, cli: Run) -> None:
    ran = cli("rm", filled.name("d"))
    assert (ran.code, ran.err) == (
        2,
        f"genro-storage: '{filled.name('d')}' is a directory; -r deletes directories too\n",
    )
    assert cli("rm", "-r", "-y", filled.name("d")).code == 0
    assert filled.files() == ["a", "keep"]


def test_what_is_missing(filled: Space, cli: Run) -> None:
    ran = cli("-v", "rm", filled.name("none"), filled.name("a"))
    assert (ran.code, ran.out) == (3, f"deleted {filled.name('a')}\n")
    assert cli("rm", "-f", filled.name("none")) == (0, "", "")
    assert cli("rm", "-r", "-y", filled.name("none")).code == 3
    assert cli("rm", "-r", "-f", "-y", filled.name("none")).code == 0
    assert cli("rm", "-f", "--dry-run", filled.name("none")) == (0, "", "")
    assert cli("rm", "--dry-run", filled.name("none")).code == 3
    assert filled.files() == ["d/b", "d/e/c", "keep"]


def test_dry_run_deletes_nothing(filled: Space, cli: Run) -> None:
    ran = cli("rm", "-r", "--dry-run", filled.name("d"), filled.name("a"))
    told = {line.removeprefix("would delete ") for line in ran.out.splitlines()}
    assert told - {filled.name("d/e")} == {filled.name(path) for path in ("d", "d/b", "d/e/c", "a")}
    assert {entry["deleted"] for entry in cli("--json", "rm", "-r", "--dry-run", filled.name("d")).objects} == {False}
    assert cli("rm", "--dry-run", filled.name("d")).code == 2
    assert filled.files() == ["a", "d/b", "d/e/c", "keep"]


def test_as_json(filled: Space, cli: Run) -> None:
    assert cli("--json", "rm", filled.name("a")).objects == [{"path": filled.name("a"), "deleted": True}]


def test_without_a_terminal_r_needs_y(filled: Space, cli: Run) -> None:
    for arguments in (["rm", "-r"], ["rm", "-r", "-f"]):
        ran = cli(*arguments, filled.name("d"), stdin=b"y\n")
        assert (ran.code, "nobody is there to answer; use -y" in ran.err) == (7, True)
    assert filled.files() == ["a", "d/b", "d/e/c", "keep"]


def test_roots_are_refused(filled: Space, cli: Run) -> None:
    ran = cli("rm", "-r", "-f", "-y", filled.name("a"), f"{filled.kind}:")
    assert (ran.code, f"'{filled.kind}:' is a root" in ran.err) == (7, True)
    assert len(filled.files()) == 4, "the guard stands before everything"


def test_of_a_link_only_the_link_goes(here: Path, cli: Run) -> None:
    (here / "real").mkdir()
    (here / "real/file").write_text("x")
    (here / "link").symlink_to("real")
    (here / "parent").symlink_to("..")
    assert cli("rm", "-r", "-y", "link/", "parent").code == 0
    assert (here / "real/file").read_text() == "x"
    assert sorted(os.listdir(here)) == ["real"]


# --- the guard: nothing here deletes ---


def guarded(text: str, config: Path | None = None) -> str:
    """What the guard says to a path, "" if it lets it pass."""
    places = Places(None if config is None else str(config))
    try:
        guard_removal(places.node(text))
    except Refused as refused:
        return str(refused)
    finally:
        places.close()
    return ""


def test_the_guard(here: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "mine").mkdir()
    (here / "up").symlink_to(tmp_path)
    for text in (
        *["/", "/.", "/../", ".", "./", "..", "../..", "../here", str(here), f"{here}/", str(tmp_path), "/tmp/../"],
        *["~", "~/", "~/..", "~root", "/root", "../home", str(home), "up/home", "up/here/../home"],
        *["local:", "home:", "memory:", "temp:", "s3://bucket", "s3://bucket/", f"file://{home}", "file:///"],
    ):
        assert "is not deleted" in guarded(text), text
    for text in ("~/mine", "up", "up/.", "new", "missing/below", "memory:a", "home:mine", "s3://bucket/a", "../other"):
        assert guarded(text) == "", text


def test_the_guard_knows_a_directory_by_any_mount(tmp_path: Path, here: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(f'{{"all": {{"type": "local", "path": "{tmp_path}", "symlinks": "follow"}}}}')
    (tmp_path / "also").symlink_to(tmp_path)
    assert "a home directory" in guarded("all:home", config)
    assert "the current directory" in guarded("all:also/here", config)
    assert guarded("all:also", config) == ""


def test_the_guard_in_a_directory_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "a home directory" in guarded(str(tmp_path / "home"))


def test_nothing_is_deleted_once_the_guard_refuses_one(cli: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[StorageNode] = []
    monkeypatch.setattr(StorageNode, "delete", lambda node, **how: deleted.append(node))
    monkeypatch.setattr(StorageNode, "unlink", deleted.append)
    (here / "file").write_text("x")
    ran = cli("rm", "-r", "-f", "-y", "file", "~")
    assert (ran.code, ran.out, deleted) == (7, "", [])
    assert cli("rm", "-y", "nomount:x", "file").code == 3
    assert deleted == []
