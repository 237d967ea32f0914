"""Entries become mounts: keys, aliases, relative mounts, what is kept and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends import StorageBackend
from genro_storage.exceptions import (
    StorageConfigError,
    StorageMountNotFoundError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "memory"}, "missing required field: 'name'"),
        ({"name": "m"}, "missing required field: 'protocol' or 'type'"),
        ({"name": "m", "type": "local"}, "missing required field: 'base_path' or 'path'"),
        ({"name": "m", "type": "nope"}, "Unknown storage type 'nope'"),
        ({"name": "m", "type": "memory", "protocol": "local"}, "'protocol' says 'local'"),
        ({"name": "m", "type": "memory", "permissions": "all"}, "Invalid permissions 'all'"),
        ({"name": "m", "type": "memory", "retries": -1}, "'retries' is 0 or more"),
        ({"name": "m", "type": "memory", "retries": "many"}, "key 'retries'"),
        (
            {"name": "m", "type": "local", "path": "/", "symlink": "follow"},
            "unknown key 'symlink'.*did you mean 'symlinks'",
        ),
        ({"name": "m", "type": "local", "path": "/", "base_path": "/tmp"}, "given different values"),
        ({"name": "m", "type": "local", "path": "/", "symlinks": "maybe"}, "symlinks"),
        ({"name": "a:b", "type": "memory"}, "not a mount name"),
        ({"name": "", "type": "memory"}, "not a mount name"),
        ({"name": "x" * 65, "type": "memory"}, "not a mount name"),
        ({"name": "m", "path": "nowhere:x"}, "Parent mount 'nowhere' not found"),
        ({"name": "m", "type": "relative"}, "'parent:sub'"),
    ],
)
def test_a_bad_entry_is_refused_and_nothing_applies(entry: dict[str, Any], message: str) -> None:
    storage = StorageManager([{"name": "kept", "type": "memory"}])
    with pytest.raises(StorageConfigError, match=message):
        storage.configure([{"name": "other", "type": "memory"}, entry])
    assert storage.get_mount_names() == ["kept"]


def test_duplicates_circles_and_needed_parents() -> None:
    storage = StorageManager()
    with pytest.raises(StorageConfigError, match="'m' is configured twice"):
        storage.configure([{"name": "m", "type": "memory"}] * 2)
    with pytest.raises(StorageConfigError, match="circle: a → b → a"):
        storage.configure([{"name": "a", "path": "b:x"}, {"name": "b", "path": "a:y"}])
    storage.configure([{"name": "child", "path": "parent:x"}, {"name": "parent", "type": "memory"}])
    with pytest.raises(StorageConfigError, match="'parent' is needed by child"):
        storage.delete_mount("parent")
    storage.delete_mount("child")
    storage.delete_mount("parent")
    with pytest.raises(StorageMountNotFoundError):
        storage.delete_mount("parent")


def test_local_base_directory_is_checked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    storage = StorageManager()
    with pytest.raises(StorageNotFoundError, match="mount 'm'"):
        storage.configure([{"name": "m", "type": "local", "path": str(tmp_path / "gone")}])
    with pytest.raises(StorageNotADirectoryError, match="mount 'm'"):
        storage.configure([{"name": "m", "type": "local", "path": str(tmp_path / "file")}])
    storage.configure([{"name": "m", "type": "local", "path": str(tmp_path / "new"), "create": True}])
    assert (tmp_path / "new").is_dir()


def test_values_from_the_environment_are_coerced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GS_FLAG", "true")
    monkeypatch.setenv("GS_RETRIES", "7")
    storage = StorageManager(
        {"m": {"type": "local", "path": str(tmp_path), "create": "${GS_FLAG}", "retries": "${GS_RETRIES}"}}
    )
    assert storage._mounts["m"].guard.policy.retries == 7
    assert storage.get_backend("m").options.create is True


@pytest.mark.parametrize("path", ["/tmp/a:b", "C:\\data"])
def test_an_explicit_type_is_never_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """R50."""
    monkeypatch.chdir(tmp_path)
    place = str(tmp_path) + path if path.startswith("/") else path
    storage = StorageManager([{"name": "m", "type": "local", "path": place, "create": True}])
    storage.node("m:f").write_text("x")
    assert Path(place, "f").read_text() == "x"


def test_relative_mounts(tmp_path: Path) -> None:
    storage = StorageManager(
        [
            {"name": "deep", "path": "sub:deeper"},
            {"name": "sub", "path": "base:a/b", "permissions": "readwrite"},
            {"name": "base", "type": "local", "path": str(tmp_path)},
        ]
    )
    storage.node("deep:f.txt").write_text("x")
    assert storage.node("base:a/b/deeper/f.txt").read_text() == "x"
    assert storage.node("deep:f.txt").resolved_path == str(tmp_path / "a/b/deeper/f.txt")
    assert storage.node("deep:f.txt").same_place(storage.node("base:a/b/deeper/f.txt"))
    with pytest.raises(StoragePermissionError, match="'readwrite'"):
        storage.node("deep:f.txt").delete()
    with pytest.raises(StoragePathError):
        storage.configure([{"name": "out", "path": "base:a/../.."}])
    with pytest.raises(StorageConfigError, match="unknown key 'bucket'"):
        storage.configure([{"name": "out", "path": "base:a", "bucket": "b"}])


def test_children_follow_a_reconfigured_parent(tmp_path: Path) -> None:
    """R40."""
    for name in ("one", "two"):
        (tmp_path / name / "s").mkdir(parents=True)
        (tmp_path / name / "s" / "f").write_text(name)
    storage = StorageManager(
        [{"name": "base", "type": "local", "path": str(tmp_path / "one")}, {"name": "c", "path": "base:s"}]
    )
    node = storage.node("c:f")
    assert node.read_text() == "one"
    storage.configure([{"name": "base", "type": "local", "path": str(tmp_path / "two")}])
    assert node.read_text() == "two"
    storage.delete_mount("c")
    with pytest.raises(StorageMountNotFoundError):
        node.read_text()


def test_unchanged_mounts_are_kept_and_memory_survives_a_change() -> None:
    storage = StorageManager([{"name": "m", "type": "memory"}, {"name": "n", "type": "memory"}])
    before = storage._mounts["m"]
    storage.node("m:a").write_text("x")
    storage.node("n:a").write_text("y")
    storage.configure([{"name": "n", "type": "memory", "permissions": "readonly"}])
    assert storage._mounts["m"] is before
    assert storage.node("n:a").read_text() == "y"


class Keywords(StorageBackend):
    def __init__(self, colour: str, size: int = 3) -> None:
        super().__init__()
        self.colour, self.size = colour, size


def test_custom_types_by_constructor_keywords() -> None:
    storage = StorageManager()
    storage.register_backend_type("custom", Keywords)
    storage.configure([{"name": "c", "type": "custom", "colour": "red"}])
    backend = storage.get_backend("c")
    assert isinstance(backend, Keywords)
    assert (backend.colour, backend.size) == ("red", 3)
    with pytest.raises(StorageConfigError, match="missing required field: 'colour'"):
        storage.configure([{"name": "c", "type": "custom"}])
    with pytest.raises(StorageConfigError, match=r"unknown key 'color'.*did you mean 'colour'"):
        storage.configure([{"name": "c", "type": "custom", "color": "red"}])
    with pytest.raises(StorageConfigError, match="not a subclass"):
        storage.register_backend_type("bad", dict)
    with pytest.raises(StorageConfigError, match="exists already"):
        storage.register_backend_type("local", Keywords)
    with pytest.raises(StorageConfigError, match="not a name"):
        storage.register_backend_type("a b", Keywords)
    other = StorageManager()
    with pytest.raises(StorageConfigError, match="Unknown storage type 'custom'"):
        other.configure([{"name": "c", "type": "custom", "colour": "red"}])
