"""Files outside the owner directory: registered, aged, unregistered, from many threads."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genro_storage.tempfiles import TempFileManager


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., list[str]]:
    """Makes files beside the base directory."""

    def outside(*names: str) -> list[str]:
        (tmp_path / "out").mkdir(exist_ok=True)
        for name in names:
            (tmp_path / "out" / name).write_text(name)
        return [str(tmp_path / "out" / name) for name in names]

    return outside


def test_registered_files_have_an_age(manager: TempFileManager, outside: Callable[..., list[str]]) -> None:
    (path,) = outside("a")
    assert manager.get_file_age(path) is None
    assert not manager.is_temp_file(path)
    manager.register_file(path)
    manager._clocks.offset += 10
    assert manager.get_file_age(path) == pytest.approx(10, abs=5)
    assert manager.is_temp_file(path)
    manager.register_file(path)
    assert manager.get_file_ages([path, "/none"]) == {path: pytest.approx(0, abs=5), "/none": None}
    assert manager.unregister_file(path)
    assert not manager.unregister_file(path)
    assert manager.get_file_age(path) is None
    assert os.path.exists(path)


def test_files_born_here_age_from_their_last_change(manager: TempFileManager) -> None:
    """A time that was set, as copying does, makes a file no older."""
    path = manager.create_file(data=b"1")
    os.utime(path, (0, 0))
    assert manager.get_file_age(path) == pytest.approx(0, abs=5)
    assert manager.is_temp_file(path)
    assert manager.is_temp_file(f"{path}.none")
    assert manager.get_file_age(f"{path}.none") is None


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_no_file_is_warned_about(
    manager: TempFileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with caplog.at_level(logging.WARNING, "genro_storage.tempfiles"):
        manager.register_file(str(path))
    assert str(path) in caplog.text
    assert dict(manager.files) == {}
    with pytest.raises(TypeError):
        manager.register_file(7)  # type: ignore[arg-type]


def test_other_spellings_of_a_path(
    manager: TempFileManager, outside: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Relative, with `..`, with a trailing slash, twice: one file; and `..` after a link means where the link leads."""
    (path,) = outside("a")
    monkeypatch.chdir(tmp_path)
    assert manager.register_files(["out/a", "out/../out/a", f"{path}/", path]) == 4
    assert list(manager.files) == [path]
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep/er")
    (tmp_path / "deep/b").write_text("b")
    manager.register_file(f"{tmp_path}/link/../b")
    assert str(tmp_path / "deep/b") in manager.files


def test_files_is_a_live_view(manager: TempFileManager, outside: Callable[..., list[str]]) -> None:
    a, b, c = outside("a", "b", "c")
    manager.register_files([a, b])
    view = manager.files
    del view[a]
    assert dict(manager.files).keys() == {b}
    with pytest.raises(KeyError):
        del view[a]
    manager.files = {c: 0.0}
    assert dict(view) == {c: pytest.approx(0.0, abs=1)}
    assert manager.get_file_age(c) > manager.max_age  # type: ignore[operator]
    assert manager.cleanup() == 1
    assert [os.path.exists(path) for path in (a, b, c)] == [True, True, False]


def test_the_lock_is_reentrant(manager: TempFileManager, outside: Callable[..., list[str]]) -> None:
    """Also with all of cleanup's threads at work."""
    paths = outside(*map(str, range(500)))
    manager.register_files(paths)
    with manager.lock:
        assert len(list(manager.files.items())) == 500
        assert manager.clear_all() == 500
    assert not manager.files


def test_ten_threads_register(manager: TempFileManager, outside: Callable[..., list[str]]) -> None:
    """While another one deletes items of the view and assigns it."""
    paths = outside(*map(str, range(10_000)))
    extra = outside("x", "y")
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            manager.register_files(extra)
            del manager.files[extra[0]]
            with manager.lock:
                manager.files = dict(manager.files)

    other = threading.Thread(target=disturb)
    other.start()
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(manager.register_file, paths))
    stop.set()
    other.join()
    assert set(paths) == set(manager.files) - set(extra)
    assert len(manager.files) - len(set(manager.files) & set(extra)) == 10_000


def test_allowed_roots(base: Path, tmp_path: Path, outside: Callable[..., list[str]]) -> None:
    (path,) = outside("a")
    (tmp_path / "other").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "out")
    with TempFileManager(base, allowed_roots=[tmp_path / "root"]) as manager:
        manager.register_file(path)
        manager.register_file(f"{tmp_path}/root/link/a")
        assert not manager.files
        (tmp_path / "root/b").write_text("b")
        manager.register_file(f"{tmp_path}/root/b")
        assert manager.clear_all() == 1
    assert os.path.exists(path)


@pytest.mark.parametrize(
    "bad",
    [{"max_age": -1}, {"max_age": float("nan")}, {"cleanup_interval": float("inf")}, {"batch_size": 0}, {"threads": 0}],
)
def test_bad_numbers(base: Path, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TempFileManager(base, **bad)  # type: ignore[arg-type]
