"""Who does the work of one call: the caller's thread, threads, or the workers of an executor."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from . import parallel
from .engine import Engine
from .events import Teller
from .files import Worker
from .flow import Flow
from .job import SMALL
from .landing import Landing
from .moving import Removal
from .options import CopyOptions
from .pace import Width, width
from .places import both_local
from .pool import Here, Pool, Threads
from .report import TransferReport

if TYPE_CHECKING:
    from .resume import Resume


def flow_of(options: CopyOptions) -> Flow:
    """What the files of one call share."""
    rate = options.bandwidth
    assert not isinstance(rate, str)  # judged and made a number with the options
    return Flow(options.buffer, bandwidth=rate, cancel=options.cancel, deadline=options.deadline)


def resume_of(landing: Landing, options: CopyOptions, report: TransferReport, flow: Flow) -> Resume | None:
    """What remembers how far a call came; None where it is not to be resumed, which then costs nothing."""
    wanted = options.resume
    if wanted is None:
        wanted = report.operation == "sync" or options.journal is not None
    if not wanted or options.dry_run or landing.same or report.operation == "compare":
        return None
    size = landing.facts.size
    if not landing.is_tree and size is not None and size < parallel.LARGE:
        return None  # one small file goes in one step
    from .resume import Resume

    return Resume(report.operation, landing, options, report, flow)


def engine_for(
    landing: Landing,
    options: CopyOptions,
    report: TransferReport,
    flow: Flow,
    teller: Teller,
    removal: Removal | None,
    resume: Resume | None = None,
) -> Engine:
    """The engine for a tree or, with what the landing opened, for its one file."""
    engine = _engine(landing, options, report, flow, teller, removal, resume)
    engine.resume = resume
    return engine


def _engine(
    landing: Landing,
    options: CopyOptions,
    report: TransferReport,
    flow: Flow,
    teller: Teller,
    removal: Removal | None,
    resume: Resume | None,
) -> Engine:
    source, target = landing.source, landing.target
    single = not landing.is_tree
    if options.executor is not None:
        from .distributed import Remote, errand_of

        errand = errand_of(source, target, options, single=single, moving=removal is not None)
        remote = Remote(errand, options.executor, flow, removal=removal, notes=teller.listens)
        remote.resume = resume
        return Engine(remote, options, report, flow, teller)
    worker = Worker(source, target, options, flow, removal, single=single)
    worker.resume = resume
    pool: Pool
    if single and _is_brief(landing, flow, teller):
        pool = Here(partial(worker, opened=landing.opened))
    elif single:
        pool = Threads(partial(worker, opened=landing.opened), flow, Width(1), notes=teller.listens)
    else:
        many = width(options.concurrency, source.mount, target.mount)
        worker.slow = flow.slow = many.slow
        pool = _threads(landing, options, flow)(worker, flow, many, notes=teller.listens)
    worker.tell = pool.note
    return Engine(pool, options, report, flow, teller)


def _threads(landing: Landing, options: CopyOptions, flow: Flow) -> type[Threads]:
    """Between local disks the caller's thread does most of it, unless it must stay free for something else."""
    free = options.concurrency != "auto" or options.bandwidth is not None or flow.watched
    if free or sys.platform != "linux" or not both_local(landing.source.mount, landing.target.mount):
        return Threads
    from .turns import Turns

    return Turns


def _is_brief(landing: Landing, flow: Flow, teller: Teller) -> bool:
    """Whether the caller's thread may do it: nothing is told meanwhile, and a Ctrl-C finds it at once."""
    size = landing.facts.size
    short = (size is not None and size <= SMALL) or both_local(landing.source.mount, landing.target.mount)
    return short and not (flow.watched or teller.listens)
