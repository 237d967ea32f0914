"""S3 and what speaks its language, by exact keys only, over aiobotocore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from botocore.exceptions import ClientError
from msgspec.structs import replace

from ..exceptions import StorageError, StorageNotFoundError, StorageVersionNotFoundError, UnsupportedOperation
from ..types import PLAIN, SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from ._labels import checked_tags
from ._objects import prefix_of, quoted, range_header, sent_metadata
from ._pages import Asked, Page
from ._s3 import errors
from ._s3.client import Answer, Connection, S3Options
from ._s3.copying import copy_object, describe
from ._s3.facts import Checksums, common, stat_of, written
from ._s3.fast import FastLane
from ._s3.listing import page_of
from ._s3.parts import S3Parts, unfinished
from ._s3.reader import S3Reader, extent, fetched
from ._s3.removal import deleted_many
from ._s3.signing import signed
from ._s3.tags import tag_set, tags_of
from ._s3.versions import versions_of
from ._s3.wire import Wire
from ._s3.writer import S3Writer, Target
from ._span import trimmed
from .base import BackendReader, BytesReader, Tick
from .objects import ObjectStoreBackend
from .options import Context

T = TypeVar("T")


class S3Backend(ObjectStoreBackend):
    """A bucket of S3, or a part of one.

    Conditions are judged by the server; one that knows none ignores them in silence. A time of last change is shown by
    `stat` and reads; listings show the time of upload.
    """

    Options = S3Options
    aliases: ClassVar[Mapping[str, str]] = {
        "prefix": "path",
        "base_path": "path",
        "region_name": "region",
        "endpoint_url": "endpoint",
        "key": "access_key",
        "secret": "secret_key",
        "token": "session_token",
    }
    features = replace(
        ObjectStoreBackend.features,
        lists_mtime=False,
        hashes=frozenset({"md5"}),
        tags=True,
        tells_missing=False,
        backslash=True,
    )
    apart = "S3 copies only within one endpoint, with the same credentials"

    options: S3Options

    def __init__(self, options: S3Options, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        self._connection = Connection(options)
        self._fast = FastLane(self._connection)
        self._checksums = Checksums(options.checksum)
        self._wire = Wire(self._connection)
        self._common = common(options)

    # --- identity ---

    @property
    def bucket(self) -> str:
        return self.options.bucket

    @property
    def storage_id(self) -> str:
        return f"s3:{self.options.endpoint or 'aws'}"

    @property
    def account(self) -> object:
        return self.storage_id, self.options.anon, self.options.access_key, self.options.profile

    def lacks(self) -> set[str]:
        return {"sign"} if self.options.anon else set()

    def check(self) -> Mapping[str, str]:
        answer = self._run(self._connection.client.get_bucket_versioning(**self._common))
        return {"versioning": str(answer.get("Status", "off")).lower()}

    def close(self) -> None:
        self._fast.close()
        self._wire.close()
        self._connection.close()

    def translate(self, error: Exception) -> StorageError | None:
        return errors.translate(error, self.options.bucket)

    @property
    def fs(self) -> Any:
        return self._connection.fs

    # --- facts and listings ---

    def facts(self, path: str, version: str | None = None, if_match: str | None = None) -> Stat:
        request = self._reading(path, version, if_match)
        try:
            answer = self._connection.head(request)
        except ClientError as error:
            raise self._refusal(error, version) from error
        return self._stat(path, answer, answer.get("ContentLength"), version)

    def look(self, path: str, *, version: str | None = None) -> Stat:
        """The accelerator does not tell how an object is encrypted, and so not whether its ETag is its hash."""
        try:
            answer = self._fast.head(self.key(path)) if path and version is None else None
        except ClientError as error:
            raise self._refusal(error, None) from error
        if answer is None:
            return self.stat(path, version=version)
        return self._stat(path, answer, answer["ContentLength"], None)

    def page(self, asked: Asked, facts: bool) -> Page:
        try:
            return page_of(self._connection, asked)
        except ClientError as error:
            raise errors.answered(error, self.options.bucket) from error

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
        if version is None and (soon := self._soon(path, start, end, if_match)) is not None:
            return soon
        found = self._ranged(path, start, end, version, if_match, self._whole)
        if found is None:
            return b"", self.facts(path, version, if_match)
        answer, data = found
        begin, size = extent(answer)
        return trimmed(data, begin, size, start, end), self._stat(path, answer, size, version)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        streamed: BackendReader | None = self._streamed(path, start, end, version, if_match)
        if streamed is not None:
            return streamed
        connection = self._connection
        found = self._ranged(path, start, end, version, if_match, connection.hold)
        if found is None:
            return BytesReader(b"", self.facts(path, version, if_match))
        answer, lease = found
        reader = S3Reader(connection, answer, lease, start, end)
        try:
            reader.stat = self._stat(path, answer, extent(answer)[1], version)
        except StorageNotFoundError:
            reader.close()
            raise
        return reader

    def _soon(self, path: str, start: int, end: int | None, if_match: str | None) -> tuple[bytes, Stat] | None:
        """As `get`, where the accelerator can."""
        try:
            found = self._fast.get(self.key(path), start, end, if_match) if path else None
        except ClientError as error:
            if errors.status_of(error) != 416:
                raise self._refusal(error, None) from error
            # Some servers refuse a suffix longer than the file.
            return self.get(path, 0, end, if_match=if_match) if start < 0 else (b"", self.facts(path, None, if_match))
        if found is None:
            return None
        data, answer = found
        return data, self._stat(path, answer, answer["ContentLength"], None)

    def _streamed(self, path: str, start: int, end: int | None, version: str | None, if_match: str | None) -> Any:
        """As `reader`, for what is worth a connection without the client."""
        request = self._reading(path, version, None)
        try:
            return self._wire.reader(
                request, start, end, if_match, lambda answer: self._stat(path, answer, extent(answer)[1], version)
            )
        except ClientError as error:
            raise self._refusal(error, version) from error

    def _whole(self, request: Any) -> tuple[Answer, bytes]:
        return self._connection.run(fetched(request))

    def _ranged(
        self,
        path: str,
        start: int,
        end: int | None,
        version: str | None,
        if_match: str | None,
        send: Callable[[Any], T],
    ) -> T | None:
        """Sends the GET of a range; None where no byte is in it."""
        asked = range_header(start, end)
        if asked == "":
            return None
        request = self._reading(path, version, if_match)
        if asked is not None:
            request["Range"] = asked
        try:
            return send(self._connection.client.get_object(**request))
        except ClientError as error:
            if errors.status_of(error) != 416:
                raise self._refusal(error, version) from error
        # Some servers refuse a suffix longer than the file.
        return self._ranged(path, 0, end, version, if_match, send) if start < 0 else None

    def _reading(self, path: str, version: str | None, if_match: str | None) -> Answer:
        self.judge_file(path)
        request = self._common | {"Key": self.key(path)}
        if version is not None:
            if not self.options.version_aware:
                raise UnsupportedOperation("this mount has 'version_aware: false'")
            request["VersionId"] = version
        if if_match is not None:
            request["IfMatch"] = quoted(if_match)
        return request

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        self.judge_file(path)
        content = data if type(data) is bytes else bytes(data)
        try:
            answer = self._fast.put(self.key(path), content, options, sent_metadata(options))
        except ClientError as error:
            raise self.target(self.key(path), path, options).judged(error) from error
        if answer is None:
            return self.target(self.key(path), path, options).put(content)
        return written(path, answer, len(content), options, versions=self.options.version_aware)

    def target(self, key: str, path: str, options: WriteOptions) -> Target:
        sent_metadata(options)
        checked_tags(options.tags or {})
        return Target(self._connection, self._checksums, key, path, options)

    def stream(self, target: Target) -> S3Writer:
        return S3Writer(target)

    def staged(self, target: Target, part_size: int, token: str | None, receipts: Mapping[int, str]) -> S3Parts:
        return S3Parts(target, self._wire, part_size=part_size, token=token, receipts=receipts)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self._connection, self.key(path) if path else prefix_of(self.root), self.root, older_than)

    def copied(self, source: S3Backend, source_path: str, target: Target, version: str | None, tick: Tick) -> Stat:
        found = source._reading(source_path, version, None)
        found.pop("RequestPayer", None)
        return copy_object(target, found, tick, self._wire)

    # --- versions, metadata, tags, signatures ---

    def versions(self, path: str) -> Iterator[Version]:
        if not self.options.version_aware:
            raise UnsupportedOperation("this mount has 'version_aware: false'")
        try:
            yield from versions_of(self._connection, self.key(path)) if path else ()
        except ClientError as error:
            raise errors.answered(error, self.options.bucket) from error

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        """The server copies the object onto itself, a new version where there are versions."""
        target = self._written(path, WriteOptions(metadata=metadata))
        try:
            describe(target, metadata)
        except ClientError as error:
            raise errors.answered(error, self.options.bucket) from error

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        request = self._reading(path, version, None)
        try:
            return tags_of(self._connection.run(self._connection.client.get_object_tagging(**request)))
        except ClientError as error:
            raise self._refusal(error, version) from error

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        request = self._reading(path, None, None) | {"Tagging": tag_set(checked_tags(tags))}
        self._run(self._connection.client.put_object_tagging(**request))

    def signed(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        self._reading(path, options.version, None)
        return signed(self._connection, self.key(path), method, expires_in, options)

    # --- removing ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        request = self._reading(path, version, if_match)
        self._run(self._connection.client.delete_object(**request))

    def rmdir(self, path: str) -> None:
        self._run(self._connection.client.delete_object(Key=self.key(prefix_of(path)), **self._common))

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        return deleted_many(self._connection, [(path, self.key(path)) for path in paths])

    # --- inside ---

    def _run(self, request: Any) -> Any:
        """Sends a request; what the server refuses is told in our words, for absence is part of the port."""
        try:
            return self._connection.run(request)
        except ClientError as error:
            raise errors.answered(error, self.options.bucket) from error

    def _stat(self, path: str, answer: Answer, size: int | None, version: str | None) -> Stat:
        if version is not None and answer.get("VersionId", "null") != version:
            # Where a bucket has no versions, some servers answer with what is there now.
            raise StorageVersionNotFoundError("No such version of this file")
        return stat_of(path, answer, size=size, versions=self.options.version_aware)

    def _refusal(self, error: ClientError, version: str | None) -> StorageError:
        return errors.refused(error, self.options.bucket, version)
