"""One call of copy or move, from its landing to its report."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..exceptions import (
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageTimeoutError,
    StorageTransferError,
    TransferCancelled,
)
from ..types import Place
from .crew import engine_for, flow_of
from .engine import SAME_PLACE, Engine
from .events import Teller
from .flow import Flow
from .landing import Landing, missing, onto_file
from .listing import Listing, TargetListing, planned
from .moving import Removal, Survey, renamed, survey
from .options import CopyOptions
from .places import of_its_kind, shown
from .plan import SYMLINK, Action, Entry, Rules
from .report import TransferReport


class Call:
    """What is copied, how, and what it tells."""

    def __init__(
        self,
        operation: str,
        landing: Landing,
        options: CopyOptions,
        nodes: tuple[Place, Place] | None = None,
        flow: Flow | None = None,
    ) -> None:
        """`nodes`: source and target as the caller named them, for the callbacks; `flow` runs since the landing."""
        self._moving = operation == "move"
        self._landing = landing
        self._options = options
        self._flow = flow_of(options) if flow is None else flow
        target = landing.target
        self._report = TransferReport(operation, shown(landing.source), shown(target), target.path)
        source_node, target_node = nodes or (landing.source, target)
        end = of_its_kind(target_node, target.path)
        self._teller = Teller(options, self._report, self._flow, source_node, end, single=not landing.is_tree)

    def run(self) -> TransferReport:
        """Does it all; raises as `transfer.copy` says."""
        opened, report = self._landing.opened, self._report
        self._teller.event("start")
        try:
            error = self._run()
        except BaseException as stopped:
            report.cancelled, report.finished = True, time.time()
            if isinstance(stopped, (TransferCancelled, StorageTimeoutError)):
                stopped.report = report
            raise
        finally:
            if opened is not None and not self._flow.abandoned:
                opened.close()
        report.finished = time.time()
        self._teller.event("end")
        if error is not None and self._options.errors != "report":
            self._raise(error)
        return self._report

    def _run(self) -> StorageError | None:
        landing, policy = self._landing, self._options.symlinks
        if landing.same:
            return self._single(Action("skip", self._entry(), SAME_PLACE))
        if landing.facts.is_symlink and policy != "follow":
            return self._single(
                Action("skip", self._entry(), SYMLINK) if policy == "skip" else Action("link", self._entry())
            )
        if not landing.is_tree and (reason := self._options.filters().reason(landing.name)):
            return self._single(Action("skip", self._entry(), reason))
        found = self._surveyed()
        if found is not None and self._renamed(found):
            return None
        if landing.is_tree:
            return self._tree(links=found is not None and found.links)
        return self._single(Action("copy", self._entry()))

    def _entry(self) -> Entry:
        return Entry(self._landing.name, b"", self._landing.facts)

    # --- the ways ---

    def _surveyed(self) -> Survey | None:
        """For a move: what there is, where a rename or links are possible at all."""
        source, target = self._landing.source.mount, self._landing.target.mount
        if not self._moving or not (source.can("readlink") or target.can("rename_from")):
            return None
        try:
            return self._flow.waited(lambda: survey(self._landing.source, self._landing.facts))
        except StorageNotFoundError as error:
            raise missing(self._landing.source) from error

    def _renamed(self, found: Survey) -> bool:
        landing, report = self._landing, self._report
        if not landing.target.mount.can("rename_from"):
            return False
        if not renamed(landing.source, landing.target, self._options, found):
            return False
        report.files_copied = found.files
        report.bytes_copied = report.bytes_server_side = found.size
        moved = Listing(landing.target).entries(by_level=True) if landing.is_tree else (self._entry(),)
        self._teller.renamed(found.files, found.size, moved)
        return True

    def _single(self, action: Action) -> StorageError | None:
        removal = Removal(self._landing.source, links=False) if self._moving else None
        engine = self._engine(removal)
        engine.run(iter((action,)))
        return engine.first_error

    def _tree(self, links: bool) -> StorageError | None:
        landing = self._landing
        removal = Removal(landing.source, links) if self._moving else None
        if removal is not None and landing.facts.is_symlink:
            removal.descended(landing.facts)
        engine = self._engine(removal)
        engine.run(self._actions(removal))
        if removal is not None:
            everything = self._report.ok and not self._report.files_skipped
            for path, error in removal.finish(everything):
                engine.failed(error, path, "delete")
        return engine.first_error

    def _actions(self, removal: Removal | None) -> Iterator[Action]:
        landing, options, mount = self._landing, self._options, self._landing.target.mount
        source, first = self._source_listing(removal)
        target = TargetListing(landing.target, flow=self._flow)
        try:
            self._flow.waited(target.start)
        except StorageNotADirectoryError as error:
            raise onto_file(landing.target) from error
        empty_dirs = options.empty_dirs and mount.can("mkdir")
        if first is None:
            wanted = empty_dirs and not mount.is_dir(landing.target.path)
            return iter([Action("mkdir", Entry("", b"", landing.facts))] if wanted else [])
        features = mount.features
        rules = Rules(
            options.filters(),
            options.overwrite,
            options.symlinks,
            empty_dirs,
            holds_both=not features.real_dirs,
            folds=not features.case_sensitive,
        )
        return planned(source, target, rules)

    def _source_listing(self, removal: Removal | None) -> tuple[Listing, Entry | None]:
        """The listing and its first entry; this is where a missing directory is noticed."""
        landing = self._landing
        listing = Listing(
            landing.source,
            follow=self._options.symlinks == "follow",
            linked=landing.facts.is_symlink,
            avoid=landing.target,
            watcher=removal,
            flow=self._flow,
        )
        try:
            return listing, self._flow.waited(listing.start)
        except StorageNotFoundError as error:
            raise missing(landing.source) from error

    def _engine(self, removal: Removal | None) -> Engine:
        return engine_for(self._landing, self._options, self._report, self._flow, self._teller, removal)

    # --- the end ---

    def _raise(self, error: StorageError) -> None:
        if not self._landing.is_tree:
            raise error
        report, target = self._report, self._landing.target
        told = f"{report.failed} failed, {report.files_copied} of {report.files_total} files went; the first: {error}"
        failure = StorageTransferError(told, operation=report.operation, mount=target.mount.name, path=target.path)
        failure.report = report
        raise failure from error
