"""The node: a place the user holds, with verbs of one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self, cast

from . import paths
from .outlets import NodeOutlets
from .pathnames import PathNames
from .types import Stat
from .verbs import content, listing, localfile, opening, tree
from .verbs import ranges as part
from .verbs.versions import Which

if TYPE_CHECKING:
    from .transfer import TransferReport


class StorageNode(PathNames, NodeOutlets):
    """A place: (manager, mount name, path, version).

    It never caches: each call asks the storage, and the mount is looked up by name each time, so that a reconfigured
    mount is followed. `version` makes it a read-only snapshot. Errors are those of `genro_storage.exceptions`.
    """

    __slots__ = ()

    # --- reading ---

    def read(self, mode: str = "r", encoding: str = "utf-8", errors: str = "strict") -> str | bytes:
        """The whole content, as text (``"r"``) or bytes (``"rb"``)."""
        if mode == "r":
            return self.read_text(encoding, errors)
        if mode == "rb":
            return self.read_bytes()
        raise ValueError(f"read mode is 'r' or 'rb', not {mode!r}")

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return content.decoded(self.read_bytes(), encoding, errors)

    def read_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end); a negative `start` is a suffix; only the range is fetched."""
        return self.mount.get(self._path, start, end, version=self._version)[0]

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each [start, end), in the order asked; near ranges are fetched together."""
        return part.read_ranges(self, ranges)

    def iter_chunks(self, size: int = 1 << 20, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """[start, end) in chunks of `size` bytes, in bounded memory; one state of the file, never a mixture."""
        return part.iter_chunks(self, size, start, end)

    def open(
        self,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        buffering: int = -1,
        compression: str | None = None,
        version: Which | None = None,
        as_of: datetime | float | None = None,
        if_absent: bool = False,
        if_match: content.Condition = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> IO[Any]:
        """A file object, as the builtin `open` (modes ``r w x a`` × ``t b``, ``+`` where the storage edits in place).

        Readers seek. What is written appears whole when the file is closed; leaving ``with`` by an exception, or
        `discard()`, keeps the old bytes. `encoding` None is UTF-8. `version`, `as_of`: reads that state, as `at`.
        `compression`: ``gzip bz2 xz zstd lz4``, or ``infer`` by the name.
        """
        if version is not None or as_of is not None:
            how = {"encoding": encoding, "errors": errors, "newline": newline, "compression": compression}
            return opening.open_version(self, mode, version, as_of, **how)
        options = {"if_absent": if_absent, "if_match": if_match, "content_type": content_type, "metadata": metadata}
        text = opening.Text(encoding, errors, newline)
        return opening.open_file(self, mode, buffering, text, compression, options)

    def same_content(self, other: StorageNode) -> bool:
        """Whether both hold equal bytes: by size, by hashes both stores hold, else by reading."""
        return content.same_content(self, other)

    # --- writing ---

    def write(
        self, data: str | bytes, mode: str = "w", encoding: str = "utf-8", errors: str = "strict", **how: Any
    ) -> bool:
        """Replaces the content: text (``"w"``) or bytes (``"wb"``); options as `write_bytes`."""
        if mode == "w":
            return self.write_text(cast(str, data), encoding, errors, **how)
        if mode == "wb":
            return self.write_bytes(cast(bytes, data), **how)
        raise ValueError(f"write mode is 'w' or 'wb', not {mode!r}")

    def write_text(
        self, text: str, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None, **how: Any
    ) -> bool:
        """As `write_bytes`; `newline` as in `open`."""
        return self.write_bytes(content.encoded(text, encoding, errors, newline), **how)

    def write_bytes(self, data: bytes | bytearray | memoryview, *, skip_if_unchanged: bool = False, **how: Any) -> bool:
        """Replaces the content in one step; parents appear. True if written, False if skipped.

        Options: `if_absent` (→ `StorageExistsError`), `if_match` an etag, Stat or Version (→ `StorageConflictError`),
        `content_type`, `metadata`, `mtime`; `skip_if_unchanged` leaves equal bytes alone.
        """
        return content.write_bytes(self, data, skip_if_unchanged, how)

    def write_from(self, source: BinaryIO | Iterable[bytes], **how: Any) -> bool:
        """Streams a binary file or an iterable of bytes in bounded memory; options as `write_bytes`."""
        return content.write_from(self, source, how)

    # --- listing ---

    def iterdir(self) -> Iterator[Self]:
        """One level, lazily, in the storage's order."""
        return (self.sibling(path) for path in listing.names(self.mount, self._path))

    def children(self) -> list[Self]:
        """One level, sorted by name."""
        return listing.children(self)

    def scan(self, recursive: bool = False) -> Iterator[tuple[Self, Stat]]:
        """(node, facts) in bytewise path order, from the listing alone."""
        return listing.scan(self, recursive)

    def walk(
        self, top_down: bool = True, on_error: Callable[[Exception], object] | None = None
    ) -> Iterator[tuple[Self, list[str], list[str]]]:
        """(directory node, directory names, file names), as `pathlib.Path.walk`."""
        return listing.walk(self, top_down, on_error)

    def glob(self, pattern: str) -> list[Self]:
        """What matches below, sorted: ``* ? […] [!…]`` inside a segment, ``**`` for any number of segments."""
        return listing.glob(self, pattern)

    def rglob(self, pattern: str) -> list[Self]:
        return listing.glob(self, f"**/{pattern}" if paths.pattern_segments(pattern) else pattern)

    # --- changing the tree ---

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes this directory; a file here is `StorageExistsError` even with `exist_ok`."""
        content.refuse_snapshot(self)
        self.mount.mkdir(self._path, parents=parents, exist_ok=exist_ok)

    def touch(self, exist_ok: bool = True, mtime: float | None = None) -> None:
        """Makes an empty file, or sets the time of an existing one."""
        tree.touch(self, exist_ok, mtime)

    def delete(self, recursive: bool = True, missing_ok: bool = True, all_versions: bool = False) -> None:
        """Removes exactly this file, or this directory and what is below; a link, never its target.

        A versioned storage keeps the old versions unless `all_versions`.
        """
        tree.delete(self, recursive, missing_ok, all_versions)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes a file or link."""
        tree.unlink(self, missing_ok)

    def rmdir(self) -> None:
        """Removes an empty directory."""
        content.refuse_snapshot(self)
        self.mount.rmdir(self._path)

    def empty(self) -> None:
        """Removes everything below and keeps the directory."""
        tree.empty(self)

    def rename(self, target: Self | str, overwrite: bool = False) -> Self:
        """Moves inside this storage and returns the new node; a string without ``:`` is relative to the parent."""
        return tree.rename(self, target, overwrite)

    def replace(self, target: Self | str) -> Self:
        return tree.rename(self, target, True)

    def symlink_to(self, target: Self | str) -> None:
        """Makes this a link to a place of the same mount."""
        tree.symlink_to(self, target)

    def readlink(self) -> str:
        """What the link says."""
        return self.mount.readlink(self._path)

    # --- transfer and tools ---

    def copy_to(self, dest: StorageNode | str, **options: Any) -> StorageNode:
        """Copies a file or a tree, verified and atomic per file; returns the destination node. See `CopyOptions`."""
        return self._manager._transferred("copy", self, dest, options)[0]

    def move_to(self, dest: StorageNode | str, **options: Any) -> StorageNode:
        """As `copy_to`; each source goes once its copy is proven."""
        return self._manager._transferred("move", self, dest, options)[0]

    def copy(self, target: StorageNode | str, **options: Any) -> StorageNode:
        return self.copy_to(target, **options)

    def copy_into(self, target: StorageNode | str, **options: Any) -> StorageNode:
        """Copies into a directory, under the same name."""
        return self.copy_to(target, into=True, **options)

    def move(self, target: StorageNode | str, **options: Any) -> StorageNode:
        return self.move_to(target, **options)

    def move_into(self, target: StorageNode | str, **options: Any) -> StorageNode:
        """Moves into a directory, under the same name."""
        return self.move_to(target, into=True, **options)

    def sync_to(self, dest: StorageNode | str, **options: Any) -> TransferReport:
        """Makes `dest` hold what this directory holds; with ``delete=True`` nothing else. See `CopyOptions`."""
        return self._manager.sync(self, dest, **options)

    def local_path(self, mode: str = "r") -> AbstractContextManager[str]:
        """``with node.local_path("rw") as path:`` a real file for other programs.

        ``r``: edits are dropped; ``rw``: fetched if it exists; ``w``: starts absent. Stored on clean exit only if
        created or changed. Local mounts give the file itself.
        """
        return localfile.local_path(self, mode)
