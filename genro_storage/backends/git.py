"""The files of a git repository as of a ref, read-only; the commits that changed a file are its versions."""

from __future__ import annotations

import os
import posixpath
import stat as modes
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from dulwich.errors import ApplyDeltaError, ChecksumMismatch, FileFormatException, NotGitRepository, ObjectMissing
from dulwich.objects import Commit, Tree
from dulwich.objectspec import parse_commit
from dulwich.repo import Repo
from dulwich.walk import Walker
from msgspec import Struct
from msgspec.structs import replace

from ..exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from ..paths import Rules, join
from ..types import Features, Stat, Version
from .base import BytesReader, StorageBackend, conflict, cut, order
from .options import Context

_RULES = Rules(backslash=True, surrogates=True)
_TREE, _LINK, _SUBMODULE = modes.S_IFDIR, modes.S_IFLNK, 0o160000
_MAX_LINKS = 40
_MAX_SIZES = 100_000


class GitOptions(Struct, frozen=True, kw_only=True):
    """`path`: the repository. `ref`: a branch, tag or commit. `subpath`: where the mount begins in its tree."""

    path: str
    ref: str = "HEAD"
    subpath: str = ""


class Item(NamedTuple):
    """One line of a tree."""

    mode: int
    sha: bytes

    @property
    def kind(self) -> int:
        return modes.S_IFMT(self.mode)


