"""What hands the content of a node to others: HTTP clients, programs, archives; each is imported when it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .names import NodeName
from .types import Stat

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .nodes import StorageNode
    from .verbs import http, process
    from .verbs import zip as zips


class NodeOutlets(NodeName):
    """The ways out of the storage, each one line."""

    __slots__ = ()

    @property
    def _node(self) -> StorageNode:
        return cast("StorageNode", self)

    # --- HTTP ---

    def serve(
        self,
        environ: Mapping[str, Any],
        start_response: http.StartResponse,
        download: bool = False,
        download_name: str | None = None,
        cache_max_age: int | None = None,
        *,
        content_type: str | None = None,
        charset: str | None = None,
    ) -> Iterable[bytes]:
        """Answers a WSGI request with this file: ``return node.serve(environ, start_response)``.

        Conditions and ranges as RFC 9110; `download` or `download_name` offer it as a file to keep (RFC 6266);
        `cache_max_age` in seconds. Missing → 404, not allowed → 403, unreachable → 503.
        """
        from .verbs import http
        from .verbs.answers import Look

        look = Look(download, download_name, cache_max_age, content_type, charset)
        return http.serve(self._node, environ, start_response, look)

    async def serve_asgi(
        self,
        scope: http.Scope,
        receive: http.Receive,
        send: http.Send,
        download: bool = False,
        download_name: str | None = None,
        cache_max_age: int | None = None,
        *,
        content_type: str | None = None,
        charset: str | None = None,
    ) -> None:
        """As `serve`, for ASGI: ``await node.serve_asgi(scope, receive, send)``."""
        from .verbs import http
        from .verbs.answers import Look

        look = Look(download, download_name, cache_max_age, content_type, charset)
        await http.serve_asgi(self._node, scope, receive, send, look)

    def wsgi_app(
        self, *, download: bool = False, cache_max_age: int | None = None, charset: str | None = None
    ) -> http.WSGIApp:
        """A WSGI application that serves the files below this node, read-only; no listings."""
        from .verbs import http
        from .verbs.answers import Look

        return http.wsgi_app(self._node, Look(download, None, cache_max_age, None, charset))

    def asgi_app(
        self, *, download: bool = False, cache_max_age: int | None = None, charset: str | None = None
    ) -> http.ASGIApp:
        """An ASGI application that serves the files below this node, read-only; no listings."""
        from .verbs import http
        from .verbs.answers import Look

        return http.asgi_app(self._node, Look(download, None, cache_max_age, None, charset))

    # --- programs ---

    def call(
        self,
        *args: Any,
        callback: process.Callback | None = None,
        async_mode: bool = False,
        return_output: bool = False,
        on_error: process.OnError | None = None,
        **subprocess: Any,
    ) -> str | None:
        """Runs a program: ``node.call("convert", node, "-resize", "50%", small.arg("w"))``.

        Each node becomes the path of a real file, for reading and, where its mount allows, writing; `arg` states it.
        What the program made or changed is stored if it succeeds. No shell, unless ``shell=True``. `return_output`
        gives what it printed. `callback()` runs after success. `async_mode` returns at once; a failure then goes to
        ``on_error(error)``, else to the log. The rest goes to `subprocess.run`, whose errors pass through.
        """
        from .verbs import process

        if not async_mode:
            return process.call(args, callback, return_output, subprocess)
        process.background(args, callback, on_error, subprocess)
        return None

    def spawn(
        self, *args: Any, callback: process.Callback | None = None, return_output: bool = False, **subprocess: Any
    ) -> Future[str | None]:
        """As `call`, in the background; the future tells the output or the error."""
        from .verbs import process

        return process.spawn(args, callback, return_output, subprocess)

    def arg(self, mode: str = "rw") -> process.NodeArgument:
        """This node as an argument of `call`: the program reads it (``r``), makes it anew (``w``) or both (``rw``)."""
        from .verbs import process

        return process.argument(self._node, mode)

    # --- archives ---

    def zip(self, *, compression: str = "deflate") -> bytes:
        """This file or tree as a zip archive in memory; `compression` is ``deflate`` or ``store``."""
        from .verbs import zip as zips

        return zips.whole(self.zip_stream(compression=compression))

    def zip_stream(self, chunk: int = 64 << 10, *, compression: str = "deflate") -> zips.ZipStream:
        """The archive in pieces of about `chunk` bytes, in bounded memory; ``store`` tells its `length` before."""
        from .verbs import zip as zips

        return zips.ZipStream(zips.of_node(self._node), chunk, compression)

    def zip_to(self, dest: StorageNode | str, *, compression: str = "deflate") -> StorageNode:
        """Writes the archive to another node, in bounded memory and in one step; returns that node."""
        from .verbs import zip as zips

        target = self._manager.node(dest) if isinstance(dest, str) else dest
        return zips.stored(self.zip_stream(compression=compression), target)

    # --- text and the web ---

    def to_base64(self, mime: str | None = None, include_uri: bool = True, max_size: int = 64 << 20) -> str:
        """The content in base64, as a ``data:`` URI unless `include_uri` is False.

        More than `max_size` bytes → `StorageQuotaError`.
        """
        from .verbs import inline

        return inline.to_base64(self._node, mime, include_uri, max_size)

    def fill_from_url(
        self,
        url: str,
        timeout: float = 30,
        *,
        max_size: int = 1 << 30,
        allow_private: bool = False,
        max_redirects: int = 5,
        headers: Mapping[str, str] | None = None,
    ) -> Stat:
        """Downloads an http or https URL into this file, streamed and in one step.

        Addresses that are not of the open internet → `StoragePermissionError`, at every redirect too, unless
        `allow_private`. More than `max_size` bytes → `StorageQuotaError`. `timeout`: seconds of silence, at most.
        Other failures → `StorageUnavailableError`; what is no such URL → `ValueError`. The old bytes stay.
        """
        from .verbs import fetch

        limits = fetch.Limits(timeout, max_size, allow_private, max_redirects)
        return fetch.fill(self._node, url, limits, headers)
