"""The rules of a plan, as the options and the two storages make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..types import Place
from .landing import Landing
from .options import CopyOptions
from .places import of_its_kind
from .plan import Entry, Rules
from .report import TransferReport
from .skips import Skips, SkipStrategy

if TYPE_CHECKING:
    from .resume import Resume


def rules_of(
    landing: Landing,
    options: CopyOptions,
    nodes: tuple[Place, Place],
    report: TransferReport,
    resume: Resume | None = None,
) -> Rules:
    """`nodes`: places of the kind that the user's functions are to see; what `filter` raises goes into the report."""
    mount, comparing = landing.target.mount, report.operation == "compare"
    ask, skip_fn = options.filter, options.skip_fn

    def filtered(entry: Entry, of_target: bool) -> object:
        assert ask is not None
        return ask(of_its_kind(nodes[of_target], entry.stat.path), entry.relpath)

    def skipped(entry: Entry, there: Entry) -> object:
        assert skip_fn is not None
        return skip_fn(of_its_kind(nodes[0], entry.stat.path), of_its_kind(nodes[1], there.stat.path))

    return Rules(
        options.filters(),
        options.overwrite,
        resume is not None and not options.overwrite and resume.is_resumed,
        options.symlinks,
        options.empty_dirs and mount.can("mkdir") and not comparing,
        holds_both=comparing or not mount.features.real_dirs,
        folds=not (comparing or mount.features.case_sensitive),
        skips=Skips(SkipStrategy(options.skip or SkipStrategy.NEVER), landing.source.mount.features, mount.features),
        skip_fn=None if skip_fn is None else skipped,
        filter=None if ask is None else filtered,
        warn=report.warn,
        delete=options.delete,
        delete_excluded=options.delete_excluded,
    )
