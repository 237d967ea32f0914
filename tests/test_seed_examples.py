"""What people were promised runs as it was written: mounts of three keys, `exists` without a call, `copy_to`, `.fs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import StorageConfigError, StorageManager, StoragePathError
from genro_storage.backends import StorageBackend
from tests.servers.s3 import S3Endpoint


@pytest.fixture
def local(tmp_path: Path) -> Iterator[StorageManager]:
    storage = StorageManager()
    storage.configure([{"name": "local", "type": "local", "path": str(tmp_path)}])
    yield storage
    storage.close()


@pytest.fixture
def storage(seaweedfs: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageManager]:
    """Entries with nothing but name, type and bucket or path: where S3 is and who we are stands in the environment."""
    environment = {
        "AWS_ENDPOINT_URL": seaweedfs.endpoint,
        "AWS_ACCESS_KEY_ID": seaweedfs.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key,
        "AWS_DEFAULT_REGION": seaweedfs.region,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = seaweedfs.make_bucket()
    seaweedfs.checked("PUT", bucket, "file.txt", body=b"from the bucket\n")
    storage = StorageManager()
    storage.configure(
        [
            {"name": "s3", "type": "s3", "bucket": bucket},
            {"name": "local", "type": "local", "path": str(tmp_path)},
        ]
    )
    yield storage
    storage.close()


# --- from pathlib ---


def test_exists_without_a_call_then_read(local: StorageManager, tmp_path: Path) -> None:
    node = local.node("local:file.txt")
    content = None
    if node.exists:
        content = node.read()
    assert content is None
    (tmp_path / "file.txt").write_text("Grüße\n", encoding="utf-8")
    if node.exists:
        content = node.read()
    assert content == "Grüße\n"
    assert not local.node("local:other.txt").exists


def test_read_as_bytes_and_by_open(local: StorageManager, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"\x00\xff")
    assert local.node("local:file.txt").read(mode="rb") == b"\x00\xff"
    local.node("local:file.txt").write("new")
    with local.node("local:file.txt").open() as f:
        content = f.read()
    assert content == "new"


def test_slashes_are_slashes_everywhere(local: StorageManager) -> None:
    assert local.node("local:folder/file.txt").path == "folder/file.txt"
    with pytest.raises(StoragePathError, match="use '/'"):
        local.node("local:folder\\file.txt")


def test_replacing_needs_no_deletion_first(local: StorageManager, tmp_path: Path) -> None:
    """Deleting and then writing is not atomic; writing is."""
    node = local.node("local:file.txt")
    node.write("old")
    before = (tmp_path / "file.txt").stat().st_ino
    reading = (tmp_path / "file.txt").open()
    node.write("new")
    with reading:
        assert reading.read() == "old"
    assert node.read() == "new"
    assert (tmp_path / "file.txt").stat().st_ino != before


# --- from boto3 and fsspec ---


def test_copy_from_s3_to_local(storage: StorageManager, tmp_path: Path) -> None:
    storage.node("s3:file.txt").copy_to("local:file.txt")
    assert (tmp_path / "file.txt").read_bytes() == b"from the bucket\n"


def test_read_from_s3(storage: StorageManager) -> None:
    content = storage.node("s3:file.txt").read(mode="rb")
    assert content == b"from the bucket\n"
    with storage.node("s3:file.txt").open() as f:
        text = f.read()
    assert text == "from the bucket\n"
    assert not storage.node("s3:no-such-file.txt").exists


def test_delete_from_s3(storage: StorageManager) -> None:
    node = storage.node("s3:folder/file.txt")
    node.write("a")
    storage.node("s3:folder/file.txt2").write("b")
    node.delete()
    assert not node.exists
    node.delete()
    assert [child.name for child in storage.node("s3:folder").children()] == ["file.txt2"]


def test_the_file_system_underneath(storage: StorageManager) -> None:
    storage.node("s3:folder/a.txt").write("a")
    backend = storage.get_backend("s3")
    fs = backend.fs
    assert fs.cat_file(backend.native_path("file.txt")) == b"from the bucket\n"
    assert fs.ls(backend.native_path("folder"), detail=False) == [backend.native_path("folder/a.txt")]


# --- a backend of one's own ---


class CustomBackend(StorageBackend):
    """Five methods over a dict, as the page on extending shows."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def read_bytes(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write_bytes(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def exists(self, path: str) -> bool:
        return path in self.files

    def delete(self, path: str) -> None:
        self.files.pop(path, None)

    def list_dir(self, path: str) -> list[str]:
        start = f"{path}/" if path else ""
        below = [name.removeprefix(start) for name in self.files if name.startswith(start)]
        return sorted({name.partition("/")[0] + name.partition("/")[1] for name in below})


def test_a_registered_backend(local: StorageManager, tmp_path: Path) -> None:
    local.register_backend_type("custom", CustomBackend)
    local.configure([{"name": "mine", "type": "custom"}])
    node = local.node("mine:folder/file.txt")
    node.write("hello")
    assert node.exists
    node.copy_to("local:file.txt")
    assert (tmp_path / "file.txt").read_text() == "hello"
    assert [child.name for child in local.node("mine:folder").children()] == ["file.txt"]
    node.delete()
    assert not node.exists
    with pytest.raises(StorageConfigError, match="Unknown storage type"):
        StorageManager([{"name": "mine", "type": "custom"}])
