"""What forbids a write or a rename in memory: conditions, the kind of what is there, the rules of rename(2)."""

from __future__ import annotations

import errno

from ..types import WriteOptions
from ._memory_store import Directory, File, Node, failure
from .base import conflict


def judge_kind(there: Node | None, options: WriteOptions) -> None:
    """Raises where a directory stands in the way of a file."""
    if isinstance(there, Directory):
        raise failure(errno.EEXIST if options.if_absent else errno.EISDIR)


def judge_write(there: Node | None, options: WriteOptions) -> None:
    """Raises if `options` or the kind of what is there forbid to put a file in its place."""
    if options.if_absent and there is not None:
        raise failure(errno.EEXIST)
    if isinstance(there, Directory):
        raise failure(errno.EISDIR)
    if options.if_match is not None and (there is None or there.etag != options.if_match):
        raise conflict(options.if_match, None if there is None else there.etag)


def judge_rename(node: Node, there: Node | None, options: WriteOptions) -> None:
    """Raises what `rename(2)` would, or if `options` forbid to replace what is there."""
    if there is None:
        if options.if_match is not None:
            raise conflict(options.if_match, None)
        return
    if options.if_absent:
        raise failure(errno.EEXIST)
    if isinstance(there, Directory):
        if isinstance(node, File):
            raise failure(errno.EISDIR)
        if there.children:
            raise failure(errno.ENOTEMPTY)
        return
    if isinstance(node, Directory):
        raise failure(errno.ENOTDIR)
    if options.if_match is not None and there.etag != options.if_match:
        raise conflict(options.if_match, there.etag)
