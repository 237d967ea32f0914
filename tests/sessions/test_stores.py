"""Session stores by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageConfigError, StorageManager
from genro_storage.sessions import (
    MemoryStorageBackend,
    MountStorageBackend,
    SQLiteStorageBackend,
    StorageFactory,
    StorageType,
)


def test_types_by_enum_and_value(tmp_path: Path) -> None:
    create = StorageFactory.create_storage_backend
    memory = create(StorageType.MEMORY, {})
    sqlite = create("sqlite", {"sqlite_path": tmp_path / "a.db", "session_ttl": 60})
    for store in (memory, sqlite, MemoryStorageBackend(), SQLiteStorageBackend(tmp_path / "b.db", readers=1)):
        assert store.sync.initialize() is True
        store.sync.create_session("s", "u")
        assert store.sync.get_session("s")["user_id"] == "u"
        store.sync.close()
    assert sqlite.options.session_ttl == 60
    assert (tmp_path / "b.db").exists()


def test_a_directory_node_of_any_mount(tmp_path: Path) -> None:
    """Each in turn is the owner of what the one before left."""
    node = StorageManager([{"name": "m", "type": "local", "path": str(tmp_path)}]).node("m:records")
    create = StorageFactory.create_storage_backend
    for number, store in enumerate(
        (
            MountStorageBackend(node, lease=5),
            create("mount", {"mount": node, "exclusive": True, "session_ttl": 60}),
            create(StorageType.MOUNT, {"storage": node}),
        )
    ):
        store.sync.create_session("s", "u")
        assert store.sync.append_messages("s", [{"role": "user", "content": number}]) == number + 1
        store.sync.close()
    assert [path.name for path in (tmp_path / "records").iterdir()] != []


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("sqlite", {}, "needs 'path' or 'sqlite_path'"),
        ("sqlite", {"sqlite_path": "x", "redis_url": "y"}, "no key 'redis_url'"),
        ("sqlite", {"path": "x", "sesion_ttl": 1}, "did you mean 'session_ttl'"),
        ("memory", {"path": "x"}, "no key 'path'"),
        ("memory", {"session_ttl": -1}, "above 0"),
        ("memory", {"clock": 1}, "no key 'clock'"),
        ("mount", {}, "needs 'storage' or 'mount' or 'node'"),
        ("mount", {"mount": "m:path"}, "directory node"),
        ("mount", {"mount": None, "leese": 3}, "did you mean 'lease'"),
    ],
)
def test_bad_configuration(kind: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(StorageConfigError, match=told):
        StorageFactory.create_storage_backend(kind, config)


def test_an_unknown_type() -> None:
    with pytest.raises(ValueError, match="Unsupported storage type: 'mongo'"):
        StorageFactory.create_storage_backend("mongo", {})
