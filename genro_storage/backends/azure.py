"""Azure Blob storage by exact keys only, over its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Version, WriteOptions
from ._azure import errors, labels, listing
from ._azure.client import AzureOptions, Client
from ._azure.copying import copy_blob
from ._azure.facts import METADATA_LIMIT, headers_of, metadata_headers, stat_of
from ._azure.parts import AzureParts
from ._azure.removal import deleted_many
from ._azure.signing import signed
from ._azure.writer import AzureWriter, Target
from ._objects import metadata_of, prefix_of, quoted, range_header, sent_metadata
from ._rest.body import BodyReader, trimmed
from ._rest.pages import Listing
from ._rest.web import whole
from .base import BackendReader, BytesReader, StorageBackend, Tick
from .options import Context


class AzureBackend(StorageBackend):
    """A container, or a part of one. Keys are exact: never a glob, a prefix or a normalised spelling.

    Directories are implied by keys; a marker (a key ending in "/") makes an empty one. Writes make block blobs, which
    appear whole. A time of last change given to a write is kept as metadata.
    """

    Options = AzureOptions
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path"}
    features = Features(
        real_dirs=False,
        ordered=True,
        if_absent="atomic",
        if_match="atomic",
        mtime_resolution=1.0,
        keeps_mtime=True,
        hashes=frozenset({"md5"}),
        metadata=True,
        tags=True,
        content_type=True,
        max_key=1024,
        ranges=True,
    )

    options: AzureOptions

    def __init__(self, options: AzureOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self._client = Client(options)

    # --- identity ---

    @property
    def abilities(self) -> frozenset[str]:
        options, account = self.options, self._client.account
        absent = set() if options.markers else {"mkdir"}
        absent |= set() if options.version_aware else {"versions"}
        absent |= set() if account.key else {"sign"}
        absent |= set() if account.anonymous else {"public_url"}
        return super().abilities - absent

    @property
    def storage_id(self) -> str:
        return f"azure:{self._client.account.endpoint}"

    def native_path(self, path: str) -> str:
        return f"{self.options.container}/{self.key(path)}"

    def key(self, path: str) -> str:
        """The exact key of a path."""
        return f"{self.root}/{path}" if self.root else path

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

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        if not path:
            raise StorageNotFoundError("a directory has no facts of its own")
        return self._stat(path, self._head(path, version), version)

    def _head(self, path: str, version: str | None = None) -> Mapping[str, str]:
        target = self._client.blob(self.key(path), versionid=self._wanted(version))
        headers: Mapping[str, str] = self._sent("HEAD", target, version=version).headers
        return headers

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, flat=False)

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, flat=True)

    def _found(self, path: str, after: str, limit: int | None, *, flat: bool) -> Iterator[Sequence[Stat]]:
        top, client = f"{self.root}/" if self.root else "", self._client
        found = Listing(lambda asked: listing.page(client, asked), top, path, flat=flat, after=after, limit=limit)
        yield from found
        if found.empty and path and not after:
            # Who asks for one entry asks whether there is any; what else may be there is not worth a request.
            if limit != 1 and self.has(path):
                raise StorageNotADirectoryError("Not a directory")
            raise StorageNotFoundError("No such directory")

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
            return b"", self._matching(path, version, if_match)
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
            return BytesReader(b"", self._matching(path, version, if_match))
        reader = BodyReader(response, Stat(path), start, end)
        try:
            reader.stat = self._stat(path, response.headers, version)
        except StorageNotFoundError:
            reader.close()
            raise
        return reader

    def _ranged(self, path: str, start: int, end: int | None, version: str | None, if_match: str | None) -> Any:
        """The answer to the GET of a range; None where no byte is in it."""
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
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

    def _matching(self, path: str, version: str | None, if_match: str | None) -> Stat:
        stat = self.stat(path, version=version)
        if if_match is not None and quoted(stat.etag or "") != quoted(if_match):
            raise StorageConflictError(f"changed meanwhile: etag {if_match} was expected, it has {stat.etag}")
        return stat

    # --- writing ---

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        return self._target(path, options).put(bytes(data))

    def writer(self, path: str, options: WriteOptions = PLAIN) -> AzureWriter:
        return AzureWriter(self._target(path, options))

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> AzureParts:
        return AzureParts(self._target(path, options), part_size=part_size, token=token, receipts=receipts)

    def _target(self, path: str, options: WriteOptions) -> Target:
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
        headers_of(options)  # what cannot be sent is refused before the first byte
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
        """Within one account, whatever the containers; type and metadata are kept, tags are not."""
        if not isinstance(source, AzureBackend) or source.storage_id != self.storage_id:
            raise UnsupportedOperation("Azure copies only within one account")
        wanted = source._wanted(version)
        try:
            return copy_blob(self._target(path, options), source._client, source.key(source_path), wanted, tick)
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
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")
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
        return deleted_many(self._client, [(path, self.key(path)) for path in paths])

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
