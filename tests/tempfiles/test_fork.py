"""fork × exec × kill: who may remove what, and until when a lease lasts."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from genro_storage.tempfiles import TempFileManager


def test_a_child_has_its_own_directory_and_removes_no_other(manager, in_fork, base, owners) -> None:
    file, nodes = manager.create_file(), manager.nodes_dir

    def child() -> None:
        own = manager.nodes_dir
        assert own != nodes
        assert os.path.dirname(manager.create_file()) != os.path.dirname(file)
        manager.close()
        assert not os.path.exists(own)

    in_fork(child)
    assert os.path.exists(file)
    assert manager.nodes_dir == nodes
    assert len(owners()) == 1


def test_a_child_that_forgets_the_manager_removes_nothing(base, in_fork) -> None:
    held = [TempFileManager(base)]
    file = held[0].create_file()

    def child() -> None:
        import gc

        held.clear()
        gc.collect()

    in_fork(child)
    assert os.path.exists(file)
    held[0].close()


@pytest.mark.parametrize("leave", ["sys.exit(0)", "raise SystemExit", "pass", "1 / 0", "os._exit(0)"])
@pytest.mark.parametrize("used", [True, False])
def test_however_a_child_leaves(start, base, owners, leave, used) -> None:
    """Also out of an open scratch of its parent (matplotlib #16677), with atexit hooks and all."""
    process = start(f"""
        sys.stderr.close()
        with m.scratch("x") as path:
            open(path, "wb").close()
            file = m.create_file()
            child = os.fork()
            if child == 0:
                if {used}:
                    m.create_file()
                {leave}
            if child:
                os.waitpid(child, 0)
                say(f"{{os.path.exists(path)}} {{os.path.exists(file)}}")
        if child:
            sys.stdin.readline()
    """)
    assert process.line() == "True True"
    assert len(owners()) == (2 if used and leave == "os._exit(0)" else 1)
    process.go()
    process.ends()
    with TempFileManager(base) as manager:
        manager.sweep()
    assert owners() == set()


def test_a_multiprocessing_worker_removes_its_own_at_the_end(start, owners) -> None:
    process = start("""
        import multiprocessing
        def work():
            with open(m.create_file(), "wb"):
                pass
        worker = multiprocessing.get_context("fork").Process(target=work)
        m.lease_fd
        worker.start()
        worker.join()
        say(worker.exitcode)
        sys.stdin.readline()
    """)
    assert process.line() == "0"
    assert len(owners()) == 1
    process.go()
    assert process.ends() == 0
    assert owners() == set()


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "1 / 0"])
def test_gone_at_exit(start, owners, end) -> None:
    process = start(f"sys.stderr.close(); say(m.create_file()); {end}")
    assert Path(process.line()).parent.name == "f"
    assert process.ends() == {"pass": 0, "sys.exit(3)": 3, "1 / 0": 1}[end]
    assert owners() == set()


def test_the_files_of_a_killed_parent_last_as_long_as_its_fork(start, manager) -> None:
    process = start("""
        file = m.create_file()
        child = os.fork()
        if child:
            say(f"{child} {file}")
            os.waitpid(child, 0)
        else:
            os.read(0, 1)
    """)
    child, file = process.line().split(" ", 1)
    process.kill()
    manager.sweep()
    assert os.path.exists(file)
    end = os.pidfd_open(int(child))
    process.go()
    wait_for(end)
    assert manager.sweep().removed == 1
    assert not os.path.exists(file)


def wait_for(pidfd: int) -> None:
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


@pytest.mark.parametrize("passed", [True, False])
def test_a_program_keeps_the_lease_only_if_it_was_given_it(start, manager, passed) -> None:
    process = start(f"""
        import subprocess
        fds = [m.lease_fd] if {passed} else []
        program = subprocess.Popen(["sleep", "60"], pass_fds=fds)
        say(f"{{program.pid}} {{m.create_file()}}")
        program.wait()
    """)
    pid, file = process.line().split(" ", 1)
    process.kill()
    end = os.pidfd_open(int(pid))
    report = manager.sweep()
    assert os.path.exists(file) is passed
    assert report.removed == (not passed)
    signal.pidfd_send_signal(end, signal.SIGKILL)
    wait_for(end)
    assert manager.sweep().removed == passed
    assert not os.path.exists(file)


def test_a_fork_while_another_thread_holds_the_lock(base, in_fork) -> None:
    with TempFileManager(base) as manager, manager._lock:
        in_fork(lambda: os.unlink(manager.create_file()))


def test_an_unused_manager_works_in_a_child(base, in_fork, owners) -> None:
    with TempFileManager(base) as manager:

        def child() -> None:
            assert os.path.exists(manager.create_file())
            manager.close()

        in_fork(child)
        assert owners() == set()
        manager.create_file()
        assert len(owners()) == 1
