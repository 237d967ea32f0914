"""A source that was opened to see what it is: its first bytes came along, the others are asked for when needed."""

from __future__ import annotations

from ..backends.base import BackendReader
from ..types import Place


class Opened:
    """A reader of the whole that begins with a request for its first `most` bytes (None: for all of it)."""

    def __init__(self, source: Place, most: int | None) -> None:
        self._source = source
        self._reader = source.mount.reader(source.path, 0, most, version=source.version)
        self.stat = self._reader.stat
        size = self.stat.size
        self.ahead = most if most is not None and (size is None or size > most) else None
        """Bytes that were asked for; None: all there are."""
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """As of any reader; beyond what was asked for it asks for the rest, of the same object."""
        data = self._reader.read(size)
        self._at += len(data)
        if self.ahead is None or (data and size >= 0):
            return data
        self._reader.close()
        source, same = self._source, None if self._source.version is not None else self.stat.etag
        self.ahead = None
        self._reader = source.mount.reader(source.path, self._at, version=source.version, if_match=same)
        return data + self.read(size)

    def close(self) -> None:
        self._reader.close()


def begun(opened: BackendReader | None, end: int) -> BackendReader | None:
    """`opened`, if what it asked for are the bytes [0, `end`) and no more; else it is closed."""
    if isinstance(opened, Opened) and opened.ahead == end:
        return opened
    if opened is not None:
        opened.close()
    return None
