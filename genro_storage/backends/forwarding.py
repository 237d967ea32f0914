"""A backend whose paths are those of others: every method of the port goes where `route` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ..exceptions import StorageError, StorageNotFoundError
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from .base import BackendEditor, BackendReader, BackendWriter, PartWriter, StorageBackend, Tick
from .handles import Part


class Forwarding(StorageBackend):
    """Forwards to the backend and path that `route` gives; facts come back under the path that was asked.

    `prototype` tells what all of them are like: features, abilities, identity, errors.
    """

    prototype: StorageBackend

    def route(self, path: str) -> tuple[StorageBackend, str]:
        """(backend, its path) for a path of ours."""
        raise NotImplementedError

    @property
    def features(self) -> Features:  # type: ignore[override]
        return self.prototype.features

    @property
    def abilities(self) -> frozenset[str]:
        return self.prototype.abilities

    @property
    def storage_id(self) -> str:
        return self.prototype.storage_id

    def native_path(self, path: str) -> str:
        backend, there = self.route(path)
        return backend.native_path(there)

    def translate(self, error: Exception) -> StorageError | None:
        return self.prototype.translate(error)

    def check(self) -> Mapping[str, str]:
        return self.prototype.check()

    def close(self) -> None:
        self.prototype.close()

    def local_path(self, path: str) -> str | None:
        try:
            backend, there = self.route(path)
        except StorageNotFoundError:
            return None  # nobody knows where that would be
        return backend.local_path(there)

    # --- facts and listings ---

    def has(self, path: str) -> bool:
        backend, there = self.route(path)
        return backend.has(there)

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        backend, there = self.route(path)
        return replace(backend.stat(there, version=version), path=path)

    def look(self, path: str, *, version: str | None = None) -> Stat:
        backend, there = self.route(path)
        return replace(backend.look(there, version=version), path=path)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        backend, there = self.route(path)
        pages = backend.scan(there, after=_moved(after, path, there), limit=limit, facts=facts)
        return _back(pages, there, path)

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        backend, there = self.route(path)
        return _back(backend.walk(there, after=_moved(after, path, there), limit=limit), there, path)

    def versions(self, path: str) -> Iterator[Version]:
        backend, there = self.route(path)
        return backend.versions(there)

    # --- bytes ---

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        backend, there = self.route(path)
        reader = backend.reader(there, start, end, version=version, if_match=if_match)
        reader.stat = replace(reader.stat, path=path)
        return reader

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        backend, there = self.route(path)
        data, stat = backend.get(there, start, end, version=version, if_match=if_match)
        return data, replace(stat, path=path)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        backend, there = self.route(path)
        return replace(backend.put(there, data, options), path=path)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        backend, there = self.route(path)
        return _Writer(backend.writer(there, options), path)

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> PartWriter:
        backend, there = self.route(path)
        return _Parts(backend.parts(there, options, part_size=part_size, token=token, receipts=receipts), path)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        backend, there = self.route(path)
        for found in backend.unfinished(there, older_than=older_than):
            yield replace(found, path=_moved(found.path, there, path))

    def edit(self, path: str, mode: str) -> BackendEditor:
        backend, there = self.route(path)
        return backend.edit(there, mode)

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
        backend, there = self.route(path)
        source, source_path = _behind(source, source_path)
        return replace(backend.copy_from(source, source_path, there, options, version=version, tick=tick), path=path)

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        backend, there = self.route(path)
        source, source_path = _behind(source, source_path)
        return replace(backend.rename_from(source, source_path, there, options), path=path)

    # --- changes ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        backend, there = self.route(path)
        if version is None and if_match is None:  # a driver of the simple five takes nothing else
            backend.delete(there)
        else:
            backend.delete(there, version=version, if_match=if_match)

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        for path in paths:
            backend, there = self.route(path)
            for _, error in backend.delete_many([there]):
                yield path, error

    def mkdir(self, path: str) -> None:
        backend, there = self.route(path)
        backend.mkdir(there)

    def rmdir(self, path: str) -> None:
        backend, there = self.route(path)
        backend.rmdir(there)

    def set_mode(self, path: str, mode: int) -> None:
        backend, there = self.route(path)
        backend.set_mode(there, mode)

    def set_mtime(self, path: str, mtime: float) -> None:
        backend, there = self.route(path)
        backend.set_mtime(there, mtime)

    def symlink(self, path: str, target: str) -> None:
        backend, there = self.route(path)
        backend.symlink(there, self.route(target)[1])

    def readlink(self, path: str) -> str:
        backend, there = self.route(path)
        return backend.readlink(there)

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        backend, there = self.route(path)
        backend.set_metadata(there, metadata)

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        backend, there = self.route(path)
        return backend.get_tags(there, version=version)

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        backend, there = self.route(path)
        backend.set_tags(there, tags)

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        backend, there = self.route(path)
        return backend.sign(there, method, expires_in, options)

    def public_url(self, path: str) -> str:
        backend, there = self.route(path)
        return backend.public_url(there)

    def free_space(self) -> int:
        return self.prototype.free_space()

    @property
    def fs(self) -> Any:
        return self.prototype.fs


def _behind(source: StorageBackend, path: str) -> tuple[StorageBackend, str]:
    while isinstance(source, Forwarding):
        source, path = source.route(path)
    return source, path


def _moved(path: str, old: str, new: str) -> str:
    """A path below `old` as one below `new`."""
    if not path:
        return ""
    below = path[len(old) :].lstrip("/") if old else path
    return f"{new}/{below}" if new and below else new or below


def _back(pages: Iterator[Sequence[Stat]], there: str, here: str) -> Iterator[Sequence[Stat]]:
    for page in pages:
        yield [replace(entry, path=_moved(entry.path, there, here)) for entry in page]


class _Writer:
    """A writer whose facts are told under another path."""

    def __init__(self, writer: BackendWriter, path: str) -> None:
        self._writer, self._path = writer, path

    def write(self, data: bytes | bytearray | memoryview) -> object:
        return self._writer.write(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return replace(self._writer.commit(hashes), path=self._path)

    def discard(self) -> None:
        self._writer.discard()


class _Parts:
    """A part writer whose facts are told under another path."""

    def __init__(self, writer: PartWriter, path: str) -> None:
        self._writer, self._path = writer, path
        self.token, self.part_size, self.one_pass = writer.token, writer.part_size, writer.one_pass
        self.put: Callable[[int, Part], str] = writer.put
        self.reread: Callable[[int, int], bytes | None] = writer.reread
        self.discard: Callable[[], None] = writer.discard

    @property
    def held(self) -> frozenset[int]:
        return self._writer.held

    @property
    def digests(self) -> Mapping[str, str]:
        return self._writer.digests

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return replace(self._writer.commit(hashes), path=self._path)
