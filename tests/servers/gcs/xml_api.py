"""The XML API (https://cloud.google.com/storage/docs/xml-api): what obstore speaks, and multipart uploads by part."""

from __future__ import annotations

import secrets
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from ..inprocess import Reply, Request
from .media import HEADERS, hashes, media
from .store import Conditions, GcsError, Listing, Store, Stored, now, stamp
from .uploads import hash_fields

MIN_PART = 5 << 20
FIELDS = {header.lower(): key for key, header in HEADERS.items()} | {
    "content-type": "contentType",
    "x-goog-custom-time": "customTime",
    "x-goog-storage-class": "storageClass",
}
CONDITIONS = {
    f"x-goog-if-{kind}{word}-match": f"if{kind.capitalize()}{word.strip('-').capitalize()}Match"
    for kind in ("generation", "metageneration")
    for word in ("", "-not")
}


def document(tag: str, inner: str, headers: dict[str, str] = {}, status: int = 200) -> Reply:
    """An XML answer."""
    space = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' if tag != "Error" else ""
    body = f'<?xml version="1.0" encoding="UTF-8"?><{tag}{space}>{inner}</{tag}>'
    return Reply(status, body.encode(), {"Content-Type": "application/xml; charset=UTF-8", **headers})


def refusal(error: GcsError) -> Reply:
    """An error as the XML API tells it."""
    if error.status == 304:
        return Reply(304)
    inner = f"<Code>{error.code or error.reason}</Code><Message>{escape(error.message)}</Message>"
    return document("Error", inner, status=error.status)


@dataclass
class Part:
    """One uploaded part."""

    data: bytes = field(repr=False)
    etag: str


@dataclass
class MultipartUpload:
    """A multipart upload that is going on."""

    bucket: str
    name: str
    fields: dict[str, Any]
    begun: datetime = field(default_factory=now)
    parts: dict[int, Part] = field(default_factory=dict)


