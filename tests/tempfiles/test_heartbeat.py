"""The lease where there is no flock: a lock on a file, a heartbeat, and nobody dead who has either."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.tempfiles import SweepReport, TempFileManager, heartbeat, lease

from .conftest import Process

Start = Callable[..., Process]

NO_FLOCK = """
import errno, fcntl
def none(*args):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = none
"""
HOLDER = (
    NO_FLOCK
    + """
open(sys.argv[2], "wb").close()
m.register_file(sys.argv[2])
say(m.create_file())
sys.stdin.readline()
"""
)


@pytest.fixture(params=["no flock", "of several machines"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system without flock, or one where a flock on a directory says nothing to other machines."""
    how: str = request.param
    if how == "no flock":
        monkeypatch.setattr(fcntl, "flock", refused)
    else:
        monkeypatch.setattr(lease, "filesystem", lambda dev: "nfs4")
    return how


def refused(*args: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture
def sweeper(base: Path, without: str) -> TempFileManager:
    return TempFileManager(base, background=False, min_free_bytes=0)


@pytest.fixture
def held(start: Start, tmp_path: Path) -> tuple[Process, Path]:
    """A process whose lease is a heart, and its owner directory."""
    process = start(HOLDER, str(tmp_path / "registered"))
    return process, Path(process.line()).parents[1]


def aged(owner: Path, seconds: float = heartbeat.DEAD_AFTER + 10) -> None:
    """Makes the last beat so old."""
    os.utime(owner / ".lease", (time.time() - seconds,) * 2)


def test_a_beating_heart_and_a_held_lock_each_keep_an_owner(held, sweeper) -> None:
    process, owner = held
    assert sweeper.sweep() == SweepReport(0, 1, {})
    aged(owner)  # stopped, or swapped out
    assert sweeper.sweep() == SweepReport(0, 1, {})
    aged(owner, 0)
    process.kill()
    assert sweeper.sweep() == SweepReport(0, 1, {}), "its last beat was just now"
    assert (owner / "f").is_dir()


def test_dead_is_who_has_neither(held, sweeper, base, tmp_path) -> None:
    process, owner = held
    process.kill()
    aged(owner)
    assert (sweeper.health_check()["owners"], sweeper.health_check()["dead_owners"]) == (1, 1)
    assert sweeper.sweep() == SweepReport(1, 0, {})
    assert not owner.exists()
    assert not (tmp_path / "registered").exists()
    assert [path.name for path in base.iterdir()] == [".sweep"]


def test_a_fork_keeps_the_lock_of_its_killed_parent(start, sweeper) -> None:
    process = start(
        NO_FLOCK
        + """
file = m.create_file()
child = os.fork()
if child:
    say(f"{child} {file}")
    os.waitpid(child, 0)
else:
    os.read(0, 1)
"""
    )
    child, file = process.line().split(" ", 1)
    process.kill()
    aged(Path(file).parents[1])
    assert sweeper.sweep() == SweepReport(0, 1, {})
    end = os.pidfd_open(int(child))
    process.go()
    import select

    assert select.select([end], [], [], 10)[0]
    os.close(end)
    assert sweeper.sweep() == SweepReport(1, 0, {})


def test_without_any_locks_the_heart_alone_says_it(held, sweeper, monkeypatch) -> None:
    process, owner = held
    process.kill()
    monkeypatch.setattr(fcntl, "fcntl", refused)
    assert sweeper.sweep() == SweepReport(0, 1, {})
    aged(owner)
    assert sweeper.sweep() == SweepReport(1, 0, {})


def test_a_sweeper_at_work_keeps_others_away(held, sweeper, base, monkeypatch) -> None:
    """Without any locks by a beat of its own."""
    process, owner = held
    process.kill()
    aged(owner)
    monkeypatch.setattr(fcntl, "fcntl", refused)
    base_fd = os.open(base, os.O_RDONLY)
    hold = lease.hold_dead(os.open(owner, os.O_RDONLY), base_fd, False)
    assert hold is not None
    hold.claim()
    assert sweeper.sweep() == SweepReport(0, 1, {})
    hold.close()
    os.close(base_fd)


def test_dead_before_it_had_a_heart(sweeper, base) -> None:
    """It may be just being born: its own age decides."""
    (base / "o-1").mkdir()
    assert sweeper.sweep() == SweepReport(0, 1, {})
    os.utime(base / "o-1", (time.time() - heartbeat.DEAD_AFTER - 10,) * 2)
    assert sweeper.sweep() == SweepReport(1, 0, {})


def test_who_has_flock_leaves_a_beating_heart_alone(held, base) -> None:
    """Another machine, say, that mounts the same directory otherwise."""
    process, owner = held
    with TempFileManager(base, background=False) as manager:
        assert manager.sweep() == SweepReport(0, 1, {})
        process.kill()
        assert manager.sweep() == SweepReport(0, 1, {})
        aged(owner)
        assert manager.sweep() == SweepReport(1, 0, {})


def test_it_beats_and_ends(base, without, monkeypatch, descriptors) -> None:
    before = threading.active_count(), descriptors()
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    with TempFileManager(base, background=False) as manager:
        owner = Path(manager.create_file()).parents[1]
        aged(owner, 1000)
        deadline = time.monotonic() + 60
        while time.time() - (owner / ".lease").stat().st_mtime > 100 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert time.time() - (owner / ".lease").stat().st_mtime < 100
        assert manager.sweep() == SweepReport(0, 1, {})
        with manager.scratch("x") as path:
            Path(path).write_bytes(b"x")
        assert manager.lease_fd == manager._own().heart.fd  # type: ignore[union-attr]
    assert not owner.exists()
    assert (threading.active_count(), descriptors()) == before


def test_the_own_directory_is_never_swept(base, without, monkeypatch) -> None:
    """Not even when the machine slept for longer than a heart may."""
    monkeypatch.setattr(fcntl, "fcntl", refused)
    with TempFileManager(base, background=False) as manager:
        path = manager.create_file()
        aged(Path(path).parents[1])
        assert manager.sweep() == SweepReport(0, 1, {})
        assert os.path.exists(path)
