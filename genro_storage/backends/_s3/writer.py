"""Writing to S3: one PUT for what fits a part, else a multipart upload; nothing is visible before the end."""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from ...exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    UnsupportedOperation,
)
from ...types import Stat, WriteOptions
from .._objectwriter import ObjectWriter
from .._spooled import Spooled
from .client import Answer, Connection, spawn
from .errors import answered, code_of, status_of
from .facts import Checksums, common, conditions, stat_of, written, written_as
from .reader import fetched
from .upload import Upload

PART = 8 << 20
"""Bytes of a part, and the most that is held of one; also the largest object sent in one PUT."""
PARTS_PER_SIZE = 1000
"""After so many parts their size doubles: 10,000 of them (S3's limit) hold 8 TiB, more than an object may."""


class Target(NamedTuple):
    """The object to be written."""

    connection: Connection
    checksums: Checksums
    key: str
    path: str
    options: WriteOptions

    @property
    def request(self) -> Answer:
        return common(self.connection.options) | {"Key": self.key}

    def put(self, data: bytes) -> Stat:
        """One PUT; conditions that do not hold → `StorageExistsError`, `StorageConflictError`."""
        try:
            return self._sent(data)
        except ClientError as error:
            raise self.judged(error) from error

    def _sent(self, data: bytes) -> Stat:
        connection = self.connection
        request = self.request | written_as(self.options, connection.options) | conditions(self.options)
        checked = self.checksums.of(data)
        try:
            answer = connection.run(connection.client.put_object(Body=data, **request, **checked), sent=len(data))
        except ClientError as error:
            if not self.checksums.refused(error, checked):
                raise
            return self._sent(data)
        self.checksums.learn(answer, checked)
        return self.written(answer, len(data))

    def written(self, answer: Answer, size: int | None) -> Stat:
        """Facts of what a write made."""
        return written(self.path, answer, size, self.options, versions=self.connection.options.version_aware)

    def head(self) -> Stat | None:
        """Facts of what is there now, if anything is."""
        try:
            answer = self.connection.head(self.request)
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise
        size = answer.get("ContentLength")
        return stat_of(self.path, answer, size=size, versions=self.connection.options.version_aware)

    def holds(self, data: bytes) -> Stat | None:
        """Facts of what is there now, if these bytes are."""
        try:
            answer, found = self.connection.run(fetched(self.connection.client.get_object(**self.request)))
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise
        versions = self.connection.options.version_aware
        return stat_of(self.path, answer, size=len(found), versions=versions) if found == data else None

    def judged(self, error: ClientError) -> StorageError:
        """What a refused write means under its conditions."""
        options, status = self.options, status_of(error)
        refused = status == 412 or code_of(error) == "ConditionalRequestConflict"
        if options.if_absent and refused:
            return StorageExistsError("Already exists")
        missing = status == 404 and code_of(error) not in ("NoSuchBucket", "NoSuchUpload")
        if options.if_match is not None and (refused or missing):
            seen = "nothing is there" if missing else "it has another one"
            return StorageConflictError(f"changed meanwhile: etag {options.if_match} was expected, {seen}")
        return answered(error, self.connection.options.bucket)


class Part(NamedTuple):
    """A part that no answer has confirmed yet."""

    number: int
    data: bytes | Spooled
    checked: Answer

    @property
    def body(self) -> Any:
        """What the client sends: a file where it does not fit into memory."""
        return self.data.file() if isinstance(self.data, Spooled) else self.data

    def close(self) -> None:
        """It is stored, or nobody wants it any more."""
        if isinstance(self.data, Spooled):
            self.data.close()


