"""Buckets and the generations of their objects, as Google Cloud Storage keeps them; every change is under one lock."""

from __future__ import annotations

import base64
import bisect
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import google_crc32c

MAX_NAME = 1024
MAX_SOURCES = 32
# Fields of an object resource that its owner sets.
WRITABLE = frozenset(
    {
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "customTime",
        "metadata",
        "storageClass",
    }
)
REASONS = {
    304: "notModified",
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
}


class GcsError(Exception):
    """A refusal: an HTTP status, a sentence, and the code that the XML API names it by."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.reason = REASONS.get(status, "backendError")


def now() -> datetime:
    """This moment, UTC, to the millisecond that the API tells."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def stamp(moment: datetime) -> str:
    """A moment as the API writes it (RFC 3339)."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def b64(data: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(data).decode()


@dataclass(eq=False)
class Stored:
    """One generation of an object; its bytes never change, its fields may."""

    bucket: str
    name: str
    generation: int
    data: bytes = field(repr=False)
    fields: dict[str, Any]
    components: int = 0  # how many parts it was composed of; 0: written whole
    metageneration: int = 1
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)
    deleted: datetime | None = None  # when it became noncurrent

    @cached_property
    def crc32c(self) -> str:
        return b64(google_crc32c.value(self.data).to_bytes(4, "big"))

    @cached_property
    def md5(self) -> str | None:
        """A composed object has none."""
        return None if self.components else b64(hashlib.md5(self.data).digest())

    @property
    def xml_etag(self) -> str:
        """The ETag of the XML API: the MD5 in hex, or something opaque for a composed object."""
        return f'"{hashlib.md5(self.data).hexdigest()}"' if not self.components else f'"-{self.json_etag}"'

    @property
    def json_etag(self) -> str:
        return b64(f"{self.generation}/{self.metageneration}".encode())


class Conditions(NamedTuple):
    """Preconditions on the live generation; generation 0 means that there is none."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> Conditions:
        """From parameters such as ifGenerationMatch, or with the prefix ifSource."""
        names = ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")
        values = [query.get(prefix + name) for name in names]
        return cls(*(None if value is None else int(value) for value in values))

    def check(self, found: Stored | None, *, reading: bool = False) -> None:
        """Raise 412 (or 304 for a "not match" on a read) unless they hold."""
        generation, metageneration = (found.generation, found.metageneration) if found else (0, 0)
        if self.generation not in (None, generation) or self.metageneration not in (None, metageneration):
            raise GcsError(412, "At least one of the pre-conditions you specified did not hold.", "PreconditionFailed")
        if generation == self.not_generation or (found and metageneration == self.not_metageneration):
            raise GcsError(304 if reading else 412, "The not-match condition did not hold.", "PreconditionFailed")


NONE = Conditions()


@dataclass
class Bucket:
    """A bucket. A test may change `access` at any time, as an administrator would revoke a permission.

    access: "open" (no credentials needed) · "private" (401 without) · "readonly" (403 on every change) · "denied".
    """

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    access: str = "open"
    metageneration: int = 1
    created: datetime = field(default_factory=now)
    generations: dict[str, list[Stored]] = field(default_factory=dict)  # oldest first
    names: list[bytes] = field(default_factory=list)  # sorted, of all generations

    @property
    def versioned(self) -> bool:
        return bool((self.fields.get("versioning") or {}).get("enabled"))

    def live(self, name: str) -> Stored | None:
        """The current generation."""
        stored = self.generations.get(name)
        return stored[-1] if stored and stored[-1].deleted is None else None

    def find(self, name: str, generation: int | None = None) -> Stored:
        """This generation, current or not; without one the current.

        Raises:
            GcsError: 404.
        """
        found = self.live(name)
        if generation is not None:
            found = next((stored for stored in self.generations.get(name, ()) if stored.generation == generation), None)
        if found is None:
            raise GcsError(404, f"No such object: {self.name}/{name}", "NoSuchKey")
        return found

    def add(self, stored: Stored) -> None:
        """Make this the current generation; the former one becomes noncurrent, or goes where nothing is kept."""
        former = self.generations.setdefault(stored.name, [])
        if not former:
            bisect.insort(self.names, stored.name.encode())
        if former and self.versioned:
            former[-1].deleted = former[-1].deleted or stored.created
        elif former and former[-1].deleted is None:
            former.pop()
        former.append(stored)

    def remove(self, stored: Stored) -> None:
        """Erase exactly this generation."""
        left = self.generations[stored.name]
        left.remove(stored)
        if not left:
            del self.generations[stored.name]
            self.names.remove(stored.name.encode())


@dataclass(frozen=True)
class Listing:
    """What a listing asks for."""

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    versions: bool = False
    trailing_delimiter: bool = False  # an object whose name ends with the delimiter is shown beside its prefix
    after: str = ""  # a token of the page before, or "" for the first
    after_name: str = ""  # S3-style start-after
    limit: int = 1000


class Page(NamedTuple):
    """One page of a listing; token is "" on the last."""

    items: list[Stored]
    prefixes: list[str]
    token: str


