"""The suites that ship with the package: variants of mounts, real S3 servers, and every pair of storages."""

from __future__ import annotations

import itertools
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from genro_storage import table
from genro_storage.backends import _BUILTIN as BUILTIN
from genro_storage.backends import StorageBackend
from genro_storage.config import Config
from genro_storage.testing import OBJECT_STORE, BackendSuite, TransferSuite
from genro_storage.testing.transfer_sync import GIVEN, SyncTransfers
from tests.servers.s3 import S3Endpoint
from tests.servers.samba import Samba


def backend_of(**entry: Any) -> StorageBackend:
    """The backend of one mount entry, as a manager builds it."""
    entries = table.entries_of(Config([{"name": "m", **entry}], directory=""))
    return table.Builder(uuid.uuid4().hex, {}).build(entries, table.Table()).mounts["m"].backend


class TestLocalFollowingLinks(BackendSuite):
    lacks = OBJECT_STORE | {
        *("atomic_if_match", "content_type", "delete_many", "hashes", "implied_dirs", "metadata", "ordered", "walk")
    }

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return backend_of(type="local", path=str(tmp_path), symlinks="follow", fsync=True)


class TestLocalRefusingLinks(BackendSuite):
    lacks = TestLocalFollowingLinks.lacks | {"symlink"}

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        return backend_of(type="local", path=str(tmp_path), symlinks="refuse")


class TestLocalBelow(BackendSuite):
    """A directory of another mount is a storage like any other."""

    lacks = TestLocalFollowingLinks.lacks

    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        (tmp_path / "deep/down").mkdir(parents=True)
        return backend_of(type="local", path=str(tmp_path)).rooted("deep/down")


class TestMemoryBelow(BackendSuite):
    lacks = OBJECT_STORE | {
        *("free_space", "hashes", "implied_dirs", "keeps_mode", "metadata", "readlink", "surrogates"),
        *("set_mode", "symlink"),
    }

    @pytest.fixture
    def backend(self) -> StorageBackend:
        backend = backend_of(type="memory", path="deep")
        backend.mkdir("down")
        return backend.rooted("down")


_numbers = itertools.count(1)


def entry_in(bucket: Mapping[str, str]) -> Mapping[str, str]:
    """A mount entry of a place of its own in a bucket that all cases share."""
    return {"type": "s3", **bucket, "path": f"case {next(_numbers)}"}


@pytest.fixture(scope="session")
def seaweedfs_bucket(seaweedfs: S3Endpoint) -> Mapping[str, str]:
    return seaweedfs.options(seaweedfs.make_bucket())


@pytest.fixture(scope="session")
def ministack_bucket(ministack: S3Endpoint) -> Mapping[str, str]:
    return ministack.options(ministack.make_bucket())


@pytest.fixture(scope="session")
def seaweedfs_versioned(seaweedfs: S3Endpoint) -> Mapping[str, str]:
    return seaweedfs.options(seaweedfs.make_bucket(versioning=True))


@pytest.fixture(scope="session")
def ministack_versioned(ministack: S3Endpoint) -> Mapping[str, str]:
    return ministack.options(ministack.make_bucket(versioning=True))


class TestSeaweedFS(BackendSuite):
    """A bucket without versions, which nothing but the server knows."""

    lacks = frozenset(
        {
            *("edit", "free_space", "keeps_mode", "public_url", "readlink", "real_dirs", "rename_from", "set_mtime"),
            *("set_mode", "surrogates", "symlink", "tells_missing"),
        }
    )
    unkept = frozenset({"ordered", "versions"})
    emptied_stay = late_judge = True

    @pytest.fixture
    def backend(self, seaweedfs_bucket: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(seaweedfs_bucket))
        yield backend
        backend.close()


class TestMiniStack(BackendSuite):
    """Lists as AWS does; forgets the tags of a multipart upload."""

    lacks = TestSeaweedFS.lacks
    unkept = frozenset({"tags", "versions"})

    @pytest.fixture
    def backend(self, ministack_bucket: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(ministack_bucket))
        yield backend
        backend.close()


class TestSeaweedFSExact(TestSeaweedFS):
    """The same without obstore."""

    @pytest.fixture
    def backend(self, seaweedfs_bucket: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(seaweedfs_bucket), engine="exact")
        yield backend
        backend.close()


class TestMiniStackExact(TestMiniStack):
    """The same without obstore."""

    @pytest.fixture
    def backend(self, ministack_bucket: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(ministack_bucket), engine="exact")
        yield backend
        backend.close()


class TestSeaweedFSVersioned(BackendSuite):
    lacks = TestSeaweedFS.lacks
    unkept = frozenset({"ordered"})
    emptied_stay = late_judge = True

    @pytest.fixture
    def backend(self, seaweedfs_versioned: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(seaweedfs_versioned))
        yield backend
        backend.close()


