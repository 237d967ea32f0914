"""The accelerated way to S3: which requests obstore may send in place of the exact path, and what it answers."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError, ConnectionError, ReadTimeoutError

from ...types import WriteOptions
from .. import _obstore
from .._objects import quoted
from .client import Answer, Connection, S3Options
from .facts import PROOF
from .place import is_plain_bucket, located

PROVEN = 1 << 20
"""Bytes up to which an ETag is held against the MD5 of the bytes."""

_MD5 = re.compile(r'"[0-9a-f]{32}"')
# What obstore takes from the environment and the AWS tools do not: there, the two ways would differ.
_ONLY_OBSTORE = (
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_PROXY_URL",
    "AWS_PROXY_EXCLUDES",
    "AWS_PROXY_CA_CERTIFICATE",
)


class FastLane:
    """obstore beside one connection; every method gives None where the exact path has to do it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open = suits(connection.options)
        self._writes = writes(connection.options)
        stored = connection.options.storage_class
        self._attributes = {} if stored is None else {"Storage-Class": stored}
        self._largest = _obstore.largest_put(connection.options.timeout)
        self._opaque = False
        """Some ETag here was no MD5 of its bytes: none is held against them any more."""
        self._store = _obstore.Accelerator("S3Store", lambda: _config(connection), connection.take_slot)

    def __reduce__(self) -> Any:
        return FastLane, (self._connection,)

    def close(self) -> None:
        self._store.close()

    def _takes(self, key: str) -> bool:
        return self._open and self._store.takes(key)

    def get(self, key: str, start: int, end: int | None, if_match: str | None) -> tuple[bytes, Answer] | None:
        """The bytes of a range that is not empty, and the facts of the whole object, in the words of GetObject."""
        if not self._takes(key) or (end is not None and end <= max(start, 0)) or (start < 0 and end is not None):
            return None
        try:
            data, meta, attributes = self._store.get(key, start, end, None if if_match is None else quoted(if_match))
        except Exception as error:  # noqa: BLE001 - a driver call: `_tell` knows which are whose
            self._tell(error, "GetObject")
            return None
        answer = _answer(meta, attributes)
        return (data, answer) if self._is_md5(answer, data if len(data) == meta["size"] else None) else None

    def head(self, key: str) -> Answer | None:
        """The facts of an object, in the words of HeadObject; obstore does not tell whether its ETag is a hash."""
        if not self._takes(key):
            return None
        try:
            _, meta, attributes = self._store.head(key)
        except Exception as error:  # noqa: BLE001 - a driver call: `_tell` knows which are whose
            self._tell(error, "HeadObject")
            return None
        return {**_answer(meta, attributes), "ServerSideEncryption": UNKNOWN}

    def _is_md5(self, answer: Answer, data: bytes | None) -> bool:
        """Marks an ETag that is not proven to be the MD5; False where these bytes may be damaged."""
        etag = answer["ETag"]
        proof = None if data is None or len(data) > PROVEN or self._opaque else _md5(data)
        if proof is not None and etag == f'"{proof}"':
            answer[PROOF] = proof
            return True
        if etag is None or not _MD5.fullmatch(etag):
            return True
        if proof is not None:
            self._opaque = True  # encrypted with a key of KMS, or damaged: the exact path can tell
            return False
        answer["ServerSideEncryption"] = UNKNOWN
        return True

    def put(self, key: str, data: bytes, options: WriteOptions, metadata: Mapping[str, str]) -> Answer | None:
        """One PUT whose bytes the server checks by their SHA-256, part of the signature."""
        suited = self._writes and len(data) <= self._largest and not options.tags and _obstore.takes(metadata)
        if not (suited and self._takes(key)):
            return None
        attributes = {**self._attributes, **metadata}
        if options.content_type is not None:
            attributes["Content-Type"] = options.content_type
        try:
            told = self._store.put(key, data, attributes, _mode(options))
        except Exception as error:  # noqa: BLE001 - a driver call: `_tell` knows which are whose
            self._tell(error, "PutObject")
            return None
        answer: Answer = {"ETag": told["e_tag"], "VersionId": told["version"]}
        if not self._is_md5(answer, data):
            answer["ServerSideEncryption"] = UNKNOWN
        return answer

    def _tell(self, error: Exception, operation: str) -> None:
        """Raises what the exact path would have raised; returns where that path has to say it."""
        if isinstance(error, _obstore.Answered):
            # The answer to HEAD has no body, so that a 400 does not say what it is about.
            if error.status in (301, 307) or error.code in _ELSEWISE or (error.status, error.code) == (400, ""):
                return
            told: Any = {
                "Error": {"Code": error.code or str(error.status), "Message": error.message},
                "ResponseMetadata": {"HTTPStatusCode": error.status},
            }
            raise ClientError(told, operation) from error
        if isinstance(error, _obstore.Unanswered):
            endpoint = self._connection.options.endpoint or "AWS"
            if error.timed_out:
                raise ReadTimeoutError(endpoint_url=endpoint, error=error) from error
            raise ConnectionError(error=error) from error
        if not isinstance(error, _obstore.Declined):
            raise error


