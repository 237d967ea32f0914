"""Requests that carry many bytes, signed by botocore and sent from the caller's own thread over pooled HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies
from xml.sax.saxutils import unescape

from botocore.exceptions import ClientError

from ...types import Stat
from .._objects import quoted
from .._rest.body import BodyReader
from .._rest.web import Answer as Reply
from .._rest.web import Web, whole
from ..handles import Part
from .client import Answer, Connection, S3Options
from .errors import status_of

LEAST = 1 << 20
"""Bytes from which a range is worth a signature of its own."""
VALID = 3600
"""Seconds for which a signature is made: that of a session token may end before."""

_META = "x-amz-meta-"
_TOLD = {
    "etag": "ETag",
    "content-range": "ContentRange",
    "content-type": "ContentType",
    "x-amz-version-id": "VersionId",
    "x-amz-storage-class": "StorageClass",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}
_SENT = {
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "Content-MD5",
    "RequestPayer": "x-amz-request-payer",
}


class Wire:
    """The pool beside one connection; thread-safe, new after a fork, picklable by its options.

    An event loop takes several times the processor that a socket does. What is not plain goes by the client.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.open = suits(connection.options)
        self._webs: dict[str, Web] = {}

    def __reduce__(self) -> Any:
        return Wire, (self._connection,)

    def close(self) -> None:
        for web in list(self._webs.values()):
            web.close()

    def put(self, operation: str, request: Answer, body: Part) -> Answer | None:
        """The answer to a request of these parameters; None where the client has to send it."""
        if not self.open:
            return None
        release = self._connection.take_slot()
        try:
            response = self._send(operation, request, {}, body)
            return None if response is None else told(whole(response).headers)
        finally:
            release()

    def _send(
        self, operation: str, request: Answer, headers: Mapping[str, str], body: Part | None = None
    ) -> Any | None:
        """The answer, its body still to be read; a refusal → `ClientError`. None where the client has to do it.

        `operation` is a method of the client, `request` its parameters; `headers` need no signature.
        """
        url = self._connection.local(lambda client: client.generate_presigned_url(operation, request, VALID))
        parts = urlsplit(url)
        method = "GET" if body is None else "PUT"
        signed = {_SENT[name]: value for name, value in request.items() if name in _SENT}
        response = self._web(f"{parts.scheme}://{parts.netloc}").open(
            method, f"{parts.path}?{parts.query}", signed | dict(headers), body
        )
        if response.status < 300:
            return response
        reply = whole(response)
        if 300 <= reply.status < 400:
            self.open = False  # another region: the client knows how to get there
            return None
        raise refused(reply, operation)

    def reader(
        self, request: Answer, start: int, end: int | None, if_match: str | None, described: Callable[[Answer], Stat]
    ) -> BodyReader | None:
        """The bytes [start, end) of what GetObject's `request` names; None where the client has to fetch them."""
        if not self.open or end is None or not 0 <= start <= end - LEAST:
            return None
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if if_match is not None:
            headers["If-Match"] = quoted(if_match)
        release = self._connection.take_slot()
        try:
            response = self._send("get_object", request, headers)
            if response is not None:
                reader = _Reader(response, start, end, release)
                release = reader.close
                reader.stat = described(told(response.headers))
                return reader
        except ClientError as error:
            release()
            if status_of(error) == 416:  # nothing is there: the client asks for the facts alone
                return None
            raise
        except BaseException:
            release()
            raise
        release()
        return None

    def _web(self, endpoint: str) -> Web:
        web = self._webs.get(endpoint)
        if web is None:
            web = self._webs.setdefault(endpoint, Web(endpoint, self._connection.options, self._trust()))
        return web

    def _trust(self) -> dict[str, Any]:
        """Whose certificates are believed: those that the client believes."""
        believed = self._connection.client._endpoint.http_session._verify
        if believed is False:
            return {"cert_reqs": "CERT_NONE", "assert_hostname": False}
        return {"ca_certs": believed} if isinstance(believed, str) else {}


class _Reader(BodyReader):
    """A body whose connection counts among those of the mount until it is closed."""

    def __init__(self, response: Any, start: int, end: int, release: Callable[[], object]) -> None:
        self._release: Callable[[], object] | None = release
        super().__init__(response, Stat(""), start, end)

    def close(self) -> None:
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()


def suits(options: S3Options) -> bool:
    """Whether there is nothing between us and the server that only botocore knows how to pass."""
    return not (options.client_options or getproxies())


def told(headers: Mapping[str, str]) -> Answer:
    """The headers of an answer in the words of the client's."""
    answer: Answer = {word: headers[name] for name, word in _TOLD.items() if name in headers}
    if "content-length" in headers:
        answer["ContentLength"] = int(headers["content-length"])
    if "last-modified" in headers:
        answer["LastModified"] = parsedate_to_datetime(headers["last-modified"])
    answer["Metadata"] = {
        name[len(_META) :]: _utf8(value) for name, value in headers.items() if name.lower().startswith(_META)
    }
    return answer


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
    return unescape(found[1]) if found else ""
