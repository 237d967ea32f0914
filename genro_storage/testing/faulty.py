"""A backend around another that fails, truncates or delays at the call it is told to: what fault tests are made of."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple, Self, TypeVar

from ..backends.base import BackendEditor, BackendReader, BackendWriter, StorageBackend, Tick
from ..exceptions import StorageError
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, Version, WriteOptions

T = TypeVar("T")
Kind = Literal["fail", "lost", "truncate", "delay"]


def injected() -> Exception:
    """The error of a fault that names none: what a broken disk says, and no retry helps."""
    return OSError(errno.EIO, "injected fault")


class Fault(NamedTuple):
    """What happens at call number `at` (from 1), for `times` calls; `on` counts only calls of that name.

    `fail`: the call does not happen. `lost`: it happens and its answer is lost. `truncate`: a read gives half and then
    ends, a write or a listing does half and fails. `delay`: it waits `seconds`. `error` makes what is raised.
    """

    at: int
    kind: Kind = "fail"
    error: Callable[[], Exception] = injected
    on: str | None = None
    times: int = 1
    seconds: float = 0.01

    def strikes(self, number: int) -> bool:
        return self.at <= number < self.at + self.times


class FaultPlan:
    """Counts every call of the backends it is given to and says which of them suffers. Thread-safe.

    `calls` holds the names in order, those of readers and writers as ``reader.read``, ``writer.commit``, …. `watch` is
    called with each name before the call is made, from the thread that makes it.
    """

    def __init__(self, *faults: Fault, watch: Callable[[str], object] = lambda name: None) -> None:
        self.faults = list(faults)
        self.watch = watch
        self.calls: list[str] = []
        self.struck: list[str] = []
        self._lock = threading.Lock()

    def next(self, name: str) -> Fault | None:
        """Counts one call; its fault, if it has one."""
        self.watch(name)
        with self._lock:
            self.calls.append(name)
            for fault in self.faults:
                number = len(self.calls) if fault.on is None else self.calls.count(name)
                if fault.on in (None, name) and fault.strikes(number):
                    self.struck.append(name)
                    return fault
        return None

    def run(self, name: str, call: Callable[[], T]) -> T:
        """Counts and makes one call that cannot be done by half."""
        fault = self.next(name)
        if fault is None:
            return call()
        if fault.kind == "delay":
            time.sleep(fault.seconds)
            return call()
        if fault.kind == "lost":
            _given_up(call())
        raise fault.error()


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
        data, stat = _struck(fault, lambda: self.inner.get(path, start, end, version=version, if_match=if_match))
        return (data[: len(data) // 2] if _halves(fault) else data), stat

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
            page = _struck(fault, lambda: next(pages, None))
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
        yield from _struck(fault, lambda: list(self.inner.delete_many(paths)))


class FaultyReader:
    """A reader; a truncated read is half of it, and then the end."""

    def __init__(self, inner: BackendReader, plan: FaultPlan) -> None:
        self.stat = inner.stat
        self._inner = inner
        self._plan = plan
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        if self._ended:
            return b""
        fault = self._plan.next("reader.read")
        data = _struck(fault, lambda: self._inner.read(size))
        if not _halves(fault):
            return data
        self._ended = True
        return data[: len(data) // 2]

    def close(self) -> None:
        self._inner.close()


class FaultyWriter:
    """A writer. By contract `discard` never raises: a fault there is counted and passed over.

    Also by contract nothing given is lost by an error: what a struck write did not pass on goes with the next call, and
    a commit whose answer was lost gives it when asked again.
    """

    def __init__(self, inner: BackendWriter, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan
        self._waiting = b""
        self._answer: Stat | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        fault = self._plan.next("writer.write")
        data = self._waiting + bytes(data)
        passed = {"fail": 0, "truncate": len(data) // 2}.get(fault.kind, len(data)) if fault else len(data)
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        self._inner.write(data[:passed])
        self._waiting = data[passed:]
        if fault and fault.kind != "delay":
            raise fault.error()

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._plan.run("writer.commit", lambda: self._committed(hashes))

    def _committed(self, hashes: Mapping[str, str]) -> Stat:
        if self._answer is None:
            if self._waiting:
                self._inner.write(self._waiting)
                self._waiting = b""
            self._answer = self._inner.commit(hashes)
        return self._answer

    def discard(self) -> None:
        self._plan.next("writer.discard")
        self._inner.discard()


class FaultyEditor:
    """A file in place; `close` closes the inner one whatever happens."""

    def __init__(self, inner: BackendEditor, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def readinto(self, buffer: memoryview) -> int:
        return self._plan.run("editor.readinto", lambda: self._inner.readinto(buffer))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        fault = self._plan.next("editor.write")
        if fault is not None and fault.kind == "truncate":
            self._inner.write(memoryview(data)[: len(data) // 2])
            raise fault.error()
        return _struck(fault, lambda: self._inner.write(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def truncate(self, size: int) -> int:
        return self._plan.run("editor.truncate", lambda: self._inner.truncate(size))

    def flush(self) -> None:
        self._plan.run("editor.flush", self._inner.flush)

    def close(self) -> None:
        try:
            self._plan.run("editor.close", lambda: None)
        finally:
            self._inner.close()


def _given_up(lost: object) -> None:
    """What a lost answer would have been is nobody's: a reader, writer or editor is let go."""
    for name in ("discard", "close"):
        if callable(release := getattr(lost, name, None)):
            release()
            return


def _real(backend: StorageBackend) -> StorageBackend:
    """The backend that others know how to copy from."""
    return backend.inner if isinstance(backend, FaultyBackend) else backend


def _halves(fault: Fault | None) -> bool:
    return fault is not None and fault.kind == "truncate"


def _struck(fault: Fault | None, call: Callable[[], T]) -> T:
    """The call under a fault that may also be a truncation, which is the caller's to apply."""
    if fault is None or fault.kind == "truncate":
        return call()
    if fault.kind == "delay":
        time.sleep(fault.seconds)
        return call()
    if fault.kind == "lost":
        call()
    raise fault.error()
