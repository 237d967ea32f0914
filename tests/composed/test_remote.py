"""Archives at URLs, read and written through fsspec: `target_protocol`, `target_options`."""

from __future__ import annotations

import http.server
import io
import socket
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from genro_storage import StorageManager
from genro_storage.exceptions import (
    StorageConfigError,
    StorageError,
    StorageNotFoundError,
    StorageUnavailableError,
    UnsupportedOperation,
)

from ..servers.s3 import S3Endpoint


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("d/f", "in the archive")
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("d/f")
        entry.size = 14
        tar.addfile(entry, io.BytesIO(b"in the archive"))
    return made.getvalue()


MADE = {"zip": zipped, "tar": tarred, "libarchive": tarred}


def mounted(kind: str, **keys: Any) -> StorageManager:
    return StorageManager([{"name": "m", "type": "memory"}, {"name": "a", "type": kind, **keys}])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "www"
    folder.mkdir()
    for kind, made in MADE.items():
        (folder / kind).write_bytes(made())
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("kind", MADE)
def test_by_url_and_by_protocol(kind: str, web: str) -> None:
    for keys in (
        {"file": f"http://{web}/{kind}"},
        {"file": f"http://{web}/{kind}", "target_protocol": "http"},
        {"file": f"http://{web}/{kind}?version=1"},
        {"file": f"{web}/{kind}", "target_protocol": "http"},
        {"file": f"{web}/{kind}", "target_protocol": "http", "target_options": {"block_size": 1 << 16}},
    ):
        with mounted(kind, **keys) as storage:
            assert storage.node("a:d/f").read() == "in the archive"
            assert storage.node("a:d/f").read_bytes(3, 6) == b"the"
            assert [node.path for node in storage.node("a:").children()] == ["d"]


@pytest.mark.parametrize("kind", MADE)
def test_the_options_reach_the_file_system(kind: str, ministack: S3Endpoint) -> None:
    account = {"key": ministack.access_key, "secret": ministack.secret_key}
    options = account | {"endpoint_url": ministack.endpoint, "client_kwargs": {"region_name": ministack.region}}
    key = f"{ministack.make_bucket()}/d/archive"
    fsspec.filesystem("s3", skip_instance_cache=True, **options).pipe_file(key, MADE[kind]())
    with mounted(kind, file=key, target_protocol="s3", target_options=options) as storage:
        assert storage.node("a:d/f").read() == "in the archive"
        shown = repr(storage.mounts["a"].options)
        assert ministack.secret_key not in shown
        assert ministack.endpoint in shown


def test_an_archive_is_written_to_a_url() -> None:
    """What is staged is put there as a whole; the next mount reads it, and a change goes beside what was there."""
    url = f"memory://{uuid.uuid4().hex}/new.zip"
    with mounted("zip", file=url, mode="w") as storage:
        storage.node("a:d/f").write("new")
        assert not fsspec.filesystem("memory").exists(url)
    with mounted("zip", file=url, mode="a") as storage:
        storage.node("a:g").write("more")
    with mounted("zip", file=url) as storage:
        assert {node.path: node.read() for node, stat in storage.node("a:").scan(recursive=True) if stat.is_file} == {
            "d/f": "new",
            "g": "more",
        }
        fsspec.filesystem("memory").rm(url)
        with pytest.raises(StorageUnavailableError, match="is not there"):
            storage.node("a:g").read()


@pytest.mark.parametrize(
    ("keys", "error", "told"),
    [
        ({"file": "http://h/a", "target_protocol": "s3"}, StorageConfigError, "says 'http://'"),
        ({"file": "a.zip", "target_options": {"anon": True}}, StorageConfigError, "'file' is none"),
        ({"file": "m:b", "target_protocol": "s3"}, StorageConfigError, "'file' is none"),
        ({"file": "s3://", "target_protocol": "s3"}, StorageConfigError, "names no file"),
        ({"file": "nosuch://h/a.zip"}, StorageError, "nosuch"),
        ({"file": "http://h/a.zip", "mode": "w"}, UnsupportedOperation, "a.zip"),
        ({"file": "file:///no/such.zip"}, StorageNotFoundError, "no archive"),
        ({"file": "a.zip", "target_option": {}}, StorageConfigError, "did you mean 'target_options'"),
    ],
)
def test_what_is_refused_when_configured(keys: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        mounted("zip", **keys)


def test_nothing_connects_before_use_and_no_password_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with mounted("zip", file=f"ftp://user:s3cret@{address}/a.zip", retries=0) as storage:
        assert storage.mounts["a"].options["file"] == "***"
        with pytest.raises(StorageUnavailableError) as caught:
            storage.node("a:f").read()
    assert "s3cret" not in f"{caught.value}"


def test_a_local_file_may_be_told_as_a_url(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped())
    for keys in ({"file": f"file://{tmp_path}/a.zip"}, {"file": f"{tmp_path}/a.zip", "target_protocol": "file"}):
        with mounted("zip", **keys) as storage:
            assert storage.node("a:d/f").read() == "in the archive"
