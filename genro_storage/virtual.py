"""Nodes without a place: what is read of them is made of other nodes, at the time of reading."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn

from .capabilities import BackendCapabilities
from .exceptions import UnsupportedOperation
from .facts import NO, Predicate
from .verbs import content
from .verbs import zip as zips

if TYPE_CHECKING:
    from .manager import StorageManager
    from .nodes import StorageNode

CHUNK = 1 << 20
_FACTS = BackendCapabilities(
    write=False, delete=False, mkdir=False, list_dir=False, append_mode=False, seek_support=False, readonly=True
)
_CHANGES = (
    "append_text delete empty mkdir move_to rename replace rmdir set_metadata set_tags symlink_to touch unlink write "
    "write_bytes write_from write_text"
)


class VirtualNode:
    """What both kinds share: readable, nowhere, equal only to itself."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    path = version = None

    def __init__(self, manager: StorageManager) -> None:
        self.manager = manager

    def __eq__(self, other: object) -> bool:
        return self is other

    # --- facts ---

    @property
    def exists(self) -> Predicate:
        """Always False: there is no such place."""
        return NO

    is_file = is_dir = is_symlink = exists

    @property
    def capabilities(self) -> BackendCapabilities:
        return _FACTS

    @property
    def mimetype(self) -> str:
        raise NotImplementedError

    @property
    def size(self) -> int:
        """The bytes that reading gives."""
        raise NotImplementedError

    # --- reading ---

    def iter_chunks(self, size: int = CHUNK, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of `size` at most; a negative `start` counts from the end."""
        if start < 0:
            start = max(0, self.size + start)
        return _cut(self._chunks(size), start, end)

    def _chunks(self, size: int) -> Iterator[bytes]:
        raise NotImplementedError

    def read_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        return b"".join(self.iter_chunks(CHUNK, start, end))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return content.decoded(self.read_bytes(), encoding, errors)

    def read(self, mode: str = "r", encoding: str = "utf-8", errors: str = "strict") -> str | bytes:
        """All of it, as text (``"r"``) or bytes (``"rb"``)."""
        if mode not in ("r", "rb"):
            raise ValueError(f"read mode is 'r' or 'rb', not {mode!r}")
        return self.read_bytes() if mode == "rb" else self.read_text(encoding, errors)

    def open(
        self, mode: str = "r", *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """A file object for reading, front to back."""
        if mode not in ("r", "rt", "tr", "rb", "br"):
            self._refuse()
        if "b" in mode and not encoding == errors == newline == None:  # noqa: E711 - one chain for three
            raise ValueError("binary mode takes no encoding, errors or newline")
        file = io.BufferedReader(_Raw(self._chunks(CHUNK)))
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors or "strict", newline)

    # --- elsewhere ---

    def copy_to(self, dest: StorageNode | str, **how: Any) -> StorageNode:
        """Writes what is read here to a file, in one step; returns its node. Options as `StorageNode.write_bytes`."""
        target = self.manager.node(dest) if isinstance(dest, str) else dest
        if (isinstance(dest, str) and dest.endswith("/")) or target.is_dir:
            raise target.is_a_directory("A virtual node has no name of its own: say which file")
        content.write_from(target, self._chunks(CHUNK), how)
        return target

    def zip(self, *, compression: str = "deflate") -> bytes:
        return zips.whole(self.zip_stream(compression=compression))

    def zip_stream(self, chunk: int = zips.CHUNK, *, compression: str = "deflate") -> zips.ZipStream:
        """The archive in pieces, in bounded memory."""
        return zips.ZipStream(self._entries(), chunk, compression)

    def zip_to(self, dest: StorageNode | str, *, compression: str = "deflate") -> StorageNode:
        target = self.manager.node(dest) if isinstance(dest, str) else dest
        return zips.stored(self.zip_stream(compression=compression), target)

    def _entries(self) -> list[zips.Entry]:
        raise NotImplementedError

    # --- what needs a place ---

    def __getattr__(self, name: str) -> Any:
        if name in _CHANGES.split():
            return self._refuse
        raise AttributeError(f"a {type(self).__name__} has no {name!r}")

    def _refuse(self, *args: Any, **how: Any) -> NoReturn:
        raise UnsupportedOperation("Cannot write to virtual node (no path)", operation="write")


class IterNode(VirtualNode):
    """The contents of nodes one after another; nodes may be added at any time."""

    def __init__(self, manager: StorageManager, nodes: Iterable[StorageNode | str]) -> None:
        super().__init__(manager)
        self._nodes: list[StorageNode] = []
        self.extend(*nodes)

    def __repr__(self) -> str:
        return f"IterNode({', '.join(repr(node.fullpath) for node in self._nodes)})"

    @property
    def nodes(self) -> tuple[StorageNode, ...]:
        return tuple(self._nodes)

    def append(self, node: StorageNode | str) -> None:
        """Adds a node at the end."""
        self._nodes.append(self.manager.node(node) if isinstance(node, str) else node)

    def extend(self, *nodes: StorageNode | str) -> None:
        """Adds nodes at the end."""
        for node in nodes:
            self.append(node)

    @property
    def mimetype(self) -> str:
        """What all nodes are, else ``application/octet-stream``."""
        kinds = {node.mimetype for node in self._nodes}
        return kinds.pop() if len(kinds) == 1 else "application/octet-stream"

    @property
    def size(self) -> int:
        return sum(node.size for node in self._nodes)

    def _chunks(self, size: int) -> Iterator[bytes]:
        for node in tuple(self._nodes):
            reader = node.mount.reader(node.path, version=node.version)
            try:
                while data := reader.read(size):
                    yield data
            finally:
                reader.close()

    def _entries(self) -> list[zips.Entry]:
        return zips.of_nodes(self._nodes)


class DiffNode(VirtualNode):
    """The unified diff of two text files, "" where they are equal; binary content → `ValueError`."""

    mimetype = "text/x-diff"

    def __init__(self, manager: StorageManager, a: StorageNode | str, b: StorageNode | str) -> None:
        super().__init__(manager)
        self._sides = [manager.node(node) if isinstance(node, str) else node for node in (a, b)]

    def __repr__(self) -> str:
        return f"DiffNode({', '.join(repr(node.fullpath) for node in self._sides)})"

    @property
    def size(self) -> int:
        return len(self._text())

    def _text(self) -> bytes:
        texts, names = [_lines(node) for node in self._sides], [node.fullpath for node in self._sides]
        return _joined(difflib.unified_diff(texts[0], texts[1], names[0], names[1])).encode()

    def _chunks(self, size: int) -> Iterator[bytes]:
        data = self._text()
        return (data[at : at + size] for at in range(0, len(data), size))

    def _entries(self) -> list[zips.Entry]:
        return [zips.made("diff.patch", self._text())]


def _lines(node: StorageNode) -> list[str]:
    data = node.mount.get(node.path, version=node.version)[0]
    try:
        if b"\0" in data:
            raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), data.index(b"\0") + 1, "NUL")
        return io.StringIO(data.decode(), newline="\n").readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"Cannot diff binary files: '{node.fullpath}'") from error


def _joined(lines: Iterable[str]) -> str:
    r"""The diff with a line of its own for each; as `diff -u`, it tells where the last line has no end."""
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _cut(chunks: Iterator[bytes], start: int, end: int | None) -> Iterator[bytes]:
    at = 0
    for chunk in chunks:
        piece = chunk[max(0, start - at) : None if end is None else max(0, end - at)]
        at += len(chunk)
        if piece:
            yield piece
        if end is not None and at >= end:
            return


class _Raw(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._chunks, b"")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        closing = getattr(self._chunks, "close", None)
        if closing is not None and not self.closed:
            closing()
        super().close()
