"""One WSGI request to a node, watched by `wsgiref.validate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from genro_storage import StorageNode


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def fetch(app: Callable[..., Any], method: str = "GET", path: str = "/", **headers: str) -> Response:
    """What a WSGI application answers; it has to keep every rule of PEP 3333."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    told: list[Any] = []

    def start_response(status: str, pairs: list[tuple[str, str]], error: Any = None) -> Callable[[bytes], object]:
        told[:] = [status, pairs]
        return lambda data: None

    result = validator(app)(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()  # type: ignore[attr-defined]
    status, pairs = told
    assert len({name for name, _ in pairs}) == len(pairs)
    return Response(int(status.split()[0]), dict(pairs), body)


def request(node: StorageNode, method: str = "GET", *, how: dict[str, Any] | None = None, **headers: str) -> Response:
    """What `node.serve` answers."""
    return fetch(lambda environ, start: node.serve(environ, start, **(how or {})), method, **headers)
