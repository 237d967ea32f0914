"""The listings a plan is made of: below one place, links followed or not, in proven order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain, islice
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from .. import paths
from ..backends.base import PAGE, order
from ..exceptions import StorageError, StorageNotFoundError, StoragePathError, UnsupportedOperation
from ..mount import Mount
from ..types import Place, Stat
from .flow import Flow
from .ordered import in_order
from .places import At, both_local, fault, is_within, leads_back, led_to, placed
from .plan import Action, Entry, Rules, actions


class OutOfOrder(Exception):
    """A listing that claims bytewise order did not keep it."""


class Watcher(Protocol):
    """Who needs to know more of a listing than its actions tell."""

    def seen(self, directory: Stat) -> None: ...
    def descended(self, link: Stat) -> None: ...


class Listing:
    """Everything below a place as `Entry` values sorted by key; names no path can express come first in their page.

    `linked`: the place is itself a link. `follow`: links to directories are descended. `avoid`: a place that no
    followed link may lead into. `watcher` is told every directory and every followed link. With
    a `flow` what is not local is read by a thread of its own, which may hang without holding up the caller.
    """

    def __init__(
        self,
        place: Place,
        *,
        follow: bool = False,
        avoid: Place | None = None,
        linked: bool = False,
        watcher: Watcher | None = None,
        flow: Flow | None = None,
    ) -> None:
        self._flow = flow
        self._place = At(place.mount, place.path)
        self._follow = follow
        self._linked = linked
        self._watcher = watcher
        self._avoided = _avoided(place, avoid) if follow and avoid is not None else ()
        self._started: Iterator[Entry] = iter(())
        self._disorder = False

    @property
    def claims_order(self) -> bool:
        """Whether the order is the store's word, to be verified, and not our own doing."""
        return not self._disorder and self._place.mount.can("walk") and self._place.mount.features.ordered

    def below(self, relpath: str) -> At:
        """The place of an entry."""
        mount, path, _ = self._place
        return At(mount, paths.below(path, relpath))

    def start(self, by_level: bool = False) -> Entry | None:
        """Reads the first page and returns the first entry; a missing directory → `StorageNotFoundError`.

        `by_level`: one directory at a time, whatever the store claims.
        """
        self._disorder = by_level
        entries = self._in_order() if self.claims_order else self._levels()
        try:
            first = next(entries, None)
        except OutOfOrder:
            self._disorder = True
            entries = self._levels()
            first = next(entries, None)
        self._started = self._ahead(chain(() if first is None else (first,), entries))
        return first

    def entries(self, by_level: bool = False) -> Iterator[Entry]:
        """All entries, those read by `start` included. `by_level`: read anew, one directory at a time."""
        return self._ahead(self._levels()) if by_level else self._started

    def _ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        flow = self._flow
        return entries if flow is None or self._place.mount.local_path("") is not None else flow.ahead(entries)

    def _levels(self) -> Iterator[Entry]:
        return self._below(self._place.path, True, self._avoided, self._linked)

    def _in_order(self) -> Iterator[Entry]:
        """The store's own order, proven: a page at a time, so that little is acted on before disorder is noticed."""
        entries = self._below(self._place.path, False, self._avoided, self._linked)
        last, failure = b"", None
        while failure is None:
            page: list[Entry] = []
            try:
                for entry in islice(entries, PAGE):
                    if entry.error is None:
                        if entry.key < last:
                            raise OutOfOrder
                        if entry.key == last:
                            continue
                        last = entry.key
                    page.append(entry)
            except StorageError as error:
                failure = error
            yield from page
            if not page:
                break
        if failure is not None:
            raise failure

    def _below(self, path: str, by_level: bool, above: tuple[str, ...], linked: bool) -> Iterator[Entry]:
        troubles: list[Trouble] = []
        listed = _by_level if by_level else _walk
        for stat in listed(self._place.mount, path, troubles):
            if troubles:
                yield from self._failed(troubles, linked)
            entry = self._entry(stat, linked)
            if stat.is_dir and stat.is_symlink and self._follow:
                yield from self._descended(entry, by_level, above)
                continue
            if self._watcher and stat.is_dir and not (stat.is_symlink or linked):
                self._watcher.seen(stat)
            yield entry
        yield from self._failed(troubles, linked)

    def _entry(self, stat: Stat, linked: bool, error: StorageError | None = None, unlisted: bool = False) -> Entry:
        root = self._place.path
        relpath = stat.path[len(root) + 1 :] if root else stat.path
        key = (relpath + "/" if stat.is_dir else relpath).encode("utf-8", "surrogateescape") if error is None else b""
        return Entry(relpath, key, stat, linked, error, unlisted)

    def _failed(self, troubles: list[Trouble], linked: bool) -> Iterator[Entry]:
        for stat, error, unlisted in troubles:
            yield self._entry(stat, linked, error, unlisted)
        troubles.clear()

    def _descended(self, entry: Entry, by_level: bool, above: tuple[str, ...]) -> Iterator[Entry]:
        """A link to a directory and what is below it, unless that would come back to where it started."""
        link = At(self._place.mount, entry.stat.path)
        here, parent = led_to(link), led_to(At(link.mount, paths.parent(link.path)))
        if here is None or parent is None:
            error: StorageError = fault(UnsupportedOperation, "where this link leads cannot be told", link)
            yield self._entry(entry.stat, True, error)
            return
        above = (*above, parent)
        if any(is_within(one, here) for one in above):
            error = fault(StoragePathError, "this link leads back to where it came from", link)
            yield self._entry(entry.stat, True, error)
            return
        if self._watcher and not entry.linked:
            self._watcher.descended(entry.stat)
        yield entry
        try:
            yield from self._below(link.path, by_level, above, True)
        except StorageError as failure:
            yield self._entry(entry.stat, True, failure, unlisted=True)


