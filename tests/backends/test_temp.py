"""The temp backend: the suite of all backends, private modes, a directory for each process, nothing left behind."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.backends.temp import TempBackend, TempOptions
from genro_storage.exceptions import StorageError
from genro_storage.testing import OBJECT_STORE, BackendSuite


def storage(folder: Path, **keys: object) -> TempBackend:
    return TempBackend(TempOptions(base_dir=str(folder / "base"), min_free_bytes=0, **keys))  # type: ignore[arg-type]


class TestTemp(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk")
    }

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[TempBackend]:
        backend = storage(tmp_path)
        yield backend
        backend.close()


def in_child(act: Callable[[], object]) -> object:
    """What `act` returns in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, pickle.dumps(act()))
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(writing, pickle.dumps(repr(error)))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    return told


def test_everything_is_private(tmp_path: Path) -> None:
    """Files 0600 and directories 0700, whatever the umask."""
    backend = storage(tmp_path)
    old = os.umask(0)
    try:
        backend.put("a/b/c.txt", b"1")
        backend.mkdir("d")
        backend.edit("e.txt", "a").close()
        writer = backend.writer("f.txt")
        writer.commit()
    finally:
        os.umask(old)
    for path, mode in {
        "a": 0o700,
        "a/b": 0o700,
        "a/b/c.txt": 0o600,
        "d": 0o700,
        "e.txt": 0o600,
        "f.txt": 0o600,
    }.items():
        assert backend.stat(path).mode == mode, path
    assert backend.features.temporary
    backend.close()


def test_nothing_is_left(tmp_path: Path) -> None:
    """Closing removes the files; a rooted twin closes nothing; afterwards every use fails."""
    backend = storage(tmp_path)
    backend.put("a/b.txt", b"1")
    real = backend.native_path("a/b.txt")
    backend.rooted("a").close()
    assert os.path.exists(real)
    backend.close()
    assert not os.path.exists(real)
    assert not [name for name in os.listdir(tmp_path / "base") if name.startswith("o-")]
    with pytest.raises(StorageError, match="closed"):
        backend.put("a", b"")


def test_a_fork_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """The child sees none of the parent's files and leaves them in peace; what it made goes with it."""
    backend = storage(tmp_path)
    twin = backend.rooted("a")
    backend.put("a/mine", b"1")

    def child() -> object:
        missing = []
        for one, path in ((backend, "a/mine"), (twin, "mine")):
            try:
                one.stat(path)
            except FileNotFoundError:
                missing.append(path)
        twin.put("own", b"2")
        seen = backend.get("a/own")[0]
        other = backend.native_path("a/own")
        backend.close()
        return missing, seen, other, os.path.exists(other)

    missing, seen, other, left = in_child(child)  # type: ignore[misc]
    assert (missing, seen, left) == (["a/mine", "mine"], b"2", False)
    assert other != backend.native_path("a/own")
    assert twin.get("mine")[0] == b"1"
    backend.close()


def test_a_path_of_its_own(tmp_path: Path) -> None:
    backend = storage(tmp_path, path="sub/dir")
    assert backend.stat("").is_dir
    backend.put("f", b"1")
    assert backend.native_path("f").endswith("/n/sub/dir/f")
    assert backend.get("f")[0] == b"1"
    backend.close()


def test_the_mount(tmp_path: Path) -> None:
    """`storage.temp` is the manager behind the mount; a move out of it gives a file of ordinary mode."""
    entries = [
        {"name": "temp", "type": "temp", "base_dir": str(tmp_path / "base"), "min_free_bytes": 0},
        {"name": "out", "type": "local", "path": str(tmp_path)},
    ]
    old = os.umask(0o022)
    try:
        with StorageManager(entries) as storage:
            node = storage.node("temp:a/b.txt")
            node.write_text("hello")
            assert storage.temp().base_dir == str(tmp_path / "base")
            assert node.capabilities.temporary
            moved = node.move_to("out:b.txt")
            assert moved.read_text() == "hello"
            assert not node.exists
            assert moved.stat().mode == 0o644
    finally:
        os.umask(old)
    assert (tmp_path / "b.txt").read_text() == "hello"
