"""TransferSuite over ordered pairs of storages: those of every run, and with GENRO_SOAK=1 all of them."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from genro_storage.testing import TransferSuite
from genro_storage.testing.transfer_sync import GIVEN, SyncTransfers
from tests.servers.azure import AzureEndpoint
from tests.servers.gcs.server import GcsServer
from tests.servers.samba import Samba
from tests.servers.sshd import Sshd
from tests.servers.webdav import WebDav

Entry = Mapping[str, object]

CORE = ("Local", "Memory", "S3")
"""Every ordered pair of these, and of a zip archive as the source, in every run."""
REMOTE = ("Gcs", "Azure", "Sftp", "WebDav")
"""Each of these to and from local in every run."""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def gcs_bucket(gcs: GcsServer) -> Mapping[str, Any]:
    return gcs.options(gcs.make_bucket())


@pytest.fixture(scope="session")
def azure_container(azurite: AzureEndpoint) -> Mapping[str, str]:
    return azurite.options(azurite.make_container())


def below(kind: str, options: Mapping[str, Any]) -> Entry:
    """A mount entry of a place of its own in a bucket that all cases share."""
    return {"type": kind, **options, "path": f"pair {next(_numbers)}"}


class FromLocal:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Entry:
        return {"type": "local", "path": str(tmp_path / "source"), "create": True}


class ToLocal:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Entry:
        return {"type": "local", "path": str(tmp_path / "target"), "create": True}


class FromMemory:
    @pytest.fixture
    def source(self) -> Entry:
        return {"type": "memory"}


class ToMemory:
    @pytest.fixture
    def target(self) -> Entry:
        return {"type": "memory"}


class FromS3:
    emptied_stay = True
    longest_source_name = 255

    @pytest.fixture
    def source(self, seaweedfs_bucket: Mapping[str, str]) -> Entry:
        return below("s3", seaweedfs_bucket)


class ToS3:
    @pytest.fixture
    def target(self, seaweedfs_bucket: Mapping[str, str]) -> Entry:
        return below("s3", seaweedfs_bucket)


class FromGcs:
    @pytest.fixture
    def source(self, gcs_bucket: Mapping[str, Any]) -> Entry:
        return below("gcs", gcs_bucket)


class ToGcs:
    @pytest.fixture
    def target(self, gcs_bucket: Mapping[str, Any]) -> Entry:
        return below("gcs", gcs_bucket)


class FromAzure:
    @pytest.fixture
    def source(self, azure_container: Mapping[str, str]) -> Entry:
        return below("azure", azure_container)


class ToAzure:
    @pytest.fixture
    def target(self, azure_container: Mapping[str, str]) -> Entry:
        return below("azure", azure_container)


class FromSftp:
    @pytest.fixture
    def source(self, sshd: Sshd) -> Entry:
        return {"type": "sftp", **sshd.options(sshd.make_root())}


class ToSftp:
    @pytest.fixture
    def target(self, sshd: Sshd) -> Entry:
        return {"type": "sftp", **sshd.options(sshd.make_root())}


class FromWebDav:
    odd_name = "a b#%.bin"
    longest_source_name = 255

    @pytest.fixture
    def source(self, webdav: WebDav) -> Entry:
        return {"type": "webdav", **webdav.options(webdav.make_root())}


class ToWebDav:
    @pytest.fixture
    def target(self, webdav: WebDav) -> Entry:
        return {"type": "webdav", **webdav.options(webdav.make_root())}


class FromZip:
    """An archive as a source: it is made before it is mounted."""

    writable_source = False

    @pytest.fixture
    def source(self, tmp_path: Path) -> Entry:
        with zipfile.ZipFile(tmp_path / "given.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in GIVEN.items():
                archive.writestr(f"d/{path}", data)
        return {"type": "zip", "file": str(tmp_path / "given.zip")}


DAILY = {
    *itertools.product((*CORE, "Zip"), CORE),
    *((remote, "Local") for remote in REMOTE),
    *(("Local", remote) for remote in REMOTE),
}
PAIRS = set(itertools.product((*CORE, *REMOTE, "Zip"), (*CORE, *REMOTE)))
SOAK = float(os.environ.get("GENRO_SOAK", "0.02")) >= 1

# In one order in every process that shares the run.
for _start, _end in sorted(PAIRS if SOAK else DAILY):
    _suite = SyncTransfers if _start == "Zip" else TransferSuite
    _pair = type(f"Test{_start}To{_end}", (globals()[f"From{_start}"], globals()[f"To{_end}"], _suite), {})
    globals()[_pair.__name__] = _pair if (_start, _end) in DAILY else pytest.mark.soak(_pair)


def test_every_pair_that_is_promised() -> None:
    """Each ends in the class that its name says, and that class has the cases."""
    here = {name: value for name, value in globals().items() if name.startswith("Test") and "To" in name}
    assert len(DAILY) == 12 + 8
    assert len(PAIRS) == 7 * 7 + 7
    for start, end in PAIRS if SOAK else DAILY:
        pair = here[f"Test{start}To{end}"]
        assert pair.__bases__[:2] == (globals()[f"From{start}"], globals()[f"To{end}"])
        assert issubclass(pair, SyncTransfers if start == "Zip" else TransferSuite)


class TestMemoryToSmb(FromMemory, TransferSuite):
    """A target that takes names which differ only in case for one. Other cases use names that SMB has not."""

    locals().update({name: None for name in dir(TransferSuite) if name.startswith("test_") and "_t25_" not in name})

    @pytest.fixture
    def target(self, samba: Samba) -> Entry:
        return {"type": "smb", **samba.options(samba.make_root())}
