"""Writing to Google Cloud Storage: one PUT up to a chunk, else a resumable upload; nothing shows before its end."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ... import hashing
from ...exceptions import StorageConflictError, StorageError, StorageExistsError
from ...types import Stat, WriteOptions
from .._objectwriter import ObjectWriter
from .._refusals import status_of
from .._rest.web import Answer
from .client import RESUME, Client
from .facts import checked, condition, headers_of, resource_of, stat_of, written

CHUNK = 8 << 20
"""Bytes of a chunk, a multiple of 256 KiB; also the largest object sent in one PUT."""

_RANGE = re.compile(r"bytes=0-(\d+)")


class Target(NamedTuple):
    """The object to be written."""

    client: Client
    key: str
    path: str
    options: WriteOptions

    @property
    def versions(self) -> bool:
        return self.client.options.version_aware

    def put(self, data: bytes) -> Stat:
        """One PUT; conditions that do not hold → `StorageExistsError`, `StorageConflictError`."""
        headers = headers_of(self.options) | checked(data)
        try:
            answer = self.client.send("PUT", self.client.media(self.key), headers, data)
        except StorageError as error:
            raise self.judged(error) from error
        return written(self.path, len(data), answer.headers, self.options, versions=self.versions)

    def holds(self, data: bytes) -> Stat | None:
        """Facts of what is there now, if these bytes are."""
        try:
            answer = self.client.send("GET", self.client.object(self.key))
        except StorageError as error:
            if status_of(error) == 404:
                return None
            raise
        found = stat_of(self.path, json.loads(answer.data), versions=self.versions)
        hasher = hashing.new("md5")
        hasher.update(data)
        return found if found.hashes.get("md5") == hasher.hexdigest() else None

    def judged(self, error: StorageError) -> StorageError:
        """What a refused write means under its conditions."""
        if status_of(error) != 412:
            return error
        if self.options.if_absent:
            return StorageExistsError("Already exists")
        return StorageConflictError(f"changed meanwhile: etag {self.options.if_match} was expected, it has another one")


class Resumable:
    """An upload in chunks, in order; the server tells how far it is, so that a lost answer loses nothing."""

    def __init__(self, target: Target) -> None:
        self._target, self._client = target, target.client
        self.confirmed = 0
        self._unsure = False
        query = self._client.uploads(
            uploadType="resumable", name=target.key, ifGenerationMatch=condition(target.options)
        )
        body = json.dumps(resource_of(target.options)).encode()
        answer = self._client.send("POST", query, {"Content-Type": "application/json"}, body)
        session = urlsplit(answer.headers["location"])
        base = self._client.web.base
        self._session = f"{session.path.removeprefix(base)}?{session.query}"

    def send(self, data: bytes, offset: int, total: int | None, headers: Mapping[str, str] = {}) -> Stat | None:
        """Sends bytes that begin at `offset`; the facts of the whole once `total` is reached.

        `confirmed` says afterwards how much the server has, perhaps less than was sent.
        """
        if self._unsure and (stat := self._asked(total)) is not None:
            return stat
        data = data[self.confirmed - offset :]
        first, end = self.confirmed, "*" if total is None else total
        span = f"bytes {first}-{first + len(data) - 1}/{end}" if data else f"bytes */{end}"
        return self._sent(data, span, headers)

    def _asked(self, total: int | None) -> Stat | None:
        """How far the upload is."""
        return self._sent(b"", f"bytes */{'*' if total is None else total}", {})

    def _sent(self, data: bytes, span: str, headers: Mapping[str, str]) -> Stat | None:
        self._unsure = True
        answer = self._client.send("PUT", self._session, {"Content-Range": span, **headers}, data)
        self._unsure = False
        if answer.status != RESUME:
            return stat_of(self._target.path, json.loads(answer.data), versions=self._target.versions)
        self.confirmed = _kept(answer)
        return None

    def cancel(self) -> None:
        """Ends the upload; never raises."""
        try:
            self._client.send("DELETE", self._session, {}, b"")
        except Exception:  # noqa: BLE001 - a driver call; nobody is left to tell, the server forgets it in a week
            return


def _kept(answer: Answer) -> int:
    match = _RANGE.fullmatch(answer.headers.get("range", ""))
    return int(match[1]) + 1 if match else 0


class GcsWriter(ObjectWriter):
    """A PUT or a resumable upload."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._upload: Resumable | None = None
        self._hasher = hashing.new("crc32c") if hashing.computable("crc32c") else None

    @property
    def part(self) -> int:
        return CHUNK

    @property
    def _begun(self) -> bool:
        return self._upload is not None

    def _passed(self, view: memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(view)

    def _ship(self) -> None:
        self._shipped(None)

    def _shipped(self, total: int | None) -> Stat | None:
        """Sends the first chunk of the buffer; what the server has is taken from it."""
        upload = self._started()
        offset = upload.confirmed
        chunk = self._first(len(self._buffer) if total is not None else CHUNK)
        try:
            return upload.send(chunk, offset, total, self._crc32c() if total is not None else {})
        except StorageError as error:
            raise self._target.judged(error) from error
        finally:
            del self._buffer[: upload.confirmed - offset]

    def _started(self) -> Resumable:
        if self._upload is None:
            try:
                self._upload = Resumable(self._target)
            except StorageError as error:
                raise self._target.judged(error) from error
        return self._upload

    def _crc32c(self) -> dict[str, str]:
        if self._hasher is None:
            return {}
        return {"x-goog-hash": f"crc32c={base64.b64encode(bytes.fromhex(self._hasher.hexdigest())).decode()}"}

    def _complete(self) -> Stat:
        while True:
            before = self._upload.confirmed if self._upload is not None else 0
            stat = self._shipped(self._written)
            if stat is not None:
                return stat
            if self._upload is None or self._upload.confirmed == before:
                raise StorageError("the server takes no more of this upload", retryable=True)

    def _abort(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
