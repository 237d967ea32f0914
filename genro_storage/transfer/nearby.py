"""Files within the local file system, where the driver itself sees that their source is one state."""

from __future__ import annotations

from ..exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StorageNotFoundError,
    StoragePermissionError,
    UnsupportedOperation,
)
from ..types import Place, WriteOptions
from .flow import Flow
from .job import SMALL, Copied, Job
from .options import CopyOptions
from .places import At, fault
from .plan import Action
from .proof import judge_unchanged


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
    except (StorageConflictError, StorageNotFoundError) as error:
        if isinstance(error, StorageConflictError) or not source.mount.is_file(source.path):
            raise _of_the_source(error, source) from error
        raise
    except StorageCorruptedError:
        judge_unchanged(source, facts, doubted=True)  # what was listed may not be there any more
        raise
    if options.verify != "none" and stat.size != facts.size:
        reason = f"it holds {stat.size} bytes where {facts.size} were listed"
        raise fault(StorageCorruptedError, reason, target)
    small = facts.size is not None and facts.size <= SMALL
    return Copied(facts, facts.size or 0, server_side=not small, by_size=options.verify != "none", written=stat)


def _of_the_source(error: StorageError, source: Place) -> StorageError:
    """The error with the place that it is about: the driver names the one that it writes to."""
    told = fault(type(error), error.message, source)
    told.retryable = error.retryable
    return told


class Nearby:
    """The short way of a small file between two trees, where it needs nothing but its bytes and its time.

    Whatever is not so, and whatever goes wrong, is for the long way, which knows what to say.
    """

    def __init__(self, source: At, target: At, options: CopyOptions, flow: Flow) -> None:
        self._flow = flow
        self._source, self._target = source.mount, target.mount
        self._above = f"{target.path}/" if target.path else ""
        self._timed = "mtime" in options.preserve
        self._absent = not options.overwrite and target.mount.features.if_absent != "none"
        self._by_size = options.verify != "none"

    @staticmethod
    def leads(source: At, target: At, options: CopyOptions) -> bool:
        """Whether there is one between these two."""
        one, other = source.mount, target.mount
        return (
            options.server_side
            and options.verify != "read"
            and "mode" not in options.preserve
            and source.version is None
            and type(one.backend) is type(other.backend)
            and one.rules == other.rules
            and not (other.features.metadata or other.features.content_type)
        )

    def copied(self, action: Action) -> Copied | None:
        """What became of it; None, with the old file or none at the target, where the short way does not lead there."""
        entry = action.entry
        facts, path = entry.stat, self._above + entry.relpath
        if facts.etag is None or action.there is not None:
            return None
        how = WriteOptions(
            if_absent=self._absent,
            size=facts.size,
            mtime=facts.mtime if self._timed else None,
            source_match=facts.etag,
        )
        try:
            stat = self._target.copy_from(self._source, facts.path, path, how, tick=self._flow.tick)
        except StorageError:
            self._flow.tick()
            return None
        size = facts.size or 0
        return Copied(facts, size, by_size=self._by_size, written=stat) if stat.size == size else None
