"""Object stores behind a pool of connections: reading, writing and removing as Google and Azure have it alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...exceptions import StorageError, StorageNotFoundError, StorageVersionNotFoundError
from ...types import PLAIN, Stat, WriteOptions
from .._objects import prefix_of, range_header
from .._objectwriter import Target
from .._refusals import no_bucket, status_of
from .._span import trimmed
from ..base import BackendReader, BytesReader
from ..handles import Part
from ..objects import ObjectStoreBackend
from .body import BodyReader, extent
from .web import whole


class RestBackend(ObjectStoreBackend):
    """Its `_client` sends requests and raises refusals in our words. A driver writes these five."""

    _client: Any

    def asking(
        self, path: str, version: str | None, asked: str | None, if_match: str | None
    ) -> tuple[str, dict[str, str]]:
        """Target and headers of the GET of a file, or of the range that `asked` says (RFC 9110, Range)."""
        raise NotImplementedError

    def described(self, path: str, headers: Mapping[str, str], version: str | None) -> Stat:
        """Facts from the headers of an answer; not of `version` → `StorageVersionNotFoundError`."""
        raise NotImplementedError

    def object(self, key: str) -> str:
        """The target of an object for requests without a body."""
        raise NotImplementedError

    def begin(self, path: str, start: int, version: str | None) -> int:
        """Where a range starts, counted from the end where the server can count so."""
        return start

    def removed(self, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Exception]]:
        """`delete_many` for (path, key) pairs."""
        raise NotImplementedError

    # --- what follows ---

    def close(self) -> None:
        self._client.web.close()

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
        data = trimmed(answer.data, *extent(answer.headers), start, end)
        return data, self.described(path, answer.headers, version)

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
            reader.stat = self.described(path, response.headers, version)
        except StorageNotFoundError:
            reader.close()
            raise
        return reader

    def _ranged(self, path: str, start: int, end: int | None, version: str | None, if_match: str | None) -> Any:
        """The answer to the GET of a range; None where no byte is in it."""
        self.judge_file(path)
        start = self.begin(path, start, version)
        asked = range_header(start, end)
        if asked == "":
            return None
        target, headers = self.asking(path, version, asked, if_match)
        try:
            return self._client.open("GET", target, headers)
        except StorageError as error:
            if status_of(error) != 416:
                raise self._refusal(error, version) from error
        return self._ranged(path, 0, end, version, if_match) if start < 0 else None

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        target: Target = self._written(path, options)
        return target.put(bytes(data))

    def rmdir(self, path: str) -> None:
        try:
            self._client.send("DELETE", self.object(self.key(prefix_of(path))))
        except StorageNotFoundError as error:
            if no_bucket(error):
                raise

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        return self.removed([(path, self.key(path)) for path in paths])

    def _sent(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] = {},
        body: Part | None = None,
        *,
        version: str | None = None,
    ) -> Any:
        """A whole answer; what is refused about one version may be that there is none."""
        try:
            return self._client.send(method, target, headers, body)
        except StorageError as error:
            raise self._refusal(error, version) from error

    def _refusal(self, error: StorageError, version: str | None) -> StorageError:
        if version is not None and status_of(error) in (400, 404) and not no_bucket(error):
            return StorageVersionNotFoundError("No such version of this file")
        return error
