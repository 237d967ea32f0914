"""The limits of tags that S3 and Azure share, and the memory backend keeps."""

from __future__ import annotations

from collections.abc import Mapping

MOST_TAGS = 10
TAG_KEY = 128
TAG_VALUE = 256
"""Characters (S3 API, PutObjectTagging; Azure, Set Blob Tags)."""


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """A copy of these tags; too many, too long, without a name or no text → `ValueError`."""
    if len(tags) > MOST_TAGS:
        raise ValueError(f"{len(tags)} tags; a file has at most {MOST_TAGS}")
    for key, value in tags.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise ValueError(f"tag {key!r}: names and values are text")
        if not 0 < len(key) <= TAG_KEY:
            raise ValueError(f"tag {key!r} has a name of {len(key)} characters; it may have 1 to {TAG_KEY}")
        if len(value) > TAG_VALUE:
            raise ValueError(f"tag {key!r} has a value of {len(value)} characters; it may have {TAG_VALUE}")
    return dict(tags)
