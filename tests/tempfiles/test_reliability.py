"""What nobody may see: a file of the dead that stays, one of the living that goes, one of others that is touched."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage.exceptions import StorageQuotaError
from genro_storage.tempfiles import SweepReport, TempFileManager, limits

from .conftest import Process, tree

Start = Callable[..., Process]
KIB = 1024

WORKER = """
    folder, count = sys.argv[2], int(sys.argv[3])
    progress = os.open(folder + ".progress", os.O_WRONLY | os.O_CREAT)
    owner = os.path.dirname(m.nodes_dir)
    say(owner)
    sys.stdin.readline()
    for number in range(count):
        m.create_file(data=b"x")
        m.register_file(f"{folder}/{number:04}")
        os.pwrite(progress, b"%06d" % (number + 1), 0)
    say("done")
    sys.stdin.readline()
"""


class Worker:
    """A process that makes `count` files, and registers as many of others' making in a directory of its own."""

    def __init__(self, start: Start, folder: Path, count: int) -> None:
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:04}").write_bytes(b"x")
        (folder / "kept").write_bytes(b"kept")
        self.folder, self.count = folder, count
        self.process = start(WORKER, str(folder), str(count))
        self.owner = Path(self.process.line())

    def registered(self) -> int:
        """How many calls of `register_file` have returned."""
        told = Path(f"{self.folder}.progress").read_bytes()
        return int(told) if told else 0

    def left(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name != "kept")

    def is_whole(self) -> bool:
        """Whether nothing of it was touched."""
        return len(self.left()) == self.count == len(os.listdir(self.owner / "f"))

    def is_swept(self) -> bool:
        """Whether all it made and registered is gone, and no file that it had not come to; the one between may be."""
        names = [f"{number:04}" for number in range(self.count)]
        known = self.registered()
        return not self.owner.exists() and self.left() in (names[known:], names[known + 1 :])


