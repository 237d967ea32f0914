"""One file within the local file system, where the driver itself sees that its source is one state."""

from __future__ import annotations

from ..exceptions import StorageCorruptedError, StoragePermissionError, UnsupportedOperation
from ..types import WriteOptions
from .flow import Flow
from .job import Copied, Job
from .options import CopyOptions
from .places import fault
from .proof import judge_unchanged

SMALL = 1 << 20


def copy_nearby(job: Job, options: CopyOptions, how: WriteOptions, flow: Flow) -> Copied | None:
    """Copies it in one call of the driver; None where these two cannot, or more is to be proven.

    The time it gets is that of the listing, as with other tools: a source that changed since is found by the next one.
    """
    source, target, facts = job.source, job.target, job.facts
    if (
        source.version is not None
        or options.verify == "read"
        or type(source.mount.backend) is not type(target.mount.backend)
    ):
        return None
    flow.tick()
    try:
        stat = target.mount.copy_from(source.mount, source.path, target.path, how, tick=flow.tick)
    except (UnsupportedOperation, StoragePermissionError):
        return None
    except StorageCorruptedError:
        judge_unchanged(source, facts, doubted=True)  # what was listed may not be there any more
        raise
    if options.verify != "none" and stat.size != facts.size:
        reason = f"it holds {stat.size} bytes where {facts.size} were listed"
        raise fault(StorageCorruptedError, reason, target)
    small = facts.size is not None and facts.size <= SMALL
    return Copied(facts, facts.size or 0, server_side=not small, by_size=options.verify != "none", written=stat)
