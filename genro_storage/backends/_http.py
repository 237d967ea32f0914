"""What the backends over HTTP share: one pooled client per process, exact URLs, safe redirects, errors."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from ..exceptions import StorageConfigError, StorageError, StoragePathError, StoragePermissionError
from ._httpanswers import described, refusal, spanned, translate
from ._portable import PortableBackend
from .base import BackendReader, BytesReader, conflict
from .options import Context, NetworkOptions, Secret

MAX_REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
# What RFC 3986 lets stand in a path as it is; "%" is not in it, so a name that looks encoded stays a name.
_PLAIN = "/-._~!$&'()*+,=:@"


class Client:
    """The connections of a mount and its rooted twins: made on first use, anew in a child and after `close`."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._lock = RLock()
        self._client: httpx.Client | None = None
        self._pid = 0
        self._parents: list[httpx.Client | None] = []

    def get(self) -> httpx.Client:
        """The client of this process."""
        client = self._client
        if client is not None and self._pid == os.getpid():
            return client
        if self._pid not in (0, os.getpid()):  # in a child: the lock may belong to a thread that is not here
            self._lock = RLock()
            self._parents.append(self._client)  # its connections are the parent's: neither used nor closed here
            self._client, self._pid = None, os.getpid()
        with self._lock:
            if self._client is None:
                self._client, self._pid = httpx.Client(**self._settings), os.getpid()
                weakref.finalize(self, _close, self._client, self._pid)
            return self._client

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                client.close()


def _close(client: httpx.Client, pid: int) -> None:
    """What a mount that nobody closed leaves; never by a child, whose connections these are not."""
    if pid == os.getpid():
        client.close()


class HttpKeys(NetworkOptions, frozen=True, kw_only=True):
    """The keys that the types over HTTP share: `token` is a bearer token.

    `cert`: a PEM file; with a private key in it, the certificate we show, else one that we trust.
    """

    username: str = ""
    token: Secret = Secret("")
    cert: str = ""
    verify_tls: bool = True


class PasswordKeys(HttpKeys, frozen=True, kw_only=True):
    """The keys of those that know passwords."""

    password: Secret = Secret("")


