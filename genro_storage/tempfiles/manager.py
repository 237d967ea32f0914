"""TempFileManager: files, directories and scratch space of this process, gone with it."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Self

from ..exceptions import StorageError, StoragePathError
from .background import start
from .checks import check_name, check_numbers, checked_base, default_base_dir
from .cleanup import Policy
from .environment import settings
from .health import Teller
from .lease import Owner, open_base, take, token, translating
from .limits import LimitedFile, opened
from .sweep import Sweep, SweepReport, discard, release

if TYPE_CHECKING:
    from ..nodes import StorageNode

MIN_FREE_BYTES = 64 * 1024 * 1024
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TempFileManager(Teller):
    """Temporary files inside a directory that this process holds locked; what a dead process left, the next one sweeps.

    `base_dir`: an absolute or relative directory, made 0700 at once if absent; default `$TEMP_FILE_BASE_DIR`, else
    ``<system temp>/genro-storage-<uid>``. `owner_check=False` allows a base shared with other users by a sticky bit.
    `max_age`: seconds after which `cleanup` deletes a file, of this directory or registered; it may be assigned.
    `background`: a thread does so, and sweeps, every `cleanup_interval` seconds; after so many seconds a deletion that
    failed is tried again, then after twice as many, and so on.
    `max_files`, `max_file_bytes`, `max_total_bytes` (None: no limit): of what is created or written here, judged before
    they are crossed; what is expired or dead goes first. What is registered counts and is never refused.
    `min_free_bytes`: nothing is created or written that would leave less free on the file system of `base_dir`.
    `permission_mask`: the mode of new files, which nobody but the owner may write. `metrics`: `prometheus` tells them.
    `batch_size`, `threads`, `timeout` (seconds): of one cleanup. `allowed_roots`: no file outside of these
    directories is registered or deleted, those that a dead process registered included. `journal_fsync`: what is
    registered is also known after a crash of the machine. `secure_delete`: files of ours that have one name are
    overwritten before; that erases nothing on copy-on-write or journaling file systems, in snapshots, or on SSDs.

    Thread-safe. Everything is removed by `close()`, at exit, and when the manager is forgotten: keep it as long as
    its files. A fork has a directory of its own and never removes its parent's.

    Raises `ValueError` for a number that is negative or not finite. Of `base_dir`: `TypeError` if it is no path;
    `StoragePathError` (a ValueError) if it is empty, has a NUL or is the root of the file system;
    `StoragePermissionError` (an OSError) for a link, a directory of another user or one that others may write; another
    `StorageError` that is an `OSError` if it cannot be created.
    """

    base_dir: str
    min_free_bytes: int
    make_node: Callable[[str], StorageNode] | None = None
    """How a mount makes a node of a name; given by the storage manager."""
    _stop: weakref.finalize[[], TempFileManager] | None = None

    def __init__(
        self,
        base_dir: str | os.PathLike[str] | None = None,
        max_age: float = 3600,
        *,
        cleanup_interval: float = 300,
        max_files: int | None = 10_000,
        max_file_bytes: int | None = 104_857_600,
        max_total_bytes: int | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        batch_size: int = 100,
        threads: int = 4,
        timeout: float = 30.0,
        secure_delete: bool = False,
        permission_mask: int = 0o600,
        owner_check: bool = True,
        allowed_roots: Sequence[str | os.PathLike[str]] | None = None,
        background: bool = True,
        metrics: bool = True,
        journal_fsync: bool = False,
    ) -> None:
        check_numbers(
            max_age=max_age, cleanup_interval=cleanup_interval, min_free_bytes=min_free_bytes, timeout=timeout
        )
        check_numbers(1, batch_size=batch_size, threads=threads)
        limits = {"max_files": max_files, "max_file_bytes": max_file_bytes, "max_total_bytes": max_total_bytes}
        check_numbers(**{name: limit for name, limit in limits.items() if limit is not None})
        if permission_mask & ~0o755:
            raise ValueError(f"permission_mask lets nobody but the owner write, not 0o{permission_mask:o}")
        self.max_files, self.max_file_bytes, self.max_total_bytes = max_files, max_file_bytes, max_total_bytes
        self.min_free_bytes, self.max_age, self._interval = min_free_bytes, max_age, cleanup_interval
        self._mode, self._owner_check = permission_mask, owner_check
        self._background, self._metrics, self._journal_fsync = background, metrics, journal_fsync
        roots = None if allowed_roots is None else tuple(os.path.realpath(root) for root in allowed_roots)
        self._policy = Policy(batch_size, threads, timeout, secure_delete, roots)
        self.base_dir = default_base_dir() if base_dir is None else checked_base(base_dir)
        self._closed = False
        os.close(open_base(self.base_dir, owner_check))
        self._start()
        _managers.add(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> TempFileManager:
        """A manager as the environment says: ``TEMP_FILE_BASE_DIR``, ``TEMP_FILE_MAX_AGE`` and others, see the docs.

        Raises `StorageConfigError` naming the variable that cannot be understood, and what the constructor raises.
        """
        return cls(**settings(environ))

    def _start(self) -> None:
        """The state that belongs to one process; called again in a fork, where another thread may hold the old lock."""
        self._lock = threading.Lock()
        self._owner: Owner | None = None
        if self._stop is not None:
            self._stop.detach()  # the thread stayed in the parent
        self._stop = None
        self._release: Callable[[], object] | None = None
        self._begin_keeping()
        self._begin_limits()
        self._last_sweep: float | None = None
        self._begun = self._clocks.wall()

    # --- files and directories

    def create_file(
        self,
        suffix: str = "",
        prefix: str = "",
        *,
        name: str | None = None,
        data: bytes | bytearray | memoryview | None = None,
        evictable: bool = False,
    ) -> str:
        """The absolute path of a new file, 0600, empty or holding `data`.

        `name` is its whole name instead of a random one; if that exists already: `StorageExistsError`. `evictable`:
        it may go before its time to make room. Raises `StoragePathError` for what is no file name,
        `StorageQuotaError` when space is short (nothing stays).
        """
        content = None if data is None else memoryview(data).cast("B")
        with self._newborn(suffix, prefix, name, 0 if content is None else len(content)) as path:
            fd = os.open(path, _CREATE, self._mode)
            try:
                while content:
                    content = content[os.write(fd, content) :]
            except BaseException:
                os.unlink(path)
                raise
            finally:
                os.close(fd)
        if evictable:
            self.make_evictable(path)
        return path

    def create_dir(self, suffix: str = "", prefix: str = "", *, name: str | None = None) -> str:
        """The absolute path of a new directory, 0700; parameters and errors as of `create_file`."""
        with self._newborn(suffix, prefix, name) as path:
            os.mkdir(path, 0o700)
        return path

    def open(
        self,
        mode: str = "w+b",
        suffix: str = "",
        prefix: str = "",
        *,
        name: str | None = None,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A new file, 0600, opened as by `open`; its path is `.name`, and closing it keeps it.

        Other parameters and errors as of `create_file`; a mode that only reads is a `ValueError`.
        """
        if not set(mode) & set("wxa+"):
            raise ValueError(f"a new file is opened for writing, not with mode {mode!r}")
        if {"b", "t"} <= set(mode):
            raise ValueError(f"a file is text or binary, not both as in mode {mode!r}")
        letters = mode.replace("b", "").replace("t", "")
        with self._newborn(suffix, prefix, name) as path:
            born = False

            def opener(path: str, _flags: int) -> int:
                nonlocal born
                fd = os.open(path, _CREATE, self._mode)
                born = True
                return fd

            def undo() -> None:
                with suppress(FileNotFoundError):
                    os.unlink(path)

            try:
                return opened(
                    LimitedFile(path, letters, self.grow, undo, opener), mode, buffering, encoding, errors, newline
                )
            except BaseException:
                if born:
                    undo()
                raise

    def anonymous(self) -> IO[bytes]:
        """A new file without a name, open for reading and writing; gone when it is closed."""
        owner = self._own()
        self.take_room(0)
        with translating("create a file in", owner.path):
            try:
                fd = os.open(owner.folder("f"), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except (OSError, AttributeError):
                path = f"{owner.folder('f')}/{token()}"
                fd = os.open(path, _CREATE, self._mode)
                os.unlink(path)
        return opened(LimitedFile(fd, "r+", self.grow), "w+b", -1, None, None, None)

    @contextmanager
    def _newborn(self, suffix: str, prefix: str, name: str | None, size: int = 0) -> Iterator[str]:
        """The path of a file or directory to be made in the body, when there is room for it."""
        if name is None:
            name = f"{prefix}{token()}{suffix}"
        elif suffix or prefix:
            raise StoragePathError(f"name {name!r} is the whole name: give no suffix or prefix with it", path=name)
        check_name(name)
        owner = self._own()
        self.take_room(size, files=1, whole=size)
        try:
            path = f"{owner.folder('f')}/{name}"
            with translating("create", path):
                yield path
            self._counts.count(created=1)
        finally:
            self.landed(size, 1)

    @contextmanager
    def scratch(self, name: str, *, size: int | None = None) -> Iterator[str]:
        """The absolute path of a file named exactly `name`, alone in a new directory, to be made by the caller.

        At the end, also by an exception, the directory goes with all that was put into it. `size`: the bytes to come,
        if known; `StorageQuotaError` before anything is made if they do not fit. `StoragePathError`: not a file name.
        """
        check_name(name)
        owner = self._own()
        self._look_again = 0.0  # programs fill scratch space without asking
        self.take_room(size or 0)
        folder = f"{owner.path}/s-{token()}"
        with translating("make scratch directory", folder):
            os.mkdir(folder, 0o700)
        try:
            yield f"{folder}/{name}"
        finally:
            if owner.pid == os.getpid():
                discard(folder, self._policy.secure)

    def node(self, suffix: str = "", prefix: str = "") -> StorageNode:
        """A node of a new name on the mount whose manager this is, not yet written.

        Raises `StorageError` unless the manager came from ``storage.temp(name)``; `StoragePathError` for what makes
        no file name.
        """
        name = f"{prefix}{token()}{suffix}"
        check_name(name)
        make = self.make_node
        if make is None:
            raise StorageError("a manager by itself has no nodes; take the one of a mount, storage.temp(name)")
        return make(name)

    @property
    def nodes_dir(self) -> str:
        """The absolute path of the directory for a mount's nodes, private to this process: a fork gets another."""
        return self._own().folder("n")

    def keep_directory(self, path: str) -> None:
        """Has a directory, by its path in `nodes_dir`, stay however old it is and empty, and those above it."""
        owner = self._own()
        while path:
            owner.kept.add(f"n/{path}")
            path = path.rpartition("/")[0]

    # --- life

    @property
    def lease_fd(self) -> int:
        """The descriptor that keeps this process's files alive; a program given it (`pass_fds`) keeps them too."""
        return self._own().lease_fd

    def sweep(self, *, patient: bool = False) -> SweepReport:
        """Removes what dead processes left in `base_dir`; safe at any time, in any number of processes and threads.

        After `timeout` seconds the rest is left to the next one. `patient`: what resisted is tried again only when its
        time has come, as the thread does it.
        """
        self._check_open()
        owner = self._owner
        base_fd = open_base(self.base_dir, self._owner_check)
        try:
            own = owner.name if owner is not None else ""
            report = Sweep(self.base_dir, base_fd, self._policy, self._retries, own).run(patient)
        finally:
            os.close(base_fd)
        self._counts.swept(report.removed)
        self._last_sweep = self._clocks.wall()
        return report

    def close(self) -> None:
        """Removes all that this process made here or registered, and releases the lease; later calls raise.

        Their error is `StorageError`.
        """
        with self._lock:
            self._closed = True
            self._owner = None
            release_owner, self._release = self._release, None
            stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        if release_owner is not None:
            release_owner()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TempFileManager({self.base_dir!r})"

    def _own(self) -> Owner:
        owner = self._owner
        if owner is not None:
            return owner
        with self._lock:
            self._check_open()
            if self._owner is not None:
                return self._owner
            owner = take(self.base_dir, self._owner_check)
            self._release = weakref.finalize(self, release, owner, self._policy)
            _release_at_worker_exit(self._release)
            self._owner = owner
            if self._background:
                self._stop = weakref.finalize(self, start(self, self._interval))
        self.sweep()
        return owner

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"the temporary files of '{self.base_dir}' are closed; make a new TempFileManager")


def _release_at_worker_exit(finalizer: Callable[[], object]) -> None:
    # A worker that multiprocessing forked leaves by os._exit: atexit's hooks do not run there, its own do.
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, finalizer, exitpriority=-100)


_managers: weakref.WeakSet[TempFileManager] = weakref.WeakSet()


def _restart_in_fork() -> None:
    for manager in list(_managers):
        manager._start()


os.register_at_fork(after_in_child=_restart_in_fork)
