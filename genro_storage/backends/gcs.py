"""Google Cloud Storage by exact keys only: bytes and their metadata over its XML API, the rest over its JSON API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from ..exceptions import StorageError, StorageVersionNotFoundError, UnsupportedOperation
from ..types import SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from ._gcs import errors, versions
from ._gcs.client import Client, GcsOptions
from ._gcs.copying import copy_object
from ._gcs.facts import FIELDS, METADATA_LIMIT, expected, generation, stat_of, stat_of_headers
from ._gcs.fast import FastLane
from ._gcs.parts import GcsParts, unfinished
from ._gcs.removal import deleted_many
from ._gcs.signing import signed
from ._gcs.writer import GcsWriter, Target
from ._objects import MTIME, sent_metadata
from ._pages import Asked, Page
from ._rest.backend import RestBackend
from .base import Tick, conflict
from .options import Context


class GcsBackend(RestBackend):
    """A bucket of Google's, or a part of one; the etag of an object is its generation, which every condition names."""

    Options = GcsOptions
    aliases: ClassVar[Mapping[str, str]] = {
        "prefix": "path",
        "base_path": "path",
        "endpoint_url": "endpoint",
        "token": "credentials",
    }
    features = replace(RestBackend.features, hashes=frozenset({"crc32c", "md5"}), backslash=True)
    apart = "Google copies only within one endpoint, with the same credentials"

    options: GcsOptions
    _client: Client

    def __init__(self, options: GcsOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        self._client = Client(options, context.directory)
        self._fast = FastLane(self._client)

    # --- identity ---

    @property
    def bucket(self) -> str:
        return self.options.bucket

    @property
    def storage_id(self) -> str:
        return f"gcs:{self.options.endpoint or 'google'}"

    @property
    def account(self) -> object:
        return self.storage_id, self.options.credentials

    def lacks(self) -> set[str]:
        return {"sign"} if self.options.credentials == "anon" else {"public_url"}

    def close(self) -> None:
        self._fast.close()
        super().close()

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

    def facts(self, path: str, version: str | None = None, if_match: str | None = None) -> Stat:
        target = self._client.object(self.key(path), fields=FIELDS, generation=self._wanted(version))
        stat = stat_of(path, self._json("GET", target, version=version), versions=self.options.version_aware)
        if if_match not in (None, stat.etag):
            raise conflict(str(if_match), stat.etag)
        return stat

    def page(self, asked: Asked, facts: bool) -> Page:
        fields, cut, versions = FIELDS if facts else "name", asked.cut, self.options.version_aware
        target = self._client.objects(
            prefix=asked.prefix,
            delimiter="/" if asked.delimiter else None,
            startOffset=asked.start or None,
            maxResults=asked.limit,
            pageToken=asked.token or None,
            fields=f"items({fields}),prefixes,nextPageToken",
        )
        told = self._json("GET", target)
        found = [stat_of(item["name"][cut:], item, versions=versions) for item in told.get("items", ())]
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
        return super().get(path, start, end, version=version, if_match=if_match)

    def asking(
        self, path: str, version: str | None, asked: str | None, if_match: str | None
    ) -> tuple[str, dict[str, str]]:
        headers = {"Accept-Encoding": "gzip"}  # as it is stored: Google unpacks it for all others
        if asked is not None:
            headers["Range"] = asked
        if if_match is not None:
            headers["x-goog-if-generation-match"] = expected(if_match)
        return self._client.media(self.key(path), generation=self._wanted(version)), headers

    def described(self, path: str, headers: Mapping[str, str], version: str | None) -> Stat:
        return stat_of_headers(path, headers, versions=self.options.version_aware)

    def object(self, key: str) -> str:
        return self._client.object(key)

    # --- writing ---

    def target(self, key: str, path: str, options: WriteOptions) -> Target:
        if options.tags:
            raise UnsupportedOperation("this storage does not support tags")
        sent_metadata(options, METADATA_LIMIT)
        return Target(self._client, key, path, options)

    def stream(self, target: Target) -> GcsWriter:
        return GcsWriter(target)

    def staged(self, target: Target, part_size: int, token: str | None, receipts: Mapping[int, str]) -> GcsParts:
        return GcsParts(target, self.root, part_size=part_size, token=token, receipts=receipts)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self._client, self.root, path, older_than)

    def copied(self, source: GcsBackend, source_path: str, target: Target, version: str | None, tick: Tick) -> Stat:
        return copy_object(target, source._client, source.key(source_path), version, tick)

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
        self.judge_file(path)
        if version is not None and version.endswith(versions.DELETED):
            return versions.restore(self._client, self.key(path), path, version)
        condition = None if if_match is None else expected(if_match)
        target = self._client.object(self.key(path), generation=self._wanted(version), ifGenerationMatch=condition)
        self._sent("DELETE", target, version=version)
        return None

    def removed(self, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
        return deleted_many(self._client, keys)

    # --- addresses ---

    def signed(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        return signed(self._client, self.key(path), method, expires_in, options)

    def public_url(self, path: str) -> str:
        return self._client.web.endpoint + self._client.media(self.key(path))

    # --- inside ---

    def _json(self, method: str, target: str, body: bytes | None = None, *, version: str | None = None) -> Any:
        headers = {} if body is None else {"Content-Type": "application/json"}
        return json.loads(self._sent(method, target, headers, body, version=version).data)

    def _wanted(self, version: str | None) -> str | None:
        """The generation to ask for."""
        if version is None:
            return None
        if not self.options.version_aware:
            raise UnsupportedOperation("this mount has 'version_aware: false'")
        if generation(version) is None:
            raise StorageVersionNotFoundError("No such version of this file")
        return version
