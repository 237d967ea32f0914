"""What is known beside the bytes: metadata, tags, permission bits, and addresses for others."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..backends._labels import checked_tags
from ..exceptions import StorageError, UnsupportedOperation
from ..mount import Level
from ..types import SignedRequest, SignOptions
from . import content

if TYPE_CHECKING:
    from ..names import NodeName

LONGEST = 604_800
"""Seconds a signed request is valid at most (S3, Signature Version 4)."""

_KEY = re.compile(r"[a-z0-9._-]+")


def get_metadata(node: NodeName) -> dict[str, str]:
    """Keys in lower case; {} where the storage keeps none."""
    stat = node.mount.stat_file(node.path, version=node.version)
    return dict(stat.metadata or {})


def set_metadata(node: NodeName, metadata: Mapping[str, str], replace: bool) -> None:
    """Replaces the metadata of a file, or adds to it."""
    content.refuse_snapshot(node)
    mount, path = node.mount, node.path
    mount.require(Level.readwrite, "set_metadata", path)
    given = {_checked_key(key): _checked_text(value, "value") for key, value in metadata.items()}
    if not mount.can("set_metadata"):
        raise _unsupported(node, "set_metadata", "does not support metadata")
    known = {} if replace else get_metadata(node)
    mount.use("set_metadata", path, known | given)


def _checked_key(key: object) -> str:
    name = _checked_text(key, "key").lower()
    if not _KEY.fullmatch(name):
        raise ValueError(f"metadata key {key!r}: use letters, digits, '.', '_' and '-'")
    return name


def _checked_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"a {what} is text, not {type(text).__name__}")
    return text


def _unsupported(node: NodeName, operation: str, reason: str) -> StorageError:
    return node.mount.guard.failure(UnsupportedOperation(f"mount '{node.mount_name}' {reason}"), operation, node.path)


def get_tags(node: NodeName) -> dict[str, str]:
    """The tags of a file; {} where the storage has none."""
    if not node.mount.can("get_tags"):
        node.mount.stat_file(node.path, version=node.version)  # missing is missing everywhere
        return {}
    found: dict[str, str] = node.mount.use("get_tags", node.path, version=node.version)
    return found


def set_tags(node: NodeName, tags: Mapping[str, str]) -> None:
    """Replaces the tags of a file."""
    content.refuse_snapshot(node)
    mount = node.mount
    mount.require(Level.readwrite, "set_tags", node.path)
    checked = checked_tags(tags)
    if not mount.can("set_tags"):
        raise _unsupported(node, "set_tags", "does not support tags")
    mount.use("set_tags", node.path, checked)


def set_mode(node: NodeName, mode: int, follow_symlinks: bool) -> None:
    """Sets the permission bits of a file or directory; of a link, those of what it leads to."""
    content.refuse_snapshot(node)
    mount = node.mount
    mount.require(Level.readwrite, "chmod", node.path)
    if not mount.can("set_mode"):
        raise _unsupported(node, "chmod", "has no permission bits to set")
    if not follow_symlinks and mount.stat(node.path).is_symlink:
        raise _unsupported(node, "chmod", "sets no permission bits of a link itself")
    mount.use("set_mode", node.path, mode)


# --- addresses ---


def sign(node: NodeName, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
    """A request that anybody may send until it expires; it is made here, without asking the storage."""
    if method not in ("GET", "HEAD", "PUT"):
        raise ValueError(f"method is 'GET', 'HEAD' or 'PUT', not {method!r}")
    if not 0 < expires_in <= LONGEST:
        raise ValueError(f"expires_in is more than 0 and at most {LONGEST} seconds, not {expires_in}")
    mount = node.mount
    if method == "PUT":
        content.refuse_snapshot(node)
        mount.judge(node.path, "sign")
    if not mount.can("sign"):
        raise _unsupported(node, "sign", "cannot sign requests")
    signed: SignedRequest = mount.use("sign", node.path, method, expires_in, options)
    return signed


def url(node: NodeName, expires_in: float, method: str, options: SignOptions) -> str | None:
    """Where others reach this file: signed, public, or below the mount's `base_url`; None if nowhere."""
    mount = node.mount
    if mount.can("sign"):
        return sign(node, method, expires_in, options).url
    if method != "GET":
        return None
    if mount.can("public_url"):
        found: str = mount.use("public_url", node.path)
        return found
    return None if mount.base_url is None else below(mount.base_url, node.path)


def internal_url(node: NodeName, nocache: bool) -> str | None:
    """Below the mount's `internal_url`, with the time of last change if `nocache`; None without that key."""
    base = node.mount.internal_url
    if base is None:
        return None
    address = below(base, node.path)
    mtime = node.mount.stat(node.path, version=node.version).mtime if nocache else None
    return f"{address}?mtime={mtime or time.time()}" if nocache else address


def below(base: str, path: str) -> str:
    """A path below a URL, percent-encoded (RFC 3986)."""
    return f"{base.rstrip('/')}/{quote(path, safe='/-._~', errors='surrogateescape')}"


def sign_options(version: str | None, given: Mapping[str, Any]) -> SignOptions:
    """What `url` and `sign` were told, as the port takes it."""
    return SignOptions(version=version, **given)