class HttpStorage(PortableBackend):
    """A storage behind a base URL; subclasses say how files and directories are asked for."""

    def __init__(self, options: HttpKeys, context: Context, url: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(options, context)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise StorageConfigError(f"{_shown(url)!r} is not an http or https URL with a host")
        host = parts.netloc.rpartition("@")[2]
        self._origin = f"{parts.scheme}://{host}"
        self._base = quote(parts.path.rstrip("/"), f"{_PLAIN}%")
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = {**headers, **_authorization(options, parts.username, parts.password)}
        self._owns = True
        self._client = Client(
            verify=_trust(options.verify_tls, options.cert, context.directory),
            timeout=httpx.Timeout(options.timeout, connect=options.connect_timeout),
            limits=httpx.Limits(max_connections=options.max_connections, max_keepalive_connections=16),
            headers={"Accept-Encoding": "identity", "User-Agent": "genro-storage"},
        )

    def __copy__(self) -> Self:
        twin = super().__copy__()
        twin._owns = False
        return twin

    def close(self) -> None:
        if self._owns:
            self._client.close()

    @property
    def storage_id(self) -> str:
        """Two users, or two sets of headers, may be shown two different things."""
        told = repr((self._query, sorted(self._headers.items())))
        return f"http:{self._origin}#{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def native_path(self, path: str) -> str:
        return self.url(path).removesuffix(self._query)

    def translate(self, error: Exception) -> StorageError | None:
        return translate(error)

    def url(self, path: str) -> str:
        """The URL of exactly this path; ``..`` is refused here too."""
        whole = "/".join(part for part in (self.root, path) if part)
        return f"{self._origin}{self._base}{'/' if whole else ''}{encoded(whole)}{self._query}"

    # --- requests ---

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = {},
        *,
        content: bytes | Iterable[bytes] | None = None,
        allow: Iterable[int] = (),
    ) -> Iterator[httpx.Response]:
        """One request whose answer is read inside the block; a refusal is raised but for the statuses of `allow`."""
        response = self.send(method, url, headers, content=content, allow=allow)
        try:
            yield response
        finally:
            response.close()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = {},
        *,
        content: bytes | Iterable[bytes] | None = None,
        allow: Iterable[int] = (),
    ) -> httpx.Response:
        """As `ask`; the caller closes the answer. Redirects are followed for what only reads."""
        for _ in range(MAX_REDIRECTS + 1):
            known = self._headers if _origin(url) == self._origin else {}
            request = self._client.get().build_request(method, url, headers={**known, **headers}, content=content)
            response = self._client.get().send(request, stream=True)
            status = response.status_code
            if status < 300 or status in allow:
                return response
            target = _target(response) if status in _MOVED else ""
            if not target:
                try:
                    raise self.refused(response)
                finally:
                    response.close()
            response.close()
            self.judge_redirect(method, url, target)
            url = target
        raise StorageError(f"the server redirects more than {MAX_REDIRECTS} times")

    def open_range(
        self, path: str, url: str, start: int = 0, end: int | None = None, if_match: str | None = None, **headers: str
    ) -> BackendReader:
        """The bytes [start, end) of what is at a URL, by one request, whether the server knows ranges or not."""
        if (start, end) != (0, None):
            headers["Range"] = f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"
        if if_match is not None and not if_match.startswith("W/"):  # a weak one never matches there (RFC 9110 13.1.1)
            headers["If-Match"] = if_match
        answer = self.send("GET", url, headers, allow=(416,))
        try:
            stat = described(path, answer)
            if if_match is not None and answer.status_code != 416 and stat.etag != if_match:
                raise conflict(if_match, stat.etag)
            if answer.status_code != 416:
                return spanned(answer, stat, start, end)
        except BaseException:
            answer.close()
            raise
        answer.close()
        stat = self.stat(path)
        if if_match not in (None, stat.etag):
            raise conflict(str(if_match), stat.etag)
        return BytesReader(b"", stat)

    def refused(self, response: httpx.Response) -> StorageError:
        """Our error for an answer that is none; a subclass may know more."""
        return refusal(response)

    def judge_redirect(self, method: str, url: str, target: str) -> None:
        """Whether to go where the server points; a subclass may take some redirects for an answer."""
        if method not in ("GET", "HEAD", "PROPFIND"):
            raise StorageError(f"the server redirects this change to {_shown(target)}; set that URL in the mount")
        if url.startswith("https:") and not target.startswith("https:"):
            raise StoragePermissionError("the server redirects from https to a place without encryption")


def encoded(path: str) -> str:
    """A path percent-encoded, each byte that is not plain once; ``..`` and ``.`` are refused."""
    if (path.startswith(".") or "/." in path) and any(segment in ("..", ".") for segment in path.split("/")):
        raise StoragePathError(f"Parent directory traversal ('..') is not allowed: {path!r}")
    return quote(path, _PLAIN, errors="surrogateescape")


def _authorization(options: HttpKeys, username: str | None, password: str | None) -> dict[str, str]:
    """The header of a token, or of a name and password, those in the URL last."""
    name = options.username or unquote(username or "")
    given = getattr(options, "password", "")
    if options.token and given:
        raise StorageConfigError("'token' and 'password' are two ways to say who asks; give one of them")
    if options.token:
        return {"Authorization": f"Bearer {options.token}"}
    return basic(name, given or unquote(password or "")) if name else {}


def basic(name: str, word: str) -> dict[str, str]:
    """The header of a name and a password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{word}'.encode()).decode()}"}


def _trust(verify: bool, cert: str, directory: str) -> ssl.SSLContext | bool:
    """What TLS trusts (False: anything) and by which certificate we show ourselves."""
    if not cert:
        return verify
    context = httpx.create_ssl_context(verify=verify)
    file = os.path.join(directory, os.path.expanduser(cert))
    try:
        with open(file, "rb") as pem:
            is_ours = b"PRIVATE KEY-----" in pem.read()
        context.load_cert_chain(file) if is_ours else context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        raise StorageConfigError(f"the certificate {cert!r} cannot be used ({error}); see 'cert'") from error
    return context


def _origin(url: str) -> str:
    return "://".join(urlsplit(url)[:2])


def _target(response: httpx.Response) -> str:
    """Where a redirect points, an http or https URL; "" where it points nowhere."""
    try:
        target = response.request.url.join(response.headers.get("Location", ""))
    except httpx.InvalidURL:
        return ""
    return str(target) if "Location" in response.headers and target.scheme in ("http", "https") else ""


def _shown(url: str) -> str:
    """A URL without what only its owner should see."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
