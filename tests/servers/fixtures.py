"""Fixtures of the servers other than S3: one running server per test process, started on first use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .azure import AzureEndpoint
from .azurite import Azurite
from .gcs.server import GcsServer
from .running import running


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """Google Cloud Storage, in this process: generations, preconditions, uploads, tokens, signed URLs."""
    yield from running(GcsServer())


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzureEndpoint]:
    """Azurite: Azure Blob storage but for version ids (those: `azure_versions`)."""
    yield from (server.azure for server in running(Azurite()))