class XmlApi:
    """Answers /BUCKET and /BUCKET/NAME."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.uploads: dict[str, MultipartUpload] = {}
        self.page_limit = 1000

    def answer(self, request: Request) -> Reply:
        """Route one request; the name of an object is everything behind the bucket, slashes included."""
        bucket, _, name = unquote(request.raw_path.removeprefix("/")).partition("/")
        query = request.query
        if "uploadId" in query:
            return self.on_upload(bucket, name, query["uploadId"], request)
        match request.method, bool(name):
            case "GET", False:
                return self.list_uploads(bucket, request) if "uploads" in query else self.list_objects(bucket, request)
            case (("GET" | "HEAD"), True):
                return self.get(bucket, name, request)
            case "PUT", True:
                return (
                    self.copy(bucket, name, request)
                    if "x-goog-copy-source" in request.headers
                    else (self.put(bucket, name, request))
                )
            case "DELETE", True:
                generation = int(query["generation"]) if "generation" in query else None
                self.store.delete(bucket, name, generation, self.conditions(request))
                return Reply(204)
            case "POST", True if "uploads" in query:
                return self.initiate(bucket, name, request)
        raise GcsError(400, f"{request.method} {request.raw_path} is not served.", "InvalidArgument")

    @staticmethod
    def conditions(request: Request) -> Conditions:
        """The x-goog-if-… headers."""
        return Conditions.of(
            {name: request.headers[header] for header, name in CONDITIONS.items() if header in request.headers}
        )

    @staticmethod
    def fields(request: Request) -> dict[str, Any]:
        """Everything about the object that the headers tell, its hashes included."""
        prefix = "x-goog-meta-"
        found: dict[str, Any] = {
            key: request.headers[header] for header, key in FIELDS.items() if header in request.headers
        }
        metadata = {h.removeprefix(prefix): text for h, text in request.headers.items() if h.startswith(prefix)}
        found |= hash_fields(request.headers.get("x-goog-hash", ""))
        if "content-md5" in request.headers:
            found["md5Hash"] = request.headers["content-md5"]
        return found | ({"metadata": metadata} if metadata else {})

    @staticmethod
    def facts(stored: Stored) -> dict[str, str]:
        """The headers that name what was written."""
        return {
            "ETag": stored.xml_etag,
            "x-goog-generation": str(stored.generation),
            "x-goog-metageneration": str(stored.metageneration),
            "x-goog-hash": hashes(stored),
        }

    def get(self, bucket: str, name: str, request: Request) -> Reply:
        generation = int(request.query["generation"]) if "generation" in request.query else None
        stored = self.store.bucket(bucket).find(name, generation)
        self.conditions(request).check(stored, reading=True)
        wanted, unwanted = (request.headers.get(header) for header in ("if-match", "if-none-match"))
        if wanted not in (None, "*", stored.xml_etag):
            raise GcsError(412, "If-Match", "PreconditionFailed")
        if unwanted in ("*", stored.xml_etag):
            raise GcsError(304, "If-None-Match")
        return media(request, stored, stored.xml_etag)

    def put(self, bucket: str, name: str, request: Request) -> Reply:
        fields, conditions = self.fields(request), self.conditions(request)
        return Reply(200, b"", self.facts(self.store.put(bucket, name, request.body, fields, conditions)))

    def copy(self, bucket: str, name: str, request: Request) -> Reply:
        from_bucket, _, from_name = unquote(request.headers["x-goog-copy-source"]).lstrip("/").partition("/")
        with self.store.lock:
            source = self.store.bucket(from_bucket).find(from_name)
            replace = request.headers.get("x-goog-metadata-directive", "COPY").upper() == "REPLACE"
            fields = self.fields(request) if replace else source.fields
            new = self.store.put(
                bucket, name, source.data, fields, self.conditions(request), components=source.components
            )
        inner = f"<LastModified>{stamp(new.updated)}</LastModified><ETag>{escape(new.xml_etag)}</ETag>"
        return document("CopyObjectResult", inner, self.facts(new))

    def list_objects(self, bucket: str, request: Request) -> Reply:
        """The S3-like listing, version 2."""
        query = request.query
        asked = Listing(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=query.get("continuation-token", ""),
            after_name=query.get("start-after", ""),
            limit=min(int(query.get("max-keys") or 1000), self.page_limit),
        )
        page = self.store.page(bucket, asked)
        shown = (lambda text: quote(text, safe="/")) if query.get("encoding-type") == "url" else escape
        inner = f"<Name>{bucket}</Name><Prefix>{shown(asked.prefix)}</Prefix>"
        inner += f"<KeyCount>{len(page.items) + len(page.prefixes)}</KeyCount>"
        inner += f"<IsTruncated>{'true' if page.token else 'false'}</IsTruncated>"
        if page.token:
            inner += f"<NextContinuationToken>{page.token}</NextContinuationToken>"
        for stored in page.items:
            inner += f"<Contents><Key>{shown(stored.name)}</Key><Generation>{stored.generation}</Generation>"
            inner += f"<MetaGeneration>{stored.metageneration}</MetaGeneration><Size>{len(stored.data)}</Size>"
            inner += (
                f"<LastModified>{stamp(stored.updated)}</LastModified><ETag>{escape(stored.xml_etag)}</ETag></Contents>"
            )
        inner += "".join(f"<CommonPrefixes><Prefix>{shown(text)}</Prefix></CommonPrefixes>" for text in page.prefixes)
        return document("ListBucketResult", inner)

    # --- multipart uploads ---

    def initiate(self, bucket: str, name: str, request: Request) -> Reply:
        self.store.bucket(bucket)
        if request.headers.keys() & CONDITIONS.keys():
            raise GcsError(400, "Preconditions are not supported in multipart uploads.", "NotImplemented")
        identity = secrets.token_urlsafe(24)
        self.uploads[identity] = MultipartUpload(bucket, name, self.fields(request))
        inner = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{identity}</UploadId>"
        return document("InitiateMultipartUploadResult", inner)

    def list_uploads(self, bucket: str, request: Request) -> Reply:
        """In order of names, then of ids; a page goes on behind both markers."""
        self.store.bucket(bucket)
        query = request.query
        behind = query.get("key-marker", ""), query.get("upload-id-marker", "")
        found = sorted((upload.name, identity) for identity, upload in self.uploads.items() if upload.bucket == bucket)
        found = [one for one in found if one[0].startswith(query.get("prefix", "")) and one > behind]
        limit = min(int(query.get("max-uploads") or 1000), self.page_limit)
        inner = f"<Bucket>{bucket}</Bucket><IsTruncated>{'true' if len(found) > limit else 'false'}</IsTruncated>"
        if len(found) > limit:
            name, identity = found[limit - 1]
            inner += f"<NextKeyMarker>{escape(name)}</NextKeyMarker><NextUploadIdMarker>{identity}</NextUploadIdMarker>"
        for name, identity in found[:limit]:
            inner += f"<Upload><Key>{escape(name)}</Key><UploadId>{identity}</UploadId>"
            inner += f"<Initiated>{stamp(self.uploads[identity].begun)}</Initiated></Upload>"
        return document("ListMultipartUploadsResult", inner)

    def on_upload(self, bucket: str, name: str, identity: str, request: Request) -> Reply:
        """One part, the list of parts, the end."""
        if request.headers.keys() & CONDITIONS.keys():
            raise GcsError(400, "Preconditions are not supported in multipart uploads.", "NotImplemented")
        upload = self.uploads.get(identity)
        if upload is None or (upload.bucket, upload.name) != (bucket, name):
            raise GcsError(404, "The specified upload does not exist.", "NoSuchUpload")
        if request.method == "PUT":
            return self._part(upload, request)
        if request.method == "GET":
            inner = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><IsTruncated>false</IsTruncated>"
            for number, part in sorted(upload.parts.items()):
                inner += f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(part.etag)}</ETag>"
                inner += f"<Size>{len(part.data)}</Size></Part>"
            return document("ListPartsResult", inner)
        if request.method == "DELETE":
            del self.uploads[identity]
            return Reply(204)
        return self._complete(upload, identity, request)

    def _part(self, upload: MultipartUpload, request: Request) -> Reply:
        part = Stored(upload.bucket, upload.name, 0, request.body, {})
        claimed = self.fields(request)
        if claimed.get("md5Hash", part.md5) != part.md5 or claimed.get("crc32c", part.crc32c) != part.crc32c:
            raise GcsError(400, "The part's hash does not match.", "BadDigest")
        upload.parts[int(request.query["partNumber"])] = Part(request.body, part.xml_etag)
        return Reply(200, b"", {"ETag": part.xml_etag, "x-goog-hash": hashes(part)})

    def _complete(self, upload: MultipartUpload, identity: str, request: Request) -> Reply:
        asked = [
            (int(element.findtext("{*}PartNumber") or 0), (element.findtext("{*}ETag") or "").strip('"'))
            for element in ET.fromstring(request.body).iter()
            if element.tag.endswith("Part")
        ]
        parts = [upload.parts.get(number) for number, _ in asked]
        if not asked or any(
            part is None or part.etag.strip('"') != etag for part, (_, etag) in zip(parts, asked, strict=True)
        ):
            raise GcsError(400, "One or more of the specified parts could not be found.", "InvalidPart")
        data = [part.data for part in parts if part]
        if any(len(piece) < MIN_PART for piece in data[:-1]):
            raise GcsError(400, "Your proposed upload is smaller than the minimum allowed size.", "EntityTooSmall")
        stored = self.store.put(upload.bucket, upload.name, b"".join(data), upload.fields, components=len(data))
        del self.uploads[identity]
        inner = f"<Bucket>{upload.bucket}</Bucket><Key>{escape(upload.name)}</Key>"
        inner += f"<ETag>{escape(stored.xml_etag)}</ETag>"
        return document("CompleteMultipartUploadResult", inner, self.facts(stored))
