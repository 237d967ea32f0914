"""The Azure servers, driven by the two clients that the backend may use."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobSasPermissions, ContainerClient, ContentSettings, generate_blob_sas

from tests.servers.azure import AzureEndpoint
from tests.servers.faultproxy import FaultProxy


@pytest.fixture(params=["azurite", "azure_versions"])
def server(request: pytest.FixtureRequest) -> AzureEndpoint:
    """Each Azure server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def container(server: AzureEndpoint) -> Iterator[ContainerClient]:
    """A fresh container."""
    with server.client() as client, client.get_container_client(server.make_container()) as made:
        yield made


def test_bytes_facts_and_metadata(server: AzureEndpoint, container: ContainerClient) -> None:
    data, md5 = os.urandom(100_000), None
    settings = ContentSettings(content_type="a/b")
    container.upload_blob("d/ü b#%41", data, metadata={"owner": "me"}, content_settings=settings)
    assert server.blobs(container.container_name) == {"d/ü b#%41": data}
    with container.get_blob_client("d/ü b#%41") as blob:
        found = blob.get_blob_properties()
        md5 = found.content_settings.content_md5
        assert (found.size, found.content_settings.content_type, found.metadata) == (100_000, "a/b", {"owner": "me"})
        assert blob.download_blob(offset=5, length=10).readall() == data[5:15]
        blob.set_blob_metadata({"other": "1"}, etag=found.etag, match_condition=MatchConditions.IfNotModified)
        assert blob.get_blob_properties().metadata == {"other": "1"}
    assert md5 is not None
    with pytest.raises(ResourceNotFoundError), container.get_blob_client("absent") as blob:
        blob.get_blob_properties()


def test_conditions(server: AzureEndpoint, container: ContainerClient) -> None:
    with container.get_blob_client("k") as blob:
        first = blob.upload_blob(b"1", match_condition=MatchConditions.IfMissing)["etag"]
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"2")
        keys = {"etag": first, "match_condition": MatchConditions.IfNotModified}
        blob.upload_blob(b"2", overwrite=True, **keys)
        with pytest.raises(ResourceModifiedError):
            blob.upload_blob(b"3", overwrite=True, **keys)
        with pytest.raises(ResourceModifiedError):
            blob.delete_blob(**keys)
    assert server.blobs(container.container_name) == {"k": b"2"}


def test_blocks(server: AzureEndpoint, container: ContainerClient) -> None:
    names = [base64.b64encode(b"%06d" % number).decode() for number in (1, 2)]
    with container.get_blob_client("big") as blob:
        for name, text in zip(names, (b"end", b"start"), strict=True):
            blob.stage_block(name, text, validate_content=True)
        committed, uncommitted = blob.get_block_list("all")
        assert ([], {"end", "start"}) == (committed, {"end" if b.size == 3 else "start" for b in uncommitted})
        assert server.blobs(container.container_name) == {}
        keys = {"match_condition": MatchConditions.IfMissing}
        blob.commit_block_list([BlobBlock(names[1]), BlobBlock(names[0])], metadata={"m": "1"}, **keys)
        with pytest.raises(ResourceExistsError):
            blob.commit_block_list([BlobBlock(names[0])], **keys)
        assert blob.get_blob_properties().metadata == {"m": "1"}
    assert server.blobs(container.container_name) == {"big": b"startend"}


def test_listing_in_pages(container: ContainerClient) -> None:
    for name in ("a", "a-b", "a/b", "a/c/d", "aé"):
        container.upload_blob(name, b"")
    pages = container.list_blobs(results_per_page=2).by_page()
    assert [[blob.name for blob in page] for page in pages] == [["a", "a-b"], ["a/b", "a/c/d"], ["aé"]]
    assert {entry.name for entry in container.walk_blobs()} == {"a", "a-b", "a/", "aé"}
    assert {entry.name for entry in container.walk_blobs("a/")} == {"a/b", "a/c/"}


def test_copy_inside_the_service(server: AzureEndpoint, container: ContainerClient) -> None:
    container.upload_blob("k", b"bytes", metadata={"m": "1"})
    with container.get_blob_client("k") as source, container.get_blob_client("copy") as target:
        assert target.start_copy_from_url(source.url)["copy_status"] == "success"
        assert target.get_blob_properties().metadata == {"m": "1"}
        with pytest.raises(HttpResponseError) as refused:
            target.start_copy_from_url(
                source.url, source_etag='"0x1"', source_match_condition=MatchConditions.IfNotModified
            )
        assert refused.value.status_code == 412
    assert server.blobs(container.container_name) == {"copy": b"bytes", "k": b"bytes"}


def test_adlfs(server: AzureEndpoint, container: ContainerClient) -> None:
    fs = AzureBlobFileSystem(connection_string=server.connection_string, skip_instance_cache=True)
    name, data = container.container_name, os.urandom(300_000)
    fs.pipe_file(f"{name}/d/k", data)
    assert fs.cat_file(f"{name}/d/k", start=5, end=10) == data[5:10]
    assert fs.info(f"{name}/d/k")["size"] == len(data)
    assert fs.ls(name) == [f"{name}/d"]
    fs.rm_file(f"{name}/d/k")
    assert server.blobs(name) == {}


