"""The protocol of Redis: every kind of answer, in whatever pieces it arrives."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from genro_storage.records._redis_wire import Refusal, exchange

ANSWERS: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-42\r\n", -42),
    (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\nd\r\n$-1\r\n*2\r\n:1\r\n+x\r\n", [b"d", None, [1, b"x"]]),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"=7\r\ntxt:abc\r\n", b"abc"),
    (b"%1\r\n$1\r\nk\r\n$1\r\nv\r\n", [b"k", b"v"]),
    (b"~1\r\n:7\r\n", [7]),
    (b"$200000\r\n" + b"x" * 200_000 + b"\r\n", b"x" * 200_000),
]
PUSHED = b">2\r\n+invalidate\r\n:1\r\n"


class Sink:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written = b""

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    async def drain(self) -> None:
        pass


def told(data: bytes, size: int, count: int, *, ends: bool = False, seconds: float = 60) -> list[Any]:
    """What `exchange` makes of an answer that arrives in pieces of this size."""

    async def use() -> list[Any]:
        reader, sink = asyncio.StreamReader(), Sink()

        async def feed() -> None:
            for at in range(0, len(data), size):
                reader.feed_data(data[at : at + size])
                await asyncio.sleep(0)
            if ends:
                reader.feed_eof()

        feeding = asyncio.ensure_future(feed())
        try:
            found = await exchange(reader, sink, [b"one", b"two"], count, seconds)  # type: ignore[arg-type]
            assert sink.written == b"onetwo"
            return found
        finally:
            feeding.cancel()

    return asyncio.run(use())


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_answers_in_pieces(size: int) -> None:
    several = [(data, answer) for data, answer in ANSWERS if size > 2 or len(data) < 1000]
    data = PUSHED.join(data for data, _ in several)
    assert told(data, size, len(several)) == [answer for _, answer in several]


@pytest.mark.parametrize("data", [b"-NOSCRIPT No matching script.\r\n", b"!28\r\nNOSCRIPT No matching script.\r\n"])
def test_a_refusal_is_an_answer(data: bytes) -> None:
    first, second = told(data + b":1\r\n", 5, 2)
    assert isinstance(first, Refusal)
    assert (first.code, str(first)) == ("NOSCRIPT", "NOSCRIPT No matching script.")
    assert second == 1


@pytest.mark.parametrize("data", [b"", b":1\r\n", b":1\r\n$100\r\nab", b":1\r\n*2\r\n:1\r\n"])
def test_an_end_too_early(data: bytes) -> None:
    with pytest.raises(ConnectionError, match="closed"):
        told(data, 3, 2, ends=True)


@pytest.mark.parametrize("data", [b":1\r\n:2\r\n", b"?1\r\n"])
def test_what_was_not_asked_for(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        told(data, 100, 1)


def test_silence() -> None:
    with pytest.raises(TimeoutError):
        told(b":1\r\n$10\r\nab", 3, 2, seconds=0.05)


def test_a_program_that_stood_still_takes_the_answer_that_waits() -> None:
    """A laptop that slept, a machine that was moved: time is over, and the answer is here."""

    async def use() -> list[Any]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:

            def stands_still() -> None:
                theirs.sendall(b":7\r\n")
                time.sleep(0.2)

            asyncio.get_running_loop().call_later(0.01, stands_still)
            return await exchange(reader, writer, [b"one"], 1, 0.1)
        finally:
            writer.close()
            theirs.close()

    assert asyncio.run(use()) == [7]
