"""Parts staged on Google Cloud Storage: a multipart upload of the XML API, under a key of our own for conditions."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from msgspec.structs import replace

from ...exceptions import StorageConflictError, StorageError, StorageExistsError, StorageNotFoundError
from ...types import Stat, Unfinished, WriteOptions
from .._refusals import no_bucket, status_of
from .._staging import Crc, Receipt, Staged, fitting, gone, pieces
from ..handles import Part
from .client import Client
from .copying import copy_object
from .facts import headers_of, seconds, stat_of_headers, written
from .writer import Target

LEAST = 5 << 20
"""Bytes of a part at least, the last one excepted (Cloud Storage quotas, XML API multipart uploads)."""
MOST_PARTS = 10_000
ENDED = "-"
"""Stands for the id in the token of an upload that ended under our own key and was not copied."""
OWN = ".genro/parts/"
"""Below the root of a mount, keys of what is staged under a condition: such an upload knows none at its end."""


class GcsParts(Staged):
    """A staged write; its token is the id of the upload, and the name of our own key for it where it has one.

    With a condition the upload ends under that key, and the server copies it to its place if the condition holds.
    """

    def __init__(
        self, target: Target, root: str, *, part_size: int, token: str | None, receipts: Mapping[int, str]
    ) -> None:
        options = target.options
        part_size = fitting(part_size, options.size, least=LEAST, most_parts=MOST_PARTS)
        super().__init__(target.path, options, part_size, receipts)
        self._target, self._client = target, target.client
        self._lost = self._ended_upload = False
        own = secrets.token_hex(8) if token is None and _has_condition(options) else ""
        self._id, _, own = (token or f" {own}").partition(" ")
        self._key = f"{root}/{OWN}{own}/{target.path}".removeprefix("/") if own else target.key
        try:
            if token is None:
                self._id = self._begun()
            elif self._id == ENDED:
                self._head(self._key)
                self._ended_upload = True
            else:
                self._compare()
        except StorageNotFoundError as error:
            if token is not None and not no_bucket(error):
                raise gone() from error
            raise
        self.token = f"{self._id} {own}".rstrip()

    def _begun(self) -> str:
        headers = headers_of(replace(self.options, if_absent=False, if_match=None))
        answer = self._client.send("POST", f"{self._client.media(self._key)}?uploads", headers, b"")
        return ET.fromstring(answer.data).findtext("{*}UploadId") or ""

    def _compare(self) -> None:
        """Asks for the parts that are there; what the receipts tell otherwise counts for nothing."""
        there: dict[int, tuple[int, str]] = {}
        marker: str | None = None
        while True:
            place = self._client.media(self._key, uploadId=self._id, **{"part-number-marker": marker})
            told = ET.fromstring(self._client.send("GET", place).data)
            for part in told.iterfind("{*}Part"):
                tag = (part.findtext("{*}ETag") or "").strip('"')
                there[int(part.findtext("{*}PartNumber") or 0)] = int(part.findtext("{*}Size") or 0), tag
            marker = told.findtext("{*}NextPartNumberMarker")
            if not self._receipts or told.findtext("{*}IsTruncated") != "true" or not marker:
                break
        for offset, receipt in list(self._receipts.items()):
            if there.get(offset // self.part_size + 1) != (receipt.size, receipt.tag):
                self._forget(offset)

    def _store(self, offset: int, data: Part) -> Receipt:
        crc = Crc()
        for piece in pieces(data):
            crc.passed(piece)
        checked = {}
        if str(crc):
            checked["x-goog-hash"] = f"crc32c={base64.b64encode(bytes.fromhex(str(crc))).decode()}"
        number = offset // self.part_size + 1
        place = self._client.media(self._key, partNumber=number, uploadId=self._id)
        answer = self._client.send("PUT", place, checked, data)
        return Receipt(len(data), (answer.headers.get("etag") or "").strip('"'), str(crc))

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        made = None if self._ended_upload else self._complete(parts or [self._store(0, b"")], size)
        if self._key == self._target.key:
            return made or self._head(self._key)
        stat = self._placed(size)
        self._sweep()
        return stat

    def _placed(self, size: int) -> Stat:
        """The server copies what was staged to its place, if the condition holds."""
        try:
            return copy_object(self._target, self._client, self._key, None, lambda n: None)
        except (StorageExistsError, StorageConflictError):
            # After a lost answer the object in the way may be our own.
            stat = self._head(self._target.key) if self._lost else None
            if stat is None or not self._is_ours(stat, size):
                raise
            return stat
        except Exception:  # a driver call that was not refused: what it asked for may have been done
            self._lost = True
            raise

    def _complete(self, parts: list[Receipt], size: int) -> Stat | None:
        """Ends the upload; one whose answer was lost may have ended. The facts of what it made, if they are told."""
        named = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(part.tag)}&quot;</ETag></Part>"
            for number, part in enumerate(parts, 1)
        )
        body = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
        place = self._client.media(self._key, uploadId=self._id)
        stat = None
        try:
            answer = self._client.send("POST", place, {"Content-Type": "application/xml"}, body)
            if "x-goog-generation" in answer.headers:
                stat = written(self.path, size, answer.headers, self.options, versions=self._target.versions)
        except StorageError as error:
            if not (self._lost and status_of(error) == 404):
                self._lost |= status_of(error) >= 500
                raise
            stat = self._head(self._key)
            if not self._is_ours(stat, size):
                raise
        except Exception:  # a driver call without an answer: what it asked for may have been done
            self._lost = True
            raise
        self._ended_upload = True
        return stat

    def _is_ours(self, stat: Stat, size: int) -> bool:
        return stat.size == size and stat.hashes.get("crc32c") == self.digests.get("crc32c")

    def _head(self, key: str) -> Stat:
        answer = self._client.send("HEAD", self._client.media(key))
        return stat_of_headers(self.path, answer.headers, versions=self._target.versions)

    def _drop(self) -> None:
        if self._ended_upload:
            self._sweep()
        else:
            self._client.send("DELETE", self._client.media(self._key, uploadId=self._id))

    def _sweep(self) -> None:
        """Takes our own key away."""
        if self._key != self._target.key:
            try:
                self._client.send("DELETE", self._client.object(self._key))
            except StorageError:
                pass  # it is never listed, and `unfinished` finds it


def _has_condition(options: WriteOptions) -> bool:
    return options.if_absent or options.if_match is not None


def unfinished(client: Client, root: str, path: str, older_than: float) -> Iterator[Unfinished]:
    """The uploads at or below `path`, those under our own keys too."""
    latest, lead = time.time() - older_than, f"{root}/" if root else ""
    for key, id, started in itertools.chain(_uploads(client, lead), _ended(client, f"{lead}{OWN}")):
        if started > latest:
            continue
        name, own = key.removeprefix(lead), ""
        if name.startswith(OWN):
            own, _, name = name[len(OWN) :].partition("/")
        if not path or name == path or name.startswith(f"{path}/"):
            yield Unfinished(name, f"{id} {own}".rstrip(), started)


def _ended(client: Client, prefix: str) -> Iterator[tuple[str, str, float]]:
    """(key, `ENDED`, made) of each object under our own keys."""
    token: str | None = None
    while True:
        fields = "items(name,timeCreated),nextPageToken"
        told = json.loads(client.send("GET", client.objects(prefix=prefix, pageToken=token, fields=fields)).data)
        for found in told.get("items", ()):
            yield found["name"], ENDED, seconds(found["timeCreated"]) or 0.0
        token = told.get("nextPageToken")
        if token is None:
            return


def _uploads(client: Client, prefix: str) -> Iterator[tuple[str, str, float]]:
    """(key, id, begun) of each open upload."""
    key: str | None = None
    id: str | None = None
    while True:
        query = {"prefix": prefix or None, "key-marker": key, "upload-id-marker": id}
        told = ET.fromstring(client.send("GET", client.uploading(**query)).data)
        for found in told.iterfind("{*}Upload"):
            started = seconds(found.findtext("{*}Initiated")) or 0.0
            yield found.findtext("{*}Key") or "", found.findtext("{*}UploadId") or "", started
        key, id = told.findtext("{*}NextKeyMarker"), told.findtext("{*}NextUploadIdMarker")
        if told.findtext("{*}IsTruncated") != "true" or not key:
            return
