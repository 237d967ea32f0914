"""The accelerated way to read from Google: whole objects by obstore, where their ETag proves the bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from ... import hashing
from ...exceptions import StorageTimeoutError, StorageUnavailableError
from ...types import Stat
from .. import _obstore
from .._objects import metadata_of
from .._rest.web import Answer
from .client import Client
from .errors import answered
from .facts import utf8

_HEADERS = frozenset({"Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control"})


class FastLane:
    """obstore beside one client. It only reads: obstore cannot send the checksum by which Google judges an upload.

    The facts of an object carry its hash, which obstore does not tell; but the ETag is the MD5 of what was uploaded in
    one piece. Where it is not, this mount reads the exact way from then on.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        options = client.options
        self._open = options.engine == "auto" and not options.client_options and _obstore.available()
        self._slots = threading.BoundedSemaphore(options.max_connections)
        self._store = _obstore.Accelerator("GCSStore", lambda: _config(client), self._take_slot)

    def __reduce__(self) -> Any:
        return FastLane, (self._client,)

    def close(self) -> None:
        self._store.close()

    def _take_slot(self) -> Callable[[], object]:
        options = self._client.options
        if not self._slots.acquire(timeout=options.timeout):
            most = options.max_connections
            raise StorageTimeoutError(f"all {most} connections are busy; raise 'max_connections'")
        return self._slots.release

    def get(self, path: str, key: str) -> tuple[bytes, Stat] | None:
        """A whole object with its facts; None where the exact path has to read it."""
        if not (self._open and self._store.takes(key)):
            return None
        try:
            data, meta, attributes = self._store.get(key)
        except _obstore.Answered as error:
            raise answered(Answer(error.status, {}, error.body.encode()), self._client.options.bucket) from error
        except _obstore.Unanswered as error:
            if error.timed_out:
                raise StorageTimeoutError("no answer in time") from error
            raise StorageUnavailableError(f"the storage cannot be reached ({error})") from error
        except _obstore.Declined:
            return None
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if meta["e_tag"] != f'"{md5}"' or meta["version"] is None:
            self._open = False
            return None
        hashes = {"md5": md5}
        if hashing.computable("crc32c"):  # Google tells it too, and these are its bytes
            hasher = hashing.new("crc32c")
            hasher.update(data)
            hashes["crc32c"] = hasher.hexdigest()
        return data, _stat(path, meta, attributes, hashes, versions=self._client.options.version_aware)


def _stat(
    path: str, meta: Mapping[str, Any], attributes: Mapping[str, str], hashes: Mapping[str, str], *, versions: bool
) -> Stat:
    given = {name: utf8(value) for name, value in attributes.items() if name not in _HEADERS}
    content_type, stored = given.pop("Content-Type", None), given.pop("Storage-Class", None)
    metadata, mtime = metadata_of(given)
    return Stat(
        path,
        meta["size"],
        mtime=mtime if mtime is not None else meta["last_modified"].timestamp(),
        etag=meta["version"],
        content_type=content_type,
        hashes=hashes,
        version_id=meta["version"] if versions else None,
        storage_class=stored,
        metadata=metadata,
    )


def _config(client: Client) -> Mapping[str, Any]:
    """The arguments of `GCSStore`; its bearer token is the client's own."""
    options = client.options
    headers = {"accept-encoding": "gzip"}  # as it is stored: Google unpacks it for all others
    if options.project is not None:
        headers["x-goog-user-project"] = options.project
    config: dict[str, Any] = {
        "bucket": options.bucket,
        "config": {"base_url": client.web.endpoint, "skip_signature": client.anonymous},
        "client_options": _obstore.client_options(
            options.timeout, options.connect_timeout, options.max_connections, headers=headers
        ),
    }
    if not client.anonymous:
        config["credential_provider"] = lambda: _credential(client)
    return config


def _credential(client: Client) -> Mapping[str, Any]:
    token, expiry = client.token(), client.credentials.expiry
    return {"token": token, "expires_at": None if expiry is None else expiry.replace(tzinfo=UTC)}