_ELSEWISE = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidArgument", "InvalidRequest", "NotImplemented"}
)
"""Refusals that the exact path may know to avoid: it looks for the bucket's region, and can do without a checksum."""
UNKNOWN = "unknown"
"""For an object of which obstore does not tell how it is encrypted, so that nobody takes its ETag for a hash."""
_HEADERS = frozenset({"Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control"})


def _answer(meta: Mapping[str, Any], attributes: Mapping[str, str]) -> dict[str, Any]:
    """What obstore tells of an object, in the words of S3."""
    given = dict(attributes)
    return {
        "ETag": meta["e_tag"],
        "LastModified": meta["last_modified"],
        "ContentLength": meta["size"],
        "ContentType": given.pop("Content-Type", None),
        "StorageClass": given.pop("Storage-Class", None),
        "VersionId": meta["version"],
        "Metadata": {name: value for name, value in given.items() if name not in _HEADERS},
    }


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _mode(options: WriteOptions) -> Any:
    if options.if_absent:
        return "create"
    return None if options.if_match is None else {"e_tag": quoted(options.if_match)}


# --- what it suits ---


def suits(options: S3Options) -> bool:
    """Whether obstore can be told all that these options say about requests."""
    if options.engine == "exact" or not _obstore.available():
        return False
    if options.client_options or any(name in os.environ for name in _ONLY_OBSTORE):
        return False
    if not is_plain_bucket(options.bucket):
        return False
    # A certificate of one's own: obstore would trust the system's beside it.
    plain = (options.endpoint or "").startswith("http://")
    return plain or not options.verify_tls or "AWS_CA_BUNDLE" not in os.environ


def writes(options: S3Options) -> bool:
    """Whether obstore can write as these options say: signed, with a checksum that it knows, without an ACL."""
    return not options.anon and options.acl is None and options.checksum in ("auto", "sha256", "none")


def _config(connection: Connection) -> Mapping[str, Any]:
    """The arguments of `S3Store`; what the options leave open is asked of the exact path's client."""
    options = connection.options
    config: dict[str, Any] = {
        "bucket": options.bucket,
        "skip_signature": options.anon,
        "unsigned_payload": False,
        "disable_tagging": False,
        "conditional_put": "etag",
        "s3_express": False,
        "request_payer": options.requester_pays,
        "client_options": _obstore.client_options(
            options.timeout, options.connect_timeout, options.max_connections, verify_tls=options.verify_tls
        ),
    }
    place = located(connection)
    # Both names of the endpoint: the second, when only the environment has it, goes before the first.
    config |= {"endpoint": place.endpoint, "aws_endpoint_url_s3": place.endpoint}
    config |= {"region": place.region, "virtual_hosted_style_request": place.virtual}
    if options.sse is not None:
        config["server_side_encryption"] = options.sse
    if options.sse_kms_key_id is not None:
        config["sse_kms_key_id"] = options.sse_kms_key_id
    if options.checksum == "sha256":
        config["checksum_algorithm"] = "SHA256"
    if not options.anon:
        config["credential_provider"] = connection.credentials
    return config
