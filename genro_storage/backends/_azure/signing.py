"""Requests to Azure that anybody may send for a while: shared access signatures, made here from the account's key."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ...exceptions import UnsupportedOperation
from ...types import SignedRequest, SignOptions, WriteOptions
from .._disposition import disposition
from .client import Client
from .facts import headers_of


def signed(client: Client, key: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
    """The signature covers place, verb and how a read is shown; the headers of a write are asked for, not enforced."""
    if options.content_length is not None:
        raise UnsupportedOperation("a shared access signature cannot fix the number of bytes")
    from azure.storage.blob import BlobSasPermissions, generate_blob_sas  # costs more than all of this package

    until = int(time.time() + expires_in)
    reading = method != "PUT"
    token = generate_blob_sas(
        client.account.name,
        client.options.container,
        key,
        account_key=client.account.key,
        permission=BlobSasPermissions(read=reading, create=not reading, write=not reading),
        expiry=datetime.fromtimestamp(until, UTC),
        version_id=options.version,
        content_type=options.content_type if reading else None,
        content_disposition=disposition(options.download_name) if reading and options.download_name else None,
    )
    place = client.blob(key, versionid=options.version)
    url = f"{client.account.endpoint}{place}{'&' if '?' in place else '?'}{token}"
    return SignedRequest(method, url, {} if reading else _headers(options), float(until))


def _headers(options: SignOptions) -> dict[str, str]:
    written = WriteOptions(content_type=options.content_type, metadata=options.metadata)
    sent = headers_of(written) | {"x-ms-blob-type": "BlockBlob"}
    # HTTP clients send a type of their own where none is given.
    return sent if options.content_type is None else sent | {"Content-Type": options.content_type}
