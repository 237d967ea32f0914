"""Requests to Google Cloud Storage: credentials of google-auth, JSON and XML API over one pool of connections."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, urlencode

from google import auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport import urllib3 as transport
from msgspec import field

from ...exceptions import StoragePermissionError
from .._rest.web import Answer, Web, whole
from ..handles import Part
from ..options import NetworkOptions
from .errors import answered

GOOGLE = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
RESUME = 308
"""What a resumable upload answers to a chunk that is not the last."""
CANCELLED = 499
"""What a resumable upload answers to its end by DELETE."""


class GcsOptions(NetworkOptions, frozen=True, kw_only=True):
    """The keys of type `gcs`; credentials left out are Google's application default credentials."""

    bucket: str
    project: str | None = None
    credentials: str | dict[str, Any] | None = None
    """``"anon"``, the path of a key file, or what stands in one."""
    endpoint: str | None = None
    version_aware: bool = True
    markers: bool = True
    engine: Literal["auto", "exact"] = "auto"
    client_options: dict[str, Any] = field(default_factory=dict)
    """More settings of `urllib3.PoolManager`, such as `ca_certs`; `proxy_url` names a proxy."""


class Client:
    """Signed requests to one bucket; thread-safe, picklable by its options."""

    def __init__(self, options: GcsOptions, directory: str = "") -> None:
        self.options, self._directory = options, directory
        self.web = Web(options.endpoint or GOOGLE, options, options.client_options)
        self.bucket = f"/storage/v1/b/{quote(options.bucket, safe='')}"
        self._credentials: Any = None

    def __reduce__(self) -> Any:
        return Client, (self.options, self._directory)

    # --- targets ---

    def object(self, key: str, **query: str | int | None) -> str:
        """The target of an object in the JSON API."""
        return f"{self.bucket}/o/{quote(key, safe='')}{asked(query)}"

    def objects(self, **query: str | int | None) -> str:
        """The target of all objects in the JSON API."""
        return f"{self.bucket}/o{asked(query)}"

    def uploads(self, **query: str | int | None) -> str:
        """The target of resumable uploads in the JSON API."""
        return f"/upload{self.bucket}/o{asked(query)}"

    def media(self, key: str, **query: str | int | None) -> str:
        """The target of an object in the XML API, whose answers carry the metadata beside the bytes."""
        return f"/{quote(self.options.bucket, safe='')}/{quote(key, safe='')}{asked(query)}"

    def uploading(self, **query: str | int | None) -> str:
        """The target of the multipart uploads that are open, in the XML API."""
        told = asked(query)
        return f"/{quote(self.options.bucket, safe='')}?uploads{'&' + told[1:] if told else ''}"

    # --- requests ---

    def send(self, method: str, target: str, headers: Mapping[str, str] = {}, body: Part | None = None) -> Answer:
        """Sends a request and takes its whole answer; a refusal is raised in our words (`Refused`)."""
        return whole(self.open(method, target, headers, body))

    def open(self, method: str, target: str, headers: Mapping[str, str] = {}, body: Part | None = None) -> Any:
        """As `send`, for an answer whose body is still to be read."""
        token = self.token()
        response = self.web.open(method, target, self._headers(headers, token), body)
        if response.status == 401 and token is not None:  # refused before it was looked at: the token has died
            whole(response)
            response = self.web.open(method, target, self._headers(headers, self.token(dead=token)), body)
        if response.status < 300 or response.status in (RESUME, CANCELLED):
            return response
        raise answered(whole(response), self.options.bucket)

    def _headers(self, headers: Mapping[str, str], token: str | None) -> dict[str, str]:
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if self.options.project is not None:
            sent["X-Goog-User-Project"] = self.options.project
        return sent

    # --- credentials ---

    @property
    def anonymous(self) -> bool:
        return self.options.credentials == "anon"

    def token(self, dead: str | None = None) -> str | None:
        """An access token that is valid and not `dead`; None where requests are not signed."""
        if self.anonymous:
            return None
        credentials = self.credentials
        with self.web.login:
            if not credentials.valid or credentials.token == dead:
                credentials.refresh(self._request())
            token: str = credentials.token
        return token

    @property
    def credentials(self) -> Any:
        """The credentials of google-auth."""
        with self.web.login:
            if self._credentials is None:
                self._credentials = self._found()
            return self._credentials

    def _request(self) -> Any:
        """Asks for tokens as everything else is asked for: google-auth itself would wait for two minutes."""
        return partial(transport.Request(self.web.manager), timeout=self.web.timeout)  # type: ignore[no-untyped-call]

    def _found(self) -> Any:
        given, request = self.options.credentials, self._request()
        try:
            if given is None:
                return auth.default([SCOPE], request=request)[0]
            with warnings.catch_warnings():
                # It warns of credentials from a source that nobody vouches for; these are the mount's own.
                warnings.simplefilter("ignore", DeprecationWarning)
                if isinstance(given, dict):
                    load: Any = auth.load_credentials_from_dict
                    return load(given, [SCOPE], request=request)[0]
                path = os.path.join(self._directory, os.path.expanduser(given))
                load = auth.load_credentials_from_file
                return load(path, [SCOPE], request=request)[0]
        except (GoogleAuthError, OSError, ValueError) as error:
            reason = f"no usable credentials ({error}); set 'credentials' to a key file, or to 'anon'"
            raise StoragePermissionError(reason) from error


def asked(query: Mapping[str, str | int | None]) -> str:
    """A query string of what is not None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""