class Multipart:
    """An upload in parts, in order; one part is on its way while the next one fills."""

    def __init__(self, target: Target, headers: Answer = {}, *, checked: bool = True) -> None:
        connection = target.connection
        self._connection, self._client = connection, connection.client
        self._parts: list[Answer] = []
        self._size = 0
        self._part: Part | None = None
        self._sending: Future[Answer] | None = None
        self._checksums = target.checksums if checked else Checksums("none")
        self._upload = Upload.begun(target, self._checksums, headers)
        connection.open.add(self)

    @property
    def part_size(self) -> int:
        """Bytes of the next part."""
        begun = len(self._parts) + (self._part is not None)
        return PART << (begun // PARTS_PER_SIZE)

    def start(self, data: bytes | Spooled) -> None:
        """Sends the next part, in the background, and closes it at its end; call `settle` first."""
        self._part = Part(len(self._parts) + 1, data, self._checksums.of(data))
        self._send(self._part)

    def settle(self) -> None:
        """Waits for the part on its way; one that failed is kept and sent again by the next call."""
        part = self._part
        if part is None:
            return
        if self._sending is None:
            self._send(part)
        sending, self._sending = self._sending, None
        assert sending is not None
        answer = self._connection.wait(sending, len(part.data))
        checks = {key: value for key, value in answer.items() if key.startswith("Checksum") and key in part.checked}
        self._parts.append({"PartNumber": part.number, "ETag": answer["ETag"], **checks})
        self._size += len(part.data)
        self._part = None
        part.close()

    def _send(self, part: Part) -> None:
        request = self._upload.request | part.checked
        sent = self._client.upload_part(PartNumber=part.number, Body=part.body, **request)
        self._sending = self._connection.submit(sent)

    def copy_part(self, source: Answer, span: str, etag: str, length: int) -> None:
        """Has the server copy a range of another object, as long as that has this ETag."""
        request = self._upload.request | {"CopySource": source, "CopySourceRange": span, "CopySourceIfMatch": etag}
        number = len(self._parts) + 1
        answer = self._connection.run(self._client.upload_part_copy(PartNumber=number, **request))
        copied = answer.get("CopyPartResult", {})
        if "ETag" not in copied:  # the server took the request for an upload of nothing
            raise UnsupportedOperation("this server cannot copy in parts")
        self._parts.append({"PartNumber": number, "ETag": copied["ETag"]})
        self._size += length

    def complete(self) -> Stat:
        """Makes the object visible; may be called again after an error."""
        self.settle()
        stat = self._upload.complete(self._parts, self._size)
        self._connection.open.discard(self)
        return stat

    def abort(self) -> None:
        """Ends the upload and frees its parts; never raises."""
        self._connection.open.discard(self)
        self._stop()
        self._upload.abort()

    def abandon(self) -> None:
        """As `abort`, without waiting: for finalizers, which may run on the loop's own thread."""
        self._connection.post(spawn, self.aborting)

    def _stop(self) -> None:
        sending, part, self._sending, self._part = self._sending, self._part, None, None
        if sending is not None:
            sending.cancel()
        if part is not None:
            part.close()

    async def aborting(self) -> None:
        """One try, for when nobody has the time for more."""
        self._stop()
        await self._upload.aborting()


class S3Writer(ObjectWriter):
    """A PUT or an upload in parts; what is dropped without an end is removed."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._spool: Spooled | None = None
        """The next part, where it is larger than what is held."""
        self._upload: Multipart | None = None

    @property
    def part(self) -> int:
        return PART

    @property
    def _begun(self) -> bool:
        return self._upload is not None

    def _ship(self) -> None:
        """Moves the beginning of the buffer on: it is a part, or a piece of a larger one."""
        if self._upload is None:
            self._upload = Multipart(self._target)
        upload = self._upload
        if self._spool is None and upload.part_size <= PART:
            upload.settle()
            part = self._first(PART)
            del self._buffer[: len(part)]
            upload.start(part)
            return
        if self._spool is None:
            self._spool = Spooled(upload.part_size)
        self._spool.take(self._buffer, PART)
        if self._spool.full:
            self._ship_spooled()

    def _ship_spooled(self) -> None:
        assert self._upload is not None
        self._upload.settle()
        spool, self._spool = self._spool, None
        if spool is not None:
            self._upload.start(spool)

    def _complete(self) -> Stat:
        assert self._upload is not None
        while self._buffer:
            self._ship()
        if self._spool is not None:
            self._ship_spooled()
        return self._upload.complete()

    def _abort(self) -> None:
        if self._spool is not None:
            self._spool.close()
        if self._upload is not None:
            self._upload.abort()

    def __del__(self) -> None:
        if getattr(self, "_open", False) and self._pid == os.getpid() and self._upload is not None:
            self._upload.abandon()
