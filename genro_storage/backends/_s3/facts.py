"""Between the words of S3 and ours: answers to `Stat`, `WriteOptions` to request parameters, bytes to checksums."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from ... import hashing
from ...types import Proven, Stat, WriteOptions
from .._labels import checked_tags
from .._objects import metadata_of, quoted, sent_metadata, unquoted
from .._staging import pieces
from ..handles import Part
from .client import Answer, S3Options
from .errors import code_of
from .tags import tag_header

PROOF = "genro-md5"
"""In an answer: the MD5 of the very bytes, which its ETag proved to be."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_CHECKSUMS = {"crc32c": "ChecksumCRC32C", "md5": "ContentMD5", "sha256": "ChecksumSHA256"}
_UNKNOWN = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""The codes by which servers refuse a checksum that they do not know."""


# --- answers ---


def stat_of(path: str, answer: Answer, *, size: int | None, versions: bool) -> Stat:
    """Facts from the answer to HEAD, GET or a write; `size` is the whole object's."""
    metadata, mtime = metadata_of(answer.get("Metadata") or {})
    modified = answer.get("LastModified")
    etag = unquoted(answer.get("ETag"))
    return Stat(
        path,
        size,
        mtime=mtime if mtime is not None or modified is None else modified.timestamp(),
        etag=etag,
        content_type=answer.get("ContentType"),
        hashes=hashes_of(etag, answer),
        version_id=answer.get("VersionId") if versions else None,
        storage_class=answer.get("StorageClass"),
        metadata=metadata,
    )


def written(path: str, answer: Answer, size: int | None, options: WriteOptions, *, versions: bool) -> Stat:
    """Facts from the answer to a write, completed by what was written."""
    etag = unquoted(answer.get("ETag"))
    return Stat(
        path,
        size,
        mtime=options.mtime,
        etag=etag,
        content_type=options.content_type,
        hashes=hashes_of(etag, answer),
        version_id=answer.get("VersionId") if versions else None,
        metadata=None if options.metadata is None else {key.lower(): value for key, value in options.metadata.items()},
    )


def hashes_of(etag: str | None, answer: Answer) -> Mapping[str, str]:
    """The MD5 that an ETag is, if it is one: one part, not encrypted with a key of KMS or of the customer."""
    if PROOF in answer:
        return Proven(md5=answer[PROOF])
    if etag is None or not _MD5.fullmatch(etag) or "SSECustomerAlgorithm" in answer:
        return {}
    if answer.get("ServerSideEncryption", "AES256") != "AES256":
        return {}
    return {"md5": etag}


# --- parameters ---


def written_as(options: WriteOptions, own: S3Options) -> Answer:
    """The parameters that say what kind of object a write makes."""
    sent: Answer = {
        "ACL": own.acl,
        "StorageClass": own.storage_class,
        "ServerSideEncryption": own.sse,
        "SSEKMSKeyId": own.sse_kms_key_id,
        "ContentType": options.content_type,
    }
    metadata = sent_metadata(options)
    if metadata:
        sent["Metadata"] = metadata
    if options.tags is not None:
        sent["Tagging"] = tag_header(checked_tags(options.tags)) or None
    return {key: value for key, value in sent.items() if value is not None}


def conditions(options: WriteOptions) -> Answer:
    """The parameters that judge a write at its end."""
    sent: Answer = {}
    if options.if_absent:
        sent["IfNoneMatch"] = "*"
    if options.if_match is not None:
        sent["IfMatch"] = quoted(options.if_match)
    return sent


# --- checksums ---


class Checksums:
    """Which checksum goes with the bytes, learned from the server's answers where the mount says `auto`.

    `auto` begins with CRC32C, the cheapest, and goes over to MD5, which every server checks, where the server refuses
    CRC32C or does not repeat it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._auto = self._open = kind == "auto"
        if self._auto:
            self.kind = "crc32c" if hashing.computable("crc32c") else "md5"

    def of(self, data: Part) -> Answer:
        """The parameters that let the server check these bytes."""
        kind = self.kind
        if kind not in _CHECKSUMS:
            return {}
        hasher = hashing.new(kind)
        for piece in pieces(data):
            hasher.update(piece)
        return {_CHECKSUMS[kind]: base64.b64encode(bytes.fromhex(hasher.hexdigest())).decode()}

    def learn(self, answer: Answer, sent: Answer) -> None:
        """What the first answer to a CRC32C tells for all that follow."""
        if self._open and ("ChecksumCRC32C" in sent or "ChecksumAlgorithm" in sent):
            self._open = False
            if "ChecksumCRC32C" not in answer and "ChecksumAlgorithm" not in answer:
                self.kind = "md5"

    def refused(self, error: Exception, sent: Answer) -> bool:
        """Whether a refusal may be one of the CRC32C, so that the same request is worth sending without."""
        may_be = "ChecksumCRC32C" in sent or "ChecksumAlgorithm" in sent
        if not (self._auto and may_be and code_of(error) in _UNKNOWN and (self._open or self.kind == "md5")):
            return False
        self._open, self.kind = False, "md5"
        return True

    @property
    def algorithm(self) -> str | None:
        """What a multipart upload announces for its parts."""
        return {"crc32c": "CRC32C", "sha256": "SHA256"}.get(self.kind)


def common(own: S3Options) -> dict[str, Any]:
    """The parameters of every request."""
    sent = {"Bucket": own.bucket}
    if own.requester_pays:
        sent["RequestPayer"] = "requester"
    return sent