def test_options_are_mount_keys(server: AzureEndpoint) -> None:
    assert set(server.options("c")) == {"container", "endpoint", "account_name", "account_key"}
    assert server.account_key not in repr(server)


def test_a_proxy_in_front_gives_faults(server: AzureEndpoint, container: ContainerClient) -> None:
    container.upload_blob("k", b"")
    with FaultProxy(server.endpoint.rpartition("/")[0]) as proxy, server.through(proxy.endpoint).client() as through:
        listed = through.get_container_client(container.container_name)
        proxy.answer(503, method="GET", contains="comp=list")
        with pytest.raises(HttpResponseError):
            list(listed.list_blob_names())


# --- Azurite only ---


def test_azurite_checks_keys_and_signatures(azurite: AzureEndpoint) -> None:
    name = azurite.make_container()
    forged = AzureEndpoint(azurite.endpoint, azurite.account_name, base64.b64encode(b"another key").decode())
    with forged.client() as client, pytest.raises(HttpResponseError, match="AuthorizationFailure"):
        client.get_container_client(name).upload_blob("k", b"")
    with azurite.client() as client, client.get_blob_client(name, "k") as blob:
        blob.upload_blob(b"text")
        until = datetime.now(UTC) + timedelta(minutes=5)
        allowed = BlobSasPermissions(read=True)
        keys = {"account_key": azurite.account_key, "permission": allowed, "expiry": until}
        token = generate_blob_sas(azurite.account_name, name, "k", **keys)
        with type(blob).from_blob_url(f"{blob.url}?{token}", retry_total=0) as shared:
            assert shared.download_blob().readall() == b"text"
            with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
                shared.upload_blob(b"", overwrite=True)


def test_azurite_tags_and_snapshots(azurite: AzureEndpoint) -> None:
    with azurite.client() as client, client.get_blob_client(azurite.make_container(), "k") as blob:
        blob.upload_blob(b"1", tags={"a": "1"})
        assert blob.get_blob_tags() == {"a": "1"}
        snapshot = blob.create_snapshot()["snapshot"]
        blob.upload_blob(b"2", overwrite=True)
        assert blob.download_blob().readall() == b"2"
        assert snapshot


# --- versions ---


@pytest.fixture
def versioned(azure_versions: AzureEndpoint) -> Iterator[ContainerClient]:
    with azure_versions.client() as client, client.get_container_client(azure_versions.make_container()) as made:
        yield made


def versions(container: ContainerClient, **keys: object) -> list[tuple[str, str, bool]]:
    found = container.list_blobs(include=["versions"], **keys)
    return [(blob.name, blob.version_id, bool(blob.is_current_version)) for blob in found]


def test_versions_are_kept_in_order(versioned: ContainerClient) -> None:
    with versioned.get_blob_client("k") as blob:
        ids = [blob.upload_blob(text, overwrite=True)["version_id"] for text in (b"1", b"2", b"3")]
        assert ids == sorted(set(ids))
        assert versions(versioned) == [("k", ids[0], False), ("k", ids[1], False), ("k", ids[2], True)]
        assert versions(versioned, results_per_page=1) == versions(versioned)
        assert blob.download_blob(version_id=ids[0]).readall() == b"1"
        assert blob.get_blob_properties(version_id=ids[1]).is_current_version is None
        current = blob.get_blob_properties()
        assert (current.version_id, current.is_current_version) == (ids[2], True)
        changed = blob.set_blob_metadata({"a": "1"})["version_id"]
        assert [version for _, version, _ in versions(versioned)] == [*ids, changed]
        assert blob.get_blob_properties(version_id=ids[2]).metadata == {}


def test_a_deleted_blob_keeps_its_versions(versioned: ContainerClient) -> None:
    with versioned.get_blob_client("k") as blob:
        ids = [blob.upload_blob(text, overwrite=True)["version_id"] for text in (b"1", b"2")]
        with pytest.raises(HttpResponseError, match="OperationNotAllowedOnRootBlob"):
            blob.delete_blob(version_id=ids[1])
        blob.delete_blob()
        assert list(versioned.list_blob_names()) == []
        assert versions(versioned) == [("k", ids[0], False), ("k", ids[1], False)]
        with pytest.raises(ResourceNotFoundError):
            blob.get_blob_properties()
        blob.delete_blob(version_id=ids[1])
        restored = blob.start_copy_from_url(f"{blob.url}?versionid={ids[0]}")["version_id"]
        assert blob.download_blob().readall() == b"1"
        assert versions(versioned) == [("k", ids[0], False), ("k", restored, True)]
        with pytest.raises(ResourceNotFoundError):
            blob.download_blob(version_id=ids[1])


def test_adlfs_reads_versions(azure_versions: AzureEndpoint, versioned: ContainerClient) -> None:
    keys = {"connection_string": azure_versions.connection_string, "skip_instance_cache": True}
    fs, name = AzureBlobFileSystem(version_aware=True, **keys), versioned.container_name
    with versioned.get_blob_client("k") as blob:
        first = blob.upload_blob(b"1")["version_id"]
        blob.upload_blob(b"22", overwrite=True)
    assert fs.cat_file(f"{name}/k?versionid={first}") == b"1"
    assert fs.info(f"{name}/k?versionid={first}")["size"] == 1
