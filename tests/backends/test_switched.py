"""Mounts whose path is a function: asked at every operation, by no parameter or by the first segment."""

from __future__ import annotations

import contextvars
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.backends.base import StorageBackend
from genro_storage.exceptions import StorageError, StorageNotFoundError, StoragePathError
from genro_storage.testing import OBJECT_STORE, BackendSuite

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
BASE: contextvars.ContextVar[str] = contextvars.ContextVar("base")


def of_this_tenant() -> str:
    return f"{BASE.get()}/{TENANT.get()}"


def by_name(segment: str) -> str | None:
    if segment == "broken":
        raise RuntimeError("no database")
    if segment == "none":
        return None
    return {"a": f"{BASE.get()}/tenants/a", "b": f"{BASE.get()}/tenants/b", "odd": "relative"}[segment]


def inside(segment: str) -> str:
    return {"a": "x/a", "up": "../../etc", "abs": "/x/abs"}[segment]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    BASE.set(str(tmp_path))
    for name in ("one", "two", "tenants/a", "tenants/b"):
        (tmp_path / name).mkdir(parents=True)
    with StorageManager(
        [
            {"name": "mine", "type": "local", "path": of_this_tenant},
            {"name": "all", "type": "local", "path": by_name},
            {"name": "below", "path": "all:a/deep"},
            {"name": "mem", "type": "memory", "path": inside},
            {"name": "outside", "type": "memory"},
        ]
    ) as made:
        yield made


def test_the_context_is_asked_at_every_operation(storage: StorageManager, tmp_path: Path) -> None:
    node = storage.node("mine:f/g.txt")
    for tenant in ("one", "two"):
        TENANT.set(tenant)
        assert not node.exists
        node.write_text(tenant)
        assert (tmp_path / tenant / "f/g.txt").read_text() == tenant
        assert node.resolved_path == str(tmp_path / tenant / "f/g.txt")
        assert [child.fullpath for child in node.parent.children()] == ["mine:f/g.txt"]
        assert [child.fullpath for child in storage.node("mine:").children()] == ["mine:f"]
    TENANT.set("one")
    assert node.read_text() == "one"


def test_whole_trees_move_in_the_callers_context(storage: StorageManager, tmp_path: Path) -> None:
    """Whatever thread lists, reads and writes: the mount's function is asked for who called."""
    TENANT.set("one")
    for number in range(20):
        storage.node(f"mine:t/{number}").write_text(str(number))
    storage.node("mine:t/large").write_bytes(bytes(33 << 20))
    report = storage.copy("mine:t", "outside:t")
    assert (report.files_copied, report.files_failed) == (21, 0)
    TENANT.set("two")
    assert storage.sync("outside:t", "mine:u").files_copied == 21
    assert {file.name for file in (tmp_path / "two/u").iterdir()} == {*map(str, range(20)), "large"}
    assert storage.move("mine:u", "outside:v").files_copied == 21
    assert not (tmp_path / "two/u").exists()
    assert not (tmp_path / "one/u").exists()


def test_the_first_segment_tells_the_base(storage: StorageManager, tmp_path: Path) -> None:
    storage.node("all:a/d/f").write_text("x")
    assert (tmp_path / "tenants/a/d/f").read_text() == "x"
    assert [node.fullpath for node in storage.node("all:a").children()] == ["all:a/d"]
    assert [(n.path, s.size) for n, s in storage.node("all:a").scan(recursive=True) if s.is_file] == [("a/d/f", 1)]
    assert storage.node("all:a").is_dir
    storage.node("all:a/d/f").copy_to("all:b/g")
    assert (tmp_path / "tenants/b/g").read_text() == "x"
    storage.node("all:a/d").move_to("all:b/d")
    assert storage.node("all:b/d/f").read_text() == "x"
    storage.node("below:h").write_text("y")
    assert (tmp_path / "tenants/a/deep/h").read_text() == "y"
    assert storage.node("below:h").same_place(storage.node("all:a/deep/h"))


def test_who_is_not_known_is_not_found(storage: StorageManager) -> None:
    for name in ("nobody", "none", ""):
        node = storage.node(f"all:{name}")
        assert not node.exists
        with pytest.raises(StorageNotFoundError, match="nothing is known"):
            node.children()
        with pytest.raises(StorageNotFoundError):
            storage.node(f"all:{name or 'x'}/f").write_text("x")
    with pytest.raises(StorageError, match="no database") as caught:
        storage.node("all:broken/f").read_text()
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(StoragePathError, match="Path escapes base directory"):
        storage.node("all:odd/f").read_text()


def test_inside_a_backend(storage: StorageManager) -> None:
    """R23: never out of the base, and never ``..`` to the function."""
    storage.node("mem:a/f").write_text("1")
    storage.node("mem:abs/f").write_text("2")
    assert storage.get_backend("mem").native_path("a/f") == "x/a/f"
    for door in (lambda: storage.node("mem:up/f").read_text(), lambda: storage.node("mem:up/f").write_text("x")):
        with pytest.raises(StoragePathError, match="Path escapes base directory"):
            door()
    for bad in ("mem:../f", "mem:a/../../f"):
        with pytest.raises(StoragePathError, match="traversal"):
            storage.node(bad)


def test_nodes_pickle_with_their_function(storage: StorageManager) -> None:
    node = storage.node("all:a/f")
    node.write_text("x")
    again = pickle.loads(pickle.dumps(node))
    assert again == node
    assert again.read_text() == "x"


class TestSwitchedSuite(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk")
    }

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        storage = StorageManager([{"name": "m", "type": "local", "path": lambda: str(tmp_path)}])
        return storage.get_backend("m")
