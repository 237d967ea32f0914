"""Writing to Azure Blob storage: one Put Blob for what fits a block, else blocks that one list makes visible."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from ...exceptions import StorageConflictError, StorageCorruptedError, StorageError, StorageExistsError
from ...types import Stat, WriteOptions
from .._objectwriter import ObjectWriter
from .._refusals import code_of, status_of
from .._rest.web import Answer
from .._spooled import Spooled
from ..handles import Part
from .client import Client
from .facts import b64, digest, headers_of, stat_of, written

BLOCK = 8 << 20
"""Bytes of a block, and the most that is held of one; also the largest blob sent in one Put Blob."""
BLOCKS_PER_SIZE = 5000
"""After so many blocks their size doubles: 50,000 of them (Azure's limit) hold more than a blob may."""


class Target(NamedTuple):
    """The blob to be written."""

    client: Client
    key: str
    path: str
    options: WriteOptions

    @property
    def versions(self) -> bool:
        return self.client.options.version_aware

    def put(self, data: bytes) -> Stat:
        """One Put Blob; conditions that do not hold → `StorageExistsError`, `StorageConflictError`."""
        md5 = digest(data)
        headers = headers_of(self.options) | {"x-ms-blob-type": "BlockBlob", "Content-MD5": b64(md5)}
        answer = self.sent(self.client.blob(self.key), headers, data)
        return written(self.path, len(data), md5, answer.headers, self.options, versions=self.versions)

    def sent(self, target: str, headers: Mapping[str, str], body: Part | None) -> Answer:
        """A PUT whose refusal is judged by the conditions."""
        try:
            return self.client.send("PUT", target, headers, body)
        except StorageError as error:
            raise self.judged(error) from error

    def head(self) -> Stat | None:
        """Facts of what is there now, if anything is."""
        try:
            answer = self.client.send("HEAD", self.client.blob(self.key))
        except StorageError as error:
            if status_of(error) == 404:
                return None
            raise
        return stat_of(self.path, answer.headers, versions=self.versions)

    def holds(self, data: bytes) -> Stat | None:
        """Facts of what is there now, if these bytes are."""
        return self.found(len(data), digest(data).hex())

    def found(self, size: int, md5: str) -> Stat | None:
        """Facts of what is there now, if it is so many bytes with this MD5."""
        stat = self.head()
        return stat if stat is not None and (stat.size, stat.hashes.get("md5")) == (size, md5) else None

    def judged(self, error: StorageError) -> StorageError:
        """What a refused write means under its conditions."""
        refused = status_of(error) == 412 or code_of(error) in ("BlobAlreadyExists", "InvalidBlockList")
        refused = refused and not code_of(error).startswith("Lease")
        if not refused:
            return error
        if self.options.if_absent and (code_of(error) != "InvalidBlockList" or self.head() is not None):
            return StorageExistsError("Already exists")
        if self.options.if_match is not None:
            expected = self.options.if_match
            return StorageConflictError(f"changed meanwhile: etag {expected} was expected, it has another one")
        return error


class AzureWriter(ObjectWriter):
    """A Put Blob, or blocks and their list. Blocks never committed are dropped by Azure in a week."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._spool: Spooled | None = None
        """The next block, where it is larger than what is held."""
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._upload = secrets.token_bytes(8)
        self._blocks: list[str] = []

    @property
    def part(self) -> int:
        return BLOCK

    @property
    def _begun(self) -> bool:
        return bool(self._blocks) or self._spool is not None

    def _passed(self, view: memoryview) -> None:
        self._md5.update(view)

    def _ship(self) -> None:
        """Moves the beginning of the buffer on: it is a block, or a piece of a larger one."""
        size = BLOCK << (len(self._blocks) // BLOCKS_PER_SIZE)
        if self._spool is None and size <= BLOCK:
            block = self._first(size)
            self._send(block)
            del self._buffer[: len(block)]
            return
        if self._spool is None:
            self._spool = Spooled(size)
        self._spool.take(self._buffer, BLOCK)
        if self._spool.full:
            self._ship_spooled()

    def _ship_spooled(self) -> None:
        if self._spool is not None:
            self._send(self._spool)
            self._spool.close()
            self._spool = None

    def _send(self, block: Part) -> None:
        """Sends one block; one that failed is sent again under the same name."""
        # All names of one blob have one length, those of other writers too.
        name = b64(self._upload + len(self._blocks).to_bytes(4, "big"))
        client, target = self._target.client, self._target
        place = client.blob(target.key, comp="block", blockid=name)
        target.sent(place, {"Content-MD5": b64(digest(block))}, block)
        self._blocks.append(name)

    def _judge(self, hashes: Mapping[str, str]) -> None:
        if hashes.get("md5", self._md5.hexdigest()) != self._md5.hexdigest():
            raise StorageCorruptedError(f"the md5 of the bytes is not {hashes['md5']}", retryable=True)

    def _complete(self) -> Stat:
        return self._settled(self._listed, lambda: self._target.found(self._written, self._md5.hexdigest()))

    def _listed(self) -> Stat:
        """All blocks that are left, and the list that makes the blob of them."""
        while self._buffer:
            self._ship()
        self._ship_spooled()
        target, md5 = self._target, self._md5.digest()
        names = "".join(f"<Latest>{name}</Latest>" for name in self._blocks)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{names}</BlockList>'.encode()
        headers = headers_of(target.options) | {"x-ms-blob-content-md5": b64(md5)}
        answer = target.sent(target.client.blob(target.key, comp="blocklist"), headers, body)
        return written(target.path, self._written, md5, answer.headers, target.options, versions=target.versions)

    def _abort(self) -> None:
        if self._spool is not None:
            self._spool.close()
