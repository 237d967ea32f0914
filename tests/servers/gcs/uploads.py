"""The upload API: simple, multipart and resumable (https://cloud.google.com/storage/docs/uploads-downloads)."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..inprocess import Reply, Request, as_json
from .json_api import resource
from .store import Conditions, GcsError, Store, Stored

CHUNK = 256 << 10  # every part of a resumable upload but the last is a multiple of this
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Resumable:
    """An upload that is going on; `stored` once it is complete."""

    bucket: str
    name: str
    fields: dict[str, Any]
    conditions: Conditions
    received: bytearray = field(default_factory=bytearray)
    stored: Stored | None = None


def boundary_parts(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """The parts of a multipart/related body: (Content-Type, bytes) of each.

    gcsfs ends its lines with a bare line feed, and so does the service accept. Its boundary is always `==0==`: bytes
    that hold this delimiter break its upload, here as there.
    """
    boundary = re.search(r"""boundary=["']?([^"';]+)["']?""", content_type)
    if boundary is None:
        raise GcsError(400, "The multipart upload has no boundary.")
    mark = b"--" + boundary[1].encode()
    line = b"\r\n" if body.startswith(mark + b"\r\n") else b"\n"
    found = []
    for part in (line + body).split(line + mark)[1:-1]:
        head, _, data = part.removeprefix(line).partition(line * 2)
        told = re.search(rb"(?i)^content-type:\s*([^\r\n]+)", head, re.MULTILINE)
        found.append((told[1].decode() if told else "", data))
    return found


def hash_fields(header: str) -> dict[str, str]:
    """The x-goog-hash header as the fields crc32c and md5Hash."""
    pairs = (item.strip().partition("=") for item in header.split(",") if "=" in item)
    return {{"md5": "md5Hash"}.get(kind, kind): value for kind, _, value in pairs}


class Uploads:
    """Answers what stands below /upload/storage/v1/ and /resumable/upload/storage/v1/."""

    def __init__(self, store: Store, base: Callable[[], str]) -> None:
        self.store = store
        self.base = base
        self.open: dict[str, Resumable] = {}

    def answer(self, bucket: str, request: Request) -> Reply:
        """One request of an upload into this bucket."""
        query = request.query
        if "upload_id" in query:
            return self.resume(query["upload_id"], request)
        match query.get("uploadType"):
            case "media":
                fields = {"contentType": request.headers.get("content-type")}
                fields |= hash_fields(request.headers.get("x-goog-hash", ""))
                return self.stored(bucket, query["name"], request.body, fields, request)
            case "multipart":
                return self.multipart(bucket, request)
            case "resumable":
                return self.begin(bucket, request)
        raise GcsError(400, f"Unknown uploadType: {query.get('uploadType')!r}")

    def stored(self, bucket: str, name: str, data: bytes, fields: dict[str, Any], request: Request) -> Reply:
        stored = self.store.put(bucket, name, data, fields, Conditions.of(request.query))
        return as_json(resource(stored, self.base()))

    def multipart(self, bucket: str, request: Request) -> Reply:
        """Metadata and bytes in one request."""
        parts = boundary_parts(request.headers.get("content-type", ""), request.body)
        if len(parts) != 2:
            raise GcsError(400, f"A multipart upload has two parts, not {len(parts)}.")
        fields = json.loads(parts[0][1])
        fields.setdefault("contentType", parts[1][0] or None)
        return self.stored(bucket, request.query.get("name") or fields["name"], parts[1][1], fields, request)

    def begin(self, bucket: str, request: Request) -> Reply:
        """Start a resumable upload; its conditions are judged now and again when it is complete."""
        fields = json.loads(request.body or b"{}")
        name = request.query.get("name") or fields["name"]
        fields.setdefault("contentType", request.headers.get("x-upload-content-type"))
        conditions = Conditions.of(request.query)
        conditions.check(self.store.bucket(bucket).live(name))
        identity = secrets.token_urlsafe(24)
        self.open[identity] = Resumable(bucket, name, fields, conditions)
        where = f"{self.base()}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={identity}"
        return Reply(200, b"", {"Location": where, "X-GUploader-UploadID": identity})

    def resume(self, identity: str, request: Request) -> Reply:
        """Bytes of an upload, a question how far it is (`bytes */…`), or its end by DELETE."""
        upload = self.open.get(identity)
        if upload is None:
            raise GcsError(404, "No such upload.")
        if request.method == "DELETE":
            del self.open[identity]
            return Reply(499)
        if upload.stored is not None:
            return as_json(resource(upload.stored, self.base()))
        whole = f"bytes 0-{len(request.body) - 1}/{len(request.body)}" if request.body else "bytes */0"
        told = CONTENT_RANGE.fullmatch(request.headers.get("content-range", whole))
        if told is None:
            raise GcsError(400, f"Failed to parse Content-Range: {request.headers.get('content-range')}")
        with self.store.lock:
            return self._receive(upload, told[1], told[3], request)

    def _receive(self, upload: Resumable, first: str | None, total: str, request: Request) -> Reply:
        if first is not None:
            start = int(first)
            if start > len(upload.received):
                raise GcsError(503, f"Bytes {len(upload.received)}-{start} are missing.")
            if total == "*" and len(request.body) % CHUNK:
                raise GcsError(400, f"The chunk's size must be a multiple of {CHUNK}.")
            upload.received[start:] = request.body
        if total != "*" and len(upload.received) >= int(total):
            fields = upload.fields | hash_fields(request.headers.get("x-goog-hash", ""))
            data = bytes(upload.received)
            upload.stored = self.store.put(upload.bucket, upload.name, data, fields, upload.conditions)
            upload.received.clear()
            return as_json(resource(upload.stored, self.base()))
        kept = {"Range": f"bytes=0-{len(upload.received) - 1}"} if upload.received else {}
        return Reply(308, b"", {"Content-Length": "0", **kept})
