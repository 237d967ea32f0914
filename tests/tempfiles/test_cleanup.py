"""Cleanup: exactly the files that were registered, only when old enough, and an honest count."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.tempfiles import SweepReport, TempFileManager, cleanup, identity, journal
from genro_storage.tempfiles.identity import Identity, Remover, identify

from .conftest import Process


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory beside the base."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def made(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_text(name)
    return [str(folder / name) for name in names]


def test_only_what_is_old_goes(manager: TempFileManager, out: Path) -> None:
    old, young = made(out, "old", "young")
    manager.register_file(old)
    born = manager.create_file()
    scratch = manager.scratch("x")
    with scratch as inside:
        Path(inside).write_text("x")
        manager._clocks.offset += 3601
        manager.register_file(young)
        assert manager.cleanup() == 2
        assert [os.path.exists(path) for path in (old, young, born, inside)] == [False, True, False, True]
        assert manager.clear_all() == 1
        assert os.path.exists(inside)
    assert manager.last_report.removed == 1


def test_max_age_zero_expires_at_once(base: Path, out: Path) -> None:
    with TempFileManager(base, 0) as manager:
        manager.register_files(made(out, "a", "b"))
        assert manager.cleanup() == 2


def test_a_directory_expires_when_it_is_empty(manager: TempFileManager) -> None:
    folder = manager.create_dir()
    (Path(folder) / "a").write_text("a")
    manager._clocks.offset += 3601
    assert manager.cleanup() == 1
    manager._clocks.offset += 3601
    assert manager.cleanup() == 0
    assert not os.path.exists(folder)


def test_a_clock_set_back_makes_no_file_immortal(manager: TempFileManager, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manager.create_file()
    monkeypatch.setattr(manager._clocks, "wall", lambda: 1e9)
    assert manager.get_file_age(path) == 0
    manager._clocks.offset += 3601
    assert manager.cleanup() == 1


def test_files_already_gone_are_not_counted(manager: TempFileManager, out: Path) -> None:
    a, b = made(out, "a", "b")
    manager.register_files([a, b])
    os.unlink(a)
    assert manager.clear_all() == 1
    assert (manager.last_report.removed, manager.last_report.gone) == (1, 1)
    assert not manager.files


def test_a_replaced_file_stays(manager: TempFileManager, out: Path) -> None:
    """ext4 gives the next file at a path the inode number of the last one, nearly always: 0 of 1000 may go."""
    path = out / "a"
    same = 0
    for _ in range(1000):
        path.write_text("mine")
        manager.register_file(str(path))
        before = os.lstat(path).st_ino
        path.unlink()
        path.write_text("yours")
        same += os.lstat(path).st_ino == before
        assert manager.clear_all() == 0
        assert path.read_text() == "yours"
        path.unlink()
    assert manager.last_report.replaced == 1
    assert not manager.files


def test_without_generations_a_changed_file_is_kept(
    manager: TempFileManager, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_generation", lambda *asked: 0)
    monkeypatch.setattr(identity, "_is_tmpfs", lambda dev: False)
    same, changed = made(out, "same", "changed")
    manager.register_files([same, changed])
    os.utime(changed, (1, 1))
    assert manager.clear_all() == 1
    assert os.path.exists(changed)
    assert "identity unknown" in manager.failed[changed]


def test_links_are_deleted_and_not_followed(manager: TempFileManager, out: Path) -> None:
    target, hard = made(out, "target", "hard")
    os.symlink(target, out / "link")
    os.link(hard, out / "second")
    manager.register_files([str(out / "link"), hard])
    assert manager.clear_all() == 2
    assert sorted(os.listdir(out)) == ["second", "target"]


def test_a_failure_stops_nothing_and_is_not_counted(
    manager: TempFileManager, out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again ever more rarely, and given up loudly, once."""
    paths = made(out, *"abc")
    manager.register_files(paths)
    real = Remover.remove

    def remove(self: Remover, path: str, which: Identity) -> str:
        if path.endswith("b"):
            raise PermissionError("no")
        return real(self, path, which)

    monkeypatch.setattr(Remover, "remove", remove)
    assert manager.clear_all() == 2
    assert manager.failed == {paths[1]: "no"}
    assert list(manager.files) == [paths[1]]
    manager._clocks.offset += manager.max_age + 1
    assert manager.cleanup() == 0
    assert manager.last_report.failed == {paths[1]: "no"}
    assert manager.cleanup() == 0
    assert manager.last_report.failed == {}, "it was tried again at once"
    with caplog.at_level(logging.ERROR, "genro_storage.tempfiles"):
        for _ in range(20):
            manager._clocks.offset += 3601
            manager.cleanup()
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    monkeypatch.undo()
    assert manager.clear_all() == 1
    assert manager.failed == {}


