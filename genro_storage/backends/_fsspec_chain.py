"""Which file system of fsspec a mount names, by a chained URL or as an object, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem

from ..exceptions import StorageConfigError, StorageDriverError
from ._fsspec import CACHES, KINDS, WRAPPERS, FsspecOptions, Kind, protocol_of


def protocols(url: str) -> list[str]:
    """The protocols of a URL, outermost first: ``"zip://a::file:///b.zip"`` → ``["zip", "file"]``."""
    found = []
    for bit in str(url).split("::"):
        word = bit if bit.isalnum() and "::" in url else "file"
        found.append(fsspec.core.split_protocol(bit)[0] or word)
    return found


def kind_of(options: FsspecOptions) -> Kind:
    """What is known of the file system; neither or both of `url` and `filesystem` → `StorageConfigError`."""
    filesystem, url = options.filesystem, options.url
    if (filesystem is None) == (url is None):
        raise StorageConfigError("missing required field: one of 'url' and 'filesystem'")
    if url is not None:
        return _kind_of_chain(protocols(url))
    if not isinstance(filesystem, fsspec.AbstractFileSystem):
        raise StorageConfigError(f"'filesystem' is a file system of fsspec, not {type(filesystem).__name__}")
    while protocol_of(filesystem) in WRAPPERS and hasattr(filesystem, "fs"):
        filesystem = filesystem.fs
    kind = KINDS.get(protocol_of(filesystem), Kind())
    return kind._replace(threads=kind.threads or isinstance(filesystem, AsyncFileSystem))


def _kind_of_chain(chain: Sequence[str]) -> Kind:
    """The kind of what a chain of protocols shows; one that is not installed → `StorageDriverError`."""
    classes = []
    for protocol in chain:
        try:
            classes.append(fsspec.get_filesystem_class(protocol))
        except ImportError as error:
            raise _absent(protocol, error) from error
        except ValueError as error:
            raise StorageConfigError(f"fsspec does not know the protocol '{protocol}'") from error
    shown = next((number for number, protocol in enumerate(chain) if protocol not in WRAPPERS), 0)
    kind = KINDS.get(chain[shown], Kind())
    return kind._replace(threads=kind.threads or issubclass(classes[shown], AsyncFileSystem))


def file_system(options: FsspecOptions) -> Any:
    """A new file system, without the instance cache and listing caches of fsspec; an object is taken as it is."""
    url = options.url
    if url is None:
        return options.filesystem
    chained = {protocol: {"skip_instance_cache": True} for protocol in protocols(url)[1:]}
    given = chained | {"skip_instance_cache": True} | options.options
    try:
        fs, _ = fsspec.core.url_to_fs(str(url), **given)
    except ImportError as error:
        raise _absent(protocols(url)[0], error) from error
    if getattr(fs, "dircache", None) is not None:
        fs.dircache.use_listings_cache = False
    return fs


def base_of(options: FsspecOptions) -> str:
    """The path in the file system where the mount's root `path` begins."""
    url = options.url
    if url is None:
        return str(options.filesystem.root_marker)
    bits = str(url).split("::")
    shown = next((number for number, name in enumerate(protocols(url)) if name not in CACHES), 0)
    bit = bits[shown] if "://" in bits[shown] or len(bits) == 1 else f"{bits[shown]}://"
    cls = fsspec.get_filesystem_class(protocols(url)[shown])
    path = str(cls._strip_protocol(bit))
    return path if path[:1] == "/" else f"{cls.root_marker}{path}"


def _absent(protocol: str, error: ImportError) -> StorageDriverError:
    return StorageDriverError(f"the fsspec protocol '{protocol}' needs another package: {error}")
