"""The manager: nodes, the default manager, URLs, closing, pickling."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import genro_storage
from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConfigNotFoundError,
    StorageError,
    StorageMountNotFoundError,
    StoragePathError,
    StorageUnavailableError,
)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    with StorageManager(
        [{"name": "m", "type": "memory"}, {"name": "l", "type": "local", "path": str(tmp_path)}]
    ) as made:
        yield made


@pytest.fixture
def no_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.delenv("GENRO_STORAGE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    genro_storage.set_default_manager(None)
    yield tmp_path
    genro_storage.set_default_manager(None)


def test_mounts_are_told_in_order(storage: StorageManager) -> None:
    assert storage.get_mount_names() == ["m", "l"]
    assert storage.has_mount("m")
    assert not storage.has_mount("x")
    assert repr(storage) == "StorageManager(mounts=[m, l])"
    info = storage.mounts["l"]
    assert (info.name, info.type, info.permissions) == ("l", "local", "delete")
    with pytest.raises(TypeError):
        storage.mounts["x"] = info  # type: ignore[index]


def test_unknown_mounts_are_refused_with_a_hint(storage: StorageManager) -> None:
    with pytest.raises(
        StorageMountNotFoundError, match=r"Mount point 'll' not found\. Available mounts: m, l.*'l'"
    ) as caught:
        storage.node("ll:x")
    with pytest.raises(StorageMountNotFoundError, match="A path is 'mount:path'"):
        storage.node("/srv/x")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("spelling", ["m", "m:", "m:/"])
def test_roots(storage: StorageManager, spelling: str) -> None:
    node = storage.node(spelling)
    assert (node.fullpath, node.path, node.mount_name) == ("m:", "", "m")
    assert node.exists
    assert node.is_dir


def test_nodes_from_parts_nodes_and_pure_paths(storage: StorageManager) -> None:
    assert storage.node("m", "a", "b") == storage.node("m:a", "b") == storage.node("m:a/b")
    assert storage.node(PurePosixPath("m:a/b")) == storage.node("m:/a//./b/")
    other = StorageManager([{"name": "m", "type": "memory"}])
    rebound = other.node(storage.node("m:a"))
    assert rebound.manager is other
    assert rebound != storage.node("m:a")
    for bad in ("", None, "m:../x", "m:a/../b", "m:a\\b", "m:a\0b", "m:.genro-x/y", "s3://bucket/key"):
        with pytest.raises(StoragePathError):
            storage.node(bad)  # type: ignore[arg-type]
    for bad in (b"m:a", 3):
        with pytest.raises(TypeError):
            storage.node(bad)  # type: ignore[arg-type]
    assert storage.node("m:.genropy/a").path == ".genropy/a"


def test_memory_mounts_of_two_managers_share_nothing() -> None:
    """R38."""
    one, two = (StorageManager([{"name": "m", "type": "memory"}]) for _ in "ab")
    one.node("m:a").write_text("x")
    assert not two.node("m:a").exists


def test_close_ends_everything(storage: StorageManager) -> None:
    node = storage.node("m:a")
    node.write_text("x")
    storage.close()
    storage.close()
    for use in (node.read_text, lambda: storage.node("m:a"), lambda: storage.configure([])):
        with pytest.raises(StorageError, match="closed"):
            use()


def test_default_manager_has_the_builtin_mounts(no_default: Path) -> None:
    (no_default / "f.txt").write_text("here")
    assert genro_storage.default_manager().get_mount_names() == ["local", "home", "temp", "memory"]
    assert genro_storage.node("local:f.txt").read() == "here"
    genro_storage.node("local:f.txt").copy_to("memory:g.txt")
    assert genro_storage.node("memory", "g.txt").read_bytes() == b"here"
    assert genro_storage.default_manager() is genro_storage.default_manager()


def test_default_manager_is_discovered_once(no_default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_default / "genro_storage.toml").write_text('[data]\ntype = "local"\npath = "sub"\ncreate = true\n')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: id(genro_storage.default_manager()), range(32)))
    assert len(found) == 1
    genro_storage.node("data:x").write_text("1")
    assert (no_default / "sub" / "x").read_text() == "1"
    monkeypatch.setenv("GENRO_STORAGE_CONFIG", "gone.toml")
    genro_storage.set_default_manager(None)
    with pytest.raises(StorageConfigNotFoundError, match=r"gone\.toml"):
        genro_storage.node("data:x")


def test_an_account_without_a_home_directory_has_no_home_mount(
    no_default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(no_default / "gone"))
    assert genro_storage.default_manager().get_mount_names() == ["local", "temp", "memory"]


def test_builtin_mounts_may_stand_beside_others(no_default: Path) -> None:
    storage = StorageManager({"mounts": [{"name": "memory", "type": "local", "path": "."}], "builtin_mounts": True})
    assert storage.get_mount_names() == ["local", "home", "temp", "memory"]
    assert storage.mounts["memory"].type == "local"


def test_urls_only_where_allowed(storage: StorageManager, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("x")
    url = f"file://{tmp_path}/f.txt"
    with pytest.raises(StoragePathError, match="is a URL"):
        storage.node(url)
    with StorageManager(urls=True) as open_to_all:
        node = open_to_all.node(url)
        assert node.read_text() == "x"
        assert node.fullpath == url
        assert open_to_all.node(node.fullpath) == node
        assert node.parent.child("f.txt") == node
        assert open_to_all.get_mount_names() == []
        with pytest.raises(StoragePathError):
            open_to_all.node("file:///a/../b")


def test_passwords_in_urls_are_not_shown() -> None:
    with StorageManager(urls=True) as storage:
        node = storage.node("memory://user:hunter2@host/x")
        assert "hunter2" not in repr(node)
        assert node.fullpath == "memory://user:hunter2@host/x"
        with pytest.raises(StorageError) as caught:
            node.read_bytes()
        assert "hunter2" not in str(caught.value)
    with pytest.raises(StoragePathError) as refused:
        StorageManager().node("ftp://user:hunter2@host/x")
    assert "hunter2" not in str(refused.value)


def test_temp_mounts_carry_their_manager(no_default: Path) -> None:
    with StorageManager({"builtin_mounts": True, "mounts": []}) as storage:
        assert storage.temp("temp").nodes_dir
        assert storage.scratch is storage.temp()
        with pytest.raises(StorageConfigError, match="not of type temp"):
            storage.temp("memory")


# --- pickling ---


def test_equal_nodes_stay_equal_across_a_pickle(storage: StorageManager) -> None:
    node = storage.node("l:a/b")
    again = pickle.loads(pickle.dumps(node))
    assert again == node
    assert again.manager is storage
    assert pickle.loads(pickle.dumps(storage)) is storage


class Coloured(StorageNode):
    def __init__(self, manager: StorageManager, mount_name: str, path: str, version: str | None = None) -> None:
        super().__init__(manager, mount_name, path, version)
        self.colour = "none"

    def _create_node(self, manager: StorageManager, mount_name: str, path: str) -> Coloured:
        made = Coloured(manager, mount_name, path)
        made.colour = self.colour
        return made


def test_subclasses_keep_type_and_state(storage: StorageManager) -> None:
    node = Coloured(storage, "m", "d")
    node.colour = "red"
    (node / "x.txt").write_text("1")
    derived = [
        node.child("y"),
        node.parent,
        node / "z",
        *node.children(),
        *node.glob("*"),
        *(n for n, _, _ in node.walk()),
    ]
    assert {(type(one), one.colour) for one in derived} == {(Coloured, "red")}
    again = pickle.loads(pickle.dumps(node))
    assert (type(again), again.colour, again) == (Coloured, "red", node)


def _read(node: StorageNode) -> str:
    node.parent.child("from-child").write_text(f"{os.getpid()}")
    return node.read_text() + node.fullpath


def _try_memory(node: StorageNode) -> str:
    try:
        return node.read_text()
    except StorageUnavailableError as error:
        return str(error)


def test_nodes_work_in_another_process(storage: StorageManager, tmp_path: Path) -> None:
    storage.configure([{"name": "sub", "path": "l:deep", "permissions": "readwrite"}])
    storage.node("sub:f").write_text("x")
    storage.node("m:f").write_text("y")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_read, storage.node("sub:f")).result() == "xsub:f"
        assert "m:f" in pool.submit(_try_memory, storage.node("m:f")).result()
    assert storage.node("sub:from-child").read_text() != str(os.getpid())
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_try_memory, storage.node("m:f")).result() == "y"


def test_sync_calls_inside_a_running_loop(storage: StorageManager) -> None:
    """R35: nothing becomes a coroutine by context."""
    import asyncio

    async def inside() -> object:
        storage.node("m:a").write_text("x")
        return storage.node("m:a").read_text()

    assert asyncio.run(inside()) == "x"


def test_threads_leak_no_descriptor(storage: StorageManager) -> None:
    """R36."""
    before = len(os.listdir("/proc/self/fd"))

    def use(number: int) -> None:
        node = storage.node("l", f"{number}.txt")
        node.write_text("x")
        assert node.read_text() == "x"

    threads = [threading.Thread(target=use, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(storage.node("l:").children()) == 200
    assert len(os.listdir("/proc/self/fd")) <= before
