"""Azure Blob storage by exact keys only, over its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from ..exceptions import StorageError, StorageNotFoundError, StorageVersionNotFoundError, UnsupportedOperation
from ..types import SignedRequest, SignOptions, Stat, Version, WriteOptions
from ._azure import errors, labels, listing
from ._azure.client import AzureOptions, Client
from ._azure.copying import copy_blob
from ._azure.facts import METADATA_LIMIT, headers_of, metadata_headers, stat_of
from ._azure.parts import AzureParts
from ._azure.removal import deleted_many
from ._azure.signing import signed
from ._azure.writer import AzureWriter, Target
from ._objects import metadata_of, quoted, sent_metadata
from ._pages import Asked, Page
from ._refusals import code_of
from ._rest.backend import RestBackend
from .base import Tick, conflict
from .options import Context


class AzureBackend(RestBackend):
    """A container, or a part of one; writes make block blobs."""

    Options = AzureOptions
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path"}
    features = replace(RestBackend.features, hashes=frozenset({"md5"}), tags=True)
    apart = "Azure copies only within one account"

    options: AzureOptions
    _client: Client

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
        stat = self.described(path, self._head(path, version), version)
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

    def begin(self, path: str, start: int, version: str | None) -> int:
        """Azure knows no suffixes."""
        return start if start >= 0 else max(0, (self.stat(path, version=version).size or 0) + start)

    def asking(
        self, path: str, version: str | None, asked: str | None, if_match: str | None
    ) -> tuple[str, dict[str, str]]:
        headers = {} if asked is None else {"x-ms-range": asked}
        if if_match is not None:
            headers["If-Match"] = quoted(if_match)
        return self._client.blob(self.key(path), versionid=self._wanted(version)), headers

    def described(self, path: str, headers: Mapping[str, str], version: str | None) -> Stat:
        if version is not None and headers.get("x-ms-version-id") != version:
            # An account without versions answers with what is there now.
            raise StorageVersionNotFoundError("No such version of this file")
        return stat_of(path, headers, versions=self.options.version_aware)

    def object(self, key: str) -> str:
        return self._client.blob(key)

    # --- writing ---

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
            if version is None or code_of(error) != "OperationNotAllowedOnRootBlob":
                raise
            # The current version is first made a former one, as long as it is still the current one.
            self.delete(path, if_match=self.stat(path, version=version).etag)
            self._sent("DELETE", target, version=version)
        return None

    def removed(self, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
        return deleted_many(self._client, keys)

    # --- addresses ---

    def signed(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        return signed(self._client, self.key(path), method, expires_in, options)

    def public_url(self, path: str) -> str:
        return self._client.account.endpoint + self._client.blob(self.key(path))

    # --- inside ---

    def _wanted(self, version: str | None) -> str | None:
        """The version to ask for."""
        if version is not None and not self.options.version_aware:
            raise UnsupportedOperation("this mount has 'version_aware: false'")
        if version is not None and version.endswith(listing.DELETED):
            raise StorageVersionNotFoundError("a deletion has no content")
        return version
