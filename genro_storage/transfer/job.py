"""One file to copy, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ..types import Place, Stat
from .places import At

if TYPE_CHECKING:
    from .staging import Staging


SMALL = 1 << 20
"""Bytes up to which a file goes by one get and one put."""


class Job(Struct, frozen=True):
    """One file to copy. `facts`: what is known of the source, from a listing or, if `exact`, from a look at itself.

    `apart`: nothing is at the target, or somebody saw that it is another file. `local`: both are in the local file
    system. `staging`: what is remembered of a large file, where the transfer is to be resumed.
    """

    source: Place
    target: At
    facts: Stat
    exact: bool = False
    apart: bool = False
    local: bool = False
    staging: Staging | None = None


class Copied(Struct, frozen=True):
    """What became of a job: the facts of the very bytes copied, and how they were checked.

    `written`: what the target said of itself. `resumed`: bytes of `size` that were there from an earlier run.
    """

    facts: Stat
    size: int = 0
    same_place: bool = False
    server_side: bool = False
    by_checksum: bool = False
    by_size: bool = False
    dropped_metadata: bool = False
    dropped_tags: bool = False
    retries: int = 0
    """How often a part of it was tried again."""
    written: Stat | None = None
    resumed: int = 0