def test_the_timeout_leaves_the_rest(base: Path, out: Path) -> None:
    with TempFileManager(base, timeout=0) as manager:
        manager.register_files(made(out, *map(str, range(10))))
        assert manager.clear_all() == 0
        assert manager.last_report.left == 10
        assert len(manager.files) == 10


def test_deletion_does_not_block_registration(
    manager: TempFileManager, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is registered again while it is being deleted stays registered."""
    a, b = made(out, "a", "b")
    manager.register_file(a)
    inside, go = threading.Event(), threading.Event()
    real = cleanup._remove

    def slow(*args: object) -> object:
        inside.set()
        assert go.wait(60)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cleanup, "_remove", slow)
    other = threading.Thread(target=manager.clear_all)
    other.start()
    assert inside.wait(60)
    manager.register_files([a, b])
    go.set()
    other.join()
    assert set(manager.files) == {a, b}


# --- the journal ---


def test_files_of_a_killed_process_go(
    start: Callable[..., Process], base: Path, manager: TempFileManager, out: Path
) -> None:
    """But for those unregistered, replaced, or outside the sweeper's roots."""
    a, b, c = made(out, "a", "b", "c")
    (out / "other").mkdir()
    (d,) = made(out / "other", "d")
    process = start(f"m.register_files({[a, b, c, d]}); m.unregister_file({b!r}); say('ready'); sys.stdin.read()")
    assert process.line() == "ready"
    assert manager.sweep().removed == 0
    os.unlink(c)
    (out / "c").write_text("another")
    process.kill()
    manager.close()
    with TempFileManager(base, allowed_roots=[out / "other"]) as strict:
        report = strict.sweep()
        assert (report.removed, list(report.failed)) == (0, [a, c])
    assert sorted(os.listdir(out)) == ["a", "b", "c", "other"]
    assert os.listdir(out / "other") == []
    with TempFileManager(base) as lax:
        assert lax.sweep() == SweepReport(1, 0, {})
    assert sorted(os.listdir(out)) == ["b", "c", "other"]


def test_closing_removes_what_was_registered(base: Path, out: Path) -> None:
    a, b = made(out, "a", "b")
    with TempFileManager(base) as manager:
        manager.register_files([a, b])
        manager.unregister_file(b)
    assert os.listdir(out) == ["b"]


def test_a_fork_neither_has_nor_removes_them(
    manager: TempFileManager, out: Path, in_fork: Callable[[Callable[[], object]], None]
) -> None:
    a, b = made(out, "a", "b")
    manager.register_file(a)

    def child() -> None:
        assert dict(manager.files) == {}
        manager.register_file(b)
        assert manager.clear_all() == 1
        manager.close()

    in_fork(child)
    assert os.listdir(out) == ["a"]
    assert list(manager.files) == [a]


def test_torn_and_foreign_lines_say_nothing(manager: TempFileManager, out: Path) -> None:
    (path,) = made(out, "a")
    identity = identify(path, None, Identity)
    assert identity
    found = identity.dev, identity.ino, identity.mark
    owner = manager._own()
    lines = [["+", path, *found, 1], ["+", "/x", 1], ["-", 3], {}, ["+", "relative", *found, 1]]
    text = "\n".join(map(json.dumps, lines)) + '\nnonsense\n["-", "' + path
    (Path(owner.path) / ".journal").write_text(text)
    os.chmod(f"{owner.path}/.journal", 0o600)
    assert journal.read(owner.fd) == {path: identity}
    os.chmod(f"{owner.path}/.journal", 0o666)
    with pytest.raises(PermissionError):
        journal.read(owner.fd)


def test_the_journal_does_not_grow_for_ever(manager: TempFileManager, out: Path) -> None:
    (keep, path) = made(out, "keep", "a")
    manager.register_file(keep)
    for _ in range(2000):
        manager.register_file(path)
        manager.unregister_file(path)
    owner = manager._own()
    assert os.path.getsize(f"{owner.path}/.journal") < 1100 * 200
    assert list(journal.read(owner.fd)) == [keep]


def test_names_that_are_no_text(manager: TempFileManager, out: Path) -> None:
    path = os.fsdecode(os.fsencode(str(out)) + b'/\xff\n"x')
    Path(path).write_text("x")
    manager.register_file(path)
    assert list(journal.read(manager._own().fd)) == [path]
    assert manager.clear_all() == 1
