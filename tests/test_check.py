"""`check`: one real request to each mount, told and not raised."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.cli import main
from genro_storage.exceptions import StorageMountNotFoundError, StorageNotFoundError, StorageUnavailableError
from tests.servers.s3 import S3Endpoint


def test_each_mount_is_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    storage = StorageManager(
        [
            {"name": "l", "type": "local", "path": str(tmp_path / "d")},
            {"name": "m", "type": "memory"},
            {"name": "s", "type": "s3", "bucket": "b", "endpoint": "http://127.0.0.1:1", "region": "x", "anon": True},
        ]
    )
    shutil.rmtree(tmp_path / "d")
    local, memory, s3 = storage.check()
    assert isinstance(local.error, StorageNotFoundError)
    assert (memory.name, memory.ok, memory.error) == ("m", True, None)
    assert 0 <= memory.latency < 5
    assert (s3.ok, type(s3.error)) == (False, StorageUnavailableError)
    assert storage.check("m")[0].ok
    with pytest.raises(StorageMountNotFoundError):
        storage.check("x")


def test_only_the_server_knows_of_versioning(seaweedfs: S3Endpoint) -> None:
    storage = StorageManager(
        [
            {"name": "on", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket(versioning=True))},
            {"name": "off", "type": "s3", **seaweedfs.options(seaweedfs.make_bucket())},
            {"name": "gone", "type": "s3", **seaweedfs.options("no-such-bucket")},
        ]
    )
    on, off, gone = storage.check()
    assert (on.facts, off.facts) == ({"versioning": "enabled"}, {"versioning": "off"})
    assert "no-such-bucket" in str(gone.error)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"m": {"type": "memory"}}))
    assert main(["--config", str(config), "--json", "mounts", "--check"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"m", "local"} <= {line["name"] for line in shown}
    assert all(line["ok"] for line in shown)
