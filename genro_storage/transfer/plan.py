"""The plan of a tree: two listings, in bytewise order, become actions with reasons; pure and lazy."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
)
from ..types import Features, Stat
from .filters import Filters
from .options import Links
from .skips import CUSTOM, Doubt, Skips, SkipStrategy

Kind = Literal["copy", "link", "mkdir", "skip", "fail", "delete"]

SPECIAL = "special file"
SYMLINK = "symlink"
FILTERED = "filter"
RAISED = "filter raised"
BOTH = "the source is a file and a directory; the target holds one"
IN_THE_WAY = "the target has a file, or a link, where a directory is needed"
AFTER = b"0"
"""Added to a name: what comes no earlier than this is neither that name nor below it."""
EXISTING = "the file exists and is not to be overwritten"


class Entry(Struct, frozen=True):
    """One listed entry: its path relative to the root of the tree, its key in bytewise order, its facts.

    `linked`: reached through a link to a directory. `error`: why it can only fail. `unlisted`: a directory, and nobody
    knows what is in it. `alias`: a link of the target to a directory that is reached without it too.
    """

    relpath: str
    key: bytes
    stat: Stat
    linked: bool = False
    error: StorageError | None = None
    unlisted: bool = False
    alias: bool = False


class Action(Struct, frozen=True):
    """What to do about one entry: of the source, or for ``delete`` of the target.

    `there`: what the target has of this name, as listed. `doubt`: what must be looked at to know whether that is kept.
    `waits`: something is in the way, and it will be deleted first.
    """

    kind: Kind
    entry: Entry
    reason: str = ""
    error: StorageError | None = None
    there: Stat | None = None
    doubt: Doubt | None = None
    waits: bool = False

    @property
    def exists(self) -> bool:
        """The target has a file of this name."""
        return self.there is not None


class Rules(Struct, frozen=True):
    """What a plan depends on besides the listings."""

    filters: Filters = Filters()
    overwrite: bool = True
    resumed: bool = False
    """An earlier run may have made what exists and is not to be overwritten: whoever does it looks."""
    symlinks: Links = "follow"
    empty_dirs: bool = True
    holds_both: bool = False
    """A fact of the target: a file `e` and files below `e/` can exist together."""
    folds: bool = False
    """A fact of the target: names that differ only in case or Unicode form are one."""
    skips: Skips = Skips(SkipStrategy.NEVER, Features(), Features())
    skip_fn: Callable[[Entry, Entry], object] | None = None
    """Decides for ``custom``, of an entry and the target's."""
    filter: Callable[[Entry, bool], object] | None = None
    """Asked last, for files: whether this entry (True: of the target) goes."""
    warn: Callable[[str], object] = str
    """Told what `filter` raised."""
    delete: bool = False
    """Entries of the target that the source has not become actions too; `delete_excluded`: the filtered as well."""
    delete_excluded: bool = False

    @property
    def keeps(self) -> bool:
        """Whether something that the target has may stay, and only a listing tells that it is there."""
        told = self.overwrite or self.skips.target.if_absent != "none"
        return self.skips.strategy is not SkipStrategy.NEVER or not told


def actions(source: Iterable[Entry], target: Iterable[Entry], rules: Rules) -> Iterator[Action]:
    """One action for each file and each empty directory of the source, nearly in order; deletions in order.

    Reads no further in `target` than it must. Both must be sorted by `key`; a directory's key ends in ``/``.
    """
    plan = _Plan(rules)
    here, there = iter(source), iter(target)
    entry, other = next(here, None), next(there, None)
    while entry is not None or (other is not None and (plan.held or rules.delete)):
        if other is not None and (entry is None or other.key <= entry.key):
            yield from plan.see_target(other, entry)
            other = next(there, None)
        elif entry is not None and other is None and plan.is_plain(entry):
            after = next(here, None)
            if after is None or after.key >= entry.key + AFTER:
                if not plan.is_within(entry.key):
                    yield from plan.release(entry.key, of_source=True)
                yield Action("copy", entry)
            else:  # what stands below this name may decide about it
                yield from plan.see_source(entry)
            entry = after
        elif entry is not None:
            yield from plan.see_source(entry)
            entry = next(here, None)
    yield from plan.release(None)


