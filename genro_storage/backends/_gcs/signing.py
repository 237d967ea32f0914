"""Requests to Google Cloud Storage that anybody may send for a while: V4 signatures, without any I/O."""

from __future__ import annotations

import time
from datetime import timedelta

from google.auth.credentials import Signing

from ...exceptions import StorageVersionNotFoundError, UnsupportedOperation
from ...types import SignedRequest, SignOptions, WriteOptions
from .._disposition import disposition
from .._objects import sent_metadata
from .client import GOOGLE, Client
from .facts import META, METADATA_LIMIT, generation


def signed(client: Client, key: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
    """A signed request for one key; credentials that cannot sign by themselves → `UnsupportedOperation`."""
    if options.version is not None and generation(options.version) is None:
        raise StorageVersionNotFoundError("No such version of this file")
    credentials = None if client.anonymous else client.credentials
    if not isinstance(credentials, Signing):
        raise UnsupportedOperation("these credentials cannot sign; give the key file of a service account")
    from google.cloud.storage import Client as Google  # its import takes longer than the signature

    headers = _headers(method, options)
    blob = Google(client.options.project or "-", credentials).bucket(client.options.bucket).blob(key)
    reading = method in ("GET", "HEAD")
    url: str = blob.generate_signed_url(
        version="v4",
        expiration=timedelta(seconds=int(expires_in)),
        api_access_endpoint=(client.options.endpoint or GOOGLE).rstrip("/"),
        method=method,
        generation=options.version,
        headers=dict(headers),  # it adds to them
        response_type=options.content_type if reading else None,
        response_disposition=disposition(options.download_name) if reading and options.download_name else None,
    )
    return SignedRequest(method, url, headers, time.time() + int(expires_in))


def _headers(method: str, options: SignOptions) -> dict[str, str]:
    """What the request must carry: the signature covers it."""
    if method in ("GET", "HEAD"):
        return {}
    metadata = sent_metadata(WriteOptions(metadata=options.metadata), METADATA_LIMIT)
    sent = {META + name: value for name, value in metadata.items()}
    if options.content_type is not None:
        sent["Content-Type"] = options.content_type
    if options.content_length is not None:
        sent["x-goog-content-length-range"] = f"{options.content_length},{options.content_length}"
    return sent
