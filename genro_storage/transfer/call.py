"""One call of copy or move, from its landing to its report."""

from __future__ import annotations

import time
from collections.abc import Iterable

from msgspec.structs import replace

from ..exceptions import (
    StorageError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageTimeoutError,
    StorageTransferError,
    TransferCancelled,
)
from ..types import Place, Stat
from .crew import engine_for, flow_of, resume_of
from .engine import SAME_PLACE
from .events import Teller
from .findings import findings
from .flow import Flow
from .landing import Landing, missing
from .listing import Listing
from .moving import Removal, Survey, renamed, survey
from .options import CopyOptions
from .places import both_local, of_its_kind, placed, shown
from .plan import SYMLINK, Action, Entry, actions
from .report import TransferReport
from .rules import rules_of
from .skips import SkipStrategy
from .tree import Tree


class Call:
    """What is copied, how, and what it tells."""

    def __init__(
        self,
        operation: str,
        landing: Landing,
        options: CopyOptions,
        nodes: tuple[Place, Place] | None = None,
        flow: Flow | None = None,
        *,
        by_level: bool = False,
    ) -> None:
        """`nodes`: source and target as the caller named them, for the callbacks; `flow` runs since the landing.

        `by_level`: no storage is believed to list in order.
        """
        self._by_level = by_level
        self._moving = operation == "move"
        self._landing = landing
        self._options = options
        self._flow = flow_of(options) if flow is None else flow
        target = landing.target
        self._report = TransferReport(operation, shown(landing.source), shown(target), target.path, options.dry_run)
        source_node, target_node = nodes or (landing.source, target)
        self._nodes = source_node, of_its_kind(target_node, target.path)
        self._teller = Teller(options, self._report, self._flow, *self._nodes, single=not landing.is_tree)
        self._refused: StorageTransferError | None = None
        self._resume = resume_of(landing, options, self._report, self._flow)

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
            if self._resume is not None:
                self._resume.ended(report.ok and report.complete and self._refused is None)
        report.finished = time.time()
        self._teller.event("end")
        if self._refused is not None:
            raise self._refused
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
        action = None if landing.is_tree else self._action()
        if action is not None and action.kind in ("skip", "fail"):
            return self._single(action)
        found = self._surveyed()
        if found is not None and self._renamed(found):
            return None
        if action is None:
            return self._tree(links=found is not None and found.links)
        return self._single(action)

    def _entry(self) -> Entry:
        name = self._landing.name
        return Entry(name, name.encode("utf-8", "surrogateescape"), self._landing.facts)

    def _action(self) -> Action:
        """What is to be done about the one file: as if it were all that there is in a tree."""
        entry = self._entry()
        rules = rules_of(self._landing, self._options, self._nodes, self._report, self._resume)
        there = []
        if (rules.skips.strategy is not SkipStrategy.NEVER or not rules.overwrite) and (
            stat := self._flow.waited(self._there)
        ):
            there = [Entry(entry.relpath, entry.key, stat)]
        plan = actions([entry], there, rules)
        action = next(findings(plan) if self._report.operation == "compare" else plan)
        if action.error is None:
            return action
        return replace(action, error=placed(action.error, self._landing.target))

    def _there(self) -> Stat | None:
        mount, path, _ = self._landing.target
        try:
            found = mount.stat_file(path) if path else None
        except (StorageNotFoundError, StorageNotADirectoryError):
            return None
        return found if found is not None and not (found.is_dir and not found.is_symlink) else None

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
        here = both_local(landing.source.mount, landing.target.mount)
        aside = self._flow.waited if here else self._flow.apart  # a file system that hangs hears nobody anyway
        if not aside(lambda: renamed(landing.source, landing.target, self._options, found)):
            return False
        report.files_copied = found.files
        report.bytes_copied = report.bytes_server_side = found.size
        moved: Iterable[Entry] = (self._entry(),)
        if landing.is_tree:
            moved = self._flow.ahead(Listing(landing.target).entries(by_level=True))
        self._teller.renamed(found.files, found.size, moved)
        return True

    def _single(self, action: Action) -> StorageError | None:
        removal = self._removal(links=False)
        landing, options, report = self._landing, self._options, self._report
        engine = engine_for(landing, options, report, self._flow, self._teller, removal, self._resume)
        engine.run(iter((action,)))
        return engine.first_error

    def _tree(self, links: bool) -> StorageError | None:
        tree = Tree(self._landing, self._options, self._report, self._flow, self._teller, self._nodes)
        tree.by_level, tree.resume = self._by_level, self._resume
        error = tree.run(self._removal(links))
        self._refused = tree.refused
        return error

    def _removal(self, links: bool) -> Removal | None:
        return Removal(self._landing.source, links) if self._moving and not self._options.dry_run else None

    # --- the end ---

    def _raise(self, error: StorageError) -> None:
        if not self._landing.is_tree:
            raise error
        report, target = self._report, self._landing.target
        went = f"{report.files_copied} of {report.files_total} files went"
        if report.operation == "compare":
            went = f"{report.files_total - report.files_failed} files were compared"
        told = f"{report.failed} failed, {went}; the first: {error}"
        failure = StorageTransferError(told, operation=report.operation, mount=target.mount.name, path=target.path)
        failure.report = report
        raise failure from error
