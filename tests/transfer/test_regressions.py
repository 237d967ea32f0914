"""Regressions of transfers that need a real server, or something that fails or goes meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, transfer
from genro_storage.exceptions import StorageConflictError
from genro_storage.mount import Mount
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .trees import at, files, plant


@pytest.fixture
def proxy(ministack: S3Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(ministack.endpoint) as proxy:
        yield proxy


@pytest.fixture
def storage(ministack: S3Endpoint, proxy: FaultProxy, tmp_path: Path) -> Iterator[StorageManager]:
    keys = ministack.through(proxy.endpoint).options(ministack.make_bucket())
    local = {"name": "l", "type": "local", "path": str(tmp_path)}
    with StorageManager([local, {"name": "s3", "type": "s3", **keys}]) as made:
        yield made


def requests(proxy: FaultProxy) -> Counter[str]:
    return Counter("LIST" if "list-type" in one.query else one.method for one in proxy.log)


def test_requests_of_a_hundred_small_files(storage: StorageManager, proxy: FaultProxy) -> None:
    """R32: one listing and one GET each; what is up to date at most one HEAD; a stored MD5 one HEAD."""
    contents = {f"{number:03}.txt": b"x" * (100 + number) for number in range(100)}
    for name, data in contents.items():
        storage.node("s3:d", name).write_bytes(data)
    source, target = "s3:d/", storage.node("l:copy")
    proxy.forget()
    assert storage.node("s3:d").copy_to(target).children()[99].read_bytes() == contents["099.txt"]
    seen = requests(proxy)
    assert seen["LIST"] <= 2  # one tells that the source is a directory
    assert seen["GET"] <= 101
    assert sum(seen.values()) <= 103
    for skip, heads in (("hash", 100), ("size", 0), ("mtime", 100)):  # a listing tells the time of the upload
        proxy.forget()
        assert storage.copy(source, target, skip=skip).files_skipped == 100
        seen = requests(proxy)
        assert seen["LIST"] <= 2
        assert seen["GET"] <= 1
        assert seen["HEAD"] <= heads
    proxy.forget()
    assert len(storage.node("s3:d/007.txt").md5hash()) == 32
    assert requests(proxy) == {"HEAD": 1}


def fails(*given: object) -> bool:
    raise RuntimeError("a fault of the user's")


@pytest.mark.parametrize("verb", ["copy", "move", "sync"])
@pytest.mark.parametrize("keys", [{"filter": fails}, {"skip": "custom", "skip_fn": fails}], ids=["filter", "skip_fn"])
def test_a_function_that_raises_loses_nothing(tmp_path: Path, verb: str, keys: dict[str, Any]) -> None:
    """R52: neither the source nor what the target has; the report tells each file it was asked about."""
    with StorageManager({"l": {"type": "local", "path": str(tmp_path)}, "m": {"type": "memory"}}) as storage:
        for mount in ("l:a", "m:b"):
            for name in ("f", "d/g"):
                storage.node(mount, name).write(f"of {mount}")
        storage.node("m:b/only").write("of the target")
        options = {**keys, "delete": True} if verb == "sync" else keys
        report = getattr(storage, verb)("l:a/", "m:b", errors="report", **options)
        for mount in ("l:a", "m:b"):
            assert [storage.node(mount, name).read() for name in ("f", "d/g")] == [f"of {mount}"] * 2
        assert report.files_copied == 0
        if "filter" in keys:
            assert storage.node("m:b/only").exists()
            assert {"'f'", "'d/g'"} <= {warning.rpartition(" ")[2] for warning in report.warnings}
            assert all("filter raised RuntimeError: a fault of the user's" in warning for warning in report.warnings)
        else:
            assert report.files_failed == 2


def test_an_error_of_the_source_names_the_source(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(local, d__gone=b"1", d__busy=b"2", d__fine=b"3")
    (tmp_path / "l/d/link").symlink_to("nowhere")
    copy_from = other.backend.copy_from

    def changed(source: Any, source_path: str, *rest: Any, **how: Any) -> Any:
        if source_path == "d/busy":
            raise StorageConflictError("changed", retryable=True)
        return copy_from(source, source_path, *rest, **how)

    monkeypatch.setattr(other.backend, "copy_from", changed)

    def unlinked(place: Any, relpath: str) -> bool:
        if relpath == "gone":
            (tmp_path / "l/d/gone").unlink()
        return True

    report = transfer.copy(at(local, "d"), at(other, "t"), filter=unlinked, errors="report", overwrite=True)
    assert sorted(failure.relpath for failure in report.failures) == ["busy", "gone", "link"]
    assert all(f"'l:d/{failure.relpath}'" in str(failure.error) for failure in report.failures)
    assert files(other) == {"t/fine": b"3"}