def _avoided(place: Place, avoid: Place) -> tuple[str, ...]:
    """Where no followed link may lead; nothing, where links of this storage cannot."""
    if not both_local(place.mount, avoid.mount) and place.mount.backend.storage_id != avoid.mount.backend.storage_id:
        return ()
    there = led_to(avoid)
    return () if there is None else (there,)


class Trouble(NamedTuple):
    """An entry that can only fail: a name no path can express, or a directory that cannot be listed (`unlisted`)."""

    stat: Stat
    error: StorageError
    unlisted: bool = False


def _unaddressable(mount: Mount, troubles: list[Trouble]) -> Callable[[Stat], None]:
    def odd(stat: Stat) -> None:
        error = fault(StoragePathError, "this name cannot be written as a path", At(mount, stat.path), "list")
        troubles.append(Trouble(stat, error))

    return odd


def _walk(mount: Mount, path: str, troubles: list[Trouble]) -> Iterator[Stat]:
    for page in mount.walk(path, odd=_unaddressable(mount, troubles)):
        yield from page


def _by_level(mount: Mount, path: str, troubles: list[Trouble]) -> Iterator[Stat]:
    """One directory at a time; one that cannot be listed is a trouble of its own, unless it is `path`."""
    levels = [_level(mount, path, troubles)]
    while levels:
        stat = next(levels[-1], None)
        if stat is None:
            levels.pop()
            continue
        yield stat
        if stat.is_dir and not stat.is_symlink:
            try:
                levels.append(_level(mount, stat.path, troubles))
            except StorageNotFoundError:
                continue  # it went meanwhile
            except StorageError as error:
                troubles.append(Trouble(stat, error, unlisted=True))


def _level(mount: Mount, path: str, troubles: list[Trouble]) -> Iterator[Stat]:
    odd = _unaddressable(mount, troubles)
    return in_order(mount.scan(path, odd=odd))