class _Opened:
    """The repository as one process has it open; its library is used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self.pid = os.getpid()
        self.repository = Repo(path)
        self.sizes: dict[bytes, int] = {}  # of blobs, whose id is their content: never stale

    def size(self, sha: bytes) -> int:
        if len(self.sizes) > _MAX_SIZES:
            self.sizes.clear()
        if sha not in self.sizes:
            self.sizes[sha] = len(self.blob(sha))
        return self.sizes[sha]

    def blob(self, sha: bytes) -> bytes:
        data: bytes = self.repository.object_store.get_raw(sha)[1]  # type: ignore[arg-type]
        return data

    def items(self, sha: bytes) -> dict[bytes, Item]:
        """The entries of a tree by name."""
        tree = self.repository.object_store[sha]  # type: ignore[index]
        assert isinstance(tree, Tree)
        return {entry.path: Item(entry.mode, entry.sha) for entry in tree.iteritems()}

    def find(self, tree: bytes, path: str) -> Item | None:
        """What is at a path of a tree; links on the way are not followed."""
        item: Item | None = Item(_TREE, tree)
        for name in _bytes(path).split(b"/") if path else ():
            if item is None or item.kind != _TREE:
                return None
            item = self.items(item.sha).get(name)
        return item

    def target(self, tree: bytes, path: str, link: Item) -> Item | None:
        """The file that a chain of links leads to inside the tree; None if it leads elsewhere."""
        item: Item | None = link
        for _ in range(_MAX_LINKS):
            if item is None or item.kind != _LINK:
                break
            text = self.blob(item.sha).decode("utf-8", "surrogateescape")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
            item = None if path.startswith(("/", "..")) else self.find(tree, path)
        return item if item is not None and item.kind == modes.S_IFREG else None


class GitBackend(StorageBackend):
    """Reads objects, never a work tree; a moved ref is seen by the next call. Etags are the ids of blobs."""

    Options: ClassVar[Any] = GitOptions
    aliases: ClassVar[dict[str, str]] = {"base_path": "path", "fo": "path"}
    features = Features(ordered=True, readonly=True, own_versions=False, surrogates=True, backslash=True)

    def __init__(self, options: Any, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options)
        self.context = context
        self.root = join("", options.subpath.strip("/"), rules=_RULES)
        self._path = os.path.realpath(os.path.join(context.directory, os.path.expanduser(options.path)))
        self._lock = threading.RLock()
        self._opened: _Opened | None = None
        if not os.path.isdir(self._path):
            raise StorageNotFoundError(f"there is no repository '{options.path}'; clone it there, or correct 'path'")
        if not any(os.path.exists(os.path.join(self._path, name)) for name in (".git", "objects")):
            raise StorageConfigError(f"'{options.path}' is not a git repository")

    @property
    def storage_id(self) -> str:
        return f"git:{self._path}:{self.options.ref}"

    def native_path(self, path: str) -> str:
        return join(self.root, path, rules=_RULES)

    def rooted(self, path: str) -> Self:
        twin = super().rooted("")
        twin.root = self.native_path(path)
        return twin

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.repository.close()

    def translate(self, error: Exception) -> StorageError | None:
        if isinstance(error, NotGitRepository):
            return StorageUnavailableError(f"'{self.options.path}' is no git repository any more", retryable=False)
        damage = (ApplyDeltaError, ChecksumMismatch, FileFormatException, ObjectMissing, KeyError, zlib.error)
        if isinstance(error, damage):
            return StorageCorruptedError(f"the repository is damaged or incomplete: {type(error).__name__}: {error}")
        return None

    # --- commits ---

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            opened = self._opened = _Opened(self._path)
        return opened

    def _commit(self, opened: _Opened, version: str | None = None) -> Commit | None:
        """The commit of the ref, or of a version; None where the repository has no commit at all."""
        repository = opened.repository
        if version is not None:
            try:
                found = repository.object_store[version.encode("ascii")]  # type: ignore[index]
            except (KeyError, ValueError, AssertionError) as error:
                raise StorageVersionNotFoundError(f"there is no commit '{version}'") from error
            if not isinstance(found, Commit):
                raise StorageVersionNotFoundError(f"'{version}' is no commit")
            return found
        try:
            return parse_commit(repository, self.options.ref)
        except (KeyError, ValueError) as error:
            if self.options.ref == "HEAD" and not (set(repository.refs.allkeys()) - {b"HEAD"}):
                return None
            raise StorageUnavailableError(f"there is no ref '{self.options.ref}'", retryable=False) from error

    def _at(self, path: str, version: str | None = None) -> tuple[_Opened, bytes, Item]:
        """(repository, tree of the commit, what is at the path); the root of an empty repository is an empty tree."""
        opened = self._open()
        commit = self._commit(opened, version)
        item = None if commit is None else opened.find(commit.tree, self.native_path(path))
        if commit is None and not path:
            return opened, b"", Item(_TREE, b"")
        if commit is None or item is None:
            if version is not None:
                raise StorageVersionNotFoundError("No such file in this version")
            raise StorageNotFoundError("No such file or directory")
        return opened, commit.tree, item

    # --- the port ---

    def _described(self, opened: _Opened, tree: bytes, path: str, item: Item, *, facts: bool = True) -> Stat:
        if item.kind == _TREE:
            return Stat(path, is_dir=True)
        linked = item.kind == _LINK
        file = opened.target(tree, self.native_path(path), item) if linked else item
        if file is None or file.kind == _SUBMODULE:
            return Stat(path, is_symlink=linked, is_other=True)
        size = opened.size(file.sha) if facts else None
        return Stat(path, size, is_symlink=linked, etag=file.sha.decode(), mode=file.mode & 0o777)

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        with self._lock:
            opened, tree, item = self._at(path, version)
            return replace(self._described(opened, tree, path, item), version_id=version)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        prefix = f"{path}/" if path else ""
        with self._lock:
            opened, tree, item = self._at(path)
            if item.kind != _TREE:
                raise StorageNotADirectoryError("Not a directory")
            items = opened.items(item.sha) if item.sha else {}
            level = [
                self._described(opened, tree, prefix + _text(name), found, facts=facts) for name, found in items.items()
            ]
        start = _bytes(after)
        yield [stat for stat in sorted(level, key=order) if not after or order(stat) > start][:limit]

    def get(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> tuple[bytes, Stat]:
        with self._lock:
            opened, tree, item = self._at(path, version)
            stat = self._described(opened, tree, path, item, facts=False)
            if stat.is_dir:
                raise StorageIsADirectoryError("Is a directory")
            if stat.is_other:
                raise UnsupportedOperation("a submodule, or a link to no file of this repository; it has no content")
            if if_match is not None and stat.etag != if_match:
                raise conflict(if_match, stat.etag)
            data = opened.blob(_bytes(stat.etag or ""))
        return cut(data, start, end), replace(stat, size=len(data), version_id=version)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BytesReader:
        return BytesReader(*self.get(path, start, end, version=version, if_match=if_match))

    def readlink(self, path: str) -> str:
        with self._lock:
            opened, _, item = self._at(path)
            if item.kind != _LINK:
                raise UnsupportedOperation("this is not a link")
            return _text(opened.blob(item.sha))

    def versions(self, path: str) -> Iterator[Version]:
        """The commits that changed this file, as far as the ref goes back; a commit that removed it is a deletion."""
        with self._lock:
            found = self._history(path)
        latest = True
        for newer, older in zip(found, [*found[1:], None], strict=False):
            if newer.is_delete_marker and (older is None or older.is_delete_marker):
                continue  # a directory of that name came, changed or went
            yield replace(newer, is_latest=latest)
            latest = False

    def _history(self, path: str) -> list[Version]:
        opened = self._open()
        commit, full = self._commit(opened), self.native_path(path)
        if commit is None or not full:
            return []
        found = []
        for entry in Walker(opened.repository.object_store, [commit.id], paths=[_bytes(full)]):
            item = opened.find(entry.commit.tree, full)
            number, when = entry.commit.id.decode(), float(entry.commit.commit_time)
            if item is None or item.kind in (_TREE, _SUBMODULE):
                found.append(Version(number, last_modified=when, is_delete_marker=True))
            else:
                stat = self._described(opened, entry.commit.tree, path, item)
                found.append(Version(number, last_modified=when, size=stat.size, etag=stat.etag))
        return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
