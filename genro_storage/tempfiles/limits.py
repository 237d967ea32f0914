"""Limits, judged before they are crossed: the expired and the dead go first, then what may, then we refuse."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from ..exceptions import StorageQuotaError
from .cleanup import FOLDERS, Tally, clean_tracked, walked
from .keeping import Keeper
from .lease import translating


class Limiter(Keeper):
    """The half of a manager that says whether there is room; between looks at the disk it counts what it gave away."""

    max_files: int | None
    max_file_bytes: int | None
    max_total_bytes: int | None
    min_free_bytes: int

    def _begin_limits(self) -> None:
        """The state that belongs to one process."""
        self._known: tuple[int, int] | None = None
        self._look_again = 0.0
        self._coming = [0, 0]
        self._room_lock = threading.Lock()

    def take_room(self, size: int, *, files: int = 0, whole: int | None = None) -> None:
        """Reserves `size` bytes and `files` files; `whole`: the bytes of the file they are for, None: scratch.

        After `files` comes `landed`, whatever happened.
        Raises `StorageQuotaError`, naming the limit, when they do not fit.
        """
        if whole is not None:
            self.check_size(whole)
        if self._taken(size, files) is None:
            return
        self.cleanup()
        self.sweep(patient=True)
        self._known = None
        problem = self._taken(size, files)
        for path, entry in self.evictable() if problem else ():
            clean_tracked(
                self._registry, self._journal(), [(path, entry)], self._policy, self._clocks.monotonic,
                float("inf"), Tally(self._counts.aged),
            )  # fmt: skip
            self._known = None
            problem = self._taken(size, files)
            if problem is None:
                break
        if problem:
            raise self._refusal(problem)

    def check_size(self, whole: int) -> None:
        """Raises `StorageQuotaError` for a file of so many bytes that is larger than `max_file_bytes`."""
        if self.max_file_bytes is not None and whole > self.max_file_bytes:
            raise self._refusal(f"a file of {whole} bytes is larger than max_file_bytes, {self.max_file_bytes}")

    def grow(self, more: int, whole: int) -> None:
        """Reserves `more` bytes for a file that will have `whole`; see `take_room`."""
        self.take_room(more, whole=whole)

    def sweep(self, *, patient: bool = False) -> Any:
        raise NotImplementedError

    def _refusal(self, problem: str) -> StorageQuotaError:
        return StorageQuotaError(f"no room in '{self.base_dir}': {problem}", path=self.base_dir)

    def _taken(self, size: int, files: int) -> str | None:
        """Reserves it; or says why there is no room."""
        problem = self._short_of_space(size)
        if problem or ((self.max_files is None or not files) and self.max_total_bytes is None):
            return problem
        with self._room_lock:
            if self._known is None or time.monotonic() > self._look_again:
                begun = time.monotonic()
                seen = self._look()
                self._known = seen[0] + self._coming[0], seen[1] + self._coming[1]
                # Others write here without asking; looking for them takes a twentieth of the time at most.
                ended = time.monotonic()
                self._look_again = ended + max(1.0, 20 * (ended - begun))
            count, total = self._known[0] + files, self._known[1] + size
            if files and self.max_files is not None and count > self.max_files:
                return f"{self._known[0]} files are there, max_files is {self.max_files}; delete some or raise it"
            if self.max_total_bytes is not None and total > self.max_total_bytes:
                return (
                    f"{self._known[1]} bytes are there and {size} more do not fit, max_total_bytes is "
                    f"{self.max_total_bytes}; delete some or raise it"
                )
            self._known = count, total
            if files:
                self._coming = [self._coming[0] + files, self._coming[1] + size]
        return None

    def landed(self, size: int, files: int) -> None:
        """What `take_room` reserved for new files is on the disk, or will not be."""
        if self.max_files is not None or self.max_total_bytes is not None:
            with self._room_lock:
                self._coming = [self._coming[0] - files, self._coming[1] - size]

    def _short_of_space(self, size: int) -> str | None:
        with translating("look for space in", self.base_dir):
            found = os.statvfs(self.base_dir)
        free = found.f_bavail * found.f_frsize
        # Some virtual file systems count nothing at all: then there is nothing to judge.
        if not found.f_blocks or free >= size + self.min_free_bytes:
            return None
        return (
            f"{size} bytes do not fit, {free} are free and min_free_bytes keeps {self.min_free_bytes}; free some, or "
            f"set base_dir or TEMP_FILE_BASE_DIR to another disk"
        )

    def _look(self) -> tuple[int, int]:
        """How many files are managed, and their bytes with those of open scratch space."""
        files = size = 0
        owner = self._own()
        with owner.busy:
            for top, _, st in walked(owner):
                files += top in FOLDERS
                size += st.st_size
        with self.lock:
            tracked = [path for path in self._registry.entries if not self.is_inside(path)]
        for path in tracked:
            try:
                size += os.lstat(path).st_size
            except OSError:
                continue
        return files + len(tracked), size


class LimitedFile(io.FileIO):
    """A file that asks before it grows: `grow(more, whole)` in bytes may raise, and then `undo` is called."""

    def __init__(
        self,
        file: str | int,
        mode: str,
        grow: Callable[[int, int], None],
        undo: Callable[[], None] = lambda: None,
        opener: Callable[[str, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, opener=opener)
        self._grow, self._undo = grow, undo
        self._append = "a" in mode
        self._whole = os.fstat(self.fileno()).st_size

    def write(self, data: Any) -> int:
        start = self._whole if self._append else self.tell()
        self._reach(start + memoryview(data).nbytes)
        with self._undoing():
            return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        self._reach(size)
        with self._undoing():
            self._whole = super().truncate(size)
        return self._whole

    def _reach(self, end: int) -> None:
        if end > self._whole:
            with self._undoing():
                self._grow(end - self._whole, end)
            self._whole = end

    def _undoing(self) -> Undoing:
        return Undoing(str(self.name), self._undo)


class Undoing:
    """Turns a full disk into `StorageQuotaError`, and undoes what was begun when space or a limit is reached."""

    def __init__(self, path: str, undo: Callable[[], None]) -> None:
        self._translating = translating("write", path)
        self._undo = undo

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        if error is None:
            return
        try:
            with self._translating:
                raise error
        except StorageQuotaError:
            self._undo()
            raise


def opened(
    raw: LimitedFile, mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """The file as `open` would give it; closes it when the parameters make no sense."""
    try:
        binary = "b" in mode
        if binary and (encoding is not None or errors is not None or newline is not None):
            raise ValueError("a binary file has no encoding, errors or newline")
        if not buffering:
            if not binary:
                raise ValueError("a text file cannot be unbuffered")
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffer = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if binary:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        raw.close()
        raise
