"""Listings and facts without the client, at a sixth of its cost: signed here, sent over pooled HTTP, read by expat."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit
from urllib.request import getproxies
from xml.etree import ElementTree as ET

from .place import Location, is_plain_bucket, located

if TYPE_CHECKING:
    from .._rest.web import Answer as Reply
    from .._rest.web import Web
    from .client import Connection, S3Options

NOTHING = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
"""For a body that TLS or a checksum among the signed headers guards."""
UNCHANGED = re.compile(r"(?!/)(?!.*//)(?!(.*/)?\.\.?(/|$))[^\x00-\x1f\x7f]+", re.DOTALL)
"""Keys that no library on the way takes for another spelling of a path."""
_QUERY = {
    "Prefix": "prefix",
    "Delimiter": "delimiter",
    "StartAfter": "start-after",
    "ContinuationToken": "continuation-token",
    "MaxKeys": "max-keys",
}


class Object(NamedTuple):
    """One key of a listing; `modified` in whole POSIX seconds, for some servers list fractions that a HEAD hides."""

    key: str
    size: int
    modified: float
    etag: str
    storage_class: str | None


class Page(NamedTuple):
    """One answer to ListObjectsV2; `token` is "" on the last page."""

    objects: list[Object]
    prefixes: list[str]
    token: str


class Plain:
    """Signed GETs beside one connection; thread-safe, new after a fork. What is not plain goes by the client."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._open = suits(options)
        self._place: Location | None = None
        self._web: Web | None = None

    def close(self) -> None:
        web, self._web = self._web, None
        if web is not None:
            web.close()

    def page(self, connection: Connection, request: Mapping[str, Any]) -> Page | None:
        """One page of what ListObjectsV2 is asked for with these parameters; None where the client has to ask."""
        query = {name: str(request[word]) for word, name in _QUERY.items() if word in request}
        answer = self._sent(connection, "GET", "", query | {"list-type": "2", "encoding-type": "url"}, {})
        return None if answer is None else parsed(answer.data)

    def head(self, connection: Connection, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """What HeadObject answers to these parameters; None where the client has to ask."""
        from .wire import told

        if not UNCHANGED.fullmatch(request["Key"]):
            return None
        query = {"versionId": request["VersionId"]} if "VersionId" in request else {}
        headers = {"if-match": request["IfMatch"]} if "IfMatch" in request else {}
        answer = self._sent(connection, "HEAD", request["Key"], query, headers)
        return None if answer is None else told(answer.headers)

    def _sent(
        self, connection: Connection, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply | None:
        """The answer to a request without a body; a refusal → `ClientError`."""
        if not self._open:
            return None
        from .._rest.web import NOT_SENT
        from .wire import refused

        place = self._place = self._place or located(connection)
        options, url = self._options, urlsplit(place.endpoint)
        steps = [key] if place.virtual else [options.bucket, key] if key else [options.bucket]
        below = quote("/" + "/".join(steps), safe="/-_.~")
        signed = {**headers, **({"x-amz-request-payer": "requester"} if options.requester_pays else {})}
        if not options.anon:
            request = Request(method, url.netloc, url.path + below, query, signed)
            signed |= signature(request, connection.credentials(), place.region)
        release = connection.take_slot()
        try:
            answer = self._pool(place).send(method, f"{below}?{encoded(query)}" if query else below, signed)
        except NOT_SENT:  # the client will say what is wrong
            return None
        finally:
            release()
        if answer.status < 300:
            return answer
        if answer.status < 400:
            self._open = False  # another region: the client knows how to get there
            return None
        raise refused(answer, "HeadObject" if method == "HEAD" else "ListObjectsV2")

    def _pool(self, place: Location) -> Web:
        if self._web is None:
            from .._rest.web import Web

            options = self._options
            settings = {} if options.verify_tls else {"cert_reqs": "CERT_NONE", "assert_hostname": False}
            self._web = Web(place.endpoint, options, settings)
        return self._web


def suits(options: S3Options) -> bool:
    """Whether there is nothing between us and the server that only botocore knows how to pass."""
    secure = not (options.endpoint or "").startswith("http://")
    trusts = secure and (os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE"))
    return is_plain_bucket(options.bucket) and not (options.client_options or trusts or getproxies())


# --- Signature Version 4 (AWS General Reference, "Signing AWS API requests") ---


def clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def encoded(query: Mapping[str, str]) -> str:
    """A query string as it is signed: sorted, everything but letters, digits and ``-_.~`` as percent codes."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))


class Request(NamedTuple):
    """What is signed: the path already percent-encoded, a query that is not, headers by their names in lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def signature(request: Request, who: Mapping[str, Any], region: str, payload: str = NOTHING) -> dict[str, str]:
    """The headers that sign a request; `payload` is the SHA-256 of its body, or `UNSIGNED`."""
    now = clock().strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": now, "x-amz-content-sha256": payload}
    if who["token"]:
        added["x-amz-security-token"] = who["token"]
    signed = {**request.headers, **added, "host": request.host}
    names = ";".join(sorted(signed))
    lines = [f"{name}:{' '.join(signed[name].split())}" for name in sorted(signed)]  # a run of spaces counts as one
    canonical = "\n".join([request.method, request.path, encoded(request.query), *lines, "", names, payload])
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    mac = _signer(who["secret_access_key"], scope).copy()
    mac.update(f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}".encode())
    proof = mac.hexdigest()
    credential = f"{who['access_key_id']}/{scope}"
    return added | {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={proof}"
    }


@lru_cache(8)
def _signer(secret: str, scope: str) -> hmac.HMAC:
    """What signs the requests of one day, to be copied for each: `hmac.digest` gives the interpreter away."""
    key = b"AWS4" + secret.encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


# --- answers ---


def parsed(body: bytes) -> Page | None:
    """The page in an answer; None for what is none, of which the client knows what to say."""
    try:
        root = ET.fromstring(body)
        space, _, kind = root.tag.rpartition("}")
        if kind != "ListBucketResult":
            return None
        return _page(root, space + "}" if space else "")
    except (ET.ParseError, ValueError, TypeError):
        return None


def _page(root: ET.Element, space: str) -> Page:
    plain = root.findtext(f"{space}EncodingType") != "url"
    read = _as_it_is if plain else _decoded
    names = [space + name for name in ("Key", "Size", "LastModified", "ETag", "StorageClass")]
    times: dict[str, float] = {}
    objects, prefixes = [], []
    for element in root:
        if element.tag == f"{space}Contents":
            key, size, stamp, etag, stored = [element.findtext(name) for name in names]
            if key is None or size is None or stamp is None:
                raise ValueError("an object without a key, a size or a time")
            when = times.get(stamp)
            if when is None:
                when = times[stamp] = float(int(datetime.fromisoformat(stamp).timestamp()))
            objects.append(Object(read(key), int(size), when, (etag or "").strip('"'), stored))
        elif element.tag == f"{space}CommonPrefixes":
            prefixes.append(read(element.findtext(f"{space}Prefix") or ""))
    more = root.findtext(f"{space}IsTruncated") == "true"
    return Page(objects, prefixes, (root.findtext(f"{space}NextContinuationToken") or "") if more else "")


def _as_it_is(key: str) -> str:
    return key


def _decoded(key: str) -> str:
    return unquote_plus(key) if "%" in key or "+" in key else key
