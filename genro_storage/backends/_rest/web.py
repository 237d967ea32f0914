"""Connections to one server: exact targets, no retry, no redirect, bounded in number and time, new after fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as http

from ...exceptions import StorageError, StorageTimeoutError, StorageUnavailableError
from .. import _staging
from .._refusals import sentence
from ..handles import Part
from ..options import NetworkOptions
from .exchange import exchanged

NOT_SENT = (http.NewConnectionError, http.SSLError)
"""Errors of a request that never reached the server."""
PIECE = 256 * 1024
"""Bytes sent under one timeout: an upload that moves, however slowly, is not stuck."""


class Answer(NamedTuple):
    """A whole answer; its headers are asked for by names in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Web:
    """The pool behind a mount and all its rooted twins; thread-safe.

    `settings` go to `urllib3.PoolManager`; ``proxy_url`` among them makes it a `urllib3.ProxyManager`.
    """

    def __init__(self, endpoint: str, options: NetworkOptions, settings: Mapping[str, Any] = {}) -> None:
        parts = urlsplit(endpoint)
        self.endpoint = endpoint.rstrip("/")
        self.base = parts.path.rstrip("/")
        self.host = parts.netloc.rpartition("@")[2]
        self.options = options
        self._settings = dict(settings)
        self._reset()
        _live.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self.login = threading.Lock()
        """For those who fetch credentials over these connections."""
        self._manager: Any = None
        self._pool: Any = None

    def forget(self) -> None:
        """Called in the child of a fork: what the parent had open is kept as it is, and no longer used."""
        _inherited.append(self._manager)
        self._reset()

    @property
    def manager(self) -> Any:
        """The `urllib3.PoolManager`, for what needs other servers (tokens)."""
        self._connected()
        return self._manager

    @property
    def timeout(self) -> urllib3.Timeout:
        return urllib3.Timeout(connect=self.options.connect_timeout, read=self.options.timeout)

    def _connected(self) -> Any:
        with self._lock:
            if self._pool is None:
                most = self.options.max_connections
                given: dict[str, Any] = {"maxsize": most, "block": True, "timeout": self.timeout, "retries": False}
                given |= self._settings
                proxy = given.pop("proxy_url", None)
                self._manager = urllib3.ProxyManager(proxy, **given) if proxy else urllib3.PoolManager(**given)
                self._pool = self._manager.connection_from_url(self.endpoint)
            return self._pool

    def open(self, method: str, target: str, headers: Mapping[str, str], body: Part | None = None) -> Any:
        """Sends one request; the answer's body is still to be read, then `release` it. `target` is percent-encoded."""
        sent: Any = body
        headers = dict(headers)
        if body is not None:
            headers["Content-Length"] = str(len(body))
            sent = body if isinstance(body, bytes) and len(body) <= PIECE else pieces(body)
        with self._free():
            return self._connected().urlopen(
                method,
                self.base + target,
                body=sent,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                pool_timeout=self.options.timeout,
            )

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Part | None = None) -> Answer:
        """Sends one request and takes the whole answer."""
        soon = self._soon(method, target, headers, body)
        return whole(self.open(method, target, headers, body)) if soon is None else soon

    def _soon(self, method: str, target: str, headers: Mapping[str, str], body: Part | None) -> Answer | None:
        """As `send`, where a connection is open and there is next to nothing to send."""
        if body is None:
            sent = b""
            if method not in ("GET", "HEAD", "DELETE"):
                return None
        elif isinstance(body, bytes) and len(body) <= PIECE:
            sent, headers = body, {**headers, "Content-Length": str(len(body))}
        else:
            return None
        named = {"Host": self.host, **headers}
        with self._free():
            found = exchanged(self._connected(), method, self.base + target, named, sent, self.options.timeout)
        return None if found is None else Answer(*found)

    @contextmanager
    def _free(self) -> Iterator[None]:
        try:
            yield
        except http.EmptyPoolError as error:
            most = self.options.max_connections
            reason = f"all {most} connections are busy; close readers or raise 'max_connections'"
            raise StorageTimeoutError(reason) from error

    def close(self) -> None:
        """Closes idle connections; a later call opens new ones."""
        with self._lock:
            manager, self._manager, self._pool = self._manager, None, None
        if manager is not None:
            manager.clear()


def whole(response: Any) -> Answer:
    """An answer with its body; the connection goes back."""
    try:
        data: bytes = response.read(decode_content=False)
    except BaseException:
        response.close()
        raise
    finally:
        response.release_conn()
    return Answer(response.status, response.headers, data)


def pieces(body: Part) -> Iterator[memoryview]:
    """A body in pieces, each of which has the whole timeout for itself."""
    for part in _staging.pieces(body):
        view = memoryview(part).cast("B")
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]


def translate(error: Exception) -> StorageError | None:
    """Our error for one of urllib3's; None where it is none of them."""
    if isinstance(error, http.TimeoutError) or (isinstance(error, http.ProtocolError) and _timed_out(error)):
        return StorageTimeoutError("no answer in time")
    if isinstance(error, http.SSLError):
        reason = f"the TLS certificate cannot be verified ({sentence(error)})"
        return StorageUnavailableError(reason, retryable=False)
    if isinstance(error, http.HTTPError):
        return StorageUnavailableError(f"the storage cannot be reached ({sentence(error)})")
    return None


def _timed_out(error: Exception) -> bool:
    return any(isinstance(cause, TimeoutError) for cause in error.args)


_live: weakref.WeakSet[Web] = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for web in list(_live):
        web.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