def killed_at_random(start: Start, base: Path, out: Path, count: int) -> None:
    """One round: four processes at work, two of them killed, one sweep."""
    workers = [Worker(start, out / str(number), count) for number in range(4)]
    for worker in workers:
        worker.process.go()
    begun = time.monotonic()
    random.shuffle(workers)
    while workers[0].registered() < random.uniform(0, 0.2) * count and time.monotonic() < begun + 60:
        time.sleep(0.001)
    for worker in workers[:2]:
        time.sleep(random.uniform(0, 0.1))  # the moment of death is what varies
        worker.process.kill()
    assert [worker.process.line() for worker in workers[2:]] == ["done", "done"]
    number = workers[0].registered()
    if number:  # was registered, and is another file now
        (workers[0].folder / "0000").unlink()
        (workers[0].folder / "0000").write_bytes(b"another")
    with TempFileManager(base, background=False, min_free_bytes=0) as manager:
        assert manager.sweep() == SweepReport(2, 2, {})
    if number:
        assert (workers[0].folder / "0000").read_bytes() == b"another"
        (workers[0].folder / "0000").unlink()
    assert [worker.is_swept() for worker in workers[:2]] == [True, True]
    assert [worker.is_whole() for worker in workers[2:]] == [True, True]
    for worker in workers[2:]:
        worker.process.go()
        assert worker.process.ends() == 0
        assert worker.left() == []
        assert not worker.owner.exists()
    assert {(worker.folder / "kept").read_bytes() for worker in workers} == {b"kept"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_four_processes_two_of_them_killed(start, base, tmp_path, victim, unharmed, soak) -> None:
    """1,000 files each, half of them born here and half registered; 50 rounds at full scale."""
    for number in range(soak(50)):
        out = tmp_path / f"out{number}"
        out.mkdir()
        killed_at_random(start, base, out, 500)
        assert [path.name for path in base.iterdir()] == [".sweep"]
    assert unharmed()


def test_2000_files_of_four_processes(start, base, tmp_path, victim, unharmed) -> None:
    """Two of them killed; files in use and files of others stay, and nothing outside is removed that nobody named."""
    (tmp_path / "out").mkdir()
    killed_at_random(start, base, tmp_path / "out", 250)
    assert unharmed()


# --- sweepers ---

GRAVES = """
    graves, folder = int(sys.argv[2]), sys.argv[3]
    managers = [TempFileManager(sys.argv[1], min_free_bytes=0, background=False) for _ in range(graves)]
    for number, manager in enumerate(managers):
        for file in range(10):
            manager.create_file()
            path = f"{folder}/{number}-{file}"
            open(path, "wb").close()
            manager.register_file(path)
    die()
"""


def graves(start: Start, count: int, folder: Path) -> None:
    """What a killed process left with `count` managers: 10 files in each, and 10 that each registered in `folder`."""
    folder.mkdir()
    (folder / "kept").write_bytes(b"kept")
    assert start(GRAVES, str(count), str(folder)).ends() == -9
    assert len(os.listdir(folder)) == 10 * count + 1


SWEEPER = """
    m.close()
    m = TempFileManager(sys.argv[1], min_free_bytes=0, background=False)
    say("ready")
    sys.stdin.readline()
    report = m.sweep()
    say(f"{report.removed} {len(report.failed)} {report.left}")
"""


def test_eight_racing_sweepers(start, base, tmp_path) -> None:
    """Every dead owner is removed once, with what its journal names, and nobody meets an error."""
    sweepers = [start(SWEEPER) for _ in range(8)]
    for sweeper in sweepers:
        assert sweeper.line() == "ready"
    graves(start, 60, tmp_path / "out")
    for sweeper in sweepers:
        sweeper.go()
    told = [tuple(map(int, sweeper.line().split())) for sweeper in sweepers]
    assert sum(removed for removed, _, _ in told) == 60
    assert {told[1:] for told in told} == {(0, 0)}
    assert [path.name for path in base.iterdir()] == [".sweep"]
    assert os.listdir(tmp_path / "out") == ["kept"]


@pytest.mark.parametrize("calls", [1, 7, 15, 31, 59])
def test_a_sweeper_killed_in_the_middle(start, base, tmp_path, calls) -> None:
    """Among registered files, in the directory of an owner, between two: the next sweep finishes."""
    process = start(
        """
        real, calls = os.unlink, []
        def unlink(*args, **kwargs):
            calls.append(1)
            if len(calls) == int(sys.argv[2]):
                die()
            real(*args, **kwargs)
        say("ready")
        sys.stdin.readline()
        os.unlink = unlink
        m.sweep()
        """,
        str(calls),
    )
    assert process.line() == "ready"
    graves(start, 3, tmp_path / "out")
    process.go()
    assert process.ends() == -9
    assert any(base.glob("o-*"))
    with TempFileManager(base, background=False) as manager:
        report = manager.sweep()
    assert report.failed == {}
    assert [path.name for path in base.iterdir()] == [".sweep"]
    assert os.listdir(tmp_path / "out") == ["kept"]


@pytest.mark.parametrize("kind", ["idle fork", "fork with files", "exec", "exec with the lease"])
@pytest.mark.parametrize("killed", ["parent", "child", "both"])
def test_fork_exec_kill(start, base, killed, kind) -> None:
    """A file stays while its maker lives, or a fork of it, or a program that was given the lease; and no longer."""
    process = start(f"""
        import subprocess
        mine = m.create_file()
        if {kind!r}.startswith("exec"):
            lent = [m.lease_fd] if {kind!r} == "exec with the lease" else []
            child = subprocess.Popen(["sleep", "60"], pass_fds=lent)
            say(f"{{child.pid}} {{mine}} -")
        else:
            reading, writing = os.pipe()
            if not (pid := os.fork()):
                os.write(writing, (m.create_file() if {kind!r} == "fork with files" else "-").encode())
                signal.pause()
            say(f"{{pid}} {{mine}} {{os.read(reading, 1000).decode()}}")
        signal.pause()
    """)
    pid, mine, childs = process.line().split()
    child = os.pidfd_open(int(pid))
    with TempFileManager(base, background=False, min_free_bytes=0) as manager:
        if killed != "parent":
            kill(child)
        if killed != "child":
            process.kill()
        manager.sweep()
        lent = killed == "parent" and kind != "exec"
        assert os.path.exists(mine) is (killed == "child" or lent)
        assert os.path.exists(childs) is (killed == "parent" and kind == "fork with files")
        if killed == "parent":
            kill(child)
        process.kill()
        manager.sweep()
    os.close(child)
    assert [path.name for path in base.iterdir()] == [".sweep"]


def kill(pidfd: int) -> None:
    """Returns when all threads of the process are gone, and with them its files and locks."""
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0]


