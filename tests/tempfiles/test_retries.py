"""What resists deletion: tried again ever more rarely, given up loudly, left to a later owner's sweep, never lost."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from genro_storage.tempfiles import SweepReport, TempFileManager, crew, removal, sweep
from genro_storage.tempfiles.identity import Identity, Remover
from genro_storage.tempfiles.retries import Retries

from .conftest import Process


class Stubborn:
    """Files whose names begin with ``stuck`` cannot be removed until `yields`; every attempt is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.yields = False
        self.attempts = 0
        unlink, remove = os.unlink, Remover.remove

        def refusing(name: str, **fds: int) -> None:
            self.judge(name)
            unlink(name, **fds)

        def refusing_remover(remover: Remover, path: str, identity: Identity) -> str:
            self.judge(os.path.basename(path))
            return remove(remover, path, identity)

        monkeypatch.setattr(os, "unlink", refusing)
        monkeypatch.setattr(Remover, "remove", refusing_remover)

    def judge(self, name: str) -> None:
        if name.startswith("stuck"):
            self.attempts += 1
            if not self.yields:
                raise PermissionError(1, "Operation not permitted")


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    return Stubborn(monkeypatch)


def test_the_schedule() -> None:
    """interval, twice, four times … one hour at most; nothing after ten; forgiven, it begins anew."""
    now = 0.0
    retries = Retries(lambda: now, 300)
    waits = []
    for _ in range(9):
        retries.put_off("/a", "no")
        begun = now
        while not retries.due("/a"):
            now += 50
        waits.append(now - begun)
    assert waits == [300, 600, 1200, 2400, 3600, 3600, 3600, 3600, 3600]
    retries.put_off("/a", "no")
    now += 1e9
    assert not retries.due("/a")
    assert retries.reasons == {"/a": "no"}
    retries.forgive("/a")
    assert retries.due("/a")
    assert not retries


