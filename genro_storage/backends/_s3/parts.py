"""Parts staged on S3: a multipart upload that goes on by its id, each part with its checksum."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError
from msgspec.structs import replace

from ...types import Stat, Unfinished
from .._staging import Receipt, Staged, fitting, gone, pieces
from ..handles import Part
from .client import Answer, Connection
from .errors import code_of, status_of
from .facts import common
from .upload import Upload
from .wire import Wire
from .writer import Target

LEAST = 5 << 20
"""Bytes of a part at least, the last one excepted (Amazon S3 multipart upload limits)."""
MOST_PARTS = 10_000


class S3Parts(Staged):
    """A staged write; its token is the id of the upload."""

    def __init__(
        self, target: Target, wire: Wire, *, part_size: int, token: str | None, receipts: Mapping[int, str]
    ) -> None:
        options = target.options
        part_size = fitting(part_size, options.size, least=LEAST, most_parts=MOST_PARTS)
        super().__init__(target.path, options, part_size, receipts)
        self._target, self._wire, self._checksums = target, wire, target.checksums
        try:
            self._upload = self._opened(token)
            if token is not None:
                self._compare()
        except ClientError as error:
            if token is not None and (status_of(error) == 404 or code_of(error) == "NoSuchUpload"):
                raise gone() from error
            raise target.judged(error) from error
        self.token = self._upload.id

    def _opened(self, token: str | None) -> Upload:
        if token is None:
            return Upload.begun(self._target, self._checksums, wire=self._wire)
        return Upload(self._target, token, self._wire)

    def _compare(self) -> None:
        """Asks for the parts that are there; what the receipts tell otherwise counts for nothing."""
        connection = self._target.connection
        there: dict[int, tuple[int, str]] = {}
        request: Answer = dict(self._upload.request)
        while True:
            answer = connection.run(connection.client.list_parts(**request))
            there |= {part["PartNumber"]: (part["Size"], part["ETag"].strip('"')) for part in answer.get("Parts", ())}
            if not self._receipts or not answer.get("IsTruncated"):
                break
            request["PartNumberMarker"] = answer["NextPartNumberMarker"]
        for offset, receipt in list(self._receipts.items()):
            if there.get(offset // self.part_size + 1) != (receipt.size, receipt.tag.strip('"')):
                self._forget(offset)

    def _store(self, offset: int, data: Part) -> Receipt:
        number = offset // self.part_size + 1
        while True:
            checked = self._checksums.of(data)
            try:
                answer = self._sent(self._upload.request | checked | {"PartNumber": number}, data)
            except ClientError as error:
                if not self._checksums.refused(error, checked):
                    raise self._target.judged(error) from error
                continue
            crc = answer.get("ChecksumCRC32C") if "ChecksumCRC32C" in checked else None
            other = answer.get("ChecksumSHA256", "") if "ChecksumSHA256" in checked else ""
            return Receipt(len(data), answer["ETag"], base64.b64decode(crc).hex() if crc else "", other)

    def _sent(self, request: Answer, data: Part) -> Answer:
        sent = self._wire.ask("upload_part", request, data)
        if sent is not None:
            return sent
        connection = self._target.connection
        body = b"".join(pieces(data))
        answer: Answer = connection.run(connection.client.upload_part(Body=body, **request), sent=len(body))
        return answer

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        if not parts:
            parts = [self._store(0, b"")]
        digests = self.digests
        stat = self._upload.complete([_named(number, part) for number, part in enumerate(parts, 1)], size)
        return stat if stat.hashes else _proven(stat, digests)

    def _drop(self) -> None:
        self._upload.abort()


def _named(number: int, receipt: Receipt) -> Answer:
    """A part as the end of an upload names it."""
    part: Answer = {"PartNumber": number, "ETag": receipt.tag}
    if receipt.crc32c:
        part["ChecksumCRC32C"] = base64.b64encode(bytes.fromhex(receipt.crc32c)).decode()
    return part | ({"ChecksumSHA256": receipt.other} if receipt.other else {})


def _proven(stat: Stat, digests: Mapping[str, str]) -> Stat:
    """The server has checked each part: what they make has the hash that follows from theirs."""
    return replace(stat, hashes=digests)


def unfinished(connection: Connection, prefix: str, root: str, older_than: float) -> Iterator[Unfinished]:
    """The uploads of the key `prefix` and of the keys below it; told relative to `root`."""
    latest, lead = time.time() - older_than, f"{root}/" if root else ""
    request: dict[str, Any] = common(connection.options) | {"Prefix": prefix}
    while True:
        answer: Answer = connection.run(connection.client.list_multipart_uploads(**request))
        for found in answer.get("Uploads", ()):
            key, started = found["Key"], found["Initiated"].timestamp()
            if started <= latest and (key == prefix or not prefix or key.startswith(f"{prefix.rstrip('/')}/")):
                yield Unfinished(key.removeprefix(lead), found["UploadId"], started)
        if not answer.get("IsTruncated"):
            return
        request["KeyMarker"], request["UploadIdMarker"] = answer["NextKeyMarker"], answer["NextUploadIdMarker"]
