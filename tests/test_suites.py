"""The suite of backends: variants of mounts, real S3 servers, and each type in its place."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from genro_storage import table
from genro_storage.backends import _BUILTIN as BUILTIN
from genro_storage.backends import StorageBackend
from genro_storage.config import Config
from genro_storage.testing import OBJECT_STORE, BackendSuite
from tests.servers.s3 import S3Endpoint


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

    But for sessions: nobody can write its files; its store decides names and contents (tests/sessions/test_files).
    """
    assert set(SUITES) == set(BUILTIN) - {"sessions"}
    for place in SUITES.values():
        module, _, name = place.partition(":")
        assert issubclass(getattr(import_module(f"tests.{module}"), name), BackendSuite)