@pytest.mark.parametrize("where", ["registered", "born here", "dead owner"])
def test_given_up_loudly_once(
    base: Path,
    tmp_path: Path,
    stubborn: Stubborn,
    dead: Callable[..., Path],
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten attempts, one ERROR; then only who asks for it tries again, and what goes at last is no failure any more."""
    with TempFileManager(base, background=False, cleanup_interval=300) as manager:
        resists = tmp_path / "stuck"
        if where == "registered":
            resists.write_text("x")
            manager.register_file(str(resists))
        elif where == "born here":
            resists = Path(manager.create_file(name="stuck"))
        else:
            manager.create_file(name="other")
            resists = dead()
            (resists / "f" / "stuck").write_text("x")

        def round() -> None:
            """As the thread does it."""
            manager.cleanup()
            manager.sweep(patient=True)

        with caplog.at_level(logging.WARNING, "genro_storage.tempfiles"):
            for _ in range(30):
                manager._clocks.offset += 3601
                round()
        tries = stubborn.attempts
        assert tries == (10 * removal.PASSES if where == "dead owner" else 10)
        if where != "dead owner":
            assert 'temp_files_failed_total{reason="EPERM"} 10\n' in manager.prometheus()
        levels = [record.levelname for record in caplog.records]
        assert (levels.count("WARNING"), levels.count("ERROR")) == (9, 1)
        assert list(manager.failed) == [str(resists)]
        assert manager.health_check()["failed_deletions"] == 1
        assert manager.health_check()["status"] == "degraded"
        stubborn.yields = True
        round()
        assert resists.exists(), "it had been given up"
        manager.clear_all()
        manager.sweep()
        assert not resists.exists()
        manager.cleanup()
        assert manager.failed == {}


def test_a_round_of_the_thread_is_patient(base: Path, stubborn: Stubborn, dead: Callable[..., Path]) -> None:
    """A failure of a moment ago is not repeated before its time, and other owners are swept meanwhile."""
    with TempFileManager(base, background=False) as manager:
        manager.create_file()
        (dead() / "f" / "stuck").write_text("x")
        assert len(manager.sweep().failed) == 1
        tries = stubborn.attempts
        other = dead()
        assert manager.sweep(patient=True) == SweepReport(1, 1, {})
        assert stubborn.attempts == tries
        assert not other.exists()


# --- journals of the dead


def test_a_registered_file_that_resists_keeps_its_owner_for_a_later_sweep(
    start: Callable[..., Process], base: Path, tmp_path: Path, stubborn: Stubborn
) -> None:
    """Its journal stays, and all else goes; forgotten it would stay for ever."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("stuck", "a"):
        (out / name).write_text("x")
    process = start(
        "m.register_files([os.path.join(sys.argv[2], name) for name in ('stuck', 'a')]); m.create_file(); die()",
        str(out),
    )
    assert process.ends() == -9
    with TempFileManager(base, background=False) as manager:
        for _ in range(2):
            report = manager.sweep()
            assert (report.removed, list(report.failed)) == (0, [str(out / "stuck")])
            (owner,) = base.glob("o-*")
            assert os.listdir(owner) == [".journal"]
            assert os.listdir(out) == ["stuck"]
        assert [path for path in manager.failed if path != str(owner)] == []
        stubborn.yields = True
        assert manager.sweep() == SweepReport(1, 0, {})
        assert manager.failed == {}
    assert os.listdir(out) == []


def test_closing_leaves_what_resists_to_a_later_owner(
    base: Path, tmp_path: Path, stubborn: Stubborn, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "stuck"
    path.write_text("x")
    with TempFileManager(base, background=False) as manager:
        manager.register_file(str(path))
        manager.create_file()
    assert f"Failed to remove {path}" in caplog.text
    (owner,) = base.glob("o-*")
    assert os.listdir(owner) == [".journal"]
    stubborn.yields = True
    with TempFileManager(base, background=False) as later:
        later.create_file()
        assert not path.exists()
        assert not owner.exists()


def test_what_nobody_can_prove_is_told_once_and_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without generations, changed since: no sweep would ever know more."""
    from genro_storage.tempfiles import identity

    monkeypatch.setattr(identity, "_generation", lambda *asked: 0)
    monkeypatch.setattr(identity, "_is_tmpfs", lambda dev: False)
    path = tmp_path / "changed"
    path.write_text("x")
    with TempFileManager(base, background=False) as manager:
        manager.register_file(str(path))
        os.utime(path, (1, 1))
        owner = manager._own()
        journal = Path(owner.path, ".journal").read_bytes()
    assert path.exists()
    assert not os.path.exists(owner.path)
    base.joinpath("o-1").mkdir()
    base.joinpath("o-1/.journal").write_bytes(journal)
    base.joinpath("o-1/.journal").chmod(0o600)
    with TempFileManager(base, background=False) as later:
        report = later.sweep()
        assert "identity unknown" in report.failed[str(path)]
        assert later.sweep() == SweepReport(0, 0, {})
    assert path.exists()


# --- slices, time and threads


def test_a_sweep_stops_in_the_middle_and_the_next_goes_on(
    base: Path, dead: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `timeout`, between two slices: nobody waits for a million files of somebody dead."""
    seconds = [time.monotonic()]
    with TempFileManager(base, background=False, batch_size=10, threads=1, timeout=20) as manager:
        manager.create_file()
        owners = [dead(100) for _ in range(2)]
        unlink = os.unlink

        def slow(name: str, **fds: int) -> None:
            seconds[0] += 0.5
            unlink(name, **fds)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", slow)
            patch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: seconds[0], time=time.time))
            report = manager.sweep()
        assert report[0] == 0
        assert report.failed == {}
        assert report.left + report.alive == 3, "both, and our own where it was not reached"
        left = sum(len(os.listdir(folder)) for owner in owners for folder in owner.iterdir())
        assert 0 < left < 200
        assert left % 10 == 0
        assert manager.sweep() == SweepReport(2, 1, {})


def test_waiting_calls_for_threads_and_computing_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as were asked for, ours included; each piece is worked on once."""
    monkeypatch.setattr(crew, "WAIT", 0.001)

    def crowd(wait: float, threads: int) -> int:
        seen: set[int] = set()
        done: list[int] = []

        def work(piece: int) -> None:
            seen.add(threading.get_ident())
            if wait:
                time.sleep(wait)
            done.append(piece)

        assert crew.run(iter(range(40)), work, threads, lambda: False) == []
        assert sorted(done) == list(range(40))
        return len(seen)

    assert crowd(0.01, 1) == 1
    assert 2 <= crowd(0.05, 3) <= 3
    monkeypatch.setattr(crew, "WAIT", 1000)
    assert crowd(0.001, 3) == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_a_slow_disk_is_swept_by_as_many_threads_as_allowed(
    base: Path, dead: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    with TempFileManager(base, background=False, threads=threads) as manager:
        for _ in range(12):
            dead(10)
        unlink, seen = os.unlink, set[int]()

        def slow(name: str, **fds: int) -> None:
            seen.add(threading.get_ident())
            time.sleep(0.005)
            unlink(name, **fds)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", slow)
            assert manager.sweep() == SweepReport(12, 0, {})
        assert len(seen) == 1 if threads == 1 else 1 < len(seen) <= 4
