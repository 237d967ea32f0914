"""The base directory's checks, the owner directory's birth and its lease."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genro_storage.exceptions import StoragePermissionError
from genro_storage.tempfiles import TempFileManager, lease


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


# --- base_dir


def test_a_link_is_refused(base: Path, tmp_path: Path) -> None:
    base.mkdir(0o700)
    (tmp_path / "link").symlink_to(base)
    for path in (tmp_path / "link", f"{tmp_path}/link/", f"{tmp_path}/link/."):
        with pytest.raises(StoragePermissionError, match="symbolic link"):
            TempFileManager(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(StoragePermissionError, match="symbolic link"):
        TempFileManager(tmp_path / "dangling")
    assert not (tmp_path / "nothing").exists()


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(StoragePermissionError, match="not a directory"):
        TempFileManager(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_one_that_others_may_write_is_refused(base: Path, mode: int) -> None:
    base.mkdir()
    base.chmod(mode)
    with pytest.raises(StoragePermissionError, match="writable by others"):
        TempFileManager(base)
    assert list(base.iterdir()) == []


def test_one_of_another_user_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir(0o700)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(StoragePermissionError, match=f"belongs to user {uid}"):
        TempFileManager(base)


def test_owner_check_false_allows_a_sticky_one_and_no_other(base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(StoragePermissionError, match="not sticky"):
        TempFileManager(base, owner_check=False)
    base.chmod(0o1777)
    with TempFileManager(base, owner_check=False) as manager:
        owner = Path(manager.create_file()).parents[1]
        assert stat.S_IMODE(owner.stat().st_mode) == 0o700
    link = base.with_name("link")
    link.symlink_to(base)
    with pytest.raises(StoragePermissionError, match="symbolic link"):
        TempFileManager(link, owner_check=False)


def test_a_base_replaced_by_a_link_later_is_refused(base: Path, tmp_path: Path) -> None:
    manager = TempFileManager(base)
    base.rmdir()
    (tmp_path / "elsewhere").mkdir(0o700)
    base.symlink_to(tmp_path / "elsewhere")
    for call in (manager.create_file, manager.sweep):
        with pytest.raises(StoragePermissionError, match="symbolic link"):
            call()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_base_replaced_between_check_and_use_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir(0o700)
    real = os.lstat

    def swapping(path: str) -> os.stat_result:
        found = real(path)
        if path == str(base):
            patch.undo()
            base.rename(base.with_name("before"))
            base.mkdir(0o777)
        return found

    with monkeypatch.context() as patch, pytest.raises(StoragePermissionError, match="replaced"):
        patch.setattr(os, "lstat", swapping)
        TempFileManager(base)


@pytest.mark.skipif(os.geteuid() != 0, reason="two users are needed: only root can become the second")
def test_users_of_a_shared_base_do_not_sweep_or_hinder_each_other(
    in_fork: Callable[[Callable[[], object]], None],
) -> None:
    # pytest's own tmp_path lies below a directory that only its user may enter.
    with tempfile.TemporaryDirectory() as outside:
        os.chmod(outside, 0o1777)

        def other_user() -> None:
            os.setgid(65534)
            os.setuid(65534)
            manager = TempFileManager(outside, owner_check=False)
            manager.create_file()
            report = manager.sweep()
            assert (report.removed, report.failed) == (0, {})
            os._exit(0)  # before the manager is forgotten and cleans up

        ours = f"{outside}/o-{1:016x}"
        in_fork(other_user)
        (theirs,) = Path(outside).glob("o-*")
        os.mkdir(ours, 0o700)
        in_fork(other_user)
        assert os.path.isdir(ours)
        assert not theirs.exists()
        (theirs,) = (path for path in Path(outside).glob("o-*") if path.stat().st_uid)
        with TempFileManager(outside, owner_check=False) as manager:
            manager.create_file()
            assert not os.path.isdir(ours)
            assert theirs.is_dir()


# --- the birth


def test_the_lease_is_held_shared_and_not_inherited(manager: TempFileManager) -> None:
    fd = os.open(Path(manager.nodes_dir).parent, os.O_RDONLY)
    assert not lease.try_lock(fd, fcntl.LOCK_EX)
    assert lease.try_lock(fd, fcntl.LOCK_SH)
    os.close(fd)
    assert not os.get_inheritable(manager.lease_fd)


def test_a_process_killed_between_mkdir_and_lock_is_swept(start, base, owners) -> None:
    process = start("""
        import fcntl, stat
        real = fcntl.flock
        def flock(fd, how):
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                die()
            real(fd, how)
        fcntl.flock = flock
        m.create_file()
    """)
    assert process.ends() == -9
    assert len(owners()) == 1
    with TempFileManager(base) as manager:
        manager.create_file()
        assert owners() == {Path(manager.nodes_dir).parent.name}


@pytest.mark.parametrize("moment", ["before open", "before lock", "after lock", "while held"])
def test_a_sweeper_out_of_turn_only_makes_the_birth_begin_again(
    base: Path, monkeypatch: pytest.MonkeyPatch, moment: str, owners: Callable[[], set[str]]
) -> None:
    manager = TempFileManager(base)
    flock, opened = fcntl.flock, os.open
    swept: list[int | str] = []

    def racing_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not swept and moment == "before open" and path.startswith("o-"):
            swept.append(path)
            os.rmdir(path, dir_fd=dir_fd)
        return opened(path, flags, mode, dir_fd=dir_fd)

    def racing_flock(fd: int, how: int) -> None:
        sweeping = not swept and how & fcntl.LOCK_SH and is_directory(fd)
        if not sweeping:
            return flock(fd, how)
        swept.append(fd)
        (owner,) = base.glob("o-*")
        if moment == "while held":
            swept.append(sweeper := opened(owner, os.O_RDONLY))
            flock(sweeper, fcntl.LOCK_EX)
        if moment == "before lock":
            owner.rmdir()
        flock(fd, how)
        if moment == "after lock":
            owner.rmdir()
        return None

    monkeypatch.setattr(os, "open", racing_open)
    monkeypatch.setattr(fcntl, "flock", racing_flock)
    with manager:
        assert Path(manager.create_file()).exists()
        assert swept
        if moment == "while held":
            os.close(int(swept[1]))
        manager.sweep()
        assert owners() == {Path(manager.nodes_dir).parent.name}


def test_a_stopped_process_holding_the_turn_stops_nobody(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 0.05)
    with TempFileManager(base) as manager:
        fd = os.open(base / ".sweep", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert Path(manager.create_file()).exists()
        os.close(fd)


def test_a_child_forked_inside_a_turn_does_not_keep_it(base: Path) -> None:
    base.mkdir(0o700)
    base_fd = os.open(base, os.O_RDONLY)
    with lease.turn(base_fd, fcntl.LOCK_EX):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    fd = os.open(base / ".sweep", os.O_RDWR)
    assert lease.try_lock(fd, fcntl.LOCK_EX)
    for one in (read, write, fd, base_fd):
        os.close(one)
    os.waitpid(child, 0)


@pytest.mark.parametrize("plant", ["link", "directory", "fifo"])
def test_a_planted_lock_file_is_not_followed(base: Path, tmp_path: Path, plant: str) -> None:
    base.mkdir(0o700)
    target = tmp_path / "target"
    if plant == "link":
        (base / ".sweep").symlink_to(target)
    elif plant == "directory":
        (base / ".sweep").mkdir()
    else:
        os.mkfifo(base / ".sweep")
    with TempFileManager(base) as manager, pytest.raises(OSError, match=r"temporary directory|remove it"):
        manager.create_file()
    assert not target.exists()
