"""Whole contents: write under conditions, stream from a source, compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import hashing, paths
from ..backends.base import BackendWriter
from ..exceptions import StorageNotFoundError, UnsupportedOperation
from ..types import PLAIN, Stat, Version, WriteOptions

if TYPE_CHECKING:
    from ..mount import Mount
    from ..names import NodeName
    from ..nodes import StorageNode

CHUNK = 1 << 20
ONE_REQUEST = 64 << 20
"""Bytes in memory up to this size are stored in one request, more as a stream in parts."""

Condition = str | Stat | Version | None


def options_for(
    node: StorageNode,
    *,
    if_absent: bool = False,
    if_match: Condition = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    mtime: float | None = None,
    size: int | None = None,
) -> WriteOptions:
    """How to write this node; what its storage cannot honour is an `UnsupportedOperation` before any byte."""
    refuse_snapshot(node)
    node.mount.judge(node.path, "write")
    features = node.mount.features
    if if_absent and features.if_absent == "none":
        raise _unsupported(node, "this storage has no conditional creation (if_absent)")
    if if_match is not None and features.if_match == "none":
        raise _unsupported(node, "this storage has no conditional replacement (if_match)")
    if metadata and not features.metadata:
        raise _unsupported(node, "this storage does not support metadata")
    if mtime is not None and not features.keeps_mtime:
        raise _unsupported(node, "this storage keeps its own times")
    if content_type is None and features.content_type:
        content_type = paths.content_type(node.path)
    return WriteOptions(if_absent, _etag(node, if_match), size, content_type, metadata, mtime)


def _etag(node: StorageNode, condition: Condition) -> str | None:
    if condition is None or isinstance(condition, str):
        return condition
    if condition.etag is None:
        raise _unsupported(node, f"if_match: this {type(condition).__name__} carries no etag")
    return condition.etag


def _unsupported(node: NodeName, reason: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"{reason}: '{node.fullpath}'", operation="write", mount=node.mount_name, path=node.path
    )


def refuse_snapshot(node: NodeName) -> None:
    """A node with a version is never changed."""
    if node.version is not None:
        raise _unsupported(node, "Cannot write to versioned snapshot")


def write_bytes(node: StorageNode, data: Any, skip_if_unchanged: bool, options: Mapping[str, Any]) -> bool:
    """Replaces the content in one step; False where equal bytes were there and were to be kept."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data is bytes, not {type(data).__name__}")
    mount = node.mount
    if not options and not mount.features.content_type:
        how = PLAIN
        refuse_snapshot(node)
    else:
        how = options_for(node, **options)
    if skip_if_unchanged and _unchanged(mount, node.path, data):
        return False
    if len(data) <= ONE_REQUEST:
        mount.put(node.path, data, how)
    else:
        view = memoryview(data).cast("B")
        stream(mount.writer(node.path, how), (view[at : at + CHUNK] for at in range(0, len(view), CHUNK)))
    return True


def _unchanged(mount: Mount, path: str, data: bytes | bytearray | memoryview) -> bool:
    try:
        stat = mount.stat(path)
    except StorageNotFoundError:
        return False
    if stat.is_dir or stat.size != memoryview(data).nbytes:
        return False
    for algorithm, stored in stat.hashes.items():
        hasher = hashing.new(algorithm)
        hasher.update(data)
        return hasher.hexdigest() == stored
    return mount.get(path)[0] == bytes(data)


def write_from(node: StorageNode, source: BinaryIO | Iterable[bytes], options: Mapping[str, Any]) -> bool:
    """Streams a binary file or an iterable of bytes into the node, in bounded memory."""
    if isinstance(source, (str, bytes, bytearray)):
        raise TypeError(f"write_from takes a binary file or an iterable of bytes, not {type(source).__name__}")
    chunks = _chunks(source)
    stream(node.mount.writer(node.path, options_for(node, **options)), chunks)
    return True


def _chunks(source: Any) -> Iterable[bytes]:
    if not hasattr(source, "read"):
        yield from source
        return
    while chunk := source.read(CHUNK):
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"the file delivers {type(chunk).__name__}, not bytes: open it in binary mode")
        yield bytes(chunk)


def stream(writer: BackendWriter, chunks: Iterable[bytes | memoryview]) -> None:
    try:
        for chunk in chunks:
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise TypeError(f"the source delivers {type(chunk).__name__}, not bytes")
            writer.write(chunk)
        writer.commit()
    finally:
        writer.discard()


def decoded(data: bytes, encoding: str, errors: str) -> str:
    """Bytes as text with line ends as Python's text files read them."""
    text = data.decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encoded(text: str, encoding: str, errors: str, newline: str | None) -> bytes:
    """Text as bytes; `newline` as in `open()`."""
    if not isinstance(text, str):
        raise TypeError(f"data is str, not {type(text).__name__}")
    if newline not in (None, "", "\n", "\r", "\r\n"):
        raise ValueError(f"illegal newline value: {newline!r}")
    if newline in ("\r", "\r\n"):
        text = text.replace("\n", newline)
    return text.encode(encoding, errors)


def same_content(node: StorageNode, other: StorageNode) -> bool:
    """Sizes, then hashes both stores hold, then the bytes."""
    mine, theirs = node.stat(), other.stat()
    for one, stat in ((node, mine), (other, theirs)):
        if stat.is_dir:
            raise one.is_a_directory("Cannot compare a directory")
    if mine.size != theirs.size:
        return False
    common = sorted(set(mine.hashes) & set(theirs.hashes))
    if common:
        return all(mine.hashes[algorithm] == theirs.hashes[algorithm] for algorithm in common)
    return _same_bytes(node, other)


def _same_bytes(node: StorageNode, other: StorageNode) -> bool:
    with node.open("rb") as left, other.open("rb") as right:
        while True:
            chunk = left.read(CHUNK)
            if chunk != right.read(CHUNK):
                return False
            if not chunk:
                return True
