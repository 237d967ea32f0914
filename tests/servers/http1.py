"""Just enough HTTP/1.1 framing to relay messages byte for byte: heads, and bodies by length, chunks or close."""

from __future__ import annotations

from asyncio import IncompleteReadError, StreamReader
from collections.abc import AsyncIterator
from typing import NamedTuple

PIECE = 1 << 18
HEAD_LIMIT = 1 << 20


class Head(NamedTuple):
    """The start line and headers of a message; `raw` is what was on the wire, header names are lower case."""

    raw: bytes
    start: str
    headers: dict[str, str]

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split(" ", 2)[1])

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.headers.get("expect", "").lower() == "100-continue"

    def closes(self, method: str) -> bool:
        """Whether the server will close the connection after this response to such a request."""
        said = self.headers.get("connection", "").lower()
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        framed = framed or not has_response_body(self, method)
        return said == "close" or not framed or ("HTTP/1.0" in self.start and said != "keep-alive")


async def read_head(reader: StreamReader) -> Head | None:
    """The next message's head, or None when the peer closed before it sent any."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as end:
        if end.partial:
            raise
        return None
    start, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return Head(raw, start, {name.strip().lower(): value.strip() for name, value in pairs})


def has_response_body(head: Head, method: str) -> bool:
    """Whether a response to this method carries a body (RFC 9112 §6.3)."""
    return method != "HEAD" and head.status >= 200 and head.status not in (204, 304)


async def read_body(reader: StreamReader, head: Head, *, until_close: bool = False) -> AsyncIterator[bytes]:
    """The body as it is on the wire, chunk framing included.

    Args:
        reader: positioned after the head.
        head: says how the body is framed.
        until_close: a body without framing lasts until the peer closes (a response); otherwise there is none.

    Raises:
        asyncio.IncompleteReadError: the peer closed inside the body.
    """
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        async for piece in _read_chunks(reader):
            yield piece
    elif "content-length" in head.headers:
        async for piece in _read_exactly(reader, int(head.headers["content-length"])):
            yield piece
    elif until_close:
        while piece := await reader.read(PIECE):
            yield piece


async def _read_exactly(reader: StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, PIECE))
        if not piece:
            raise IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece


async def _read_chunks(reader: StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.split(b";")[0], 16)
        if not size:
            break
        async for piece in _read_exactly(reader, size + 2):
            yield piece
    while True:  # trailers, up to the empty line
        line = await reader.readuntil(b"\r\n")
        yield line
        if line == b"\r\n":
            return
