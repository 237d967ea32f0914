"""One large file: ranges of the source read at the same time, each put as a part of the target."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from ..backends.base import BackendReader, PartWriter
from ..exceptions import StorageError, StorageUnavailableError, TransferCancelled
from ..retry import RetryPolicy
from ..types import Place, Stat, WriteOptions
from .flow import Flow, thread
from .follower import Follower, follower
from .job import Job
from .opened import begun
from .options import CopyOptions
from .proof import CHUNK
from .runs import Run, Runs

if TYPE_CHECKING:
    from .staging import Staging

T = TypeVar("T")

LARGE = 32 << 20
"""Bytes from which a file is moved in parts."""
STREAMED = 2 * CHUNK
"""Bytes that a part takes in memory where the target takes its pieces as they come."""
LONGEST = 64 << 20
"""Bytes that one request brings at most, of several parts, where the target takes its pieces as they come."""


def suits(job: Job, options: CopyOptions, facts: Stat) -> bool:
    """Whether a file goes in parts: it is large, its ranges are cheap and all of one object, the target stages them.

    A hash of the whole for ``verify="read"`` is made in order, so that goes in one stream.
    """
    source = job.source
    if facts.size is None or facts.size < LARGE or options.verify == "read":
        return False
    same = facts.etag is not None or source.version is not None
    return same and source.mount.features.ranges and job.target.mount.can("parts")


class Held:
    """A part in memory, in the pieces in which it came."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = list(pieces)
        self._size = sum(map(len, self._pieces))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


class Ranged:
    """A part that is read again from the source whenever somebody goes through it."""

    def __init__(self, size: int, read: Callable[[], Iterator[bytes]]) -> None:
        self._size, self._read = size, read

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._read()


class Parts:
    """The parts of one file on their way, by up to `options.parts` threads; the first error that stays stops them all.

    An error that may be retried repeats only its own part.
    """

    def __init__(
        self, source: Place, facts: Stat, options: CopyOptions, flow: Flow, opened: BackendReader | None = None
    ) -> None:
        """`opened`: a reader of the source, which gives the first part if it holds just that."""
        self._source, self._facts, self._flow = source, facts, flow
        self._begun, self._verify = opened, options.verify
        self._threads = options.parts
        self._share = options.buffer // options.parts
        self._retry = RetryPolicy(options.retries, sleep=flow.wait)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._staging: Staging | None = None
        self._follower: Follower | None = None
        self.retries = 0
        """How often something was tried again."""

    # --- what is done ---

    def begun(self, target: Place, how: WriteOptions, part_size: int) -> PartWriter:
        """The staged write."""
        return self._tried(lambda: target.mount.parts(target.path, how, part_size=part_size))

    def begun_or_found(self, target: Place, how: WriteOptions, part_size: int, staging: Staging) -> PartWriter | None:
        """As `begun`, or what an earlier run has begun; None where that has finished."""
        self._staging = staging

        def begin(**known: Any) -> PartWriter:
            return self._tried(lambda: target.mount.parts(target.path, how, **known))

        return staging.begun(begin, self._facts, part_size, self._flow)

    def move(self, writer: PartWriter) -> None:
        """Puts all parts that the target has not yet."""
        size, held = self._facts.size or 0, writer.held
        self._begun = begun(self._begun, min(writer.part_size, size) if 0 not in held else 0)
        self._follower = follower(self._verify, self._facts, writer, self._flow)
        if self._staging is not None:
            self._flow.tick_aside(self._staging.resumed)
        starts = [start for start in range(0, size, writer.part_size) if start not in held]
        longest = LONGEST if writer.one_pass else 0
        todo = Runs(starts, writer.part_size, self._threads, longest, alone=self._begun is not None)
        crew: list[threading.Thread] = []
        try:
            while len(crew) < min(self._threads, -(-size // writer.part_size)) - 1:
                one = thread("part", lambda: self._help(writer, todo))
                one.start()
                crew.append(one)
            self._work(writer, todo)
        except BaseException as error:
            self._stop(error)  # Ctrl-C, or no more threads
            raise
        finally:
            for one in crew:
                one.join()
        if self._error is not None:
            raise self._error
        self._followed()

    def digests(self, writer: PartWriter) -> Mapping[str, str]:
        """Hashes of all that was moved."""
        return {**writer.digests, **({} if self._follower is None else self._follower.digests)}

    def commit(self, writer: PartWriter) -> Stat:
        """Makes the file visible; the storage is asked again after a lost answer, and knows its own work."""
        self._flow.tick()
        return self._tried(lambda: writer.commit(writer.digests))

    # --- inside ---

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error

    def _work(self, writer: PartWriter, todo: Runs) -> None:
        while self._error is None and (starts := todo.take()):
            try:
                self._run(writer, starts)
                self._followed()
            except Exception as error:  # noqa: BLE001 - the engine: the thread that called must hear of it
                self._stop(error)

    def _help(self, writer: PartWriter, todo: Runs) -> None:
        """As `_work`, in a thread of the crew; what a driver raises there may be no `Exception`."""
        try:
            self._work(writer, todo)
        except BaseException as error:  # noqa: BLE001 - the engine: as above
            self._stop(error)

    def _run(self, writer: PartWriter, starts: list[int]) -> None:
        """Puts neighbouring parts. It has its memory before its connection: nobody waits for one who has the other."""
        size = self._facts.size or 0
        largest, end = min(writer.part_size, size - starts[0]), min(starts[-1] + writer.part_size, size)
        streamed = writer.one_pass or largest > self._share
        with self._flow.room(STREAMED if streamed else largest), closing(Run(end, self._opened)) as run:
            for start in starts:
                self._tried(lambda at=start: self._part(writer, at, run, streamed))  # type: ignore[misc]

    def _followed(self) -> None:
        if self._follower is not None:
            self._follower.follow()

    def _tried(self, do: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return do()
            except StorageError as error:
                if self._flow.cancelled or self._error is not None or not error.retryable:
                    raise
                if attempt >= self._retry.retries:
                    error.retryable = False  # it had its turns: they are not multiplied by those of the file
                    raise
                if isinstance(error, StorageUnavailableError):
                    self._flow.slow()
                attempt += 1
                with self._lock:
                    self.retries += 1
                self._flow.retried(error, attempt)
                self._retry.wait(attempt - 1, error)

    def _part(self, writer: PartWriter, start: int, run: Run, streamed: bool) -> None:
        end = min(start + writer.part_size, self._facts.size or 0)
        passed = 0

        def read() -> Iterator[bytes]:
            nonlocal passed
            begin = start
            for chunk in self._chunks(run, start, end):
                begin += len(chunk)
                self._flow.tick(max(0, begin - passed - start))
                passed = max(passed, begin - start)
                yield chunk

        try:
            receipt = writer.put(start, Ranged(end - start, read) if streamed else Held(read()))
        except StorageError:
            self._flow.untick(passed)
            raise
        if self._staging is not None and passed == end - start:
            self._staging.stored(start, receipt)

    def _chunks(self, run: Run, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            if self._error is not None:  # half a part must not pass for a whole one
                raise TransferCancelled("another part of this file failed")
            chunk = run.read(start, min(CHUNK, end - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk

    def _opened(self, start: int, end: int) -> BackendReader:
        source = self._source
        if start == 0:
            opened, self._begun = self._begun, None
            if opened is not None:
                return opened
        if source.version is not None:
            return source.mount.reader(source.path, start, end, version=source.version)
        return source.mount.reader(source.path, start, end, if_match=self._facts.etag)
