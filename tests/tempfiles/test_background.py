"""The thread that cleans, and what a manager tells of itself."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage.exceptions import StorageConfigError
from genro_storage.tempfiles import TempFileManager, sweep

from .conftest import ROOT

SHORT = 0.02


def told(manager: TempFileManager) -> Callable[[], bool]:
    """A function that waits until a round of the thread is over."""
    done = threading.Event()
    real = manager.sweep

    def sweep(*, patient: bool = False) -> object:
        report = real(patient=patient)
        done.set()
        return report

    manager.sweep = sweep  # type: ignore[method-assign, assignment]
    return lambda: done.wait(60)


def test_the_thread_cleans_and_sweeps(base: Path, tmp_path: Path, dead: Callable[..., Path]) -> None:
    (tmp_path / "out").write_text("x")
    with TempFileManager(base, 0, cleanup_interval=SHORT) as manager:
        manager.register_file(str(tmp_path / "out"))
        path = manager.create_file()
        gone = dead()
        assert told(manager)()
        assert not os.path.exists(path)
        assert not (tmp_path / "out").exists()
        assert not gone.exists()


def test_without_background_there_is_no_thread(base: Path) -> None:
    before = threading.active_count()
    with TempFileManager(base, background=False) as manager:
        manager.create_file()
        assert threading.active_count() == before
    with TempFileManager(base) as manager:
        assert threading.active_count() == before
        manager.create_file()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_the_thread_does_not_keep_its_manager(base: Path) -> None:
    before = threading.active_count()
    manager = TempFileManager(base, cleanup_interval=SHORT)
    path = manager.create_file()
    assert told(manager)()
    found = weakref.ref(manager)
    del manager
    gc.collect()
    for _ in range(3000):
        if found() is None and threading.active_count() == before:
            break
        threading.Event().wait(0.01)  # it may be in the middle of a round
        gc.collect()
    assert found() is None
    assert not os.path.exists(path)
    assert threading.active_count() == before


def test_the_interpreter_ends_with_the_thread_running(base: Path) -> None:
    code = (
        "import sys; from genro_storage.tempfiles import TempFileManager\n"
        "m = TempFileManager(sys.argv[1], 0, cleanup_interval=0.001)\n"
        "for n in range(200): m.create_file()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(base)], cwd=ROOT, capture_output=True, timeout=90)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert not list(base.glob("o-*"))


def test_closing_waits_for_a_cleanup_under_way(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its descriptor could be another directory's by the time it deletes."""
    manager = TempFileManager(base, background=False)
    manager.create_file()
    owner = manager._own()
    released = threading.Event()
    monkeypatch.setattr(sweep, "_release", lambda *args: released.set())
    with owner.busy:
        closing = threading.Thread(target=manager.close)
        closing.start()
        assert not released.wait(0.05)
    assert released.wait(60)
    closing.join()
    monkeypatch.undo()
    sweep.release(owner, manager._policy)
    assert owner.fd == -1


def test_a_fork_has_its_own_thread(base: Path, in_fork: Callable[[Callable[[], object]], None]) -> None:
    with TempFileManager(base, 0, cleanup_interval=SHORT) as manager:
        mine = manager.scratch("x")
        with mine as path:
            Path(path).write_text("x")

            def child() -> None:
                gone = manager.create_file()
                assert told(manager)()
                assert not os.path.exists(gone)
                manager.close()

            in_fork(child)
            assert os.path.exists(path)


# --- what it tells ---


def test_statistics(base: Path, tmp_path: Path) -> None:
    with TempFileManager(base, background=False) as manager:
        assert manager.statistics()["active"] == 0
        (tmp_path / "out").write_text("abc")
        manager.register_file(str(tmp_path / "out"))
        manager._clocks.offset += 100
        manager.create_file(data=b"12")
        told = manager.statistics()
        assert {name: told[name] for name in ("registered", "created", "cleaned", "active", "bytes", "failed")} == {
            "registered": 1,
            "created": 1,
            "cleaned": 0,
            "active": 2,
            "bytes": 5,
            "failed": 0,
        }
        assert told["oldest_age"] == pytest.approx(100, abs=10)
        manager.clear_all()
        told = manager.statistics()
        assert (told["cleaned"], told["active"], told["oldest_age"]) == (2, 0, None)
        assert told["last_duration"] >= 0


def test_health(base: Path, dead: Callable[..., Path]) -> None:
    with TempFileManager(base, background=False, max_files=2, min_free_bytes=0) as manager:
        path = manager.create_file(data=b"12")
        health = manager.health_check()
        assert health["status"] == "healthy", health
        assert (health["active_files"], health["bytes"], health["owners"], health["dead_owners"]) == (1, 2, 1, 0)
        assert health["base_dir"] == str(base)
        dead()
        assert manager.health_check()["dead_owners"] == 1
        Path(path).with_name("a").touch()
        Path(path).with_name("b").touch()
        health = manager.health_check()
        assert health["status"] == "degraded"
        assert "max_files" in health["warning"]
    assert manager.health_check()["status"] == "unhealthy"


@pytest.mark.parametrize("harm", ["missing", "open to others"])
def test_an_unhealthy_base(base: Path, harm: str) -> None:
    manager = TempFileManager(base, background=False)
    if harm == "missing":
        base.rmdir()
    else:
        base.chmod(0o777)
    health = manager.health_check()
    assert health["status"] == "unhealthy"
    assert str(base) in health["error"]
    assert base.exists() is (harm != "missing")


