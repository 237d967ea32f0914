"""The plan of a tree: two listings, in bytewise order, become actions with reasons; pure and lazy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
)
from ..types import Stat
from .filters import Filters
from .options import Links

Kind = Literal["copy", "link", "mkdir", "skip", "fail"]

SPECIAL = "special file"
SYMLINK = "symlink"


class Entry(Struct, frozen=True):
    """One listed entry: its path relative to the root of the tree, its key in bytewise order, its facts.

    `linked`: reached through a link to a directory. `error`: why it can only fail. `unlisted`: a directory, and nobody
    knows what is in it.
    """

    relpath: str
    key: bytes
    stat: Stat
    linked: bool = False
    error: StorageError | None = None
    unlisted: bool = False


class Action(Struct, frozen=True):
    """What to do about one entry."""

    kind: Kind
    entry: Entry
    reason: str = ""
    error: StorageError | None = None
    exists: bool = False
    """The target has a file of this name."""


class Rules(Struct, frozen=True):
    """What a plan depends on besides the listings; the last two are facts of the target."""

    filters: Filters = Filters()
    overwrite: bool = True
    symlinks: Links = "follow"
    empty_dirs: bool = True
    holds_both: bool = False
    """A file `e` and files below `e/` can exist together."""
    folds: bool = False
    """Names that differ only in case or Unicode form are one."""


def actions(source: Iterable[Entry], target: Iterable[Entry], rules: Rules) -> Iterator[Action]:
    """One action for each file and each empty directory of the source, nearly in order.

    Reads no further in `target` than it must. Both must be sorted by `key`; a directory's key ends in ``/``.
    """
    plan = _Plan(rules)
    here, there = iter(source), iter(target)
    entry, other = next(here, None), next(there, None)
    while entry is not None or (plan.held and other is not None):
        if other is not None and (entry is None or other.key <= entry.key):
            yield from plan.see_target(other)
            other = next(there, None)
        elif entry is not None:
            yield from plan.see_source(entry)
            entry = next(here, None)
    yield from plan.release(None)


class _Held:
    """A file or directory whose action depends on what the listings hold below its name."""

    __slots__ = ("below_source", "below_target", "entry", "error", "exists", "is_dir", "prefix")

    def __init__(self, entry: Entry, is_dir: bool, exists: bool, error: StorageError | None = None) -> None:
        self.entry = entry
        self.is_dir = is_dir
        self.exists = exists
        self.error = error
        self.prefix = entry.key if entry.stat.is_dir else entry.key + b"/"
        self.below_source = False
        self.below_target = False


class _Plan:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.held: list[_Held] = []
        """Each one's key begins with the key of the one before: what is held is bounded by the length of a key."""
        self._files: list[bytes] = []
        """Files that only the target has and that may yet prove to stand where the source has a directory."""
        self._target_key = b""
        self._names = _FoldedNames() if rules.folds else None

    def see_target(self, entry: Entry) -> Iterator[Action]:
        """The next entry of the target."""
        yield from self.release(entry.key, of_source=False)
        self._target_key = entry.key
        if not entry.stat.is_dir:
            self._files = [key for key in self._files if entry.key.startswith(key)]
            self._files.append(entry.key)

    def see_source(self, entry: Entry) -> Iterator[Action]:
        """The next entry of the source."""
        yield from self.release(entry.key, of_source=True)
        exists = entry.key == self._target_key
        if exists and self._files and self._files[-1] == entry.key:
            self._files.pop()
        is_dir = entry.stat.is_dir and not (entry.stat.is_symlink and self.rules.symlinks != "follow")
        verdict = self._verdict(entry, is_dir)
        if verdict is None:
            if self.rules.empty_dirs or not is_dir:
                self.held.append(_Held(entry, is_dir, exists))
        elif verdict.kind == "fail" and is_dir and entry.error is None:
            self.held.append(_Held(entry, is_dir, exists, verdict.error))
        elif verdict.kind == "fail" or not is_dir:
            yield verdict

    def _verdict(self, entry: Entry, is_dir: bool) -> Action | None:
        """Whatever can be said of an entry without knowing what is below its name."""
        rules, stat = self.rules, entry.stat
        if reason := rules.filters.reason(entry.relpath, stat.is_dir):
            return Action("skip", entry, reason)
        if entry.error is not None:
            return Action("fail", entry, error=entry.error)
        if stat.is_symlink and rules.symlinks == "skip":
            return Action("skip", entry, SYMLINK)
        if stat.is_other and not stat.is_symlink:
            return Action("skip", entry, SPECIAL)
        if self._names and (twin := self._names.clash(entry.relpath)):
            return Action("fail", entry, error=_clash(entry.relpath, twin))
        self._files = [key for key in self._files if entry.key.startswith(key)]
        name = entry.key if is_dir else entry.key.removesuffix(b"/")  # a link is no directory, whatever it leads to
        if any(name.startswith(key + b"/") for key in self._files):
            return Action(
                "fail", entry, error=StorageNotADirectoryError("the target has a file where a directory is needed")
            )
        return None

    def release(self, key: bytes | None, *, of_source: bool = False) -> Iterator[Action]:
        """Decides what is held and cannot be touched by `key` or anything after it; None: the end."""
        kept = []
        for one in self.held:
            if key is not None and key.startswith(one.prefix):
                one.below_source |= of_source
                one.below_target |= not of_source
                kept.append(one)
            elif key is not None and key < one.prefix:
                kept.append(one)
            elif action := self._decided(one):
                yield action
        self.held = kept

    def _decided(self, one: _Held) -> Action | None:
        entry = one.entry
        if one.is_dir:
            return self._decided_directory(one)
        if one.below_source and not self.rules.holds_both:
            return Action(
                "fail",
                entry,
                error=StorageIsADirectoryError("the source is a file and a directory; the target holds one"),
            )
        if one.below_target and not one.below_source and not one.exists:
            return Action(
                "fail", entry, error=StorageIsADirectoryError("the target has a directory where a file is to go")
            )
        if one.exists and not self.rules.overwrite:
            return Action("fail", entry, error=StorageExistsError("the file exists and is not to be overwritten"))
        return Action(
            "link" if entry.stat.is_symlink and self.rules.symlinks == "copy" else "copy", entry, exists=one.exists
        )

    @staticmethod
    def _decided_directory(one: _Held) -> Action | None:
        if one.below_source:
            return None
        if one.error is not None:
            return Action("fail", one.entry, error=one.error)
        return None if one.exists or one.below_target else Action("mkdir", one.entry)


class _FoldedNames:
    """The names of the open directories as the target will see them."""

    def __init__(self) -> None:
        self._levels: list[tuple[str, dict[str, str]]] = []

    def clash(self, relpath: str) -> str | None:
        """The path of an earlier entry that the target takes for this one or for a directory above it."""
        segments = relpath.split("/")
        for depth, segment in enumerate(segments):
            names = self._level(depth, "/".join(segments[:depth]))
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", segment).casefold())
            first = names.setdefault(folded, segment)
            if first != segment:
                return "/".join([*segments[:depth], first])
        return None

    def _level(self, depth: int, directory: str) -> dict[str, str]:
        if len(self._levels) <= depth or self._levels[depth][0] != directory:
            del self._levels[depth:]
            self._levels.append((directory, {}))
        return self._levels[depth][1]


def _clash(relpath: str, twin: str) -> StorageError:
    return StorageExistsError(f"'{relpath}' and '{twin}' are one name for the target; only the first is copied")
