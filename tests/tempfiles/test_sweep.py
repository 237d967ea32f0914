"""The sweep: everything of the dead, nothing of the living, nothing outside."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage.tempfiles import SweepReport, TempFileManager

from .conftest import tree


def patched_once(monkeypatch: pytest.MonkeyPatch, name: str, before: Callable[[Any], bool]) -> list[str]:
    """Runs `before` with the first argument ahead of every call of os.`name`, until it returns True and undoes it."""
    real: Callable[..., Any] = getattr(os, name)
    done: list[str] = []

    def wrapper(path: Any, *args: Any, **kwargs: Any) -> Any:
        if before(path):
            done.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, wrapper)
    return done


# --- whom it touches


def test_the_first_file_of_a_manager_sweeps(base, dead, owners) -> None:
    dead(), dead()
    with TempFileManager(base) as manager:
        assert len(owners()) == 2
        manager.create_file()
        assert owners() == {Path(manager.nodes_dir).parent.name}


def test_the_report(manager, dead, base) -> None:
    manager.create_file()
    gone = [dead(), dead()]
    with TempFileManager(base) as other:
        other.create_file()
        assert not any(owner.exists() for owner in gone)
        dead()
        assert manager.sweep() == SweepReport(removed=1, alive=2, failed={})


def test_a_killed_process_is_swept_and_a_living_one_is_not(start, manager) -> None:
    code = """
        with m.scratch("big.bin") as path:
            open(path, "wb").close()
            open(m.nodes_dir + "/node", "wb").close()
            m.create_file()
            say(os.path.dirname(os.path.dirname(path)))
            sys.stdin.readline()
    """
    killed, living = start(code), start(code)
    killed_dir, living_dir = Path(killed.line()), Path(living.line())
    before = tree(living_dir)
    killed.kill()
    assert killed_dir.is_dir()
    manager.create_file()
    assert not killed_dir.exists()
    assert tree(living_dir) == before
    living.go()
    assert living.ends() == 0
    assert not living_dir.exists()


def test_other_names_are_never_touched(base, manager) -> None:
    for name in ("precious", "O-1", "o", ".o-1", "xo-1"):
        (base / name).mkdir()
        (base / name / "file").write_bytes(b"x")
    (base / "o-file").write_bytes(b"x")
    before = tree(base)
    assert manager.sweep().removed == 0
    assert {name: data for name, data in tree(base).items() if name != ".sweep"} == before


def test_a_directory_of_another_user_is_left_to_him(manager, dead, monkeypatch) -> None:
    owner = dead()
    real = os.stat

    def foreign(path: Any, **options: Any) -> os.stat_result:
        found = real(path, **options)
        return os.stat_result([*found[:4], found.st_uid + 1, *found[5:]]) if path == owner.name else found

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", foreign)
        assert manager.sweep() == SweepReport(0, 0, {})
    assert len(tree(owner)) == 4


# --- links


def test_links_inside_are_unlinked_not_followed(manager, dead, victim, unharmed) -> None:
    owner = dead()
    (owner / "to-dir").symlink_to(victim)
    (owner / "f" / "to-dir").symlink_to(victim)
    (owner / "f" / "to-file").symlink_to(victim / "precious")
    (owner / "f" / "dangling").symlink_to("/nowhere")
    (owner / "f" / "hard").hardlink_to(victim / "precious")
    os.mkfifo(owner / "f" / "fifo")
    assert manager.sweep() == SweepReport(1, 0, {})
    assert unharmed()


def test_a_link_named_as_an_owner_is_left_alone(manager, base, victim, unharmed) -> None:
    (base / "o-link").symlink_to(victim)
    assert manager.sweep() == SweepReport(0, 0, {})
    assert (base / "o-link").is_symlink()
    assert unharmed()


def test_a_link_swapped_in_for_an_owner_during_a_sweep(manager, base, dead, victim, unharmed, monkeypatch) -> None:
    owner = dead()

    def swap(name: Any) -> bool:
        if name != owner.name:
            return False
        monkeypatch.undo()
        owner.rename(base / "aside")
        owner.symlink_to(victim / "o-1")
        return True

    done = patched_once(monkeypatch, "open", swap)
    assert manager.sweep() == SweepReport(0, 0, {})
    assert done
    assert unharmed()


def test_a_link_swapped_in_for_the_base_during_a_sweep(
    manager, base, dead, victim, unharmed, monkeypatch, tmp_path
) -> None:
    dead()

    def swap(_: Any) -> bool:
        monkeypatch.undo()
        base.rename(tmp_path / "aside")
        base.symlink_to(victim)
        return True

    done = patched_once(monkeypatch, "listdir", swap)
    assert manager.sweep() == SweepReport(1, 0, {})
    assert done
    assert unharmed()
    assert not list((tmp_path / "aside").glob("o-*"))


@pytest.mark.parametrize("call", ["rename", "open"])
def test_a_link_swapped_in_for_a_directory_inside(manager, dead, victim, unharmed, monkeypatch, tmp_path, call) -> None:
    owner = dead()

    def swap(name: Any) -> bool:
        # "f" when it is about to be moved up, "d-…" when it was moved and is about to be opened.
        if not str(name).startswith("f" if call == "rename" else "d-"):
            return False
        monkeypatch.undo()
        (owner / name).rename(tmp_path / "aside")
        (owner / name).symlink_to(victim)
        return True

    done = patched_once(monkeypatch, call, swap)
    assert manager.sweep() == SweepReport(1, 0, {})
    assert done
    assert unharmed()
    assert (tmp_path / "aside" / "0").exists()


def test_directories_and_links_changing_places_all_the_time(start, manager, dead, victim, unharmed) -> None:
    owners = [dead() for _ in range(20)]
    process = start(
        """
        victim, owners = sys.argv[2], sys.argv[3:]
        m.lease_fd
        say("ready")
        sys.stdin.readline()
        alive = list(owners)
        while alive:
            for owner in alive:
                try:
                    for number in range(20):
                        os.symlink(victim, f"{owner}/link{number}")
                        os.rename(f"{owner}/f", f"{owner}/aside")
                        os.rename(f"{owner}/link{number}", f"{owner}/f")
                        os.unlink(f"{owner}/f")
                        os.rename(f"{owner}/aside", f"{owner}/f")
                except FileNotFoundError:
                    alive = [one for one in alive if os.path.isdir(one + "/f") and not os.path.islink(one + "/f")]
                    break
                except OSError:
                    pass
        """,
        str(victim),
        *[str(owner) for owner in owners],
    )
    # The other's own first use sweeps: it made its owner directory before these were dead to it.
    assert process.line() == "ready"
    for owner in owners:
        (owner / "f").mkdir(parents=True, exist_ok=True)
        for number in range(10):
            (owner / "f" / str(number)).write_bytes(b"x")
    process.go()
    deadline = time.monotonic() + 60
    while any(owner.exists() for owner in owners) and time.monotonic() < deadline:
        manager.sweep()
    assert process.ends() == 0
    assert not any(owner.exists() for owner in owners)
    assert unharmed()


def test_a_mount_point_inside_is_not_entered(manager, dead, monkeypatch) -> None:
    owner = dead()
    real = os.rename

    def busy(src: str, dst: str, **fds: int) -> None:
        if src == "f":
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(src, dst, **fds)

    monkeypatch.setattr(os, "rename", busy)
    report = manager.sweep()
    assert list(report.failed) == [str(owner)]
    assert "busy" in report.failed[str(owner)]
    assert sorted(os.listdir(owner / "f")) == ["0", "1", "2"]


# --- how much it can take


def test_a_tree_deeper_than_descriptors_and_recursion_allow(manager, dead, descriptors) -> None:
    owner = dead()
    before, fd = descriptors(), os.open(owner, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert manager.sweep() == SweepReport(1, 0, {})
    assert descriptors() == before


def test_read_only_trees_are_removed_without_being_root(in_fork) -> None:
    with tempfile.TemporaryDirectory() as outside:
        os.chmod(outside, 0o1777)

        def work() -> None:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            base = f"{outside}/base"
            owner = f"{base}/o-1"
            os.makedirs(f"{owner}/cache/deep/er")
            os.makedirs(f"{owner}/closed/deep")
            os.chmod(base, 0o700)
            for folder in ("cache", "cache/deep", "cache/deep/er"):
                open(f"{owner}/{folder}/file", "wb").close()
            for folder, mode in (
                ("closed", 0),
                ("cache/deep/er", 0o500),
                ("cache/deep", 0),
                ("cache", 0o555),
                ("", 0o500),
            ):
                os.chmod(f"{owner}/{folder}", mode)
            with TempFileManager(base) as manager:
                assert manager.sweep() == SweepReport(1, 0, {})

        in_fork(work)


def test_one_failure_does_not_stop_the_rest(manager, dead, base, monkeypatch, caplog) -> None:
    first, second = dead(50), dead(50)
    (first / "f" / "stuck").write_bytes(b"x")
    real = os.unlink

    def unlink(name: str, **fds: int) -> None:
        if name == "stuck":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        real(name, **fds)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        report = manager.sweep()
    assert (report.removed, list(report.failed)) == (1, [str(first)])
    assert "Operation not permitted" in report.failed[str(first)]
    assert not second.exists()
    assert [name for name, data in tree(first).items() if data is not None] != []
    assert sum(data is not None for data in tree(first).values()) == 1
    assert f"Failed to remove {first}" in caplog.text
    assert manager.sweep() == SweepReport(1, 0, {})
