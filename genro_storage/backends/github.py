"""A repository at GitHub at one ref, read only: trees and blobs of its REST API."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import httpx
from msgspec import DecodeError, json
from msgspec.structs import replace

from ..exceptions import (
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, Stat, WriteOptions
from ._http import HttpKeys, HttpStorage, basic, encoded
from .base import BackendReader, BackendWriter, BytesReader, conflict, no_version, order
from .options import Context

ENDPOINT = "https://api.github.com"
FULL = 1000
"""Entries of a folder that `contents` tells of at most."""
LINKS = 8
"""Links in a row that are followed."""
_RAW = "application/vnd.github.raw+json"
_JSON = "application/vnd.github+json"
_LINK, _FOLDER, _MODULE = "120000", "040000", "160000"


class GitHubOptions(HttpKeys, frozen=True, kw_only=True):
    """`ref`: a branch, a tag or a commit; the default branch if left out. `endpoint`: the API of another server."""

    org: str
    repo: str
    ref: str = ""
    endpoint: str = ENDPOINT


class Entry(NamedTuple):
    """One entry of a folder, by its own name."""

    name: str
    sha: str
    mode: str
    size: int | None

    def stat(self, path: str) -> Stat:
        """Its facts; a link is not followed."""
        if self.mode == _FOLDER:
            return Stat(path, is_dir=True)
        if self.mode in (_LINK, _MODULE):
            return Stat(path, is_symlink=self.mode == _LINK, is_other=True)
        return Stat(path, self.size, etag=f'"{self.sha}"')


class GitHubBackend(HttpStorage):
    """A folder of a repository; the etag of a file is the id of its blob."""

    Options = GitHubOptions
    options: GitHubOptions
    aliases: ClassVar[Mapping[str, str]] = {"sha": "ref", "base_path": "path", "verify_ssl": "verify_tls"}
    features = Features(ordered=True, readonly=True)

    def __init__(self, options: GitHubOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context, options.endpoint, {"X-GitHub-Api-Version": "2022-11-28"})
        if options.token and options.username:
            self._headers |= basic(options.username, options.token)
        elif options.endpoint == ENDPOINT and "Authorization" not in self._headers:
            token = os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN")
            self._headers |= {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def storage_id(self) -> str:
        return f"github:{self.options.org}/{self.options.repo}@{self.options.ref}:{super().storage_id}"

    def native_path(self, path: str) -> str:
        """The path in the repository; ``..`` is refused here too."""
        whole = "/".join(part for part in (self.root, path) if part)
        encoded(whole)
        return whole

    def refused(self, response: httpx.Response) -> StorageError:
        headers = response.headers
        if response.status_code in (403, 429) and headers.get("x-ratelimit-remaining") == "0":
            reset = headers.get("x-ratelimit-reset", "")
            error = StorageUnavailableError("GitHub's rate limit is used up; a token raises it")
            error.retry_after = max(0.0, float(reset) - time.time()) if reset.isdecimal() else None
            return error
        if response.status_code == 403 and b"too_large" in response.read():
            return UnsupportedOperation("GitHub's API serves no file above 100 MB")
        return super().refused(response)

    # --- the API ---

    def _api(self, rest: str, query: str = "") -> str:
        where = f"{quote(self.options.org, '')}/{quote(self.options.repo, '')}"
        return f"{self._origin}{self._base}/repos/{where}/{rest}{query}"

    def _json(self, url: str) -> Any:
        with self.ask("GET", url, {"Accept": _JSON}) as answer:
            answer.read()
            try:
                return json.decode(answer.content)
            except DecodeError as error:
                raise StorageError(f"the answer is not one of GitHub's API ({error}); see 'endpoint'") from error

    def _level(self, folder: str) -> list[Entry]:
        """The entries of a folder of the repository."""
        ref = f"?ref={quote(self.options.ref, '')}" if self.options.ref else ""
        told = self._json(self._api(f"contents/{encoded(folder)}", ref))
        if not isinstance(told, list):
            raise StorageNotADirectoryError("Not a directory")
        if len(told) < FULL:
            return [Entry(item["name"], item["sha"], _mode(item), item["size"]) for item in told]
        tree = self._tree(self._find(folder).sha)
        if tree["truncated"]:
            raise StorageError("the folder has more entries than GitHub tells of")
        return [_of_tree(item) for item in tree["tree"]]

    def _tree(self, sha: str, query: str = "") -> dict[str, Any]:
        tree: dict[str, Any] = self._json(self._api(f"git/trees/{quote(sha, '')}", query))
        return tree

    def _find(self, whole: str) -> Entry:
        """The entry at a path of the repository."""
        if not whole:
            return Entry("", self.options.ref or "HEAD", _FOLDER, None)
        above, _, name = whole.rpartition("/")
        for entry in self._level(above):
            if entry.name == name:
                return entry
        raise StorageNotFoundError("No such file or directory at this ref")

    def _blob(self, entry: Entry) -> bytes:
        with self.ask("GET", self._api(f"git/blobs/{entry.sha}"), {"Accept": _RAW}) as answer:
            return b"".join(answer.iter_raw())

    # --- facts and listings ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        if not path:
            self.native_path(path)
            return Stat("", is_dir=True)
        return self._followed(path, self._find(self.native_path(path)))[0]

    def _followed(self, path: str, entry: Entry) -> tuple[Stat, Entry, str]:
        """(facts, what a link leads to, where that is); a link that leads nowhere or out of the mount is `is_other`."""
        place, found = path, entry
        for _ in range(LINKS):
            if found.mode != _LINK:
                told = found.stat(path)
                return (replace(told, is_symlink=True) if found is not entry else told), found, place
            target = self._blob(found).decode("utf-8", "surrogateescape")
            place = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            if place.startswith(("/", "..")):
                break
            try:
                found = self._find(self.native_path("" if place == "." else place))
            except (StorageNotFoundError, StorageNotADirectoryError):
                break
        return entry.stat(path), entry, path

    def readlink(self, path: str) -> str:
        entry = self._find(self.native_path(path))
        if entry.mode != _LINK:
            raise StoragePathError("not a symbolic link")
        return self._blob(entry).decode("utf-8", "surrogateescape")

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        whole = self.native_path(path)
        try:
            level = self._level(whole)
        except StorageNotADirectoryError:
            told, _, place = self._followed(path, self._find(whole))
            if not told.is_dir:
                raise
            level = self._level(self.native_path(place))
        yield self._told(f"{path}/" if path else "", level, after)[:limit]

    def _told(self, prefix: str, entries: Iterable[Entry], after: str) -> list[Stat]:
        found = (self._followed(prefix + entry.name, entry)[0] for entry in entries)
        least = after.encode("utf-8", "surrogateescape")
        return [stat for stat in sorted(found, key=order) if order(stat) > least]

    def walk(self, path: str, *, after: str = "", limit: int | None = None) -> Iterator[Sequence[Stat]]:
        entry = self._find(self.native_path(path))
        if entry.mode != _FOLDER:
            raise StorageNotADirectoryError("Not a directory")
        tree = self._tree(entry.sha, "?recursive=1")
        entries = self._deep(path) if tree["truncated"] else [_of_tree(item) for item in tree["tree"]]
        yield self._told(f"{path}/" if path else "", entries, after)[:limit]

    def _deep(self, path: str, below: str = "") -> Iterator[Entry]:
        """Everything below, folder by folder, as a tree of all levels names it."""
        for entry in self._level(self.native_path(f"{path}/{below}".strip("/"))):
            named = entry._replace(name=f"{below}/{entry.name}".lstrip("/"))
            yield named
            if entry.mode == _FOLDER:
                yield from self._deep(path, named.name)

    # --- reading ---

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        no_version(version)
        stat, entry, _ = self._followed(path, self._find(self.native_path(path)))
        if stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if stat.is_other:
            raise StorageNotFoundError("a submodule, or a link that leads to no file of this mount")
        if if_match not in (None, stat.etag):
            raise conflict(str(if_match), stat.etag)
        if end is not None and end <= start >= 0:
            return BytesReader(b"", stat)
        reader = self.open_range(path, self._api(f"git/blobs/{entry.sha}"), start, end, Accept=_RAW)
        reader.stat = stat
        return reader

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        raise UnsupportedOperation("a mount of type github is read-only")


def _mode(item: Mapping[str, Any]) -> str:
    """The mode of an item of `contents`, which calls a submodule a file and gives it no address."""
    if item["type"] == "file" and item.get("download_url") is None:
        return _MODULE
    return {"dir": _FOLDER, "symlink": _LINK, "submodule": _MODULE}.get(item["type"], "100644")


def _of_tree(item: Mapping[str, Any]) -> Entry:
    mode = {"tree": _FOLDER, "commit": _MODULE}.get(item["type"], item["mode"])
    return Entry(item["path"], item["sha"], mode, item.get("size"))
