"""Filling a node from a URL that a user gave: no private address, no endless body, all or nothing."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ..exceptions import (
    StorageError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ..types import Stat
from . import content

if TYPE_CHECKING:
    from ..nodes import StorageNode

CHUNK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_PLAIN = "/%:@!$&'()*+,;=~[]"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Limits(NamedTuple):
    """What a download may do: seconds without an answer, bytes, private addresses, redirects."""

    timeout: float
    max_size: int
    allow_private: bool
    max_redirects: int


def fill(node: StorageNode, url: str, limits: Limits, headers: Mapping[str, str] | None) -> Stat:
    """See `StorageNode.fill_from_url`."""
    content.options_for(node)  # tells at once what may not be written
    target = _parsed(url)
    given = {name.lower(): value for name, value in (headers or {}).items()}
    for _ in range(limits.max_redirects + 1):
        connection = _Connection(target, limits)
        with closing(connection.http), closing(connection.get(given)) as answer:
            if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                return _stored(node, connection, answer, limits)
            onward = _redirected(target, answer.headers["Location"])
        if _origin(onward) != _origin(target):
            given = {}  # a password or a cookie is for the place it was given for
        target = onward
    raise _failed(url, f"more than {limits.max_redirects} redirects", retryable=False)


# --- addresses ---


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if good and not any(ord(char) <= 32 or ord(char) == 127 for char in url):
            return parts
    except ValueError:
        pass  # a port or a host that is none: no URL like the others
    raise ValueError(f"Invalid URL: {_shown(url)!r}; it begins with http:// or https:// and a host")


def _redirected(source: SplitResult, location: str) -> SplitResult:
    try:
        return _parsed(urljoin(source.geturl(), location))
    except ValueError:
        reason = f"'{_shown(source.geturl())}' redirects to what is no http URL: '{_shown(location)}'"
        raise StoragePermissionError(reason, operation="fill_from_url") from None


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _shown(url: str) -> str:
    """A URL without what may be secret: its user, its query."""
    plain = url.partition("?")[0].partition("#")[0]
    before, slashes, rest = plain.partition("//")
    host, slash, path = rest.partition("/")
    return f"{before}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet; one inside another (mapped, NAT64, 6to4) is judged too."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local or ip.teredo is not None:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _resolved(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _connected(address: tuple[str, int], timeout: float, allow_private: bool) -> socket.socket:
    """A socket to the very address that was judged: no second look-up can say something else."""
    host, port = address
    found = _resolved(host, port)
    for *_, place in found:
        if not allow_private and not is_public(place[0]):
            reason = f"'{host}' is the address {place[0]}, which is not of the open internet; see allow_private"
            raise StoragePermissionError(reason, operation="fill_from_url")
    last: OSError = OSError(f"'{host}' has no address")
    for family, kind, protocol, _, place in found:
        link = socket.socket(family, kind, protocol)
        try:
            link.settimeout(timeout)
            link.connect(place)
        except OSError as error:
            link.close()
            last = error
        else:
            return link
    raise last


class _Connection:
    """One request to one place."""

    def __init__(self, target: SplitResult, limits: Limits) -> None:
        self.target, self.shown = target, _shown(target.geturl())
        host, port = target.hostname or "", target.port
        if target.scheme == "https":
            context = ssl.create_default_context()
            self.http: Any = http.client.HTTPSConnection(host, port, timeout=limits.timeout, context=context)
        else:
            self.http = http.client.HTTPConnection(host, port, timeout=limits.timeout)
        self.http._create_connection = lambda address, timeout, source: _connected(
            address, timeout, limits.allow_private
        )

    def get(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        target = self.target
        path = quote(target.path or "/", safe=_PLAIN)
        query = "?" + quote(target.query, safe=_PLAIN + "?") if target.query else ""
        sent = {"user-agent": "genro-storage", "accept": "*/*", **headers, "accept-encoding": "identity"}
        if target.username is not None and "authorization" not in sent:
            user = f"{unquote(target.username)}:{unquote(target.password or '')}"
            sent["authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        try:
            self.http.request("GET", path + query, headers=sent)
            answer: http.client.HTTPResponse = self.http.getresponse()
            return answer
        except StorageError:
            raise
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise _failed(self.shown, error) from error

    def body(self, answer: http.client.HTTPResponse, expected: int | None, limits: Limits) -> Iterator[bytes]:
        """What comes, up to its announced length; less of it, or more than the limit, is an error."""
        done = 0
        while True:
            try:
                data = answer.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _failed(self.shown, error) from error
            if not data:
                break
            done += len(data)
            if done > limits.max_size:
                raise _too_large(self.shown, limits)
            yield data
        if expected is not None and done < expected:
            raise _failed(self.shown, f"the answer ended at byte {done} of {expected}")


def _stored(node: StorageNode, connection: _Connection, answer: http.client.HTTPResponse, limits: Limits) -> Stat:
    if answer.status != 200:
        retryable = answer.status in _AGAIN
        raise _failed(connection.shown, f"HTTP {answer.status} {answer.reason}".rstrip(), retryable=retryable)
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _failed(connection.shown, "the server encodes the body although it was asked not to", retryable=False)
    expected = answer.length
    if expected is not None and expected > limits.max_size:
        raise _too_large(connection.shown, limits)
    kind = answer.headers.get("Content-Type", "") if node.mount.features.content_type else ""
    usable = kind if kind and kind.isascii() and kind.isprintable() else None
    writer = node.mount.writer(node.path, content.options_for(node, size=expected, content_type=usable))
    try:
        for data in connection.body(answer, expected, limits):
            writer.write(data)
        return writer.commit()
    finally:
        writer.discard()


# --- failures ---


def _too_large(shown: str, limits: Limits) -> StorageQuotaError:
    return StorageQuotaError(f"'{shown}' is larger than max_size={limits.max_size} bytes", operation="fill_from_url")


def _failed(url: str, reason: object, *, retryable: bool = True) -> StorageUnavailableError:
    kind = StorageTimeoutError if isinstance(reason, TimeoutError) else StorageUnavailableError
    text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    return kind(f"Failed to download '{_shown(url)}': {text}", operation="fill_from_url", retryable=retryable)
