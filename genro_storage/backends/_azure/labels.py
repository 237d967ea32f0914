"""The tags of a blob, as XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from xml.sax.saxutils import escape

from .._labels import checked_tags

_ALLOWED = re.compile(r"[A-Za-z0-9 +\-./:=_]*")
"""Azure, "Set Blob Tags"."""


def read(data: bytes) -> dict[str, str]:
    """Tags from the answer to Get Blob Tags."""
    text = data.decode("utf-8-sig").strip()
    if not text:
        return {}
    return {tag.findtext("Key") or "": tag.findtext("Value") or "" for tag in ET.fromstring(text).iter("Tag")}


def allowed(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as Azure takes them; too many, too long or of other characters → `ValueError`."""
    for text in (*tags.keys(), *tags.values()):
        if not _ALLOWED.fullmatch(text):
            raise ValueError(f"tag {text!r}: Azure takes letters, digits, spaces and + - . / : = _")
    return checked_tags(tags)


def told(tags: Mapping[str, str]) -> bytes:
    """The body of Set Blob Tags."""
    pairs = "".join(
        f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>" for key, value in allowed(tags).items()
    )
    return f'<?xml version="1.0" encoding="utf-8"?><Tags><TagSet>{pairs}</TagSet></Tags>'.encode()
