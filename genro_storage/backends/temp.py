"""Temporary files of this process as a mount: private, invisible to other processes, gone with this one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from msgspec.structs import replace

from ..tempfiles import TempFileManager
from ..tempfiles.limits import LimitedFile
from ..tempfiles.manager import MIN_FREE_BYTES
from ..types import PLAIN, Stat, WriteOptions
from ._localfile import LocalWriter
from ._nofollow import Tree, base_directory, local_features
from .base import StorageBackend, Tick
from .local import LocalStorage
from .options import Context, Duration, Octal, Options, Size

_DIRECTORY = 0o700


class TempOptions(Options, frozen=True, kw_only=True):
    """`base_dir`: where all processes make their directories; by default `$TEMP_FILE_BASE_DIR`, else the system's own.

    `scratch`: files for other programs are made here. `cleanup_timeout` is the `timeout` of `TempFileManager`; the
    others are as there.
    """

    base_dir: str = ""
    scratch: bool = False
    max_age: Duration = Duration(3600)
    cleanup_interval: Duration = Duration(300)
    max_files: int | None = 10_000
    max_file_bytes: Size | None = Size(104_857_600)
    max_total_bytes: Size | None = None
    min_free_bytes: Size = Size(MIN_FREE_BYTES)
    batch_size: int = 100
    threads: int = 4
    cleanup_timeout: Duration = Duration(30)
    secure_delete: bool = False
    permission_mask: Octal = Octal(0o600)
    owner_check: bool = True
    allowed_roots: tuple[str, ...] | None = None
    background: bool = True
    metrics: bool = True
    journal_fsync: bool = False


_OWN = {"path", "base_dir", "scratch", "cleanup_timeout", "allowed_roots"}
_PASSED = [name for name in TempOptions.__struct_fields__ if name not in _OWN]


def _measured(path: str) -> tuple[int, int, int]:
    """How many files a real file or directory is, their bytes, and those of the largest."""
    sizes = [] if os.path.isdir(path) and not os.path.islink(path) else [os.lstat(path).st_size]
    for folder, _, names in os.walk(path):
        sizes += [os.lstat(f"{folder}/{name}").st_size for name in names]
    return len(sizes), sum(sizes), max(sizes, default=0)


class LimitedWriter:
    """A writer that asks for room before it writes; a file that is refused leaves nothing."""

    def __init__(self, inner: LocalWriter, manager: TempFileManager) -> None:
        self._inner = inner
        self._manager = manager
        self._size = 0
        self._files = int(inner.new)
        try:
            manager.take_room(0, files=self._files, whole=0)
        except BaseException:
            self._files = 0
            self.discard()
            raise

    @property
    def fd(self) -> int:
        return self._inner.fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._grow(memoryview(data).nbytes)
        self._inner.write(data)

    def wrote(self, count: int) -> None:
        """Counts bytes that came into `fd` by another way."""
        self._grow(count)
        self._inner.wrote(count)

    def _grow(self, more: int) -> None:
        if more:
            self._manager.take_room(more, whole=self._size + more)
            self._size += more

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        stat = self._inner.commit(hashes)
        self._land()
        return stat

    def discard(self) -> None:
        self._inner.discard()
        self._land()

    def _land(self) -> None:
        files, self._files = self._files, 0
        if files:
            self._manager.landed(0, files)


class TempBackend(LocalStorage):
    """A local tree inside the directory that a `TempFileManager` holds for this process; a fork has its own, empty."""

    Options: ClassVar[Any] = TempOptions
    aliases: ClassVar[Mapping[str, str]] = {
        "base_path": "path",
        "max_file_size": "max_file_bytes",
        "quota": "max_total_bytes",
    }

    temp_manager: TempFileManager
    """Who owns the directory; `close` closes it."""
    is_scratch: bool
    """Whether files for other programs are made here, whatever the mount's name."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        self.options = options
        self.context = context
        self.root = options.path.strip("/")
        self._file_mode, self._dir_mode = options.permission_mask, _DIRECTORY
        self.is_scratch = options.scratch
        roots = options.allowed_roots
        self.temp_manager = TempFileManager(
            self._resolved(options.base_dir) if options.base_dir else None,
            timeout=options.cleanup_timeout,
            allowed_roots=None if roots is None else [self._resolved(root) for root in roots],
            **{name: getattr(options, name) for name in _PASSED},
        )
        self._owns = True
        self._nodes_dir = ""
        self.features = replace(local_features(self.temp_manager.base_dir), temporary=True)

    def _resolved(self, path: str) -> str:
        return os.path.join(self.context.directory, os.path.expanduser(path))

    @property
    def _tree(self) -> Tree:
        """Looked up at every use: a fork has another directory than its parent."""
        nodes_dir = self.temp_manager.nodes_dir
        if nodes_dir != self._nodes_dir:
            self._current = Tree(os.path.realpath(nodes_dir), self.root, "inside", _DIRECTORY)
            if self.options.path:
                base_directory(self.options.path, self._current.base, True, _DIRECTORY)
                self.temp_manager.keep_directory(self.root)
            self._nodes_dir = nodes_dir
        return self._current

    @_tree.setter
    def _tree(self, tree: Tree) -> None:
        self._current = tree

    def rooted(self, path: str) -> Self:
        twin = super().rooted(path)
        twin._owns = False
        return twin

    @contextmanager
    def near(self) -> Iterator[Self]:
        yield self  # the tree may be another one at any time

    @property
    def abilities(self) -> frozenset[str]:
        """Nothing is staged here for a later process: these files end with this one."""
        return super().abilities - {"parts", "unfinished"}

    # --- within the limits ---

    def _writer(self, path: str, options: WriteOptions, named: bool) -> Any:
        self.temp_manager.check_size(options.size or 0)
        return LimitedWriter(super()._writer(path, options, named), self.temp_manager)

    def edit(self, path: str, mode: str) -> Any:
        file: Any = super().edit(path, mode)
        with file:
            return LimitedFile(os.dup(file.fileno()), mode, self.temp_manager.grow)

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
        self._expect(source, source_path)
        return super().copy_from(source, source_path, path, options, version=version, tick=tick)

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        if getattr(source, "temp_manager", None) is self.temp_manager or not isinstance(source, LocalStorage):
            return super().rename_from(source, source_path, path, options)
        files, size, largest = _measured(source.native_path(source_path))
        self.temp_manager.take_room(size, files=files, whole=largest)
        try:
            return super().rename_from(source, source_path, path, options)
        finally:
            self.temp_manager.landed(size, files)

    def _expect(self, source: StorageBackend, path: str) -> None:
        """Refuses a file that is too large before anything of it is here."""
        self.temp_manager.check_size(source.stat(path).size or 0)

    def close(self) -> None:
        if self._owns:
            self.temp_manager.close()
