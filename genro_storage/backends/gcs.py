"""Google Cloud Storage by exact keys only: bytes and their metadata over its XML API, the rest over its JSON API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from ._gcs import errors, versions
from ._gcs.client import Client, GcsOptions
from ._gcs.copying import copy_object
from ._gcs.facts import FIELDS, METADATA_LIMIT, expected, generation, stat_of, stat_of_headers
from ._gcs.fast import FastLane
from ._gcs.parts import GcsParts, unfinished
from ._gcs.removal import deleted_many
from ._gcs.signing import signed
from ._gcs.writer import GcsWriter, Target
from ._objects import MTIME, prefix_of, range_header, sent_metadata
from ._rest.body import BodyReader, trimmed
from ._rest.pages import Asked, Listing, Page
from ._rest.web import whole
from .base import BackendReader, BytesReader, StorageBackend, Tick
from .options import Context


class GcsBackend(StorageBackend):
    """A bucket, or a part of one. Keys are exact: never a glob, a prefix or a normalised spelling.

    The etag of an object is its generation, which every condition names. Directories are implied by keys; a marker (a
    key ending in "/") makes an empty one. A time of last change given to a write is kept as metadata.
    """

    Options = GcsOptions
    aliases: ClassVar[Mapping[str, str]] = {
        "prefix": "path",
        "base_path": "path",
        "endpoint_url": "endpoint",
        "token": "credentials",
    }
    features = Features(
        real_dirs=False,
        ordered=True,
        if_absent="atomic",
        if_match="atomic",
        mtime_resolution=1.0,
        keeps_mtime=True,
        hashes=frozenset({"crc32c", "md5"}),
        metadata=True,
        content_type=True,
        max_key=1024,
        backslash=True,
        ranges=True,
    )

    options: GcsOptions

    def __init__(self, options: GcsOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self._client = Client(options, context.directory)
        self._fast = FastLane(self._client)

    # --- identity ---

    @property
    def abilities(self) -> frozenset[str]:
        options = self.options
        absent = set() if options.markers else {"mkdir"}
        absent |= set() if options.version_aware else {"versions"}
        absent |= {"sign"} if options.credentials == "anon" else {"public_url"}
        return super().abilities - absent

    @property
    def storage_id(self) -> str:
        return f"gcs:{self.options.endpoint or 'google'}"

    def native_path(self, path: str) -> str:
        return f"{self.options.bucket}/{self.key(path)}"

    def key(self, path: str) -> str:
        """The exact key of a path."""
        return f"{self.root}/{path}" if self.root else path

    def close(self) -> None:
        self._fast.close()
        self._client.web.close()

    def translate(self, error: Exception) -> StorageError | None:
        return errors.translate(error)

    @property
    def fs(self) -> Any:
        from gcsfs.core import GCSFileSystem  # the class that gcsfs itself exports asks for the bucket's kind first

        client = self._client
        return GCSFileSystem(
            token="anon" if client.anonymous else client.credentials,
            project=self.options.project or "",
            endpoint_url=self.options.endpoint,
            version_aware=self.options.version_aware,
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    # --- facts and listings ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        if not path:
            raise StorageNotFoundError("a directory has no facts of its own")
        target = self._client.object(self.key(path), fields=FIELDS, generation=self._wanted(version))
        return stat_of(path, self._json("GET", target, version=version), versions=self.options.version_aware)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, FIELDS if facts else "name", flat=False)

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, FIELDS, flat=True)

    def _found(self, path: str, after: str, limit: int | None, fields: str, *, flat: bool) -> Iterator[Sequence[Stat]]:
        top = f"{self.root}/" if self.root else ""
        listing = Listing(lambda asked: self._page(asked, fields), top, path, flat=flat, after=after, limit=limit)
        yield from listing
        if listing.empty and path and not after:
            # Who asks for one entry asks whether there is any; what else may be there is not worth a request.
            if limit != 1 and self.has(path):
                raise StorageNotADirectoryError("Not a directory")
            raise StorageNotFoundError("No such directory")

    def _page(self, asked: Asked, fields: str) -> Page:
        target = self._client.objects(
            prefix=asked.prefix,
            delimiter="/" if asked.delimiter else None,
            startOffset=asked.start or None,
            maxResults=asked.limit,
            pageToken=asked.token or None,
            fields=f"items({fields}),prefixes,nextPageToken",
        )
        told = self._json("GET", target)
        found = [stat_of(item["name"], item, versions=self.options.version_aware) for item in told.get("items", ())]
        return Page(found, told.get("prefixes", ()), told.get("nextPageToken", ""))

    def versions(self, path: str) -> Iterator[Version]:
        return versions.listed(self._client, self.key(path)) if path else iter(())

    # --- reading ---

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        whole_now = path and not start and end is None and version is None and if_match is None
        if whole_now and (soon := self._fast.get(path, self.key(path))) is not None:
            return soon
        response = self._ranged(path, start, end, version, if_match)
        if response is None:
            return b"", self._matching(path, version, if_match)
        answer = whole(response)
        return trimmed(answer.data, answer.headers, start, end), self._stat(path, answer.headers)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        response = self._ranged(path, start, end, version, if_match)
        if response is None:
            return BytesReader(b"", self._matching(path, version, if_match))
        return BodyReader(response, self._stat(path, response.headers), start, end)

    def _ranged(self, path: str, start: int, end: int | None, version: str | None, if_match: str | None) -> Any:
        """The answer to the GET of a range; None where no byte is in it."""
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
        asked = range_header(start, end)
        if asked == "":
            return None
        headers = {"Accept-Encoding": "gzip"}  # as it is stored: Google unpacks it for all others
        if asked is not None:
            headers["Range"] = asked
        if if_match is not None:
            headers["x-goog-if-generation-match"] = expected(if_match)
        target = self._client.media(self.key(path), generation=self._wanted(version))
        try:
            return self._client.open("GET", target, headers)
        except StorageError as error:
            if errors.status_of(error) != 416:
                raise self._refusal(error, version) from error
        return self._ranged(path, 0, end, version, if_match) if start < 0 else None

    def _matching(self, path: str, version: str | None, if_match: str | None) -> Stat:
        stat = self.stat(path, version=version)
        if if_match is not None and stat.etag != if_match:
            raise StorageConflictError(f"changed meanwhile: etag {if_match} was expected, it has {stat.etag}")
        return stat

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        return self._target(path, options).put(bytes(data))

    def writer(self, path: str, options: WriteOptions = PLAIN) -> GcsWriter:
        return GcsWriter(self._target(path, options))

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> GcsParts:
        target = self._target(path, options)
        return GcsParts(target, self.root, part_size=part_size, token=token, receipts=receipts)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self._client, self.root, path, older_than)

    def _target(self, path: str, options: WriteOptions) -> Target:
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
        if options.tags:
            raise UnsupportedOperation("this storage does not support tags")
        sent_metadata(options, METADATA_LIMIT)  # what cannot be sent is refused before the first byte
        return Target(self._client, self.key(path), path, options)

    def mkdir(self, path: str) -> None:
        if self.options.markers:
            Target(self._client, self.key(prefix_of(path)), path, PLAIN).put(b"")

    def copy_from(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        """Within one endpoint, whatever the buckets; type and metadata are kept unless the options have others."""
        mine = (self.storage_id, self.options.credentials)
        if not isinstance(source, GcsBackend) or (source.storage_id, source.options.credentials) != mine:
            raise UnsupportedOperation("Google copies only within one endpoint, with the same credentials")
        return copy_object(self._target(path, options), source._client, source.key(source_path), version, tick)

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        """Two requests: what is there now is taken away key by key, on condition that it is still so."""
        wanted = sent_metadata(WriteOptions(metadata=metadata), METADATA_LIMIT)
        key = self.key(path)
        found = self._json("GET", self._client.object(key, fields="generation,metageneration,metadata"))
        gone = dict.fromkeys(set(found.get("metadata") or {}) - {MTIME})
        self._patch(key, gone | wanted, found["generation"], found["metageneration"])

    def set_mtime(self, path: str, mtime: float) -> None:
        self._patch(self.key(path), {MTIME: repr(float(mtime))})

    def _patch(
        self, key: str, metadata: Mapping[str, str | None], number: str | None = None, edition: str | None = None
    ) -> None:
        target = self._client.object(key, ifGenerationMatch=number, ifMetagenerationMatch=edition)
        self._json("PATCH", target, json.dumps({"metadata": metadata}).encode())

    # --- removing ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
        if version is not None and version.endswith(versions.DELETED):
            return versions.restore(self._client, self.key(path), path, version)
        condition = None if if_match is None else expected(if_match)
        target = self._client.object(self.key(path), generation=self._wanted(version), ifGenerationMatch=condition)
        try:
            self._client.send("DELETE", target)
        except StorageError as error:
            raise self._refusal(error, version) from error
        return None

    def rmdir(self, path: str) -> None:
        try:
            self._client.send("DELETE", self._client.object(self.key(prefix_of(path))))
        except StorageNotFoundError as error:
            if "bucket" in error.message:
                raise

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        return deleted_many(self._client, [(path, self.key(path)) for path in paths])

    # --- addresses ---

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        return signed(self._client, self.key(path), method, expires_in, options)

    def public_url(self, path: str) -> str:
        return self._client.web.endpoint + self._client.media(self.key(path))

    # --- inside ---

    def _json(self, method: str, target: str, body: bytes | None = None, *, version: str | None = None) -> Any:
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            return json.loads(self._client.send(method, target, headers, body).data)
        except StorageError as error:
            raise self._refusal(error, version) from error

    def _wanted(self, version: str | None) -> str | None:
        """The generation to ask for."""
        if version is None:
            return None
        if not self.options.version_aware:
            raise UnsupportedOperation("this mount has 'version_aware: false'")
        if generation(version) is None:
            raise StorageVersionNotFoundError("No such version of this file")
        return version

    def _stat(self, path: str, headers: Mapping[str, str]) -> Stat:
        return stat_of_headers(path, headers, versions=self.options.version_aware)

    def _refusal(self, error: StorageError, version: str | None) -> StorageError:
        if version is not None and errors.status_of(error) in (400, 404) and "bucket" not in error.message:
            return StorageVersionNotFoundError("No such version of this file")
        return error
