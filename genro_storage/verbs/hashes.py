"""`hash`: the stored value where it is true, else computed by reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import hashing
from ..exceptions import StorageIsADirectoryError

if TYPE_CHECKING:
    from ..names import NodeName

CHUNK = 1 << 20


def hash_of(node: NodeName, algorithm: str) -> str:
    """Lowercase hex of the content's hash; one request where the storage knows it, else the file is streamed."""
    hasher = hashing.new(algorithm)
    mount, path = node.mount, node.path
    try:
        if algorithm in mount.features.hashes:
            stored = mount.stat_file(path, version=node.version).hashes.get(algorithm)
            if stored is not None:
                return stored
        reader = mount.reader(path, version=node.version)
    except StorageIsADirectoryError as error:
        raise node.is_a_directory("Cannot compute hash of directory") from error
    try:
        while chunk := reader.read(CHUNK):
            hasher.update(chunk)
    finally:
        reader.close()
    return hasher.hexdigest()