class Store:
    """Every bucket of the server."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self._generations = itertools.count(int(time.time() * 1e6))

    def bucket(self, name: str) -> Bucket:
        """The bucket of this name, or 404."""
        if name not in self.buckets:
            raise GcsError(404, "The specified bucket does not exist.", "NoSuchBucket")
        return self.buckets[name]

    def make_bucket(self, name: str, fields: dict[str, Any]) -> Bucket:
        """A new empty bucket, or 409."""
        with self.lock:
            if name in self.buckets:
                raise GcsError(
                    409, "Your previous request to create the named bucket succeeded.", "BucketNameUnavailable"
                )
            return self.buckets.setdefault(name, Bucket(name, fields))

    def drop_bucket(self, name: str) -> None:
        """Remove an empty bucket, or 409."""
        with self.lock:
            if self.bucket(name).generations:
                raise GcsError(409, "The bucket you tried to delete is not empty.", "BucketNotEmpty")
            del self.buckets[name]

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        fields: Mapping[str, Any],
        conditions: Conditions = NONE,
        *,
        components: int = 0,
    ) -> Stored:
        """Write a new generation, checking its conditions and the `md5Hash` and `crc32c` among its fields."""
        if not 0 < len(name.encode()) <= MAX_NAME or name in (".", "..") or "\r" in name or "\n" in name:
            raise GcsError(400, f"Invalid object name: {name!r}", "InvalidArgument")
        kept = {key: value for key, value in fields.items() if key in WRITABLE and value is not None}
        kept.setdefault("contentType", "application/octet-stream")
        stored = Stored(bucket, name, next(self._generations), bytes(data), kept, components)
        for claimed, actual in ((fields.get("md5Hash"), stored.md5), (fields.get("crc32c"), stored.crc32c)):
            if claimed and actual and claimed != actual:
                raise GcsError(400, f"Provided hash {claimed} does not match calculated hash {actual}.", "BadDigest")
        with self.lock:
            conditions.check(self.bucket(bucket).live(name))
            self.bucket(bucket).add(stored)
        return stored

    def delete(self, bucket: str, name: str, generation: int | None = None, conditions: Conditions = NONE) -> None:
        """Delete: in a versioned bucket the current generation becomes noncurrent, one that is named is erased."""
        with self.lock:
            held = self.bucket(bucket)
            stored = held.find(name, generation)
            conditions.check(stored)
            if generation is None and held.versioned:
                stored.deleted = now()
            else:
                held.remove(stored)

    def update(
        self, bucket: str, name: str, changes: Mapping[str, Any], generation: int | None, conditions: Conditions
    ) -> Stored:
        """Patch fields: null removes one, `metadata` is merged key by key; the metageneration grows."""
        with self.lock:
            stored = self.bucket(bucket).find(name, generation)
            conditions.check(stored)
            fields = dict(stored.fields)
            for key, value in changes.items():
                if key == "metadata" and value is not None:
                    merged = {**(fields.get("metadata") or {}), **value}
                    value = {name: text for name, text in merged.items() if text is not None}
                if key in WRITABLE:
                    fields[key] = value
            stored.fields = {key: value for key, value in fields.items() if value not in (None, {})}
            stored.metageneration += 1
            stored.updated = now()
            return stored

    def compose(
        self, bucket: str, name: str, sources: Sequence[Mapping[str, Any]], fields: Mapping[str, Any], when: Conditions
    ) -> Stored:
        """Concatenate objects of one bucket into another."""
        if not 0 < len(sources) <= MAX_SOURCES:
            raise GcsError(400, f"The number of source components provided must be from 1 to {MAX_SOURCES}.")
        with self.lock:
            found = []
            for source in sources:
                stored = self.bucket(bucket).find(source["name"], int(source.get("generation") or 0) or None)
                Conditions.of(source.get("objectPreconditions") or {}).check(stored)
                found.append(stored)
            data = b"".join(stored.data for stored in found)
            return self.put(bucket, name, data, fields, when, components=sum(s.components or 1 for s in found))

    def page(self, bucket: str, asked: Listing) -> Page:
        """One page, in the bytewise order of names and, within a name, of generations."""
        with self.lock:
            page = Page([], [], "")
            last = (b"", 0)
            for position, entry in self._entries(self.bucket(bucket), asked):
                if len(page.items) + len(page.prefixes) == asked.limit:
                    token = json.dumps([last[0].hex(), last[1]])
                    return page._replace(token=base64.urlsafe_b64encode(token.encode()).decode())
                (page.prefixes if isinstance(entry, str) else page.items).append(entry)  # type: ignore[arg-type]
                last = position
            return page

    def _entries(self, bucket: Bucket, asked: Listing) -> Iterator[tuple[tuple[bytes, int], Stored | str]]:
        """Objects and common prefixes behind the token, each with its position (name, generation)."""
        seen = (asked.after_name.encode(), 1 << 62) if asked.after_name else (b"", 0)
        if asked.after:
            name, generation = json.loads(base64.urlsafe_b64decode(asked.after))
            seen = (bytes.fromhex(name), generation)
        prefix, delimiter = asked.prefix.encode(), asked.delimiter.encode()
        index = bisect.bisect_left(bucket.names, max(prefix, asked.start.encode(), seen[0]))
        while index < len(bucket.names) and bucket.names[index].startswith(prefix):
            key = bucket.names[index]
            if asked.end and key >= asked.end.encode():
                return
            generations = [s for s in bucket.generations[key.decode()] if asked.versions or s.deleted is None]
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            index += 1
            if cut >= 0 and generations:
                common = key[: cut + len(delimiter)]
                beyond = common + b"\xff"
                if asked.trailing_delimiter and key == common:
                    yield from (((key, s.generation), s) for s in generations if (key, s.generation) > seen)
                index = bisect.bisect_left(bucket.names, beyond)
                if beyond > seen[0]:
                    yield (beyond, 0), common.decode()
            elif cut < 0:
                yield from (((key, s.generation), s) for s in generations if (key, s.generation) > seen)
