"""Small contents carried by their own path: the path is the data, in base64."""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from msgspec import Struct

from ..exceptions import (
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageQuotaError,
    UnsupportedOperation,
)
from ..types import Features, Stat
from .base import BytesReader, StorageBackend, conflict, cut, no_version

LIMIT = 16 << 20
"""The longest content, in bytes."""

_SPACE = re.compile(r"[ \t\r\n\v\f]+")
_URL_SAFE = str.maketrans("-_", "+/")


class Base64Options(Struct, frozen=True, kw_only=True):
    """There is nothing to say."""


class Base64Backend(StorageBackend):
    """Files whose path is their content: standard or URL-safe alphabet, white space ignored, padding optional."""

    Options: ClassVar[Any] = Base64Options
    features = Features(readonly=True, literal=True, mtime_resolution=1e-6)
    storage_id = "base64"
    readonly_reason = (
        "an inline node is read-only: its path is its content; "
        "copy_to('<this mount>:') returns a new one, to_base64() the text alone"
    )

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._made = time.time()

    def native_path(self, path: str) -> str:
        return path

    def rooted(self, path: str) -> Self:
        if path:
            raise UnsupportedOperation("a base64 mount has no directories that another mount could stand on")
        return self

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        return self._described(path, decoded(path))

    def _described(self, path: str, data: bytes) -> Stat:
        return Stat(path, len(data), mtime=self._made)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        if path:
            decoded(path)
            raise StorageNotADirectoryError("Not a directory")
        raise UnsupportedOperation("the contents of a base64 mount cannot be listed: every base64 text is one")

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        no_version(version)
        if if_match is not None:
            raise conflict(if_match, None)
        data = decoded(path)
        return cut(data, start, end), self._described(path, data)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BytesReader:
        return BytesReader(*self.get(path, start, end, version=version, if_match=if_match))


def decoded(text: str) -> bytes:
    """The content that a path stands for; other text is `StorageNotFoundError`, too long a one `StorageQuotaError`."""
    compact = _SPACE.sub("", text).translate(_URL_SAFE)
    if not compact:
        raise StorageNotFoundError("The path of an inline node cannot be empty; it is the content in base64")
    bare = compact.rstrip("=")
    if len(bare) * 3 // 4 > LIMIT:
        raise StorageQuotaError(f"inline content is {LIMIT} bytes at most")
    padding = -len(bare) % 4
    if len(compact) - len(bare) not in (0, padding):
        raise StorageNotFoundError("Invalid base64")
    try:
        return binascii.a2b_base64(bare + "=" * padding, strict_mode=True)
    except ValueError as error:  # binascii.Error is one, and so is text beyond ASCII
        raise StorageNotFoundError("Invalid base64") from error


def encoded(data: bytes) -> str:
    """The path of an inline node that holds `data`, in the standard alphabet."""
    if len(data) > LIMIT:
        raise StorageQuotaError(f"inline content is {LIMIT} bytes at most")
    return binascii.b2a_base64(data, newline=False).decode()