class TestMiniStackVersioned(BackendSuite):
    lacks = TestSeaweedFS.lacks
    unkept = frozenset({"tags"})

    @pytest.fixture
    def backend(self, ministack_versioned: Mapping[str, str]) -> Iterator[StorageBackend]:
        backend = backend_of(**entry_in(ministack_versioned))
        yield backend
        backend.close()


# --- every type ---

SUITES = {
    "azure": "backends.test_azure:TestAzureVersions",
    "base64": "backends.test_base64:TestBase64",
    "fsspec": "backends.test_fsspec:TestFile",
    "ftp": "backends.test_ftp:TestFtp",
    "ftps": "backends.test_ftp:TestFtps",
    "gcs": "backends.test_gcs:TestGcs",
    "git": "backends.test_git:TestGit",
    "github": "backends.test_github:TestGitHub",
    "http": "backends.test_http:TestHttp",
    "libarchive": "composed.test_readonly_suite:TestLibarchive",
    "local": "backends.test_local:TestLocal",
    "memory": "backends.test_memory:TestMemoryWithAll",
    "s3": "test_suites:TestSeaweedFSVersioned",
    "sftp": "backends.test_sftp:TestSftp",
    "smb": "backends.test_smb:TestSmb",
    "tar": "composed.test_readonly_suite:TestTar",
    "temp": "backends.test_temp:TestTemp",
    "webdav": "backends.test_webdav:TestWebDav",
    "zip": "composed.test_zip:TestStagedZip",
}


def test_every_type_has_its_suite() -> None:
    """So that each has its line in the table that a run of all tests prints at its end.

    But for sessions: nobody can write its files, whose names and contents its store decides (tests/sessions/test_files).
    """
    assert set(SUITES) == set(BUILTIN) - {"sessions"}
    for place in SUITES.values():
        module, _, name = place.partition(":")
        assert issubclass(getattr(import_module(f"tests.{module}"), name), BackendSuite)


# --- pairs ---


class FromLocal:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Mapping[str, object]:
        return {"type": "local", "path": str(tmp_path / "source"), "create": True}


class ToLocal:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Mapping[str, object]:
        return {"type": "local", "path": str(tmp_path / "target"), "create": True}


class FromMemory:
    @pytest.fixture
    def source(self) -> Mapping[str, object]:
        return {"type": "memory"}


class ToMemory:
    @pytest.fixture
    def target(self) -> Mapping[str, object]:
        return {"type": "memory"}


class FromS3:
    emptied_stay = True
    longest_source_name = 255

    @pytest.fixture
    def source(self, seaweedfs_bucket: Mapping[str, str]) -> Mapping[str, object]:
        return entry_in(seaweedfs_bucket)


class ToS3:
    @pytest.fixture
    def target(self, seaweedfs_bucket: Mapping[str, str]) -> Mapping[str, object]:
        return entry_in(seaweedfs_bucket)


class TestLocalToLocal(FromLocal, ToLocal, TransferSuite):
    pass


class TestLocalToMemory(FromLocal, ToMemory, TransferSuite):
    pass


class TestLocalToS3(FromLocal, ToS3, TransferSuite):
    pass


class TestMemoryToLocal(FromMemory, ToLocal, TransferSuite):
    pass


class TestMemoryToMemory(FromMemory, ToMemory, TransferSuite):
    pass


class TestMemoryToS3(FromMemory, ToS3, TransferSuite):
    pass


class TestS3ToLocal(FromS3, ToLocal, TransferSuite):
    pass


class TestS3ToMemory(FromS3, ToMemory, TransferSuite):
    pass


class TestS3ToS3(FromS3, ToS3, TransferSuite):
    pass


class FromZip:
    """An archive as a source: it is made before it is mounted."""

    writable_source = False

    @pytest.fixture
    def source(self, tmp_path: Path) -> Mapping[str, object]:
        with zipfile.ZipFile(tmp_path / "given.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in GIVEN.items():
                archive.writestr(f"d/{path}", data)
        return {"type": "zip", "file": str(tmp_path / "given.zip")}


class TestZipToLocal(FromZip, ToLocal, SyncTransfers):
    pass


class TestZipToMemory(FromZip, ToMemory, SyncTransfers):
    pass


class TestZipToS3(FromZip, ToS3, SyncTransfers):
    pass


class TestMemoryToSmb(FromMemory, TransferSuite):
    """A target that takes names which differ only in case for one. Other cases use names that SMB has not."""

    locals().update({name: None for name in dir(TransferSuite) if name.startswith("test_") and "_t25_" not in name})

    @pytest.fixture
    def target(self, samba: Samba) -> Mapping[str, object]:
        return {"type": "smb", **samba.options(samba.make_root())}
