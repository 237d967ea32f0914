"""What a faulty backend hands out: readers, writers, parts and editors that fail as their plan says."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..backends.base import BackendEditor, BackendReader, BackendWriter, PartWriter
from ..backends.handles import Part, PartsAround
from ..types import Stat
from .faults import FaultPlan, halves, struck


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
        data = struck(fault, lambda: self._inner.read(size))
        if not halves(fault):
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


class FaultyParts(PartsAround):
    """A part writer; a truncated put stores nothing, a commit whose answer was lost gives it when asked again."""

    def __init__(self, inner: PartWriter, plan: FaultPlan) -> None:
        super().__init__(inner)
        self._plan = plan
        self._answer: Stat | None = None

    def put(self, offset: int, data: Part) -> str:
        return self._plan.run("parts.put", lambda: self._inner.put(offset, data))

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self._plan.run("parts.commit", lambda: self._committed(hashes))

    def _committed(self, hashes: Mapping[str, str]) -> Stat:
        if self._answer is None:
            self._answer = self._inner.commit(hashes)
        return self._answer

    def discard(self) -> None:
        self._plan.next("parts.discard")
        super().discard()


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
        return struck(fault, lambda: self._inner.write(data))

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