def test_a_late_sweeper_and_a_full_disk_degrade(base: Path) -> None:
    with TempFileManager(base) as manager:
        manager.create_file()
        manager._clocks.offset += 3 * 300 + 10
        assert "the last sweep was" in manager.health_check()["warning"]
        manager.min_free_bytes = 1 << 60
        assert "min_free_bytes" in manager.health_check()["warning"]


def test_check_file_permissions(base: Path) -> None:
    with TempFileManager(base) as manager:
        path = manager.create_file()
        told = manager.check_file_permissions(path)
        assert (told["mode"], told["exists"], told["deletable"], told["links"]) == ("-rw-------", True, True, 1)
        assert told["ours"]
        assert not manager.check_file_permissions(f"{path}.none")["exists"]


def test_prometheus(base: Path) -> None:
    """The names that dashboards know, well-formed, of constant size."""
    with TempFileManager(base, background=False) as manager:
        manager.create_file(data=b"12")
        manager.create_file()
        manager._clocks.offset += 100
        manager.clear_all()
        manager.create_file(data=b"123")
        text = manager.prometheus()
        values: dict[str, Any] = dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, flags=re.MULTILINE))
        assert values["temp_files_cleaned_total"] == "2"
        assert values["temp_files_active"] == "1"
        assert values["temp_files_bytes"] == "3"
        assert values['temp_file_age_seconds_bucket{le="60.0"}'] == "0"
        assert values['temp_file_age_seconds_bucket{le="300.0"}'] == "2"
        assert values['temp_file_age_seconds_bucket{le="+Inf"}'] == values["temp_file_age_seconds_count"] == "2"
        assert values["temp_file_cleanup_duration_seconds_count"] == "1"
        assert {"temp_files_registered_total", "temp_owners_swept_total"} <= values.keys()
        lines = text.count("\n")
        for _ in range(20):
            manager.clear_all()
        assert manager.prometheus().count("\n") == lines
    with TempFileManager(base, metrics=False) as manager:
        assert manager.prometheus() == ""


def test_from_env(base: Path) -> None:
    environ = {
        "TEMP_FILE_BASE_DIR": str(base),
        "TEMP_FILE_MAX_AGE": "7",
        "TEMP_FILE_CLEANUP_INTERVAL": "8",
        "MAX_TEMP_FILES": "9",
        "TEMP_FILE_SIZE_LIMIT": "10",
        "ENABLE_TEMP_FILE_METRICS": "False",
        "TEMP_FILE_CLEANUP_BATCH_SIZE": "11",
        "TEMP_FILE_CLEANUP_THREADS": "1",
        "TEMP_FILE_CLEANUP_TIMEOUT": "2",
        "TEMP_FILE_SECURE_DELETE": "yes",
        "TEMP_FILE_PERMISSION_MASK": "0640",
        "TEMP_FILE_OWNER_CHECK": "false",
    }
    with TempFileManager.from_env(environ) as manager:
        assert (manager.base_dir, manager.max_age, manager.max_files) == (str(base), 7, 9)
        assert (manager.max_file_bytes, manager.prometheus(), manager._interval) == (10, "", 8)
        assert manager._policy[:4] == (11, 1, 2, True)
        assert not manager._owner_check
        assert os.stat(manager.create_file()).st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TEMP_FILE_MAX_AGE", "soon"),
        ("MAX_TEMP_FILES", "1.5"),
        ("TEMP_FILE_SECURE_DELETE", "maybe"),
        ("TEMP_FILE_PERMISSION_MASK", "0666"),
        ("TEMP_FILE_PERMISSION_MASK", "9"),
    ],
)
def test_a_variable_that_says_nonsense_is_named(base: Path, variable: str, value: str) -> None:
    with pytest.raises(StorageConfigError, match=variable):
        TempFileManager.from_env({"TEMP_FILE_BASE_DIR": str(base), variable: value})
    assert not base.exists()


# --- secure delete ---


def test_secure_delete(base: Path, tmp_path: Path) -> None:
    """One name: overwritten, seen through a descriptor kept open as emptied. Two names: the other keeps the content."""
    once, twice, target = (tmp_path / name for name in ("once", "twice", "target"))
    for path in (once, twice, target):
        path.write_bytes(b"secret")
    os.link(twice, tmp_path / "second")
    (tmp_path / "link").symlink_to(target)
    with TempFileManager(base, secure_delete=True, background=False) as manager:
        born = manager.create_file(data=b"secret")
        closed = manager.create_file(name="closed", data=b"secret")
        manager.register_files([str(once), str(twice), str(tmp_path / "link")])
        with open(once, "rb") as first, open(born, "rb") as second, open(closed, "rb") as third:
            with manager.scratch("s") as scratch:
                Path(scratch).write_bytes(b"secret")
                fourth = open(scratch, "rb")  # noqa: SIM115
            os.rename(closed, f"{os.path.dirname(os.path.dirname(closed))}/aside")
            assert manager.clear_all() == 4
            assert manager.last_report.secure == "best effort"
            assert (first.read(), second.read(), fourth.read()) == (b"", b"", b"")
            fourth.close()
            manager.close()
            assert third.read() == b""
    assert (tmp_path / "second").read_bytes() == b"secret"
    assert target.read_bytes() == b"secret"
    assert sorted(os.listdir(tmp_path)) == ["base", "second", "target"]
