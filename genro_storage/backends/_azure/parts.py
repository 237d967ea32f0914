"""Parts staged on Azure Blob storage: blocks that nobody sees until one list names them."""

from __future__ import annotations

import base64
import binascii
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from msgspec.structs import replace

from ...exceptions import StorageConflictError, StorageError, StorageExistsError, StorageNotFoundError
from ...types import Stat
from .._objects import unquoted
from .._refusals import code_of, no_bucket, status_of
from .._staging import Receipt, Staged, fitting, gone
from ..handles import Part
from .facts import b64, digest, headers_of
from .writer import Target

MOST_BLOCKS = 50_000
"""Of one blob (Azure, "Understanding block blobs")."""
ID = 8
"""Bytes of a token: the names of its blocks begin with them, and all names of one blob have one length."""


class AzureParts(Staged):
    """A staged write. Blocks that are never committed are forgotten by Azure in a week: it has no request for that."""

    def __init__(self, target: Target, *, part_size: int, token: str | None, receipts: Mapping[int, str]) -> None:
        options = target.options
        super().__init__(target.path, options, fitting(part_size, options.size, most_parts=MOST_BLOCKS), receipts)
        self._target, self._client = target, target.client
        self._lost = False
        try:
            self._upload = secrets.token_bytes(ID) if token is None else bytes.fromhex(token)
        except ValueError:
            raise gone() from None
        if len(self._upload) != ID:
            raise gone()
        self.token = self._upload.hex()
        if token is not None:
            self._compare()

    def _compare(self) -> None:
        """Asks for the blocks that are there; what the receipts tell otherwise counts for nothing."""
        there = self._blocks("uncommitted")
        for offset, receipt in list(self._receipts.items()):
            if there.get(self._name(offset)) != receipt.size:
                self._forget(offset)
        if not any(_begins(name, self._upload) for name in there):
            raise gone()

    def _blocks(self, kind: str) -> dict[str, int]:
        """Name → bytes of the blocks that are committed or uncommitted."""
        place = self._client.blob(self._target.key, comp="blocklist", blocklisttype=kind)
        try:
            answer = self._client.send("GET", place)
        except StorageNotFoundError as error:
            if no_bucket(error):
                raise
            return {}
        found = ET.fromstring(answer.data).iter("Block")
        return {block.findtext("Name") or "": int(block.findtext("Size") or 0) for block in found}

    def _name(self, offset: int) -> str:
        return b64(self._upload + (offset // self.part_size).to_bytes(4, "big"))

    def _store(self, offset: int, data: Part) -> Receipt:
        md5 = digest(data)
        if len(data):  # Azure takes no empty block, and an empty file needs none
            place = self._client.blob(self._target.key, comp="block", blockid=self._name(offset))
            self._client.send("PUT", place, {"Content-MD5": b64(md5)}, data)
        return Receipt(len(data), md5.hex())

    def _publish(self, parts: list[Receipt], size: int, hashes: Mapping[str, str]) -> Stat:
        names = [self._name(number * self.part_size) for number, part in enumerate(parts) if part.size]
        listed = "".join(f"<Latest>{name}</Latest>" for name in names)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        try:
            answer = self._client.send(
                "PUT", self._client.blob(self._target.key, comp="blocklist"), headers_of(self.options), body
            )
        except StorageError as error:
            return self._found(names, error)
        except Exception:  # a driver call without an answer: what it asked for may have been done
            self._lost = True
            raise
        return self._told(size, unquoted(answer.headers.get("etag")), answer.headers.get("x-ms-version-id"))

    def _found(self, names: list[str], error: StorageError) -> Stat:
        """The facts of what is there, if it is ours and only its answer was lost; else what the refusal means."""
        self._lost |= status_of(error) >= 500
        if status_of(error) in (400, 409, 412) and self._lost and names and list(self._blocks("committed")) == names:
            stat = self._target.head()
            if stat is not None:
                return stat
        judged = self._target.judged(error)
        if code_of(error) == "InvalidBlockList" and not isinstance(judged, (StorageExistsError, StorageConflictError)):
            raise gone() from error
        raise judged from error

    def _told(self, size: int, etag: str | None, version: str | None) -> Stat:
        options, versions = self.options, self._target.versions
        stat = Stat(self.path, size, mtime=options.mtime, etag=etag, content_type=options.content_type)
        return replace(stat, version_id=version if versions else None)

    def _drop(self) -> None:
        """Nothing to send: see above."""


def _begins(name: str, upload: bytes) -> bool:
    try:
        return base64.b64decode(name).startswith(upload)
    except binascii.Error:
        return False
