"""The temp backend: the suite of all backends, private modes, a directory for each process, nothing left behind."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.backends.local import LocalStorage
from genro_storage.backends.memory import MemoryBackend
from genro_storage.backends.options import Duration, Octal
from genro_storage.backends.temp import TempBackend, TempOptions
from genro_storage.exceptions import StorageError, StoragePathError, StorageQuotaError
from genro_storage.manager import BUILTIN_MOUNTS
from genro_storage.tempfiles import TempFileManager
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.types import WriteOptions


def storage(folder: Path, **keys: object) -> TempBackend:
    return TempBackend(TempOptions(base_dir=str(folder / "base"), min_free_bytes=0, **keys))  # type: ignore[arg-type]


class TestTemp(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk"),
        *("parts", "unfinished"),
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


# --- limits and ages ---

KIB = 1024


def stored(backend: TempBackend) -> list[str]:
    """Every file in the directory of the nodes, unfinished ones included."""
    return [name for _, _, names in os.walk(backend.temp_manager.nodes_dir) for name in names]


def test_what_is_written_stays_within_the_limits(tmp_path: Path) -> None:
    """By any verb; what was begun is gone, and an old file stays as it was."""
    backend = storage(tmp_path, max_file_bytes=10 * KIB)
    big = MemoryBackend(MemoryBackend.Options())
    big.put("big", bytes(11 * KIB))
    other = LocalStorage(LocalStorage.Options(path=str(tmp_path), file_mode=Octal(0o600), dir_mode=Octal(0o700)))
    other.put("big", bytes(11 * KIB))
    backend.put("old", bytes(KIB))
    writer = backend.writer("old")
    writer.write(bytes(9 * KIB))
    with pytest.raises(StorageQuotaError, match="max_file_bytes"):
        writer.write(bytes(2 * KIB))
    writer.discard()
    editor = backend.edit("old", "a")
    with pytest.raises(StorageQuotaError, match="max_file_bytes"):
        editor.write(bytes(10 * KIB))
    editor.close()
    for act in (
        lambda: backend.put("new", bytes(11 * KIB)),
        lambda: backend.writer("new", WriteOptions(size=11 * KIB)),
        lambda: backend.copy_from(other, "big", "new"),
        lambda: backend.rename_from(other, "big", "new"),
    ):
        with pytest.raises(StorageQuotaError, match="max_file_bytes"):
            act()
    assert stored(backend) == ["old"]
    assert backend.get("old")[0] == bytes(KIB)
    assert other.stat("big").size == 11 * KIB
    backend.close()


def test_max_files_counts_what_is_there(tmp_path: Path) -> None:
    """Replacing is no new file; deleting makes room; so does what expires."""
    backend = storage(tmp_path, max_files=2)
    for name in "ab":
        backend.put(name, b"1")
    backend.put("a", b"2")
    with pytest.raises(StorageQuotaError, match="max_files"):
        backend.put("c", b"1")
    with pytest.raises(StorageQuotaError, match="max_files"):
        backend.writer("c")
    assert sorted(stored(backend)) == ["a", "b"]
    backend.delete("a")
    backend.put("c", b"1")
    backend.temp_manager._clocks.offset += 3601
    backend.put("d", b"1")
    assert stored(backend) == ["d"]
    backend.close()


def test_the_quota_of_a_mount(tmp_path: Path) -> None:
    backend = storage(tmp_path, max_total_bytes=10 * KIB)
    backend.put("a", bytes(6 * KIB))
    with pytest.raises(StorageQuotaError, match="max_total_bytes"):
        backend.put("b", bytes(5 * KIB))
    assert stored(backend) == ["a"]
    backend.close()


@pytest.mark.parametrize("limit", [{"max_files": 2}, {"max_total_bytes": 5 * KIB}, {"max_file_bytes": 2 * KIB}])
def test_a_directory_renamed_into_the_mount_is_charged(tmp_path: Path, limit: dict[str, int]) -> None:
    """As its files would be one by one; a renamed file too; and within the mount nothing is charged twice."""
    (tmp_path / "out").mkdir()
    modes = {"file_mode": Octal(0o600), "dir_mode": Octal(0o700)}
    other = LocalStorage(LocalStorage.Options(path=str(tmp_path / "out"), **modes))
    for name in ("d/a", "d/e/b", "d/e/c"):
        other.put(name, bytes(2 * KIB if name != "d/a" else 3 * KIB))
    backend = storage(tmp_path, **limit)
    with pytest.raises(StorageQuotaError, match=next(iter(limit))):
        backend.rename_from(other, "d", "d")
    assert stored(backend) == []
    assert sorted(os.listdir(tmp_path / "out/d")) == ["a", "e"]
    backend.rename_from(other, "d/e", "e") if "max_files" in limit else backend.rename_from(other, "d/e/b", "b")
    backend.rename_from(backend, *(("e", "f") if "max_files" in limit else ("b", "f")))
    if "max_files" in limit:
        with pytest.raises(StorageQuotaError, match="max_files"):
            backend.put("more", b"")
    backend.close()


def test_empty_directories_expire(tmp_path: Path) -> None:
    """When nothing happened in them for `max_age` seconds; the base of the mount stays."""
    backend = storage(tmp_path, path="sub/dir", max_age=Duration(100), background=False)
    backend.put("a/b/c", b"1")
    backend.mkdir("empty")
    clocks, top = backend.temp_manager._clocks, Path(backend.temp_manager.nodes_dir) / "sub/dir"
    clocks.offset += 90
    assert backend.temp_manager.cleanup() == 0
    assert sorted(os.listdir(top)) == ["a", "empty"]
    clocks.offset += 101
    assert backend.temp_manager.cleanup() == 1
    assert os.listdir(top) == []
    backend.put("a/b/c", b"1")
    backend.close()


def test_the_scratch_of_a_manager(tmp_path: Path) -> None:
    """A mount that says so, before the one named temp."""
    entries = [
        {"name": name, "type": "temp", "base_dir": str(tmp_path / name), "min_free_bytes": 0, "scratch": name == "work"}
        for name in ("temp", "work")
    ]
    with StorageManager([*entries, {"name": "mem", "type": "memory"}]) as storage:
        node = storage.node("mem:report.csv")
        node.write_text("a")
        with node.local_path() as path:
            assert path.startswith(str(tmp_path / "work"))
            assert os.path.basename(path) == "report.csv"


def test_a_fresh_node(tmp_path: Path) -> None:
    with StorageManager([{"name": "tmp", "type": "temp", "base_dir": str(tmp_path / "base")}]) as storage:
        node, other = (storage.temp("tmp").node(suffix=".csv", prefix="r-") for _ in range(2))
        assert node.basename.startswith("r-")
        assert node.basename.endswith(".csv")
        assert node != other
        assert not node.exists
        node.write_text("a")
        assert os.listdir(storage.temp("tmp").nodes_dir) == [node.basename]
        with pytest.raises(StoragePathError):
            storage.temp("tmp").node(suffix="/x")
    with TempFileManager(tmp_path / "base") as manager, pytest.raises(StorageError, match=r"storage\.temp"):
        manager.node()


def test_the_builtin_mount_has_no_limits_of_number_and_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMP_FILE_BASE_DIR", str(tmp_path / "base"))
    storage = StorageManager()
    storage.configure([dict(entry) for entry in BUILTIN_MOUNTS if entry["name"] == "temp"])
    assert (storage.temp().max_files, storage.temp().max_file_bytes) == (None, None)
    storage.close()
