"""What a mount can do, as its user sees it."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from .types import STRENGTHS, Features, Strength


class BackendCapabilities(Struct, frozen=True):
    """Facts about one place: the backend's features and abilities as the mount's permissions leave them."""

    read: bool = True
    write: bool = True
    delete: bool = True
    mkdir: bool = True
    list_dir: bool = True
    atomic_operations: bool = True
    append_mode: bool = True
    seek_support: bool = True
    versioning: bool = False
    version_listing: bool = False
    version_access: bool = False
    metadata: bool = False
    tags: bool = False
    presigned_urls: bool = False
    public_urls: bool = False
    symbolic_links: bool = False
    copy_optimization: bool = False
    hash_on_metadata: bool = False
    readonly: bool = False
    temporary: bool = False
    conditional_write: Strength = "none"
    case_sensitive: bool = True
    mtime_resolution: float | None = None

    def __str__(self) -> str:
        return ", ".join(name for name in self.__struct_fields__ if getattr(self, name) is True)


def capabilities(
    features: Features, abilities: Collection[str], *, may_write: bool, may_delete: bool, snapshot: bool = False
) -> BackendCapabilities:
    """The user's view of a backend under the mount's permissions; a snapshot is never written."""
    write = may_write and features.writes and not snapshot
    return BackendCapabilities(
        write=write,
        delete=may_delete and features.deletes and not snapshot,
        mkdir=write and "mkdir" in abilities,
        atomic_operations=features.atomic_write,
        append_mode=write,
        versioning="versions" in abilities and not snapshot,
        version_listing="versions" in abilities and not snapshot,
        version_access="versions" in abilities,
        metadata=features.metadata,
        tags="get_tags" in abilities,
        presigned_urls="sign" in abilities,
        public_urls="public_url" in abilities,
        symbolic_links="symlink" in abilities,
        copy_optimization="copy_from" in abilities,
        hash_on_metadata=bool(features.hashes),
        readonly=not write,
        temporary=features.temporary,
        conditional_write=min(features.if_absent, features.if_match, key=STRENGTHS.index),
        case_sensitive=features.case_sensitive,
        mtime_resolution=features.mtime_resolution,
    )
