"""One action of a tree, tried as often as it may help: files, links, directories."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from copy import copy
from typing import TYPE_CHECKING

from msgspec.structs import replace

from .. import paths
from ..backends.base import BackendReader
from ..exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..retry import RetryPolicy
from ..types import Place
from .backup import Backup
from .flow import Flow
from .job import Copied, Job
from .moving import Removal
from .nearby import Nearby
from .options import CopyOptions
from .places import At, both_local, fault, leads_back, near, same_place
from .plan import EXISTING, Action
from .pool import Note, Outcome, is_small
from .proof import same_bytes
from .skips import Doubt, Seen, Skips, SkipStrategy, seen
from .stream import copy_file

if TYPE_CHECKING:
    from .resume import Resume


class Worker:
    """Does the actions of one transfer; thread-safe. The mounts' own retries are off: here a file is tried again."""

    def __init__(
        self, source: Place, target: At, options: CopyOptions, flow: Flow, removal: Removal | None, *, single: bool
    ) -> None:
        """`single`: the target is the very place of the one file, not what entries lie below."""
        self._source = At(source.mount.without_retries(), source.path, source.version)
        self._target = At(target.mount.without_retries(), target.path)
        self._single = single
        self._local = both_local(source.mount, target.mount)
        self._options = options
        self._flow = flow
        self._retry = RetryPolicy(options.retries, sleep=flow.wait)
        self._removal = removal
        strategy = SkipStrategy(options.skip or SkipStrategy.NEVER)
        self._skips = Skips(strategy, source.mount.features, target.mount.features)
        kept = options.backup
        self._backup = None if kept is None or isinstance(kept, str) else Backup(kept, flow)
        self._takes_short_ways = (
            self._local and not single and removal is None and Nearby.leads(self._source, self._target, options)
        )
        self._nearby: Nearby | None = None
        self.resume: Resume | None = None
        """What earlier runs have done and this one does, where that is remembered."""
        self.tell: Callable[[Action, Note], object] = lambda action, note: None
        """Called from any thread when an action is tried again."""
        self.slow: Callable[[], object] = lambda: None
        """Called from any thread when a storage does not keep up."""

    def __call__(
        self, actions: Sequence[Action], opened: BackendReader | None = None
    ) -> Generator[Outcome, None, None]:
        """What came of each, in order; errors of the storages are part of the outcome, others are raised.

        `opened`: a reader of the source of the only one.
        """
        with near(self._source) as source, near(self._target) as target:
            here = copy(self)
            here._source, here._target = source, target
            if self._takes_short_ways:
                here._nearby = Nearby(source, target, self._options, self._flow)
            for action in actions:
                yield here._done(action, opened)

    def _done(self, action: Action, opened: BackendReader | None) -> Outcome:
        if self.resume is not None and (copied := self.resume.settled(action)) is not None:
            return self._removed(action, Outcome(copied))
        looked = None if action.doubt is None else self._looked(action)
        if looked is not None and (looked.error is not None or looked.reason):
            outcome = looked
        elif self._options.dry_run and action.kind == "link" and not action.reason:
            outcome = self._tried(action, lambda attempt: self._preview_link(action))
        elif self._options.dry_run:
            outcome = _previewed(action)
        elif action.kind == "mkdir":
            outcome = self._tried(action, lambda attempt: self._make_directory(action))
        else:
            outcome = self._replaced(action, opened)
        if looked is not None:
            outcome.hashed = looked.hashed
        if outcome.error is not None and self._options.errors == "stop":
            self._flow.cancel()  # here and not by the caller: the next file of this thread is new work too
        return outcome

    def settled_before(self, action: Action) -> Outcome | None:
        """What came of it when another worker did it that was lost since; None where that cannot be seen."""
        if action.kind != "copy":
            return None
        source = At(self._source.mount, action.entry.stat.path, self._source.version)
        target = self._landing(action)
        skips = self._skips._replace(strategy=SkipStrategy.HASH)
        try:
            here = source.mount.stat_file(source.path, version=source.version)
            there = target.mount.stat_file(target.path)
            same = skips.judged(here, there)
            if isinstance(same, Doubt):
                same = seen(same, skips, (source, here), (target, there), self._flow).reason
        except StorageError:
            return None
        return Outcome(Copied(here, here.size or 0, by_checksum=True)) if same else None

    def _looked(self, action: Action) -> Outcome:
        """What a closer look says of a file that may be good enough: a reason, an error, or neither.

        A comparison, whose actions have a reason, copies nothing: what it cannot read is an error and no difference.
        """
        found = Seen()

        def look(attempt: int) -> None:
            nonlocal found
            if action.doubt is not None and action.there is not None:
                source = At(self._source.mount, action.entry.stat.path, self._source.version)
                sides = (source, action.entry.stat), (self._landing(action), action.there)
                found = seen(action.doubt, self._skips, *sides, self._flow, copies=not action.reason)

        outcome = self._tried(action, look)
        outcome.reason, outcome.hashed = found.reason or "", found.hashed
        if not (outcome.error or found.reason or self._options.overwrite):
            outcome.error = fault(StorageExistsError, EXISTING, self._landing(action))
        return outcome

    def _replaced(self, action: Action, opened: BackendReader | None) -> Outcome:
        """A file or a link goes; what it replaces is kept before, where that is wanted."""
        if action.exists and not self._options.overwrite:
            return self._removed(action, self._tried(action, lambda attempt: self._recognised(action)))
        over_link = action.kind == "copy" and action.there is not None and action.there.is_symlink and not self._single
        if over_link or self._backup is not None:  # with or without a listing that tells what is there
            ready = self._tried(action, lambda attempt: self._make_ready(action, over_link))
            if ready.error is not None:
                return ready
        if action.kind == "link":
            return self._removed(action, self._tried(action, lambda attempt: self._recreate_link(action)))
        outcome = self._file(action, opened)
        if self.resume is not None and outcome.copied is not None:
            self.resume.committed(action, outcome.copied)
        return self._removed(action, outcome)

    def _make_ready(self, action: Action, over_link: bool) -> None:
        """Keeps what is to be replaced; a link to another file of the target goes, or this one would arrive there."""
        place = self._landing(action)
        if same_place(At(self._source.mount, action.entry.stat.path), place):
            return
        if self._backup is not None:
            self._backup.keep(place, action.entry.relpath)
        if over_link and leads_back(place, self._target):
            place.mount.delete(place.path)

    def _removed(self, action: Action, outcome: Outcome) -> Outcome:
        """For a move: the outcome once the source has gone too."""
        copied = outcome.copied
        if self._removal is None or copied is None or copied.same_place or self._flow.cancelled:
            return outcome
        stays = self._removal.proven(action.entry, copied.facts)
        return outcome if stays is None else Outcome(error=stays, attempts=outcome.attempts)

    def _tried(self, action: Action, do: Callable[[int], Copied | None]) -> Outcome:
        attempt = 0
        while True:
            try:
                return Outcome(do(attempt), attempts=attempt + 1)
            except StorageError as error:
                again = error.retryable or isinstance(error, (StorageConflictError, StorageCorruptedError))
                if self._flow.cancelled or not again or attempt >= self._retry.retries:
                    return Outcome(error=error, attempts=attempt + 1)
                if isinstance(error, StorageUnavailableError):
                    self.slow()
                attempt += 1
                self.tell(action, Note("retry", error, attempt))
                self._retry.wait(attempt - 1, error)

    def _file(self, action: Action, opened: BackendReader | None) -> Outcome:
        entry = action.entry
        if self._nearby is not None and is_small(action) and (copied := self._nearby.copied(action)) is not None:
            return Outcome(copied)
        job = Job(
            At(self._source.mount, entry.stat.path, self._source.version),
            self._landing(action),
            entry.stat,
            exact=self._single,
            apart=self._apart(action),
            local=self._local,
            staging=None if self.resume is None or is_small(action) else self.resume.staging(entry.relpath),
        )
        if is_small(action):
            return self._tried(action, lambda attempt: self._copy(job, attempt, opened, self._flow))

        def copy(attempt: int) -> Copied:
            with self._flow.file() as flow:
                flow.retried = lambda error, attempt: self.tell(action, Note("retry", error, attempt))
                return self._copy(job, attempt, opened, flow)

        return self._tried(action, copy)

    def _apart(self, action: Action) -> bool:
        # A move deletes: there even a link that the listing did not show must not hide that both are one.
        return self._single or (self._removal is None and not action.exists)

    def _copy(self, job: Job, attempt: int, opened: BackendReader | None, flow: Flow) -> Copied:
        if attempt == 0:
            return copy_file(job, self._options, flow, opened)
        facts = job.source.mount.stat_file(job.source.path, version=job.source.version)
        try:
            return copy_file(replace(job, facts=facts, exact=True), self._options, flow)
        except StorageExistsError:
            # The answer to an earlier attempt may have been lost on its way: then this is our own file.
            if same_bytes(job.source, job.target, flow):
                return Copied(facts, facts.size or 0)
            raise

    def _recognised(self, action: Action) -> Copied:
        """A file that must not be replaced, unless it is what an earlier run made and could not write down any more."""
        facts, place = action.entry.stat, self._landing(action)
        if action.there is None or action.there.size != facts.size:
            raise fault(StorageExistsError, EXISTING, place)
        if not same_bytes(At(self._source.mount, facts.path, self._source.version), place, self._flow):
            raise fault(StorageExistsError, EXISTING, place)
        return Copied(facts, facts.size or 0, resumed=facts.size or 0, written=place.mount.stat_file(place.path))

    def _landing(self, action: Action) -> At:
        if self._single:
            return self._target
        return At(self._target.mount, paths.below(self._target.path, action.entry.relpath))

    def _make_directory(self, action: Action) -> None:
        place = self._landing(action)
        place.mount.mkdir(place.path, parents=True, exist_ok=True)
        if self._removal is not None:
            self._removal.made(action.entry)

    def _recreate_link(self, action: Action) -> Copied:
        """A link with the same text; its target must lie inside the mount it is copied to."""
        source, place = At(self._source.mount, action.entry.stat.path), self._landing(action)
        text = source.mount.readlink(source.path)
        goal = _followed(place, text)
        try:
            _make_link(place, goal)
        except StorageExistsError:
            there = place.mount.stat(place.path)
            if not there.is_symlink:
                raise
            if place.mount.readlink(place.path) != text:
                if not self._options.overwrite:
                    raise
                place.mount.delete(place.path)
                _make_link(place, goal)
        return Copied(action.entry.stat)

    def _preview_link(self, action: Action) -> Copied:
        """As `_recreate_link`, as far as it can be told without writing."""
        place = self._landing(action)
        _followed(place, self._source.mount.readlink(action.entry.stat.path))
        if not place.mount.can("symlink"):
            raise fault(UnsupportedOperation, "this storage has no symbolic links", place)
        if action.there is not None and not action.there.is_symlink:
            raise fault(StorageExistsError, "a link replaces only a link", place)
        return Copied(action.entry.stat)


def _previewed(action: Action) -> Outcome:
    """What would come of it; a comparison says in the action what a difference is called."""
    if action.kind == "mkdir" or action.reason:
        return Outcome(reason=action.reason)
    return Outcome(Copied(action.entry.stat, action.entry.stat.size or 0))


def _make_link(place: At, goal: str) -> None:
    try:
        place.mount.symlink(place.path, goal)
    except StorageNotFoundError:
        place.mount.mkdir(paths.parent(place.path), parents=True, exist_ok=True)
        place.mount.symlink(place.path, goal)


def _followed(link: At, text: str) -> str:
    """The path in its mount that a link of this text at this place leads to."""
    segments = [] if text.startswith("/") else link.path.split("/")[:-1]
    outside = text.startswith("/")
    for segment in text.split("/"):
        if segment == "..":
            outside = outside or not segments
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    if outside:
        raise fault(StoragePathError, f"a link to '{text}' would lead out of the mount", link)
    return "/".join(segments)
