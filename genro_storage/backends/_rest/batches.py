"""Many calls in one request: multipart/mixed with a request in each part, as Google and Azure take it (RFC 2046)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email import message_from_bytes
from email.parser import BytesHeaderParser

from .web import Answer

BOUNDARY = "batch_genro"
"""No line of a call begins with it and two hyphens."""
CONTENT_TYPE = f"multipart/mixed; boundary={BOUNDARY}"

_STATUS = re.compile(rb"HTTP/[\d.]+ (\d{3})")
_NUMBER = re.compile(r"(\d+)>?$")


def body(calls: Iterable[str], name: str = "{}") -> bytes:
    """The parts that make these calls, named by their numbers; a call is a request line and headers, all with CRLF."""
    parts = "".join(
        f"--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {name.format(number)}\r\n\r\n{call}\r\n\r\n"
        for number, call in enumerate(calls)
    )
    return f"{parts}--{BOUNDARY}--\r\n".encode()


def answers(answer: Answer) -> dict[int, Answer]:
    """The answer to each call by its number; none where the answer is no batch."""
    kind = answer.headers.get("content-type", "")
    told = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.data)
    found = {}
    for place, part in enumerate(told.get_payload() if told.is_multipart() else ()):
        number = _NUMBER.search(str(part.get("Content-ID", "")))
        data: bytes = part.get_payload(decode=True) or b""
        line, _, rest = data.lstrip().partition(b"\r\n")
        status = _STATUS.match(line)
        if status:
            headers, _, content = rest.partition(b"\r\n\r\n")
            fields = {name.lower(): value for name, value in BytesHeaderParser().parsebytes(headers).items()}
            found[int(number[1]) if number else place] = Answer(int(status[1]), fields, content)
    return found
