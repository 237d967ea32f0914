"""Requests to Azure Blob storage: who asks, and how the request says so, over one pool of connections."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from msgspec import field

from ...exceptions import StorageConfigError, StoragePathError
from .._rest.web import Answer, Web, whole
from ..handles import Part
from ..options import NetworkOptions, Secret
from .errors import answered

VERSION = "2021-12-02"
"""Of the Blob service's REST API."""
SCOPE = "https://storage.azure.com/.default"
EARLY = 300
"""Seconds before its end at which a token is renewed."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_SIGNED = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)


class AzureOptions(NetworkOptions, frozen=True, kw_only=True):
    """The keys of type `azure`; an account is told by its name or by a connection string."""

    container: str
    account_name: str | None = None
    connection_string: Secret | None = None
    account_key: Secret | None = None
    sas_token: Secret | None = None
    credential: Literal["default", "anon"] = "default"
    endpoint: str | None = None
    version_aware: bool = True
    markers: bool = True
    client_options: dict[str, Any] = field(default_factory=dict)
    """More settings of `urllib3.PoolManager`, such as `ca_certs`; `proxy_url` names a proxy."""


class Account:
    """Whose container it is, and by what right: a key, a shared access signature, a token, or none."""

    def __init__(self, options: AzureOptions) -> None:
        told = _parsed(options.connection_string or "")
        name = options.account_name or told.get("AccountName")
        endpoint = options.endpoint or told.get("BlobEndpoint")
        if name is None and endpoint is None:
            raise StorageConfigError("missing required field: one of 'account_name' and 'connection_string'")
        self.name = name or (urlsplit(endpoint or "").hostname or "").partition(".")[0]
        scheme, suffix = told.get("DefaultEndpointsProtocol", "https"), told.get("EndpointSuffix", "core.windows.net")
        self.endpoint = (endpoint or f"{scheme}://{self.name}.blob.{suffix}").rstrip("/")
        self.key = options.account_key or told.get("AccountKey")
        self.sas = (options.sas_token or told.get("SharedAccessSignature") or "").lstrip("?")
        self.anonymous = options.credential == "anon" and not (self.key or self.sas)


def _parsed(text: str) -> dict[str, str]:
    """A connection string as the portal shows it."""
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    found = {name.strip(): value for name, _, value in pairs}
    if text and not found.keys() & {"AccountName", "BlobEndpoint"}:
        raise StorageConfigError("'connection_string' names no AccountName; copy it whole from the account's keys")
    return found


class Client:
    """Signed requests to one container; thread-safe, picklable by its options."""

    def __init__(self, options: AzureOptions) -> None:
        self.options = options
        self.account = Account(options)
        self.web = Web(self.account.endpoint, options, options.client_options)
        self._credential: Any = None
        self._token: Any = None
        self.begins = True
        """A listing may begin at a name, as far as is known."""

    def __reduce__(self) -> Any:
        return Client, (self.options,)

    # --- targets ---

    def blob(self, key: str, **query: str | None) -> str:
        """The target of a blob; a name that Azure cannot hold → `StoragePathError`."""
        if _CONTROL.search(key):
            raise StoragePathError("Azure takes no control characters in names")
        return f"/{quote(self.options.container, safe='')}/{quote(key, safe='/~')}{asked(query)}"

    def container(self, **query: str | None) -> str:
        """The target of the container itself."""
        return f"/{quote(self.options.container, safe='')}{asked({'restype': 'container'} | query)}"

    def url(self, target: str) -> str:
        """A target as a URL that says by what right, for a copy by the server."""
        return self.account.endpoint + self._shared(target)

    def _shared(self, target: str) -> str:
        if not self.account.sas or self.account.key:
            return target
        return f"{target}{'&' if '?' in target else '?'}{self.account.sas}"

    # --- requests ---

    def send(self, method: str, target: str, headers: Mapping[str, str] = {}, body: Part | None = None) -> Answer:
        """Sends a request and takes its whole answer; a refusal is raised in our words."""
        return whole(self.open(method, target, headers, body))

    def open(self, method: str, target: str, headers: Mapping[str, str] = {}, body: Part | None = None) -> Any:
        """As `send`, for an answer whose body is still to be read."""
        target = self._shared(target)
        sent = self._signed(method, target, {"x-ms-version": VERSION, **headers}, len(body) if body else 0)
        response = self.web.open(method, target, sent, body)
        if response.status < 300:
            return response
        raise answered(whole(response), self.options.container)

    def call(self, method: str, target: str) -> str:
        """A request without a body as one part of a batch, which has the version for all of them."""
        target = self._shared(target)
        headers = self._signed(method, target, {"Content-Length": "0"}, 0)
        lines = [f"{method} {self.web.base}{target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "".join(f"{line}\r\n" for line in lines)

    def _signed(self, method: str, target: str, headers: Mapping[str, str], length: int) -> dict[str, str]:
        """The headers with what says by what right."""
        sent, account = {"x-ms-date": formatdate(usegmt=True), **headers}, self.account
        if account.key:
            sent["Authorization"] = f"SharedKey {account.name}:{self._signature(method, target, sent, length)}"
        elif not (account.sas or account.anonymous):
            sent["Authorization"] = f"Bearer {self._bearer()}"
        return sent

    def _signature(self, method: str, target: str, headers: Mapping[str, str], length: int) -> str:
        """https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""
        told = {name.lower(): value for name, value in headers.items()}
        told["content-length"] = str(length) if length else ""
        own = "".join(f"{name}:{told[name].strip()}\n" for name in sorted(told) if name.startswith("x-ms-"))
        path, _, query = target.partition("?")
        pairs = sorted((name.lower(), value) for name, value in parse_qsl(query, keep_blank_values=True))
        place = f"/{self.account.name}{self.web.base}{path}" + "".join(f"\n{name}:{value}" for name, value in pairs)
        text = "\n".join([method, *(told.get(name, "") for name in _SIGNED), own + place])
        key = base64.b64decode(self.account.key or "")
        return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()

    def _bearer(self) -> str:
        with self.web.login:
            if self._token is None or self._token.expires_on < time.time() + EARLY:
                if self._credential is None:
                    from azure.identity import DefaultAzureCredential  # costs much, and most mounts have a key

                    self._credential = DefaultAzureCredential()
                self._token = self._credential.get_token(SCOPE)
            token: str = self._token.token
        return token


def asked(query: Mapping[str, str | None]) -> str:
    """A query string of what is not None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""


def named(element: Any) -> str:
    """The name in a listing; what XML cannot say is percent-encoded."""
    text = element.text or ""
    return unquote(text) if element.get("Encoded") == "true" else text
