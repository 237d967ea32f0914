"""`to_base64`: text that is the content."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import (
    StorageIsADirectoryError,
    StorageManager,
    StorageNode,
    StorageNotFoundError,
    StorageQuotaError,
)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageNode]:
    keys = {"path": str(tmp_path)} if request.param == "local" else {}
    with StorageManager([{"name": "m", "type": request.param, **keys}]) as storage:
        yield storage.node("m:")


def test_to_base64(root: StorageNode) -> None:
    node = root / "a.png"
    node.write_bytes(bytes(range(256)))
    text = base64.b64encode(bytes(range(256))).decode()
    assert node.to_base64() == f"data:image/png;base64,{text}"
    assert node.to_base64(include_uri=False) == text
    assert node.to_base64("text/x; charset=utf-8") == f"data:text/x;charset=utf-8;base64,{text}"
    with pytest.raises(ValueError, match="media type"):
        node.to_base64("a,b")
    (root / "empty").write_bytes(b"")
    assert (root / "empty").to_base64() == "data:application/octet-stream;base64,"


def test_what_is_refused(root: StorageNode) -> None:
    node = root / "d/f"
    node.write_bytes(b"12345")
    assert node.to_base64(include_uri=False, max_size=5) == "MTIzNDU="
    with pytest.raises(StorageQuotaError, match="'m:d/f' is larger than max_size=4"):
        node.to_base64(max_size=4)
    with pytest.raises(StorageNotFoundError):
        (root / "missing").to_base64()
    if root.resolved_path is not None:
        with pytest.raises(StorageIsADirectoryError, match="Cannot encode directory"):
            node.parent.to_base64()