# --- a full disk ---


@pytest.fixture
def disk(tmp_path: Path, soak: Callable[[int], int]) -> Iterator[Path]:
    """A small file system, 1 GiB at full scale."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={soak(1024)}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seen", ["by us", "by the kernel"])
def test_a_disk_filled_to_the_end(disk, monkeypatch, seen) -> None:
    """Whoever fills it, by whatever door, gets `StorageQuotaError`, and nothing of what he began stays."""
    if seen == "by the kernel":  # as when others fill it between our look and our writing
        monkeypatch.setattr(limits.Limiter, "_short_of_space", lambda self, size: None)
    free = os.statvfs(disk)
    piece = bytes(max(64 * KIB, free.f_bavail * free.f_frsize // 100))
    with TempFileManager(disk / "base", background=False, min_free_bytes=0, max_file_bytes=None) as manager:

        def written(name: str) -> None:
            with manager.open(buffering=0) as file:
                while True:
                    file.write(piece)

        doors: list[Callable[[], object]] = [
            lambda: [manager.create_file(data=piece) for _ in range(1000)],
            lambda: manager.create_file(data=bytes(4 * len(piece))),
            lambda: written("w"),
            lambda: manager.open("w", buffering=4 * KIB).write("x" * (8 * len(piece))),
        ]
        with pytest.raises(StorageQuotaError):
            doors[0]()
        folder = Path(manager.nodes_dir).parent / "f"
        before = tree_sizes(folder)
        assert set(before.values()) == {len(piece)}
        for door in doors[1:]:
            with pytest.raises(StorageQuotaError):
                door()
            assert tree_sizes(folder) == before
        with manager.anonymous() as file, pytest.raises(StorageQuotaError):
            while True:
                file.write(piece)
                file.flush()
    assert os.statvfs(disk).f_bfree >= free.f_bfree - 2
    assert [path.name for path in (disk / "base").iterdir()] == [".sweep"]


def tree_sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


# --- for ever ---


def usage() -> tuple[int, int, int]:
    """Descriptors, threads, and resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_files_leave_no_trace(base, tmp_path, soak) -> None:
    """Created, registered, in scratch space and cleaned up: descriptors, threads and memory stay flat."""
    path = str(tmp_path / "out")

    def cycles(count: int, manager: TempFileManager) -> None:
        for number in range(count):
            os.unlink(manager.create_file())
            if number % 10 == 0:
                open(path, "wb").close()
                manager.register_file(path)
                with manager.scratch("x"):
                    pass
                manager.unregister_file(path)
            if number % 100 == 0:
                manager.register_file(path)
                manager.clear_all()

    with TempFileManager(base, min_free_bytes=0) as manager:
        cycles(2000, manager)
        before = usage()
        cycles(soak(1_000_000), manager)
        after = usage()
        journal = Path(manager.nodes_dir).parent / ".journal"
        assert journal.stat().st_size < 1100 * 200
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 4 * KIB * KIB, f"{before} before, {after} after"
    print(f"descriptors, threads, bytes: {before} before, {after} after")
    assert tree(base) == {".sweep": b""}
