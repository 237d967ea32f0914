"""The words of the ports: facts about a file, what a store is like, how to write, a place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from .mount import Mount

Strength = Literal["atomic", "advisory", "none"]
STRENGTHS: tuple[Strength, ...] = ("none", "advisory", "atomic")


class Proven(dict[str, str]):
    """The `hashes` of a `Stat` that its driver itself has held against the bytes it returned or wrote."""


class Steady(dict[str, str]):
    """The empty `hashes` of a `Stat` that held before and after its driver read the bytes: they are one state."""


STEADY = Steady()


class Stat(Struct, frozen=True, gc=False):
    """Facts about one path, as one request told them; what is not known is None.

    `path` is relative to its mount; `size` in bytes; `mtime` and `created` POSIX seconds; `mode` permission bits;
    `hashes` algorithm → lowercase hex, only true hashes of the content; `etag` what `if_match` compares.
    """

    path: str
    size: int | None = None
    is_dir: bool = False
    is_symlink: bool = False
    mtime: float | None = None
    created: float | None = None
    etag: str | None = None
    content_type: str | None = None
    hashes: Mapping[str, str] = {}
    version_id: str | None = None
    mode: int | None = None
    storage_class: str | None = None
    metadata: Mapping[str, str] | None = None
    is_other: bool = False
    """Neither file nor directory: FIFO, socket, device, or a link that leads nowhere or out of the mount."""

    @property
    def is_file(self) -> bool:
        return not (self.is_dir or self.is_other)

    @property
    def st_size(self) -> int | None:
        return self.size

    @property
    def st_mtime(self) -> float | None:
        return self.mtime


class Version(Struct, frozen=True, gc=False):
    """One version of a file; `last_modified` in POSIX seconds. Also read as a mapping: ``version["size"]``."""

    version_id: str
    is_latest: bool = False
    last_modified: float | None = None
    size: int | None = None
    etag: str | None = None
    is_delete_marker: bool = False

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.__struct_fields__


class WriteOptions(Struct, frozen=True, gc=False):
    """How to write a file.

    `if_absent` and `if_match` (an etag) are judged at commit. `size`: the number of bytes to come, where known; the
    commit checks it. `mtime` POSIX seconds, `mode` permission bits: kept where the store can. `source_match`: the etag
    that the source of a copy by the storage must have, judged where `if_match` is atomic and by local files.
    """

    if_absent: bool = False
    if_match: str | None = None
    size: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    mtime: float | None = None
    mode: int | None = None
    tags: Mapping[str, str] | None = None
    source_match: str | None = None


class Unfinished(Struct, frozen=True, gc=False):
    """A staged write that was never committed.

    `path`: what it was to become (of a local file with a very long name its beginning). `token`: opens it again; where
    the storage has no `parts`, `path` is the hidden file itself, which `delete` removes. `started`: POSIX seconds; of
    files the time of the last change.
    """

    path: str
    token: str
    started: float | None = None


class SignOptions(Struct, frozen=True, gc=False):
    """What a signed request fixes beyond its place: of a GET how it is shown, of a PUT what may be sent."""

    download_name: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    content_length: int | None = None
    version: str | None = None


class SignedRequest(Struct, frozen=True, gc=False):
    """A request that anybody may send until `expires_at` (POSIX seconds), with exactly these headers."""

    method: str
    url: str
    headers: Mapping[str, str]
    expires_at: float


PLAIN = WriteOptions()


class Features(Struct, frozen=True):
    """Facts about one backend instance. Strengths: "atomic", "advisory" (among users of this library) or "none"."""

    real_dirs: bool = True
    """Directories exist by themselves; False: they are implied by keys below them (object stores)."""
    ordered: bool = False
    """`scan` and `walk` deliver in bytewise order of the UTF-8 path, a directory sorting as ``name/``."""
    if_absent: Strength = "none"
    if_match: Strength = "none"
    atomic_write: bool = True
    case_sensitive: bool = True
    mtime_resolution: float | None = None
    """Seconds between two mtimes the store can tell apart; None: it knows no mtime."""
    keeps_mtime: bool = False
    """`WriteOptions.mtime` is kept; False: the store stamps its own time."""
    lists_mtime: bool = True
    """A listing tells the mtime that is kept; False: the time of the upload (S3), and each file must be asked."""
    keeps_mode: bool = False
    hashes: frozenset[str] = frozenset()
    """Algorithms whose value a `Stat` may carry without reading."""
    metadata: bool = False
    tags: bool = False
    """`WriteOptions.tags` is kept."""
    content_type: bool = False
    """The store remembers a content type of its own."""
    own_versions: bool = True
    """Where there are versions, facts and writes tell theirs, and each can be removed; git: others made them."""
    tells_missing: bool = True
    """`delete` of an absent key raises NotFound; False: it succeeds without a word (S3)."""
    readonly: bool = False
    writes: bool = True
    """Files can be made; False: those that are there show what is changed elsewhere."""
    deletes: bool = True
    temporary: bool = False
    max_segment: int | None = None
    """Longest name in UTF-8 bytes."""
    max_key: int | None = None
    """Longest whole key (root included) in UTF-8 bytes."""
    backslash: bool = False
    """A backslash is an ordinary character and no separator, so that `allow_backslash` may be set."""
    surrogates: bool = False
    """Undecodable names travel as surrogate escapes."""
    literal: bool = False
    """A path is data, never normalised."""
    ranges: bool = False
    """A range of a file costs no more than its own bytes: parts of a large file can be read at the same time."""


class Place(Protocol):
    """Where bytes are: what transfer and the verbs take. A `StorageNode` is one."""

    @property
    def mount(self) -> Mount: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> str | None: ...
