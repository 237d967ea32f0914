"""Blobs and their versions, as Azure keeps them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

# Header of a request → header of an answer → element of a listing.
SETTINGS = {
    "x-ms-blob-content-type": "Content-Type",
    "x-ms-blob-content-encoding": "Content-Encoding",
    "x-ms-blob-content-language": "Content-Language",
    "x-ms-blob-content-disposition": "Content-Disposition",
    "x-ms-blob-cache-control": "Cache-Control",
}
META = "x-ms-meta-"


class AzureError(Exception):
    """A refusal: HTTP status and error code."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.headers = headers


@dataclass(frozen=True)
class Version:
    """One version of a blob; a change of its bytes or metadata makes another."""

    name: str
    version_id: str
    etag: str
    data: bytes = field(repr=False)
    settings: Mapping[str, str]
    metadata: Mapping[str, str]
    created: datetime
    tags: str = "<Tags><TagSet></TagSet></Tags>"

    @property
    def moment(self) -> datetime:
        """When it was written: its version id, which has 100 ns, to the microsecond."""
        return datetime.fromisoformat(self.version_id[:26]).replace(tzinfo=UTC)

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data).digest()).decode()

    def headers(self, *, current: bool) -> dict[str, str]:
        """What a read tells of it."""
        told = {
            "ETag": self.etag,
            "Last-Modified": format_datetime(self.moment, usegmt=True),
            "Accept-Ranges": "bytes",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-creation-time": format_datetime(self.created, usegmt=True),
            "x-ms-version-id": self.version_id,
            "x-ms-lease-status": "unlocked",
            "x-ms-lease-state": "available",
            "x-ms-server-encrypted": "true",
        }
        told |= {"x-ms-is-current-version": "true"} if current else {}
        return told | dict(self.settings) | {META + name: text for name, text in self.metadata.items()}


class Listed(NamedTuple):
    """One entry of a listing: a version, or the common prefix of several."""

    name: str
    version: Version | None


class Blob:
    """Every version of a blob, oldest first; `current` is the newest unless it was deleted."""

    def __init__(self) -> None:
        self.versions: list[Version] = []
        self.current: Version | None = None
        self.blocks: dict[str, bytes] = {}  # staged, not committed
        self.committed: dict[str, bytes] = {}

    def find(self, version_id: str | None) -> Version:
        """This version, or the current one; 404."""
        found = self.current
        if version_id is not None:
            found = next((version for version in self.versions if version.version_id == version_id), None)
        if found is None:
            raise AzureError(404, "BlobNotFound")
        return found
