"""URLs become mounts without a name: of our own type where there is one, of fsspec's otherwise."""

from __future__ import annotations

import getpass

import pytest

from genro_storage import StorageManager, retry
from genro_storage.exceptions import StorageConfigError, StorageError, StoragePathError, StorageUnavailableError
from genro_storage.urls import url_entry
from tests.servers.process import HOST, free_ports
from tests.servers.samba import Samba


@pytest.mark.parametrize(
    ("url", "given", "path"),
    [
        ("s3a://b/k", {"type": "s3", "bucket": "b"}, "/k"),
        ("gs://b/k", {"type": "gcs", "bucket": "b"}, "/k"),
        (
            "sftp://me:a%40b@h:2222/srv/x",
            {"type": "sftp", "host": "h", "port": 2222, "username": "me", "password": "a@b"},
            "/srv/x",
        ),
        ("ssh://h/x", {"type": "sftp", "host": "h", "username": getpass.getuser()}, "/x"),
        ("ftp://h/x", {"type": "ftp", "host": "h"}, "/x"),
        ("ftps://me@[::1]/x", {"type": "ftps", "host": "::1", "username": "me"}, "/x"),
        (
            "smb://WG;me:pw@h/share/a/b",
            {"type": "smb", "host": "h", "username": "me", "password": "pw", "domain": "WG", "share": "share"},
            "a/b",
        ),
        ("memory://x/y", {"type": "fsspec", "url": "memory://x/"}, "/y"),
    ],
)
def test_what_a_url_means(url: str, given: dict[str, object], path: str) -> None:
    key, entry, there = url_entry(url)
    assert (entry.given, there) == (given, path)
    assert url_entry(f"{key}/{path.lstrip('/')}")[1:] == (entry, there)  # a node finds its mount by the key


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file://tmp/x", "names no host; a local file is written 'file:///path'"),
        ("s3://[b/x", "malformed"),
        ("sftp://h:no/x", "malformed"),
        ("smb://me:hunter2@h/", "names a share: smb://h/share/path"),
        ("ftp://me:hunter2@/x", "names no host; it begins with ftp://host"),
    ],
)
def test_a_url_that_means_no_place_is_refused(url: str, told: str) -> None:
    with StorageManager(urls=True) as storage, pytest.raises(StoragePathError, match=told) as caught:
        storage.node(url)
    assert "hunter2" not in str(caught.value)


def test_a_url_without_a_host() -> None:
    with StorageManager(urls=True) as storage, pytest.raises(StorageConfigError, match="names no host or bucket"):
        storage.node("smb:///share/x")


def test_a_url_of_a_share_is_a_mount_of_it(samba: Samba) -> None:
    root = samba.make_root().strip("/")
    start = f"smb://{samba.username}:{samba.password}@{HOST}:{samba.port}/{samba.share}/{root}"
    with StorageManager(urls=True) as storage:
        node = storage.node(f"{start}/a/b.txt")
        node.write_text("x")
        assert samba.files(root) == {"a/b.txt": b"x"}
        assert node.fullpath == f"{start}/a/b.txt"
        assert storage.node(node.fullpath).read_text() == "x"
        assert [child.path for child in node.parent.children()] == [node.path]
        assert samba.password not in repr(node)
        with pytest.raises(StorageError) as caught:
            storage.node(f"{start}/none").read_text()
        assert samba.password not in str(caught.value)


def test_nobody_there_is_told_with_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)
    url = f"smb://me:hunter2@{HOST}:{free_ports(1)[0]}/share/x"
    with StorageManager(urls=True) as storage, pytest.raises(StorageUnavailableError, match="smb://me:") as caught:
        storage.node(url).read_bytes()
    assert "hunter2" not in str(caught.value)
