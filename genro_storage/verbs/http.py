"""Serving files: one of them or the tree below a node, through WSGI (PEP 3333) or ASGI 3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..exceptions import StoragePathError
from . import answers
from .answers import Answer, Look, Request

if TYPE_CHECKING:
    from ..nodes import StorageNode

StartResponse = Callable[..., Any]
WSGIApp = Callable[[Mapping[str, Any], StartResponse], Iterable[bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


# --- WSGI ---


def serve(node: StorageNode, environ: Mapping[str, Any], start_response: StartResponse, look: Look) -> Iterable[bytes]:
    """The file as the answer of a WSGI application."""
    return _started(answers.answer(node, _from_environ(environ), look.checked()), start_response)


def _from_environ(environ: Mapping[str, Any]) -> Request:
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    return Request(environ.get("REQUEST_METHOD") or "GET", headers)


def _started(answer: Answer, start_response: StartResponse) -> Iterable[bytes]:
    try:
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
    except BaseException:
        answer.body.close()
        raise
    return answer.body


def wsgi_app(root: StorageNode, look: Look) -> WSGIApp:
    """An application that answers for the files below a node, by `PATH_INFO`."""
    look.checked()

    def app(environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = _from_environ(environ)
        try:  # PEP 3333: a string of bytes
            path = environ.get("PATH_INFO", "").encode("latin-1").decode()
        except UnicodeError:
            return _started(answers.missing(request.method), start_response)
        return _started(_below(root, path, request, look), start_response)

    return app


def _below(root: StorageNode, path: str, request: Request, look: Look) -> Answer:
    if request.method in ("GET", "HEAD"):
        if path.endswith("/"):
            return answers.missing(request.method)  # a directory is never served, and no file ends so
        try:
            return answers.answer(_child(root, path), request, look)
        except StoragePathError:
            return answers.missing(request.method)
    return answers.answer(root, request, look)


def _child(root: StorageNode, path: str) -> StorageNode:
    node = root.child(path.removeprefix("/"))
    if node == root:
        raise StoragePathError("the root is a directory")
    return node


# --- ASGI ---


async def serve_asgi(node: StorageNode, scope: Scope, receive: Receive, send: Send, look: Look) -> None:
    """The file as the answer of an ASGI application; the storage is asked in threads."""
    look.checked()
    request = _from_scope(scope)
    await _sent(await _asked(answers.answer, node, request, look), receive, send)


def _from_scope(scope: Scope) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(scope.get("method") or "GET", headers)


async def _asked(ask: Callable[..., Answer], *args: object) -> Answer:
    """The answer, found in a thread; one that nobody waits for any more is closed when it comes."""
    work = asyncio.ensure_future(asyncio.to_thread(ask, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_dropped)
        raise


def _dropped(work: asyncio.Future[Answer]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().body.close()


async def _sent(answer: Answer, receive: Receive, send: Send) -> None:
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        while not gone.done():
            chunk = await asyncio.to_thread(next, answer.body, None)
            if chunk is None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                break
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        if not gone.cancel() and not gone.cancelled():
            gone.exception()  # a server that cannot tell is one that has gone
        await asyncio.to_thread(answer.body.close)


async def _disconnected(receive: Receive) -> None:
    """Returns when nobody listens any more: reading on would be for nothing."""
    while (await receive())["type"] != "http.disconnect":
        pass


def asgi_app(root: StorageNode, look: Look) -> ASGIApp:
    """An application that answers for the files below a node, by the path below its `root_path`."""
    look.checked()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this application serves files over http, not {scope['type']}")
        request, path = _from_scope(scope), _route(scope)
        await _sent(await _asked(_below, root, path, request, look), receive, send)

    return app


def _route(scope: Scope) -> str:
    """The path below the mounting point; servers differ in whether `path` repeats it."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(prefix) :] if prefix and (path + "/").startswith(prefix + "/") else path


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
