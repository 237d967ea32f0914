"""Object stores as one family: what follows from keys, markers and pages, so that a driver only sends requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from ..exceptions import (
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, SignedRequest, SignOptions, Stat, WriteOptions
from ._objects import prefix_of
from ._objectwriter import Target
from ._pages import Asked, Listing, Page
from .base import BackendWriter, PartWriter, StorageBackend, Tick
from .options import Context

LONGEST = 604_800
"""Seconds that a signature holds at most: the limit of S3 and Google, and Azure shall not promise more."""


class ObjectStoreBackend(StorageBackend):
    """A bucket, or a part of one. Keys are exact: never a glob, a prefix or a normalised spelling.

    Directories are implied by keys; a marker (a key ending in "/") makes an empty one. Writes appear whole. A time of
    last change given to a write is kept as metadata. A driver writes what stands under "what a driver knows", and the
    requests that no two of them send alike: `get reader delete rmdir delete_many`, and what else it can.
    """

    apart: ClassVar[str] = "the other side is in another storage"
    """Why the server does not copy from somewhere else."""
    features = Features(
        real_dirs=False,
        ordered=True,
        if_absent="atomic",
        if_match="atomic",
        mtime_resolution=1.0,
        keeps_mtime=True,
        metadata=True,
        content_type=True,
        max_key=1024,
        ranges=True,
    )

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context

    # --- what a driver knows ---

    @property
    def bucket(self) -> str:
        """The name of the bucket or container."""
        raise NotImplementedError

    @property
    def account(self) -> object:
        """Where it is and who asks: the server copies between two mounts of one account."""
        raise NotImplementedError

    def lacks(self) -> set[str]:
        """The abilities that these options take away."""
        return set()

    def facts(self, path: str, version: str | None = None, if_match: str | None = None) -> Stat:
        """`stat` of a path that is not empty; another etag than `if_match` → `StorageConflictError`."""
        raise NotImplementedError

    def page(self, asked: Asked, facts: bool) -> Page:
        """One page of a listing."""
        raise NotImplementedError

    def target(self, key: str, path: str, options: WriteOptions) -> Any:
        """The `Target` for a key that is `path` here; what its options say and cannot be sent is refused."""
        raise NotImplementedError

    def stream(self, target: Any) -> BackendWriter:
        """A stream of unknown length into a target."""
        raise NotImplementedError

    def staged(self, target: Any, part_size: int, token: str | None, receipts: Mapping[int, str]) -> PartWriter:
        """A target staged in parts; see `parts`."""
        raise NotImplementedError

    def copied(self, source: Any, source_path: str, target: Any, version: str | None, tick: Tick) -> Stat:
        """The server copies from `source`, a mount of the same account; see `copy_from`."""
        raise NotImplementedError

    def signed(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        """See `sign`; method and time are what they may be."""
        raise NotImplementedError

    # --- what follows ---

    @cached_property
    def abilities(self) -> frozenset[str]:
        options = self.options
        absent = set() if options.markers else {"mkdir"}
        absent |= set() if options.version_aware else {"versions"}
        return super().abilities - absent - self.lacks()

    def native_path(self, path: str) -> str:
        return f"{self.bucket}/{self.key(path)}"

    def key(self, path: str) -> str:
        """The exact key of a path."""
        return f"{self.root}/{path}" if self.root else path

    def judge_file(self, path: str) -> None:
        """The root of a mount is no file."""
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        if not path:
            raise StorageNotFoundError("a directory has no facts of its own")
        return self.facts(path, version)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, flat=False, facts=facts)

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        return self._found(path, after, limit, flat=True, facts=True)

    def _found(self, path: str, after: str, limit: int | None, *, flat: bool, facts: bool) -> Iterator[Sequence[Stat]]:
        top = f"{self.root}/" if self.root else ""
        listing = Listing(lambda asked: self.page(asked, facts), top, path, flat=flat, after=after, limit=limit)
        yield from listing
        if listing.empty and path and not after:
            # Who asks for one entry asks whether there is any; what else may be there is not worth a request.
            if limit != 1 and self.has(path):
                raise StorageNotADirectoryError("Not a directory")
            raise StorageNotFoundError("No such directory")

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return self.stream(self._written(path, options))

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> PartWriter:
        return self.staged(self._written(path, options), part_size, token, receipts)

    def copy_from(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        """Within one account, whatever the buckets; type and metadata are kept unless the options have others."""
        if not isinstance(source, ObjectStoreBackend) or source.account != self.account:
            raise UnsupportedOperation(self.apart)
        return self.copied(source, source_path, self._written(path, options), version, tick)

    def _written(self, path: str, options: WriteOptions) -> Any:
        """The target of a write: what cannot be written so is refused before the first byte."""
        self.judge_file(path)
        return self.target(self.key(path), path, options)

    def mkdir(self, path: str) -> None:
        if self.options.markers:
            marker: Target = self.target(self.key(prefix_of(path)), path, PLAIN)
            marker.put(b"")

    def sign(self, path: str, method: str, expires_in: float, options: SignOptions) -> SignedRequest:
        self.judge_file(path)
        if method not in ("GET", "HEAD", "PUT"):
            raise ValueError(f"method is 'GET', 'HEAD' or 'PUT', not {method!r}")
        if not 1 <= expires_in <= LONGEST:
            raise ValueError(f"expires_in is 1 to {LONGEST} seconds, not {expires_in}")
        return self.signed(path, method, expires_in, options)
