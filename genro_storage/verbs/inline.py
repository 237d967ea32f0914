"""The content of a file as text: base64, plain or as a ``data:`` URI (RFC 2397)."""

from __future__ import annotations

from base64 import b64encode
from contextlib import closing
from typing import TYPE_CHECKING

from .. import paths
from ..exceptions import StorageIsADirectoryError, StorageQuotaError

if TYPE_CHECKING:
    from ..nodes import StorageNode


def to_base64(node: StorageNode, mime: str | None, include_uri: bool, max_size: int) -> str:
    """See `StorageNode.to_base64`."""
    data, stored = _content(node, max_size)
    text = b64encode(data).decode()
    if not include_uri:
        return text
    kind = mime or stored or paths.content_type(node.path)
    if not (kind.isascii() and kind.isprintable()) or "," in kind:
        raise ValueError(f"not a media type: {kind!r}")
    return f"data:{kind.replace(' ', '')};base64,{text}"


def _content(node: StorageNode, max_size: int) -> tuple[bytes, str | None]:
    """(bytes, the media type that the storage remembers); never more than one byte too many is read."""
    try:
        reader = node.mount.reader(node.path, version=node.version)
    except StorageIsADirectoryError as error:
        raise node.is_a_directory("Cannot encode directory") from error
    pieces, left = [], max_size + 1
    with closing(reader):
        if (reader.stat.size or 0) <= max_size:
            while left and (data := reader.read(left)):
                pieces.append(data)
                left -= len(data)
        if not left or (reader.stat.size or 0) > max_size:
            raise StorageQuotaError(
                f"'{node.fullpath}' is larger than max_size={max_size} bytes: raise it, or serve the file instead",
                operation="to_base64", mount=node.mount_name, path=node.path,
            )  # fmt: skip
        return b"".join(pieces), reader.stat.content_type
