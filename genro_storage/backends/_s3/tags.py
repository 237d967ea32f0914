"""Tags of S3 objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from .client import Answer


def tag_set(tags: Mapping[str, str]) -> Answer:
    """Tags as PutObjectTagging takes them."""
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_of(answer: Answer) -> dict[str, str]:
    """The answer to GetObjectTagging."""
    return {tag["Key"]: tag.get("Value") or "" for tag in answer.get("TagSet", ())}


def tag_header(tags: Mapping[str, str]) -> str:
    """Tags as a write takes them: the query of a URL (S3 API, x-amz-tagging)."""
    return urlencode(dict(tags), quote_via=_quoted)


def _quoted(text: str | bytes, safe: Any, encoding: Any = None, errors: Any = None) -> str:
    return quote(text, safe="-._~")
