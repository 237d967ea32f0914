"""The JSON API (https://cloud.google.com/storage/docs/json_api/v1) but for uploads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ..inprocess import Reply, Request, as_json
from .media import media
from .store import WRITABLE, Bucket, Conditions, GcsError, Listing, Store, Stored, stamp

MAX_RESULTS = 1000
BATCH_LIMIT = 100


def number(text: str | None) -> int | None:
    """A generation given as text, or None."""
    return int(text) if text else None


def bucket_resource(bucket: Bucket) -> dict[str, Any]:
    """A bucket as the API shows it."""
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "projectNumber": "1",
        "metageneration": str(bucket.metageneration),
        "timeCreated": stamp(bucket.created),
        "updated": stamp(bucket.created),
        "etag": "CAE=",
        **bucket.fields,
    }


def resource(stored: Stored, base: str) -> dict[str, Any]:
    """A generation of an object as the API shows it; numbers are text there."""
    path = f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    shown = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "size": str(len(stored.data)),
        "crc32c": stored.crc32c,
        "etag": stored.json_etag,
        "timeCreated": stamp(stored.created),
        "updated": stamp(stored.updated),
        "storageClass": "STANDARD",
        "selfLink": f"{base}/{path}",
        "mediaLink": f"{base}/download/{path}?generation={stored.generation}&alt=media",
        **stored.fields,
    }
    optional = {
        "md5Hash": stored.md5,
        "componentCount": stored.components or None,
        "timeDeleted": stored.deleted and stamp(stored.deleted),
    }
    return shown | {name: value for name, value in optional.items() if value is not None}


def refusal(error: GcsError) -> Reply:
    """An error as the JSON API tells it."""
    if error.status == HTTPStatus.NOT_MODIFIED:
        return Reply(304)
    told = {"domain": "global", "reason": error.reason, "message": error.message}
    return as_json({"error": {"code": error.status, "message": error.message, "errors": [told]}}, error.status)


class JsonApi:
    """Answers what stands below /storage/v1/; `rewrite_step` bytes are copied by one rewrite call."""

    rewrite_step = 1 << 40

    def __init__(self, store: Store, base: Callable[[], str]) -> None:
        self.store = store
        self.base = base
        self.page_limit = MAX_RESULTS

    def answer(self, request: Request) -> Reply:
        """Route one request by the decoded segments behind /storage/v1/."""
        match request.method, *request.segments[2:]:
            case "GET", "b":
                return self.list_buckets(request)
            case "POST", "b":
                fields = json.loads(request.body)
                return as_json(bucket_resource(self.store.make_bucket(fields.pop("name"), fields)))
            case method, "b", name:
                return self.on_bucket(method, self.store.bucket(name), request)
            case "GET", "b", name, "iam":
                return as_json({"kind": "storage#policy", "bindings": [], "etag": "CAE=", "version": 1})
            case "GET", "b", name, "iam", "testPermissions":
                return as_json({"permissions": [request.query.get("permissions", "")]})
            case "GET", "b", name, "storageLayout":
                layout = {"location": "US", "locationType": "multi-region", "bucket": self.store.bucket(name).name}
                return as_json({"kind": "storage#storageLayout", **layout})
            case "GET", "b", name, "o":
                return self.list_objects(name, request)
            case method, "b", bucket, "o", name:
                return self.on_object(method, bucket, name, request)
            case "POST", "b", bucket, "o", name, "compose":
                return self.compose(bucket, name, request)
            case "POST", "b", bucket, "o", name, ("rewriteTo" | "copyTo") as verb, "b", to_bucket, "o", to_name:
                return self.copy(bucket, name, to_bucket, to_name, verb, request)
            case "POST", "b", bucket, "o", name, "moveTo", "o", to_name:
                return self.move(bucket, name, to_name, request)
        raise GcsError(404, f"Not Found: {request.method} {request.raw_path}")

    def shown(self, stored: Stored) -> Reply:
        return as_json(resource(stored, self.base()))

    def list_buckets(self, request: Request) -> Reply:
        prefix = request.query.get("prefix", "")
        found = [
            b for name, b in sorted(self.store.buckets.items()) if name.startswith(prefix) and b.access != "denied"
        ]
        return as_json({"kind": "storage#buckets", "items": [bucket_resource(bucket) for bucket in found]})

    def on_bucket(self, method: str, bucket: Bucket, request: Request) -> Reply:
        if method == "DELETE":
            self.store.drop_bucket(bucket.name)
            return Reply(204)
        if method in ("PATCH", "PUT"):
            with self.store.lock:
                bucket.fields.update(json.loads(request.body))
                bucket.metageneration += 1
        return as_json(bucket_resource(bucket))

    def list_objects(self, bucket: str, request: Request) -> Reply:
        query = request.query
        asked = Listing(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            versions=query.get("versions", "").lower() == "true",
            trailing_delimiter=query.get("includeTrailingDelimiter", "").lower() == "true",
            after=query.get("pageToken", ""),
            limit=min(int(query.get("maxResults") or MAX_RESULTS), self.page_limit, MAX_RESULTS),
        )
        page = self.store.page(bucket, asked)
        shown: dict[str, Any] = {"kind": "storage#objects"}
        shown["items"] = [resource(stored, self.base()) for stored in page.items]
        shown |= {"prefixes": page.prefixes, "nextPageToken": page.token}
        return as_json({name: value for name, value in shown.items() if value})  # what is empty is left out

    def on_object(self, method: str, bucket: str, name: str, request: Request) -> Reply:
        query, generation = request.query, number(request.query.get("generation"))
        conditions = Conditions.of(query)
        if method in ("GET", "HEAD"):
            stored = self.store.bucket(bucket).find(name, generation)
            conditions.check(stored, reading=True)
            return media(request, stored, stored.json_etag) if query.get("alt") == "media" else self.shown(stored)
        if method == "DELETE":
            self.store.delete(bucket, name, generation, conditions)
            return Reply(204)
        if method in ("PATCH", "PUT"):
            changes = json.loads(request.body or b"{}")
            if method == "PUT":  # a full update: what is not named is reset
                changes = {"cacheControl": None, "contentDisposition": None, "metadata": None} | changes
            return self.shown(self.store.update(bucket, name, changes, generation, conditions))
        raise GcsError(405, "Method Not Allowed", "MethodNotAllowed")

    def compose(self, bucket: str, name: str, request: Request) -> Reply:
        asked = json.loads(request.body)
        fields = asked.get("destination") or {}
        conditions = Conditions.of(request.query)
        return self.shown(self.store.compose(bucket, name, asked["sourceObjects"], fields, conditions))

    def copy(self, bucket: str, name: str, to_bucket: str, to_name: str, verb: str, request: Request) -> Reply:
        """A copy inside the service; rewriteTo goes in steps and hands out a token until it is done."""
        query = request.query
        with self.store.lock:
            source = self.store.bucket(bucket).find(name, number(query.get("sourceGeneration")))
            Conditions.of(query, "ifSource").check(source)
            size, step = len(source.data), int(query.get("maxBytesRewrittenPerCall") or self.rewrite_step)
            done = min(int(query.get("rewriteToken", "0").removeprefix("at-")) + step, size)
            if verb == "rewriteTo" and done < size:
                Conditions.of(query).check(self.store.bucket(to_bucket).live(to_name))
                told = {"totalBytesRewritten": str(done), "objectSize": str(size), "rewriteToken": f"at-{done}"}
                return as_json({"kind": "storage#rewriteResponse", "done": False, **told})
            fields = source.fields if not request.body else self._copied_fields(source, json.loads(request.body))
            components = source.components
            new = self.store.put(to_bucket, to_name, source.data, fields, Conditions.of(query), components=components)
        if verb == "copyTo":
            return self.shown(new)
        shown: dict[str, Any] = {
            "totalBytesRewritten": str(size),
            "objectSize": str(size),
            "resource": resource(new, self.base()),
        }
        return as_json({"kind": "storage#rewriteResponse", "done": True, **shown})

    @staticmethod
    def _copied_fields(source: Stored, given: dict[str, Any]) -> dict[str, Any]:
        """Metadata given with a copy replaces that of the source as a whole; a body without any keeps it."""
        return given if WRITABLE & given.keys() else source.fields

    def move(self, bucket: str, name: str, to_name: str, request: Request) -> Reply:
        with self.store.lock:
            source = self.store.bucket(bucket).find(name)
            Conditions.of(request.query, "ifSource").check(source)
            new = self.store.put(bucket, to_name, source.data, source.fields, Conditions.of(request.query))
            self.store.delete(bucket, name)
            return self.shown(new)

    @staticmethod
    def batch(request: Request, call: Callable[[Request], Reply]) -> Reply:
        """POST /batch/storage/v1: a multipart of requests, answered by a multipart of answers in their order."""
        boundary = re.search(r'boundary="?([^";]+)"?', request.headers["content-type"])
        assert boundary, "a batch without boundary"
        parts = request.body.split(b"--" + boundary[1].encode())[1:-1]
        if len(parts) > BATCH_LIMIT:
            raise GcsError(413, f"The batch holds more than {BATCH_LIMIT} calls.")
        answers = [_batched(part, request, call) for part in parts]
        body = b"".join(b"--batch_x\r\nContent-Type: application/http\r\n" + answer for answer in answers)
        return Reply(200, body + b"--batch_x--", {"Content-Type": "multipart/mixed; boundary=batch_x"})


def _batched(part: bytes, batch: Request, call: Callable[[Request], Reply]) -> bytes:
    """The answer to one call of a batch; it is made with the credentials of the batch."""
    outer, _, inner = part.replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")
    head, _, body = inner.lstrip(b"\n").partition(b"\n\n")
    method, target = head.decode().split("\n")[0].split()[:2]
    target = target if target.startswith("/") else "/" + target.split("/", 3)[3]
    identity = re.search(rb"(?i)content-id:\s*<?([^>\n]+)>?", outer)
    try:
        reply = call(Request(method, target, batch.headers, body.strip()))
    except GcsError as error:
        reply = refusal(error)
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", f"Content-Length: {len(reply.body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    echoed = b"Content-ID: <response-" + identity[1] + b">\r\n" if identity else b""
    return echoed + b"\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body + b"\r\n"
