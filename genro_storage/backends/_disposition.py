"""The header that offers a file under a name, for those who serve it and those who sign a request for it (RFC 6266)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_SEPARATORS = frozenset("/\\")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def disposition(name: str) -> str:
    """A `Content-Disposition` that offers a file under this name: one valid header for any text."""
    clean = "".join("_" if _is_unsafe(char) else char for char in name).strip(" .") or "download"
    plain = unicodedata.normalize("NFKD", clean).encode("ascii", "ignore").decode()
    kept = "".join(char if len(char.encode()) == 1 else "_" for char in clean)
    fallback = plain if len(plain) >= len(clean) else kept
    fallback = re.sub(r'["%\\/]', "_", fallback)
    header = f'attachment; filename="{fallback}"'
    return header if fallback == clean else f"{header}; filename*=UTF-8''{quote(clean, safe='!#$&+-.^_`|~')}"


def _is_unsafe(char: str) -> bool:
    return char in _SEPARATORS or char in _DIRECTIONS or unicodedata.category(char) in _UNSAFE_CATEGORIES
