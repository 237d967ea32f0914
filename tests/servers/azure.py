"""What every Azure Blob server of the tests has in common: how to reach it, and a plain client to look inside."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its import takes longer than that of pytest
    from azure.storage.blob import BlobServiceClient

_names = itertools.count(1)


@dataclass(frozen=True)
class AzureEndpoint:
    """A Blob endpoint and its account, wherever it runs; `azurite` and `azure_versions` are one each.

    Found with azure-storage-blob 12.31 and adlfs 2026.8:

    - A dead port is retried for about 40 s unless `retry_total=0` is given; probe it first. The SDK
      has retry policies of its own: azure.core's `RetryPolicy` as `retry_policy=` ends in a TypeError.
    - "Only if absent" is `match_condition=MatchConditions.IfMissing` alone; an `etag="*"` beside it is a
      TypeError.
    - `walk_blobs` gives all prefixes of a page before its blobs: only the names tell the order.
    - Azurite answers a wrong key with 403 AuthorizationFailure (HttpResponseError), Azure itself with 403
      AuthenticationFailed (ClientAuthenticationError).
    - The name of the account is the first segment of the path here and part of the host there: build URLs from
      `endpoint`, never from the account's name.
    - adlfs takes `account_host` without a scheme and then speaks https; for http give `connection_string`.
    """

    endpoint: str  # ends with the account's name
    account_name: str
    account_key: str = field(repr=False)

    @property
    def connection_string(self) -> str:
        """All of it in one string, as an account's page in the portal shows it."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account_name};AccountKey={self.account_key};"
            f"BlobEndpoint={self.endpoint};"
        )

    def options(self, container: str) -> dict[str, str]:
        """The keys of a mount entry that reach this container, `container` included; add `name` and `type`."""
        return {
            "container": container,
            "endpoint": self.endpoint,
            "account_name": self.account_name,
            "account_key": self.account_key,
        }

    def through(self, endpoint: str) -> AzureEndpoint:
        """The same server reached by another URL, that of a proxy in front of it (without the account's name)."""
        return replace(self, endpoint=f"{endpoint}/{self.account_name}")

    def client(self) -> BlobServiceClient:
        """A client that neither retries nor asks anybody for credentials; close it."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.endpoint, credential=self.account_key, retry_total=0, connection_timeout=5)

    def make_container(self) -> str:
        """Make a container with a name nobody else has, and return the name."""
        name = f"genro-{os.getpid()}-{next(_names)}"
        with self.client() as client:
            client.create_container(name)
        return name

    def forget(self, container: str) -> None:
        """Drop a container with all that it holds."""
        with self.client() as client:
            client.delete_container(container)

    def blobs(self, container: str) -> dict[str, bytes]:
        """What the container shows now: name → bytes."""
        with self.client() as client, client.get_container_client(container) as held:
            return {name: held.download_blob(name).readall() for name in held.list_blob_names()}
