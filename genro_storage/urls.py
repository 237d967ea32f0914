"""URLs: each scheme and authority is a mount without a name."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from .exceptions import StorageConfigError, StoragePathError
from .mount import Level
from .retry import RetryPolicy
from .table import Entry

_LOCAL = ("file", "local")
_BUCKETS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_SERVERS = {"sftp": "sftp", "ssh": "sftp", "ftp": "ftp", "ftps": "ftps", "smb": "smb"}


def url_entry(url: str) -> tuple[str, Entry, str]:
    """(key in the table, entry, path) for a URL; credentials that it does not tell come from the driver's own chain.

    Raises `StoragePathError` or `StorageConfigError` for one that names no place.
    """
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme in _SERVERS else None
    except ValueError as error:
        raise StoragePathError(f"the URL is malformed: {error}") from None
    scheme, authority = parts[:2]
    name, path = f"{scheme}://{authority}", url.split("://", 1)[1].removeprefix(authority)
    if scheme not in _LOCAL and not authority:
        raise StorageConfigError(f"the URL {url!r} names no host or bucket")
    if scheme in _LOCAL:
        if authority:
            raise StoragePathError(f"a {scheme} URL names no host; a local file is written '{scheme}:///path'")
        given: dict[str, Any] = {"type": "local", "path": "/"}
    elif scheme in _BUCKETS:
        given = {"type": _BUCKETS[scheme], "bucket": authority}
    elif scheme in ("http", "https"):
        given, path = {"type": "http", "base_url": f"{scheme}://{authority}/"}, _web_path(path)
    elif scheme in _SERVERS:
        given = _server(_SERVERS[scheme], parts, port)
        if scheme == "smb":  # a mount is one share
            share, _, path = path.lstrip("/").partition("/")
            given["share"], name = _shared(share, parts), f"{name}/{share}"
    else:
        given = {"type": "fsspec", "url": f"{scheme}://{authority}/"}
    return name, Entry(name, given["type"], given, "/", Level.delete, RetryPolicy(), False), path


def _server(kind: str, parts: SplitResult, port: int | None) -> dict[str, Any]:
    """The keys of a mount of a file server: ``user:password@host:port``, for smb with ``domain;`` before the user."""
    if not parts.hostname:
        raise StoragePathError(f"the URL names no host; it begins with {parts.scheme}://host")
    domain, _, user = unquote(parts.username or "").rpartition(";")
    if kind == "sftp" and not user:
        from getpass import getuser  # as ssh does

        user = getuser()
    told = {
        "port": port,
        "username": user,
        "password": unquote(parts.password or ""),
        "domain": domain if kind == "smb" else "",
    }
    return {"type": kind, "host": parts.hostname, **{key: value for key, value in told.items() if value}}


def _shared(share: str, parts: SplitResult) -> str:
    if not share:
        raise StoragePathError(f"an smb URL names a share: smb://{parts.hostname}/share/path")
    return share


def _web_path(path: str) -> str:
    """The path that a web URL names; one that says more than a path is a `StoragePathError`."""
    if "?" in path or "#" in path:
        raise StoragePathError("a URL with '?' or '#' is no mere path; mount it: type http, the query in 'base_url'")
    if "%2f" in path.lower():
        raise StoragePathError("a URL with %2F has a '/' inside a name, which no path has")
    return unquote(path, errors="surrogateescape")
