"""A directory and all that is below it: copied, moved, synchronised or compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from ..exceptions import StorageError, StorageNotADirectoryError, StorageNotFoundError, StorageTransferError
from ..types import Place
from .crew import engine_for
from .engine import Engine
from .events import Teller
from .filters import Filters
from .findings import findings
from .flow import Flow
from .landing import Landing, missing, onto_file
from .listing import Listing, TargetListing, planned
from .moving import Removal
from .options import CopyOptions
from .places import below, placed
from .plan import Action, Entry, actions
from .report import TransferReport
from .rules import rules_of

if TYPE_CHECKING:
    from .deletion import Deletions
    from .resume import Resume

EMPTY = "the source is empty and the target is not; allow_empty_source=True deletes all the same"


class Tree:
    """One tree on its way. `refused`: why nothing was deleted, where that is an error of the call (T27)."""

    def __init__(
        self,
        landing: Landing,
        options: CopyOptions,
        report: TransferReport,
        flow: Flow,
        teller: Teller,
        nodes: tuple[Place, Place],
    ) -> None:
        self._landing = landing
        self._options = options
        self._report = report
        self._flow = flow
        self._teller = teller
        self._nodes = nodes
        self.refused: StorageTransferError | None = None
        self.by_level = False
        """No storage is believed to list in order."""
        self.resume: Resume | None = None

    def run(self, removal: Removal | None) -> StorageError | None:
        """Does all of it; returns the first failure of an entry. `removal`: of the sources of a move."""
        if removal is not None and self._landing.facts.is_symlink:
            removal.descended(self._landing.facts)
        source, first = self._source(removal)
        target, there = self._target()
        deletes = self._options.delete and self._report.operation != "compare"
        if deletes and first is None and there is not None and not self._options.allow_empty_source:
            self._refuse(EMPTY)
            return None
        deletions = self._deletions() if deletes else None
        with nullcontext() if deletions is None else closing(deletions):
            engine = self._engine(removal)
            engine.run(self._actions(source, first, target, deletions))
            if removal is not None:
                everything = self._report.ok and self._report.complete and not self._report.files_skipped
                goes = self._emptied_before()
                for path, error in self._flow.waited(lambda: list(removal.finish(everything, self._flow.tick, goes))):
                    engine.failed(error, path, "delete")
            self._report.complete = self._report.complete and target.complete
            if deletions is None:
                return engine.first_error
            return self._finish(engine, deletions, target)

    def _emptied_before(self) -> Callable[[str], bool]:
        """Whether an empty directory of a move's source goes, as an interrupted run may have emptied it.

        Where all that is empty was made at the target too, that is all that the patterns select.
        """
        options, report = self._options, self._report
        makes = options.empty_dirs and self._landing.target.mount.can("mkdir")
        if not makes or self.resume is None or not self.resume.is_resumed or not (report.ok and report.complete):
            return lambda relpath: False
        filters = options.filters()
        return lambda relpath: filters.reason(relpath, True) is None

    # --- the plan ---

    def _actions(
        self, source: Listing, first: Entry | None, target: TargetListing, deletions: Deletions | None
    ) -> Iterator[Action]:
        landing = self._landing
        rules = rules_of(landing, self._options, self._nodes, self._report, self.resume)
        if self._report.operation == "compare":
            untold = partial(_failures, target, rules.filters)
            return findings(actions(source.entries(), target.entries(), rules), untold)
        plan = planned(source, target, rules, deletions)
        if first is None and rules.empty_dirs and not landing.target.mount.is_dir(landing.target.path):
            return chain((Action("mkdir", Entry("", b"", landing.facts)),), plan)
        return plan

    def _source(self, removal: Removal | None) -> tuple[Listing, Entry | None]:
        """The listing and its first entry; this is where a missing directory is noticed."""
        landing = self._landing
        listing = Listing(
            landing.source,
            follow=self._options.symlinks == "follow",
            linked=landing.facts.is_symlink,
            avoid=None if self._report.operation == "compare" else landing.target,
            watcher=removal,
            flow=self._flow,
        )
        try:
            return listing, self._flow.waited(lambda: listing.start(self.by_level))
        except StorageNotFoundError as error:
            if self._options.allow_empty_source:
                return listing, None
            raise missing(landing.source) from error

    def _target(self) -> tuple[TargetListing, Entry | None]:
        compares = self._report.operation == "compare"
        follow = compares and self._options.symlinks == "follow"
        listing = TargetListing(self._landing.target, flow=self._flow, follow=follow)
        if compares:
            listing.untold = []
        try:
            return listing, self._flow.waited(lambda: listing.start(self.by_level))
        except StorageNotADirectoryError as error:
            raise onto_file(self._landing.target) from error

    def _engine(self, removal: Removal | None) -> Engine:
        landing, options, report = self._landing, self._options, self._report
        return engine_for(landing, options, report, self._flow, self._teller, removal, self.resume)

    # --- deletions, and what waited for them: their modules need more of the library than a copy does ---

    def _deletions(self) -> Deletions:
        from .deletion import Deletions

        return Deletions(self._teller.planned)

    def _finish(self, engine: Engine, deletions: Deletions, target: TargetListing) -> StorageError | None:
        """Deletes only where everything was seen and nothing failed; then what waited for that goes."""
        from .purge import Purge

        report, landing = self._report, self._landing
        purge = Purge(landing.source, landing.target, self._options, report, self._flow, self._teller)
        deleted = self._may_delete(deletions, target)
        if deleted:
            purge.run(deletions, lambda error, relpath: engine.failed(error, relpath, "delete"))
        if not deletions.waiting or self._flow.cancelled:
            return engine.first_error
        self._teller.files_total -= deletions.waiting_files  # they are counted again when they are planned again
        self._teller.bytes_total -= deletions.waiting_bytes
        second = self._engine(None)
        second.run(purge.released(deletions.waiting_actions(), deleted))
        return engine.first_error or second.first_error

    def _may_delete(self, deletions: Deletions, target: TargetListing) -> bool:
        from .deletion import refusal

        report = self._report
        if not deletions:
            return False
        if report.failed or not (report.complete and target.complete) or self._flow.cancelled:
            self._not_deleted(deletions, target)
            return False
        if too_many := refusal(deletions.count, target.files, self._options.max_delete):
            self._refuse(too_many)
            return False
        return True

    def _not_deleted(self, deletions: Deletions, target: TargetListing) -> None:
        from .deletion import NOT_DELETED

        report = self._report
        if not target.complete:
            report.complete = False
            report.warn("a directory of the target could not be listed, so nothing was deleted")
        if deletions.count:
            report.skip_reasons[NOT_DELETED] = deletions.count
        if self._teller.listens:
            for relpath in chain.from_iterable(deletions.files()):
                dest = below(self._nodes[1], relpath)
                self._teller.event("skip", dest=dest, relpath=relpath, reason=NOT_DELETED)

    def _refuse(self, told: str) -> None:
        """A guard says no: an error of the call, in a dry run a part of the report."""
        report, target = self._report, self._landing.target
        error = StorageTransferError(told, operation=report.operation, mount=target.mount.name, path=target.path)
        error.report = report
        report.fail("", "delete", error, is_file=False)
        if self._options.dry_run:
            report.warn(told)
        else:
            self.refused = error


def _failures(target: TargetListing, filters: Filters) -> Iterator[Action]:
    """What the target could not tell since the last time, but for what is filtered."""
    while target.untold:
        entry = target.untold.pop(0)
        if entry.error is not None and not filters.reason(entry.relpath, entry.stat.is_dir):
            yield Action("fail", entry, error=placed(entry.error, target.below(entry.relpath)))
