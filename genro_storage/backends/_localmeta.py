"""Metadata of local files, all of it in one extended attribute, so that it changes in one step."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ..exceptions import StorageConfigError, StorageQuotaError, UnsupportedOperation
from ..types import PLAIN, Stat, WriteOptions
from ._localfile import NAMELESS, LocalReader, LocalWriter
from ._localparts import LocalParts
from .base import StorageBackend, Tick
from .local import LocalStorage
from .options import Context

ATTRIBUTE = "user.genro.metadata"
"""A JSON object of text by text."""
_TOO_MUCH = (errno.E2BIG, errno.ENOSPC, errno.EDQUOT, errno.ERANGE)
_NONE = (errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.ENOENT)


class LocalWithMetadata(LocalStorage):
    """Local files with metadata (`metadata: xattr`), which the file system must be able to keep."""

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context)
        _judge(self._tree.base)
        self.features = replace(self.features, metadata=True)
        self._plain = False  # a file needs more than its bytes

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        stat = super().stat(path, version=version)
        return replace(stat, metadata=self._metadata(path)) if stat.is_file else stat

    def _metadata(self, path: str) -> dict[str, str] | None:
        """The metadata of a file that need not be readable itself."""
        with self._tree.spot(path, through=True) as (at, name):
            try:
                held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            except FileNotFoundError:
                return None
            try:
                return _of(f"/proc/self/fd/{held}")
            finally:
                os.close(held)

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        reader = self.reader(path, start, end, version=version, if_match=if_match)
        try:
            return reader.read(), reader.stat
        finally:
            reader.close()

    def reader(self, path: str, *span: Any, **conditions: Any) -> LocalReader:
        reader = super().reader(path, *span, **conditions)
        reader.stat = replace(reader.stat, metadata=_of(reader._fd))
        return reader

    def _writer(self, path: str, options: WriteOptions, named: bool) -> LocalWriter:
        writer = super()._writer(path, options, named)
        try:
            _set(writer.fd, options.metadata or {})
        except BaseException:
            writer.discard()
            raise
        return writer

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> LocalParts:
        parts = super().parts(path, options, **how)
        try:
            _set(parts.fd, options.metadata or {})
        except BaseException:
            parts.discard()
            raise
        return parts

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
        if options.metadata is None and isinstance(source, LocalWithMetadata):
            options = replace(options, metadata=source._metadata(source_path))
        return super().copy_from(source, source_path, path, options, version=version, tick=tick)

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        fd, _ = self._tree.open_file(path)
        try:
            _set(fd, metadata)
        finally:
            os.close(fd)


def _judge(base: str) -> None:
    """Whether the file system keeps such attributes, tried on a file without a name where there may be one."""
    if not (hasattr(os, "setxattr") and NAMELESS):
        raise StorageConfigError("'metadata: xattr' needs the extended attributes of Linux")
    try:
        fd = os.open(base, NAMELESS, 0o600)
    except OSError:
        return  # nothing can be written here, but perhaps below
    try:
        os.setxattr(fd, ATTRIBUTE, b"{}")
    except OSError as error:
        raise StorageConfigError(f"'metadata: xattr' is not possible here: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def _of(file: str | int) -> dict[str, str] | None:
    try:
        text = os.getxattr(file, ATTRIBUTE)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
    try:
        found = json.loads(text)
    except ValueError:
        return None  # of another program
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None


def _set(fd: int, metadata: Mapping[str, str]) -> None:
    try:
        if metadata:
            text = json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)
            os.setxattr(fd, ATTRIBUTE, text.encode("utf-8", "surrogatepass"))
        else:
            os.removexattr(fd, ATTRIBUTE)
    except OSError as error:
        if not metadata and error.errno in _NONE:
            return
        if error.errno in _TOO_MUCH:
            raise StorageQuotaError("the file system has no room for so much metadata") from error
        if error.errno == errno.ENOTSUP:
            raise UnsupportedOperation("the file system keeps no extended attributes here") from error
        raise
