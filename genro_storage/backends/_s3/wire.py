"""Requests that carry many bytes, without the client: signed here, sent from the caller's thread over pooled HTTP."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape, unescape

from botocore.exceptions import ClientError

from ...types import Stat
from .._objects import quoted, range_header
from .._rest.body import BodyReader
from .._rest.web import Answer as Reply
from .._rest.web import Web, whole
from ..base import BackendReader, BytesReader
from ..handles import Part
from .client import Answer, Connection
from .errors import status_of
from .place import Location, located
from .plain import UNCHANGED, UNSIGNED, Request, encoded, signature, suits

_META = "x-amz-meta-"
_TOLD = {
    "etag": "ETag",
    "content-range": "ContentRange",
    "content-type": "ContentType",
    "x-amz-version-id": "VersionId",
    "x-amz-storage-class": "StorageClass",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}
_OPERATIONS = {
    "create_multipart_upload": ("POST", {"uploads": ""}),
    "upload_part": ("PUT", {}),
    "complete_multipart_upload": ("POST", {}),
    "abort_multipart_upload": ("DELETE", {}),
    "get_object": ("GET", {}),
    "copy_object": ("PUT", {}),
}
_QUERY = {"PartNumber": "partNumber", "UploadId": "uploadId", "VersionId": "versionId"}
_SENT = {
    "ACL": "x-amz-acl",
    "CacheControl": "cache-control",
    "ChecksumAlgorithm": "x-amz-checksum-algorithm",
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentMD5": "content-md5",
    "ContentType": "content-type",
    "CopySourceIfMatch": "x-amz-copy-source-if-match",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "MetadataDirective": "x-amz-metadata-directive",
    "RequestPayer": "x-amz-request-payer",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
    "TaggingDirective": "x-amz-tagging-directive",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}


class Wire:
    """Signed requests beside one connection, each from the thread that wants it; thread-safe, new after a fork.

    An event loop takes several times the processor that a socket does. What is not plain goes by the client: then the
    answer is None.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open = suits(connection.options)
        self._place: Location | None = None
        self._web: Web | None = None

    def __reduce__(self) -> Any:
        return Wire, (self._connection,)

    def close(self) -> None:
        web, self._web = self._web, None
        if web is not None:
            web.close()

    def ask(self, operation: str, request: Answer, body: Part = b"") -> Answer | None:
        """The answer to one of `_OPERATIONS` with these parameters; a refusal → `ClientError`."""
        release = self._connection.take_slot() if self._takes(request) else None
        if release is None:
            return None
        try:
            if "MultipartUpload" in request:
                body = _listed(request["MultipartUpload"]["Parts"])
            reply = self._pool().send(*self._signed(operation, request, {}, body))
            return _answer(reply, operation) if self._judged(reply, operation) else None
        finally:
            release()

    def reader(
        self, request: Answer, start: int, end: int | None, if_match: str | None, described: Callable[[Answer], Stat]
    ) -> BackendReader | None:
        """The bytes [start, end) of what GetObject's `request` names."""
        asked = range_header(start, end)
        if asked == "" or not self._takes(request):
            return None
        headers = {} if asked is None else {"range": asked}
        if if_match is not None:
            headers["if-match"] = quoted(if_match)
        release = self._connection.take_slot()
        try:
            response = self._pool().open(*self._signed("get_object", request, headers, b""))
            if self._judged(response, "get_object"):
                reader = _Reader(response, start, end, release)
                release = reader.close
                reader.stat = described(told(response.headers))
                return reader
        except ClientError as error:
            release()
            if status_of(error) != 416:
                raise
            if start < 0:  # some servers refuse a suffix longer than the file: the client asks again
                return None
            asked_for = request if if_match is None else request | {"IfMatch": quoted(if_match)}
            return BytesReader(b"", described(self._connection.head(asked_for)))
        except BaseException:
            release()
            raise
        release()
        return None

    def _takes(self, request: Answer) -> bool:
        return self._open and UNCHANGED.fullmatch(request["Key"]) is not None

    def _signed(
        self, operation: str, request: Answer, headers: Mapping[str, str], body: Part
    ) -> tuple[str, str, dict[str, str], Part | None]:
        """Method, target, headers and body as they are sent."""
        connection, options = self._connection, self._connection.options
        place = self._located()
        method, asked = _OPERATIONS[operation]
        query = asked | {name: str(request[word]) for word, name in _QUERY.items() if word in request}
        sent = {_SENT[word]: str(value) for word, value in request.items() if word in _SENT} | dict(headers)
        sent |= {f"x-amz-meta-{name}": value for name, value in request.get("Metadata", {}).items()}
        if "CopySource" in request:
            sent["x-amz-copy-source"] = _copied(**request["CopySource"])
        below = quote(f"/{request['Key']}" if place.virtual else f"/{options.bucket}/{request['Key']}", safe="/-_.~")
        if not options.anon:
            url = urlsplit(place.endpoint)
            signed = Request(method, url.netloc, url.path + below, query, sent)
            payload = UNSIGNED
            if isinstance(body, bytes) and (method == "POST" or not body):
                payload = hashlib.sha256(body).hexdigest()
            sent |= signature(signed, connection.credentials(), place.region, payload)
        target = f"{below}?{encoded(query)}" if query else below
        return method, target, sent, body if method in ("PUT", "POST") else None

    def _judged(self, response: Any, operation: str) -> bool:
        """Whether it is an answer; a refusal → `ClientError`. Of another region the client knows how to get there."""
        if response.status < 300:
            return True
        reply = response if isinstance(response, Reply) else whole(response)
        if reply.status < 400:
            self._open = False
            return False
        raise refused(reply, operation)

    def _located(self) -> Location:
        place = self._place
        if place is None:
            place = self._place = located(self._connection)
        return place

    def _pool(self) -> Web:
        if self._web is None:
            options = self._connection.options
            settings = {} if options.verify_tls else {"cert_reqs": "CERT_NONE", "assert_hostname": False}
            self._web = Web(self._located().endpoint, options, settings)
        return self._web


