"""What a manager tells of its mounts: how they are configured, and whether they answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .capabilities import BackendCapabilities
from .exceptions import StorageError
from .mount import Mount
from .table import Entry, redacted


class MountInfo(NamedTuple):
    """One mount as configured; secrets are shown as ``***``."""

    name: str
    type: str
    permissions: str
    root: str
    capabilities: BackendCapabilities
    options: Mapping[str, Any]


class MountCheck(NamedTuple):
    """What one real request to a mount showed: whether it answered, in how many seconds, or the error.

    `facts` are those that only the server knows: of a bucket ``versioning``, which is ``enabled suspended off``.
    """

    name: str
    ok: bool
    latency: float
    error: StorageError | None
    facts: Mapping[str, str]


def told(entry: Entry, mount: Mount, view: BackendCapabilities) -> MountInfo:
    """How a mount is configured; no request."""
    try:
        root = mount.backend.native_path("")
    except StorageError:  # told by a function that has none to tell here
        root = ""
    options = MappingProxyType(redacted(mount))
    return MountInfo(mount.name, entry.type, mount.level.name, root, view, options)


def checked(mount: Mount) -> MountCheck:
    """Sends one request, without retries: a check tells how it is now."""
    began = time.perf_counter()
    try:
        facts = mount.without_retries().guard.call("check", "", mount.backend.check)
    except StorageError as error:
        return MountCheck(mount.name, False, time.perf_counter() - began, error, {})
    return MountCheck(mount.name, True, time.perf_counter() - began, None, facts)
