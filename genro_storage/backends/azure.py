"""Azure Blob storage by exact keys only, over its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from ..exceptions import StorageError, StorageNotFoundError, StorageVersionNotFoundError, UnsupportedOperation
from ..types import PLAIN, SignedRequest, SignOptions, Stat, Version, WriteOptions
from ._azure import errors, labels, listing
from ._azure.client import AzureOptions, Client
from ._azure.copying import copy_blob
from ._azure.facts import METADATA_LIMIT, headers_of, metadata_headers, stat_of
from ._azure.parts import AzureParts
from ._azure.removal import deleted_many
from ._azure.signing import signed
from ._azure.writer import AzureWriter, Target
from ._objects import metadata_of, prefix_of, quoted, range_header, sent_metadata
from ._pages import Asked, Page
from ._rest.body import BodyReader, trimmed
from ._rest.web import whole
from .base import BackendReader, BytesReader, Tick, conflict
from .objects import ObjectStoreBackend
from .options import Context


class AzureBackend(ObjectStoreBackend):
    """A container, or a part of one; writes make block blobs."""

    Options = AzureOptions
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path"}
    features = replace(ObjectStoreBackend.features, hashes=frozenset({"md5"}), tags=True)
    apart = "Azure copies only within one account"

    options: AzureOptions

    def __init__(self, options: AzureOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        self._client = Client(options)

    # --- identity ---

    @property
    def bucket(self) -> str:
        return self.options.container

    @property
    def storage_id(self) -> str:
        return f"azure:{self._client.account.endpoint}"

    @property
    def account(self) -> object:
        return self.storage_id

    def lacks(self) -> set[str]:
        account = self._client.account
        return (set() if account.key else {"sign"}) | (set() if account.anonymous else {"public_url"})

    def close(self) -> None:
        self._client.web.close()

    def translate(self, error: Exception) -> StorageError | None:
        return errors.translate(error)

    @property
    def fs(self) -> Any:
        from adlfs import AzureBlobFileSystem  # its import costs more than all of this package

        account, options = self._client.account, self.options
        how = {"skip_instance_cache": True, "use_listings_cache": False, "version_aware": options.version_aware}
        if account.key:
            scheme = account.endpoint.partition(":")[0]
            told = (
                f"DefaultEndpointsProtocol={scheme};AccountName={account.name};AccountKey={account.key};"
                f"BlobEndpoint={account.endpoint};"
            )
            return AzureBlobFileSystem(connection_string=told, **how)
        return AzureBlobFileSystem(
            account_name=account.name, sas_token=account.sas or None, anon=account.anonymous, **how
        )

    # --- facts and listings ---

    def facts(self, path: str, version: str | None = None, if_match: str | None = None) -> Stat:
        stat = self._stat(path, self._head(path, version), version)
        if if_match is not None and quoted(stat.etag or "") != quoted(if_match):
            raise conflict(if_match, stat.etag)
        return stat

    def _head(self, path: str, version: str | None = None) -> Mapping[str, str]:
        target = self._client.blob(self.key(path), versionid=self._wanted(version))
        headers: Mapping[str, str] = self._sent("HEAD", target, version=version).headers
        return headers

    def page(self, asked: Asked, facts: bool) -> Page:
        return listing.page(self._client, asked)

    def versions(self, path: str) -> Iterator[Version]:
        return listing.versions(self._client, self.key(path)) if path else iter(())

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
        response = self._ranged(path, start, end, version, if_match)
        if response is None:
            return b"", self.facts(path, version, if_match)
        answer = whole(response)
        return trimmed(answer.data, answer.headers, start, end), self._stat(path, answer.headers, version)

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
            return BytesReader(b"", self.facts(path, version, if_match))
        reader = BodyReader(response, Stat(path), start, end)
        try:
            reader.stat = self._stat(path, response.headers, version)
        except StorageNotFoundError:
            reader.close()
            raise
        return reader

    def _ranged(self, path: str, start: int, end: int | None, version: str | None, if_match: str | None) -> Any:
        """The answer to the GET of a range; None where no byte is in it."""
        self.judge_file(path)
        if start < 0:  # Azure knows no suffixes
            size = self.stat(path, version=version).size or 0
            start = max(0, size + start)
        asked = range_header(start, end)
        if asked == "":
            return None
        headers = {} if asked is None else {"x-ms-range": asked}
        if if_match is not None:
            headers["If-Match"] = quoted(if_match)
        target = self._client.blob(self.key(path), versionid=self._wanted(version))
        try:
            return self._client.open("GET", target, headers)
        except StorageError as error:
            if errors.status_of(error) != 416:
                raise self._refusal(error, version) from error
        return None

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        target: Target = self._written(path, options)
        return target.put(bytes(data))

    def target(self, key: str, path: str, options: WriteOptions) -> Target:
        headers_of(options)
        return Target(self._client, key, path, options)

    def stream(self, target: Target) -> AzureWriter:
        return AzureWriter(target)

    def staged(self, target: Target, part_size: int, token: str | None, receipts: Mapping[int, str]) -> AzureParts:
        return AzureParts(target, part_size=part_size, token=token, receipts=receipts)

    def copied(self, source: AzureBackend, source_path: str, target: Target, version: str | None, tick: Tick) -> Stat:
        """Tags are left behind."""
        wanted = source._wanted(version)
        try:
            return copy_blob(target, source._client, source.key(source_path), wanted, tick)
        except StorageNotFoundError as error:
            raise self._refusal(error, version) from error

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        sent_metadata(WriteOptions(metadata=metadata), METADATA_LIMIT)
        self._describe(path, lambda kept: replace(kept, metadata=metadata))

    def set_mtime(self, path: str, mtime: float) -> None:
        self._describe(path, lambda kept: replace(kept, mtime=float(mtime)))

    def _describe(self, path: str, change: Any) -> None:
        """Two requests: all metadata is written anew, on condition that it is still what it was."""
        found = self._head(path)
        stat = stat_of(path, found, versions=False)
        names = {name[10:]: value for name, value in found.items() if name.lower().startswith("x-ms-meta-")}
        kept = WriteOptions(metadata=stat.metadata, mtime=metadata_of(names)[1])
        headers = metadata_headers(change(kept)) | {"If-Match": quoted(stat.etag or "")}
        self._sent("PUT", self._client.blob(self.key(path), comp="metadata"), headers, b"")

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        target = self._client.blob(self.key(path), comp="tags", versionid=self._wanted(version))
        return labels.read(self._sent("GET", target, version=version).data)

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        headers = {"Content-Type": "application/xml; charset=UTF-8"}
        self._sent("PUT", self._client.blob(self.key(path), comp="tags"), headers, labels.told(tags))

    # --- removing ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.judge_file(path)
        if version is not None and version.endswith(listing.DELETED):
            return listing.restore(self._client, self.key(path), path, version)
        headers = {} if if_match is None else {"If-Match": quoted(if_match)}
        target = self._client.blob(self.key(path), versionid=self._wanted(version))
        try:
            self._sent("DELETE", target, headers, version=version)
        except StorageError as error:
            if version is None or errors.code_of(error) != "OperationNotAllowedOnRootBlob":
                raise
            # The current version is first made a former one, as long as it is still the current one.
            self.delete(path, if_match=self.stat(path, version=version).etag)
            self._sent("DELETE", target, version=version)
        return None

    def rmdir(self, path: str) -> None:
        try:
            self._sent("DELETE", self._client.blob(self.key(prefix_of(path))))
        except StorageNotFoundError as error:
            if errors.code_of(error) == "ContainerNotFound":
                raise

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        return deleted_many(self._client, self.keys(paths))

    # --- addresses ---

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        return signed(self._client, self.key(path), method, expires_in, options)

    def public_url(self, path: str) -> str:
        return self._client.account.endpoint + self._client.blob(self.key(path))

    # --- inside ---

    def _sent(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] = {},
        body: bytes | None = None,
        *,
        version: str | None = None,
    ) -> Any:
        try:
            return self._client.send(method, target, headers, body)
        except StorageError as error:
            raise self._refusal(error, version) from error

    def _wanted(self, version: str | None) -> str | None:
        """The version to ask for."""
        if version is not None and not self.options.version_aware:
            raise UnsupportedOperation("this mount has 'version_aware: false'")
        if version is not None and version.endswith(listing.DELETED):
            raise StorageVersionNotFoundError("a deletion has no content")
        return version

    def _stat(self, path: str, headers: Mapping[str, str], version: str | None) -> Stat:
        if version is not None and headers.get("x-ms-version-id") != version:
            # An account without versions answers with what is there now.
            raise StorageVersionNotFoundError("No such version of this file")
        return stat_of(path, headers, versions=self.options.version_aware)

    def _refusal(self, error: StorageError, version: str | None) -> StorageError:
        refused = errors.status_of(error) in (400, 404) and errors.code_of(error) != "ContainerNotFound"
        return StorageVersionNotFoundError("No such version of this file") if version and refused else error
