"""A backend around another that fails, truncates or delays at the call it is told to: what fault tests are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Self

from ..backends.base import BackendEditor, BackendReader, BackendWriter, PartWriter, StorageBackend, Tick
from ..exceptions import StorageError
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Unfinished, Version, WriteOptions
from .faults import Fault as Fault
from .faults import FaultPlan as FaultPlan
from .faults import halves, struck
from .faults import injected as injected
from .faulty_handles import FaultyEditor, FaultyParts, FaultyReader, FaultyWriter


class FaultyBackend(StorageBackend):
    """`inner`, and the faults of `plan`. Features, abilities, identity and translation are those of `inner`."""

    def __init__(self, inner: StorageBackend, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.options = inner.options
        self.context = inner.context
        self.root = inner.root

    # --- what is not counted: facts and names ---

    @property
    def features(self) -> Features:  # type: ignore[override]
        return self.inner.features

    @property
    def abilities(self) -> frozenset[str]:
        return self.inner.abilities

    @property
    def storage_id(self) -> str:
        return self.inner.storage_id

    @property
    def fs(self) -> Any:
        return self.inner.fs

    def native_path(self, path: str) -> str:
        return self.inner.native_path(path)

    def local_path(self, path: str) -> str | None:
        return self.inner.local_path(path)

    def translate(self, error: Exception) -> StorageError | None:
        return self.inner.translate(error)

    def rooted(self, path: str) -> Self:
        twin = copy(self)
        twin.inner = self.inner.rooted(path)
        twin.root = twin.inner.root
        return twin

    def close(self) -> None:
        self.inner.close()

    # --- calls that are done or not ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        return self.plan.run("stat", lambda: self.inner.stat(path, version=version))

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.plan.run("delete", lambda: self.inner.delete(path, version=version, if_match=if_match))

    def mkdir(self, path: str) -> None:
        self.plan.run("mkdir", lambda: self.inner.mkdir(path))

    def rmdir(self, path: str) -> None:
        self.plan.run("rmdir", lambda: self.inner.rmdir(path))

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        return self.plan.run("put", lambda: self.inner.put(path, data, options))

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
        inner, real = self.inner, _real(source)
        return self.plan.run(
            "copy_from", lambda: inner.copy_from(real, source_path, path, options, version=version, tick=tick)
        )

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        return self.plan.run("rename_from", lambda: self.inner.rename_from(_real(source), source_path, path, options))

    def set_mode(self, path: str, mode: int) -> None:
        self.plan.run("set_mode", lambda: self.inner.set_mode(path, mode))

    def set_mtime(self, path: str, mtime: float) -> None:
        self.plan.run("set_mtime", lambda: self.inner.set_mtime(path, mtime))

    def symlink(self, path: str, target: str) -> None:
        self.plan.run("symlink", lambda: self.inner.symlink(path, target))

    def readlink(self, path: str) -> str:
        return self.plan.run("readlink", lambda: self.inner.readlink(path))

    def versions(self, path: str) -> Iterator[Version]:
        return self.plan.run("versions", lambda: iter(list(self.inner.versions(path))))

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        self.plan.run("set_metadata", lambda: self.inner.set_metadata(path, metadata))

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        return self.plan.run("get_tags", lambda: self.inner.get_tags(path, version=version))

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        self.plan.run("set_tags", lambda: self.inner.set_tags(path, tags))

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        return self.inner.sign(path, method, expires_in, options)

    def public_url(self, path: str) -> str:
        return self.inner.public_url(path)

    def free_space(self) -> int:
        return self.plan.run("free_space", self.inner.free_space)

    # --- calls that can be done by half ---

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        fault = self.plan.next("get")
        data, stat = struck(fault, lambda: self.inner.get(path, start, end, version=version, if_match=if_match))
        return (data[: len(data) // 2] if halves(fault) else data), stat

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        inner = self.inner
        reader = self.plan.run("reader", lambda: inner.reader(path, start, end, version=version, if_match=if_match))
        return FaultyReader(reader, self.plan)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return FaultyWriter(self.plan.run("writer", lambda: self.inner.writer(path, options)), self.plan)

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> PartWriter:
        opened = self.inner.parts
        writer = self.plan.run(
            "parts", lambda: opened(path, options, part_size=part_size, token=token, receipts=receipts)
        )
        return FaultyParts(writer, self.plan)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return self.plan.run("unfinished", lambda: iter(list(self.inner.unfinished(path, older_than=older_than))))

    def edit(self, path: str, mode: str) -> BackendEditor:
        return FaultyEditor(self.plan.run("edit", lambda: self.inner.edit(path, mode)), self.plan)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        return self._pages("scan", self.inner.scan(path, after=after, limit=limit, facts=facts))

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        return self._pages("walk", self.inner.walk(path, after=after, limit=limit))

    def _pages(self, name: str, pages: Iterator[Sequence[Stat]]) -> Iterator[Sequence[Stat]]:
        while True:
            fault = self.plan.next(name)
            page = struck(fault, lambda: next(pages, None))
            if page is None:
                return
            if fault is not None and fault.kind == "truncate":
                yield page[: len(page) // 2]
                raise fault.error()
            yield page

    def delete_many(self, paths: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        fault = self.plan.next("delete_many")
        if fault is not None and fault.kind == "truncate":
            yield from self.inner.delete_many(paths[: len(paths) // 2])
            raise fault.error()
        yield from struck(fault, lambda: list(self.inner.delete_many(paths)))


def _real(backend: StorageBackend) -> StorageBackend:
    """The backend that others know how to copy from."""
    return backend.inner if isinstance(backend, FaultyBackend) else backend