def _answer(reply: Reply, operation: str) -> Answer:
    """An answer in the words of the client's; an error that came with a good status is one."""
    if b"<Error>" in reply.data[:400]:
        raise refused(reply, operation)
    text = reply.data.decode(errors="replace")
    found = {name: _element(name, text) for name in ("UploadId", "ETag") if f"<{name}>" in text}
    return told(reply.headers) | found


def _copied(Bucket: str, Key: str, VersionId: str | None = None) -> str:
    """The object that a copy is made of, as its header names it."""
    place = quote(f"{Bucket}/{Key}", safe="/-_.~")
    return place if VersionId is None else f"{place}?versionId={quote(VersionId, safe='-_.~')}"


def _listed(parts: Sequence[Answer]) -> bytes:
    """The parts of an upload as its end names them."""
    inner = "".join(
        "<Part>" + "".join(f"<{word}>{escape(str(value))}</{word}>" for word, value in sorted(part.items())) + "</Part>"
        for part in parts
    )
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{inner}</CompleteMultipartUpload>'.encode()


class _Reader(BodyReader):
    """A body whose connection counts among those of the mount until it is closed."""

    def __init__(self, response: Any, start: int, end: int | None, release: Callable[[], object]) -> None:
        self._release: Callable[[], object] | None = release
        super().__init__(response, Stat(""), start, end)

    def close(self) -> None:
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()


def told(headers: Mapping[str, str]) -> Answer:
    """The headers of an answer in the words of the client's."""
    answer: Answer = {word: headers[name] for name, word in _TOLD.items() if name in headers}
    if "content-length" in headers:
        answer["ContentLength"] = int(headers["content-length"])
    if "last-modified" in headers:
        answer["LastModified"] = _time(headers["last-modified"])
    answer["Metadata"] = {
        name[len(_META) :]: _utf8(value) for name, value in headers.items() if name.lower().startswith(_META)
    }
    return answer


@lru_cache(64)  # what was uploaded together has the same second
def _time(text: str) -> datetime:
    return parsedate_to_datetime(text)


def _utf8(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def refused(reply: Reply, operation: str) -> ClientError:
    """A refusal as the client raises it."""
    text = reply.data.decode(errors="replace")
    said: Any = {
        "Error": {"Code": _element("Code", text) or str(reply.status), "Message": _element("Message", text)},
        "ResponseMetadata": {
            "HTTPStatusCode": reply.status,
            "HTTPHeaders": {name.lower(): value for name, value in reply.headers.items()},
        },
    }
    return ClientError(said, operation)


def _element(tag: str, text: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return _unescaped(found[1]) if found else ""


def _unescaped(text: str) -> str:
    """Character references as XML has them: SeaweedFS writes the quotes of an ETag as numbers."""
    text = re.sub(r"&#(x?)([0-9a-fA-F]+);", lambda found: chr(int(found[2], 16 if found[1] else 10)), text)
    return unescape(text, {"&quot;": '"', "&apos;": "'"})