class _Held:
    """A file or directory whose action depends on what the listings hold below its name."""

    __slots__ = ("below_source", "below_target", "blocked", "entry", "error", "is_dir", "prefix", "there")

    def __init__(self, entry: Entry, is_dir: bool, there: Entry | None, blocked: bool) -> None:
        self.entry = entry
        self.is_dir = is_dir
        self.there = there
        self.blocked = blocked
        """A file of the target stands where a directory above is needed, or the directory itself."""
        self.error: StorageError | None = None
        self.prefix = entry.key if entry.stat.is_dir else entry.key + b"/"
        self.below_source = False
        self.below_target = False


class _Plan:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.held: list[_Held] = []
        """Each one's key begins with the key of the one before: what is held is bounded by the length of a key."""
        self._files: list[bytes] = []
        """Files and links of the target only, which may yet prove to stand where the source has a directory."""
        self._there: Entry | None = None
        self._names = _FoldedNames() if rules.folds else None
        self._takes_all = not (rules.filters or rules.filter is not None or rules.folds)

    # --- the target's entries ---

    def see_target(self, entry: Entry, mate: Entry | None) -> Iterator[Action]:
        """The next entry of the target; `mate`: the next of the source, its key is not smaller."""
        yield from self.release(entry.key, of_source=False)
        self._there = entry
        if entry.alias or not entry.stat.is_dir:
            self._files = [key for key in self._files if entry.key.startswith(key)]
            self._files.append(entry.key.removesuffix(b"/"))
        if self.rules.delete and self._goes(entry, mate):
            yield Action("delete", entry)

    def _goes(self, entry: Entry, mate: Entry | None) -> bool:
        """Whether an entry of the target is deleted; that of a file which both have is decided with the source's."""
        rules = self.rules
        is_dir = _is_real_dir(entry)
        both = mate is not None and (mate.key.startswith(entry.key) if entry.stat.is_dir else mate.key == entry.key)
        is_link = mate is not None and self._is_link(mate, entry)
        if (is_dir and is_link) or (entry.alias and not is_link):
            both = False  # a link is to stand where this directory is, or a directory where this link is
        left_out = rules.filters.reason(entry.relpath, entry.stat.is_dir)
        if both:
            return is_dir and left_out is not None and rules.delete_excluded
        if left_out is None and not is_dir:
            left_out = self._filtered(entry, of_target=True)
        return left_out is None or (rules.delete_excluded and not left_out.startswith(RAISED))

    def _is_link(self, entry: Entry, other: Entry) -> bool:
        """Whether this entry of the source is a link that is not followed, of the same name as `other`."""
        return entry.key == other.key and entry.stat.is_symlink and self.rules.symlinks != "follow"

    # --- the source's entries ---

    def is_plain(self, entry: Entry) -> bool:
        """Whether it goes for sure, being a file, if nothing of the source is below its name, nor of the target."""
        stat = entry.stat
        return (
            self._takes_all
            and not (stat.is_dir or stat.is_symlink or stat.is_other or entry.error is not None or self._files)
            and (self._there is None or self._there.key != entry.key)
        )

    def is_within(self, key: bytes) -> bool:
        """Whether all that is held are directories that are known to hold something, this key among it."""
        for one in self.held:  # noqa: SIM110 - asked for each file: a third of the time of `all`
            if not (one.below_source and key.startswith(one.prefix)):
                return False
        return True

    def see_source(self, entry: Entry) -> Iterator[Action]:
        """The next entry of the source."""
        yield from self.release(entry.key, of_source=True)
        if entry.error is not None:
            left_out = self.rules.filters.reason(entry.relpath, entry.stat.is_dir)
            yield Action("skip", entry, left_out) if left_out else Action("fail", entry, error=entry.error)
            return
        there = self._there if self._there is not None and self._there.key == entry.key else None
        if there is not None and self._files and self._files[-1] == entry.key:
            self._files.pop()
        stat, is_link = entry.stat, entry.stat.is_symlink and self.rules.symlinks != "follow"
        is_dir = stat.is_dir and not is_link
        if is_dir and there is not None and there.alias:
            there = None  # the directory is still to be made
        self._files = [key for key in self._files if entry.key.startswith(key)]
        name = entry.key if is_dir else entry.key.removesuffix(b"/")  # a link is no directory, whatever it leads to
        blocked = any(name.startswith(key + b"/") for key in self._files)
        if is_dir:
            self._see_directory(_Held(entry, True, there, blocked))
        elif (is_link and self.rules.symlinks == "skip") or (stat.is_other and not stat.is_symlink):
            left_out = self.rules.filters.reason(entry.relpath, stat.is_dir)
            yield Action("skip", entry, left_out or (SYMLINK if is_link else SPECIAL))
        else:
            self.held.append(_Held(entry, False, there, blocked))

    def _see_directory(self, one: _Held) -> None:
        relpath = one.entry.relpath
        if self.rules.filters.reason(relpath, True):
            return
        one.error = self._clash(relpath)
        if self.rules.empty_dirs or one.error is not None or one.blocked:
            self.held.append(one)

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
            else:
                yield from self._decided_directory(one) if one.is_dir else self._decided(one)
        self.held = kept

    # --- decisions: kind, patterns, filter, skip, overwrite ---

    def _decided(self, one: _Held) -> Iterator[Action]:
        entry, rules, there = one.entry, self.rules, one.there
        if one.below_source and not rules.holds_both:
            yield Action("fail", entry, error=StorageIsADirectoryError(BOTH))
            return
        in_the_way = self._in_the_way(one)
        if in_the_way is not None and not rules.delete:
            yield Action("fail", entry, error=in_the_way)
        elif left_out := rules.filters.reason(entry.relpath, entry.stat.is_dir) or self._filtered(entry):
            yield Action("skip", entry, left_out)
            if there is not None and rules.delete and rules.delete_excluded and not left_out.startswith(RAISED):
                yield Action("delete", there)
        elif clash := self._clash(entry.relpath):
            yield Action("fail", entry, error=clash)
        else:
            yield self._judged(entry, None if in_the_way else there, waits=in_the_way is not None)

    @staticmethod
    def _in_the_way(one: _Held) -> StorageError | None:
        """What of the other kind the target has: where this is to go, or where a directory above it is needed (T18)."""
        if one.blocked:
            return StorageNotADirectoryError(IN_THE_WAY)
        if one.there is not None:
            is_dir = _is_real_dir(one.there)  # where this is a link that leads to a directory
        else:
            is_dir = one.below_target and not one.below_source
        return StorageIsADirectoryError("the target has a directory where a file is to go") if is_dir else None

    def _filtered(self, entry: Entry, of_target: bool = False) -> str | None:
        if self.rules.filter is None:
            return None
        try:
            return None if self.rules.filter(entry, of_target) else FILTERED
        except Exception as error:  # noqa: BLE001 - the user's function
            self.rules.warn(f"filter raised {type(error).__name__}: {error}: '{entry.relpath}'")
            return f"{RAISED} {type(error).__name__}"

    def _judged(self, entry: Entry, there: Entry | None, waits: bool) -> Action:
        """A file that is to go, unless what the target has is good enough."""
        kind: Kind = "link" if entry.stat.is_symlink and self.rules.symlinks == "copy" else "copy"
        if there is None:
            return Action(kind, entry, waits=waits)
        try:
            verdict = self._verdict(kind, entry, there)
        except Exception as error:  # noqa: BLE001 - the user's function
            failure = StorageError(f"skip_fn raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            return Action("fail", entry, error=failure)
        if isinstance(verdict, Doubt):
            return Action(kind, entry, there=there.stat, doubt=verdict)
        if verdict is not None:
            return Action("skip", entry, verdict)
        if not self.rules.overwrite and (kind == "link" or not self.rules.resumed):
            return Action("fail", entry, error=StorageExistsError(EXISTING))
        return Action(kind, entry, there=there.stat)

    def _verdict(self, kind: Kind, entry: Entry, there: Entry) -> str | Doubt | None:
        skips = self.rules.skips
        if skips.strategy is SkipStrategy.CUSTOM and self.rules.skip_fn is not None:
            return CUSTOM if self.rules.skip_fn(entry, there) else None
        if kind == "link" and skips.strategy not in (SkipStrategy.NEVER, SkipStrategy.EXISTS):
            return Doubt.LINK if there.stat.is_symlink else None
        return skips.judged(entry.stat, there.stat)

    def _decided_directory(self, one: _Held) -> Iterator[Action]:
        if one.below_source:
            return
        delete, error = self.rules.delete, one.error
        if one.blocked and not delete:
            error = StorageNotADirectoryError(IN_THE_WAY)
        if error is not None:
            yield Action("fail", one.entry, error=error)
        elif one.there is None and self.rules.empty_dirs and (not one.below_target or delete):
            # Where directories are implied, deletions may take this one away.
            yield Action("mkdir", one.entry, waits=one.blocked or one.below_target)

    def _clash(self, relpath: str) -> StorageError | None:
        twin = self._names.clash(relpath) if self._names is not None else None
        return None if twin is None else _clash(relpath, twin)


def _is_real_dir(entry: Entry) -> bool:
    return entry.stat.is_dir and not entry.stat.is_symlink


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