class TargetListing(Listing):
    """What is below the target, nothing where there is no such directory; what cannot be told does not count.

    Only a comparison follows links here. `files`: how many were listed so far; `complete`: nothing there is that could
    not be listed; `hidden`: why, by the relative path of such a directory. `untold`: a list to which is added what
    cannot be told, if anybody asks, before what comes after it.
    """

    files = 0
    complete = True
    untold: list[Entry] | None = None

    @cached_property
    def hidden(self) -> dict[str, StorageError]:
        return {}

    def judged(self, action: Action) -> Action:
        """The action, failed where nobody can tell whether the target has a file that is to be kept."""
        above = action.entry.relpath if self.hidden and action.kind in ("copy", "link") else ""
        while above := paths.parent(above):
            if (error := self.hidden.get(above)) is not None:
                return replace(action, kind="fail", error=error)
        return action

    def entries(self, by_level: bool = False) -> Iterator[Entry]:
        for entry in super().entries(by_level):
            self.files += not entry.stat.is_dir or entry.stat.is_symlink
            yield entry

    def _as_followed(self, entry: Entry) -> Entry:
        """A link to a directory that is followed is that directory; what is written must not arrive by two ways."""
        if not (entry.stat.is_dir and entry.stat.is_symlink):
            return entry
        if self._follow:
            return replace(entry, stat=replace(entry.stat, is_symlink=False))
        compares = self.untold is not None
        alias = not compares and leads_back(self._place._replace(path=entry.stat.path), self._place)
        return replace(entry, alias=alias)

    def again(self) -> Iterator[Entry]:
        """All entries anew, one directory at a time."""
        self.files, self.complete = 0, True
        return self.entries(by_level=True)

    def _below(self, path: str, by_level: bool, above: tuple[str, ...], linked: bool) -> Iterator[Entry]:
        begun = False
        try:
            for entry in super()._below(path, by_level, above, linked):
                begun = True
                if entry.unlisted and entry.error is not None:
                    self.complete = False
                    self.hidden[entry.relpath] = entry.error
                if entry.error is None:
                    yield self._as_followed(entry)
                elif self.untold is not None:
                    self.untold.append(entry)
        except StorageNotFoundError:
            if begun:
                raise


class Later(Protocol):
    """Who keeps the actions that come last."""

    def add(self, action: Action) -> None: ...
    def clear(self) -> None: ...


def planned(source: Listing, target: TargetListing, rules: Rules, later: Later | None = None) -> Iterator[Action]:
    """The actions for both listings; where one proves out of order, begins again level by level and repeats nothing.

    Deletions, and what waits for them, go to `later`; it is cleared when the plan begins again.
    """
    judged = target.judged if rules.keeps else _as_it_is
    acted = _Acted() if source.claims_order or target.claims_order else None
    try:
        for action in _at_once(actions(source.entries(), target.entries(), rules), later):
            if acted is not None:
                acted.add(action)
            yield _placed(judged(action), target)
    except OutOfOrder:
        done = acted.known() if acted is not None else frozenset()
        if later is not None:
            later.clear()
        for action in _at_once(actions(source.entries(by_level=True), target.again(), rules), later):
            if acted is None or acted.digest(action) not in done:
                yield _placed(judged(action), target)


def _at_once(found: Iterator[Action], later: Later | None) -> Iterator[Action]:
    if later is None:
        yield from found
        return
    for action in found:
        if action.waits or action.kind == "delete":
            later.add(action)
        else:
            yield action


def _as_it_is(action: Action) -> Action:
    return action


def _placed(action: Action, target: Listing) -> Action:
    if action.error is None:
        return action
    return replace(action, error=placed(action.error, target.below(action.entry.relpath)))


class _Acted:
    """The entries acted on, at 16 bytes each: a restart is rare and may cost more."""

    def __init__(self) -> None:
        from hashlib import blake2b  # brings a library that a copy between local disks does without

        self._digests, self._hash = bytearray(), blake2b

    def add(self, action: Action) -> None:
        self._digests += self.digest(action)

    def digest(self, action: Action) -> bytes:
        return self._hash(order(action.entry.stat), digest_size=16).digest()

    def known(self) -> frozenset[bytes]:
        digests = bytes(self._digests)
        return frozenset(digests[start : start + 16] for start in range(0, len(digests), 16))
