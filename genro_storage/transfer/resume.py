"""What earlier runs of one call have done and begun, and what this run does: kept in the journal until it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import StorageConfigError, StorageConflictError, StorageError, StorageUnavailableError
from ..journal import Done, Job, Journal, Staged, default_journal, default_path, fingerprint
from ..paths import below
from . import parallel
from .flow import Flow
from .job import Copied
from .landing import Landing
from .options import CopyOptions
from .places import At, both_local, shown
from .plan import Action
from .report import TransferReport
from .staging import Staging, discard, state

if TYPE_CHECKING:
    from ..records.base import RecordStore

T = TypeVar("T")

PAGE = 500
PLAIN = (
    *("overwrite", "include", "exclude", "symlinks", "verify", "empty_dirs", "delete", "delete_excluded"),
    "content_type",
)
"""Options that are part of a job's identity as they are; how fast it goes is not."""


class Resume:
    """The journal's side of one call. `begin` and `ended` are for the caller's thread, the rest for any.

    The job is taken when the first file is handed out for which it may matter: a synchronisation that finds nothing to
    do, or one small file, opens no journal. A journal that fails on the way ends the remembering and not the transfer;
    a job that another process took over ends the transfer.
    """

    def __init__(
        self, operation: str, landing: Landing, options: CopyOptions, report: TransferReport, flow: Flow
    ) -> None:
        self._operation = operation
        self._landing = landing
        self._options = options
        self._report = report
        self._flow = flow
        self._moves_whole = options.server_side and both_local(landing.source.mount, landing.target.mount)
        self._asked = False
        self._journal: Journal | None = None
        self._taken: Job | None = None
        self._job: Job | None = None
        """The job, as long as the journal takes what is told."""
        self._known: dict[str, Done] = {}
        self._stagings: dict[str, Staging] = {}
        self._trouble: Exception | None = None
        self.lost: StorageConflictError | None = None
        """Another process has the job now."""

    # --- the beginning ---

    def begin(self, actions: Iterable[Action]) -> None:
        """Called with actions before they are handed out; looks up which of them an earlier run has done.

        Raises:
            StorageConflictError: another process works on this job, or another thread.
            StorageConfigError, StorageUnavailableError: the journal that was asked for cannot be used.
        """
        names = [action.entry.relpath for action in actions if self._matters(action)]
        if names:
            self._take()
        for start in range(0, len(names), PAGE):
            self._known.update(self._told(lambda job, at=start: job.done(names[at : at + PAGE])) or {})  # type: ignore[misc]

    def _matters(self, action: Action) -> bool:
        if action.kind != "copy":
            return False
        size = action.entry.stat.size
        return self._landing.is_tree or self._is_large(size)

    def _is_large(self, size: int | None) -> bool:
        return (size is None or size >= parallel.LARGE) and not self._moves_whole

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier run began this; asked before the first action it takes the job at once."""
        if self._landing.is_tree or self._is_large(self._landing.facts.size):
            self._take()
        return self._report.resumed

    def _take(self) -> None:
        if self._asked:
            return
        self._asked = True
        given = self._options.journal
        try:
            self._journal = journal_of(given)
            source, target = shown(self._landing.source), shown(self._landing.target)
            self._job = self._taken = self._journal.open(self._operation, source, target, self._identity())
            self._report.resumed = self._job.resumed
        except StorageConflictError:
            self._let_go()
            raise
        except (StorageError, OSError, ImportError) as error:  # a Python may come without SQLite
            self._let_go()
            if given is not None:
                raise unusable(given, error) from error
            self._report.warn(f"without resume: {unusable(given, error)}")

    def _identity(self) -> dict[str, Any]:
        """What makes it the same call: the very places, and the options that change what is written."""
        given, landing = self._options, self._landing
        plain = {name: getattr(given, name) for name in PLAIN}
        return plain | {
            "places": [
                [at.mount.backend.storage_id, at.mount.backend.native_path(at.path), at.version]
                for at in (landing.source, landing.target)
            ],
            "skip": None if given.skip is None else str(given.skip),
            "preserve": sorted(given.preserve),
            "functions": [given.filter is not None, given.skip_fn is not None],
            "backup": None if given.backup is None or isinstance(given.backup, str) else shown(given.backup),
        }

    # --- files that are done ---

    def settled(self, action: Action) -> Copied | None:
        """What an earlier run made of this file, if neither it nor its copy changed since."""
        done = self._known.pop(action.entry.relpath, None) if action.kind == "copy" else None
        facts = action.entry.stat
        if done is None or not done.target or done.source != state(facts) or not self._is_there(action, done):
            return None
        size = facts.size or 0
        return Copied(facts, size, resumed=size)

    def _is_there(self, action: Action, done: Done) -> bool:
        there = action.there
        if self._landing.is_tree:
            if there is None or fingerprint(there) == done.target:
                return there is not None
            if there.etag is not None:  # else a listing may tell less than a look at the file
                return False
        place = self.place(action.entry.relpath)
        try:
            return fingerprint(place.mount.stat_file(place.path)) == done.target
        except StorageError:
            return False

    def committed(self, action: Action, copied: Copied) -> None:
        """A file is at the target."""
        relpath = action.entry.relpath
        if action.kind != "copy" or copied.same_place:
            return
        target = "" if copied.written is None else fingerprint(copied.written)
        done = Done(state(action.entry.stat), target)
        self._told(lambda job: job.commit(relpath, done))
        self._stagings.pop(relpath, None)

    def place(self, relpath: str) -> At:
        """Where a file goes."""
        target = self._landing.target
        if not self._landing.is_tree:
            return target
        return At(target.mount, below(target.path, relpath))

    # --- files that are begun ---

    def staging(self, relpath: str) -> Staging | None:
        """What is remembered of a large file on its way; None where nothing is."""
        if self._job is None:
            return None
        found = self._stagings.get(relpath)
        if found is None:
            found = self._stagings[relpath] = Staging(self, relpath, self.place(relpath))
        return found

    @property
    def remembers(self) -> bool:
        """Whether what stays behind will be found again."""
        return self._job is not None

    def staged(self, relpath: str) -> Staged | None:
        return self._told(lambda job: job.staged(relpath))

    def stage(self, staged: Staged) -> bool:
        """Whether it is in the journal now."""
        self._told(lambda job: job.stage(staged))
        return self._job is not None and self.lost is None

    def receipt(self, relpath: str, offset: int, receipt: str) -> None:
        self._told(lambda job: job.receipt(relpath, offset, receipt))

    def unstage(self, relpath: str) -> None:
        self._told(lambda job: job.unstage(relpath))

    def _told(self, tell: Callable[[Job], T]) -> T | None:
        """What the job says; None where there is none, or it fails: then nothing is remembered from here on."""
        job = self._job
        if job is None:
            return None
        try:
            return tell(job)
        except StorageConflictError as error:
            self.lost = self.lost or error
            self._flow.cancel()
        except (StorageError, OSError) as error:
            self._trouble = self._trouble or error
            self._job = None
        return None

    # --- the end ---

    def ended(self, whole: bool) -> None:
        """Forgets a job that is `whole`, keeps it for a later run else; raises `lost`."""
        job, journal = self._job, self._journal
        try:
            if job is not None and journal is not None and whole and self.lost is None:
                for staged in journal.staged(job.info.id):  # of files that went meanwhile
                    discard(self.place(staged.path), staged.token)
                job.finish()
        except StorageConflictError as error:
            self.lost = self.lost or error
        except (StorageError, OSError) as error:
            self._trouble = self._trouble or error
        self._let_go()
        if self._trouble is not None:
            self._report.warn(f"without resume from here on: {unusable(self._options.journal, self._trouble)}")
        if self.lost is not None:
            self._report.cancelled = True
            raise self.lost

    def _let_go(self) -> None:
        job, journal = self._taken, self._journal
        self._taken = self._job = self._journal = None
        try:
            if job is not None:
                job.release()
        except (StorageError, OSError) as error:
            self._trouble = self._trouble or error
        finally:
            if journal is not None and isinstance(self._options.journal, (str, os.PathLike)):
                journal.close()


def journal_of(given: Journal | RecordStore | str | os.PathLike[str] | None) -> Journal:
    """The journal that `CopyOptions.journal` means."""
    if given is None:
        return default_journal()
    if isinstance(given, Journal):
        return given
    if not isinstance(given, (str, os.PathLike)):
        return Journal(given)
    from ..records.sqlite import SQLiteRecordStore

    return Journal(SQLiteRecordStore(os.path.abspath(given)))


def unusable(given: object, error: Exception) -> StorageError:
    """The error for a journal that does not do its work, with its name."""
    if given is None:
        try:
            given = default_path()
        except StorageConfigError:
            given = "of this user"
    name = f"'{os.fspath(given)}'" if isinstance(given, (str, os.PathLike)) else str(given)
    kind = StorageUnavailableError if isinstance(error, StorageUnavailableError) else StorageConfigError
    return kind(f"the journal {name} cannot be used: {error}")
