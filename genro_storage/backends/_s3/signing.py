"""Requests to S3 that anybody may send for a while: made here, by Signature Version 4 in the URL, without asking."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...types import SignedRequest, SignOptions, WriteOptions
from .._disposition import disposition
from .client import Answer, Connection
from .facts import common, written_as

_VERBS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object"}
_HEADERS = {
    "ACL": "x-amz-acl",
    "ContentLength": "Content-Length",
    "ContentType": "Content-Type",
    "RequestPayer": "x-amz-request-payer",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
}


def signed(connection: Connection, key: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
    """The headers are part of the signature: the request is refused without them, or with others."""
    request = common(connection.options) | {"Key": key}
    request |= _sent(connection, options) if method == "PUT" else _shown(options)
    seconds = int(expires_in)
    until = time.time() + seconds
    url = connection.local(
        lambda client: client.generate_presigned_url(_VERBS[method], request, seconds, HttpMethod=method)
    )
    return SignedRequest(method, url, _headers(request), until)


def _sent(connection: Connection, options: SignOptions) -> Answer:
    """What may be uploaded: it becomes the same object as a write of this mount makes."""
    written = WriteOptions(content_type=options.content_type, metadata=options.metadata)
    sent = written_as(written, connection.options)
    return sent if options.content_length is None else sent | {"ContentLength": options.content_length}


def _shown(options: SignOptions) -> Answer:
    """How the answer to a read is told to be saved and shown."""
    named = None if options.download_name is None else disposition(options.download_name)
    shown: Mapping[str, str | None] = {
        "ResponseContentDisposition": named,
        "ResponseContentType": options.content_type,
        "VersionId": options.version,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _headers(request: Answer) -> dict[str, str]:
    headers = {_HEADERS[name]: str(value) for name, value in request.items() if name in _HEADERS}
    return headers | {f"x-amz-meta-{name}": value for name, value in request.get("Metadata", {}).items()}
