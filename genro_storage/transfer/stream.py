"""One file: `copy_file` reads from top to bottom as the specification of a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TypeVar

from msgspec.structs import replace

from .. import paths
from ..backends.base import BackendReader, BackendWriter, PartWriter
from ..exceptions import StorageCorruptedError, StoragePathError, StoragePermissionError, UnsupportedOperation
from ..mount import Mount
from ..types import Place, Stat, WriteOptions
from .flow import Flow
from .job import SMALL, Copied, Job
from .nearby import copy_nearby
from .options import CopyOptions
from .parallel import Parts, suits
from .piece import Piece
from .places import fault, same_place
from .proof import CHUNK, Proof, judge_unchanged

W = TypeVar("W", BackendWriter, PartWriter)

STREAM_MEMORY = 10 << 20
"""What one stream may hold on its way: a part of 8 MiB and what is being read."""


def copy_file(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None = None) -> Copied:
    """Copies one file: the target holds its old bytes or all the new ones, whatever happens.

    `opened` is a reader of the source that somebody opened to see what it is; it is closed in any case.
    """
    if opened is None:
        return _copied(job, options, flow, None)
    with closing(opened):
        return _copied(job, options, flow, opened)


def _copied(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None) -> Copied:
    judge_name(job.target)
    if not job.apart and job.source.version is None and same_place(job.source, job.target):
        return Copied(job.facts, same_place=True)
    if (
        job.local
        and options.server_side
        and (copied := copy_nearby(job, options, _write_options(job, options, job.facts), flow))
    ):
        return copied
    if opened is None and options.server_side and (copied := _by_the_storage(job, options, flow)):
        return copied
    if opened is None and job.facts.size is not None and job.facts.size <= SMALL:
        return _in_one_piece(job, options, flow)
    if copied := _in_parts(job, options, flow, opened):
        return copied
    with flow.room(STREAM_MEMORY):
        return _in_chunks(job, options, flow, opened)


def judge_name(target: Place) -> None:
    """Raises `StoragePathError` for a name that the target cannot hold."""
    try:
        normal = paths.normalise(target.path, target.mount.rules)
    except StoragePathError as error:
        reason = error.message.removesuffix(f": {target.path!r}")
        raise fault(StoragePathError, reason, target, "write") from error
    if normal != target.path:
        raise fault(StoragePathError, f"this name would become '{normal}'", target, "write")


# --- the four ways ---


def _by_the_storage(job: Job, options: CopyOptions, flow: Flow) -> Copied | None:
    """The server or the kernel moves the bytes; None where these two cannot, or may not."""
    source, target = job.source, job.target
    if not _alike(source.mount, target.mount) or not target.mount.can("copy_from"):
        return None
    if not job.exact and not source.mount.features.real_dirs and _elsewhere(source.mount, target.mount):
        return None  # an object store would be asked about each object, only to say that it cannot
    brief = not job.exact and _is_proven_by_etag(source)
    facts = job.facts if job.exact else _own_facts(source, brief=brief)
    how = replace(_kept_options(job, options, facts), source_match=None if source.version else facts.etag)
    tick = flow.tick if job.local else flow.tick_aside
    try:
        stat = target.mount.copy_from(source.mount, source.path, target.path, how, version=source.version, tick=tick)
    except (UnsupportedOperation, StoragePermissionError):
        return None
    except StorageCorruptedError:
        judge_unchanged(source, facts, doubted=True)
        raise
    return Proof(job, options, flow, facts).judge_copy(stat, brief=brief)


def _is_proven_by_etag(source: Place) -> bool:
    """Whether one state is copied by its etag, which the copy has too unless it is no hash."""
    features = source.mount.features
    return source.version is None and features.if_match == "atomic" and not features.lists_mtime


def _own_facts(source: Place, *, brief: bool) -> Stat:
    """What a listing leaves out: the time that an object's source had; `brief`, without hashes, costs less."""
    if brief:
        return source.mount.look(source.path)
    return source.mount.stat_file(source.path, version=source.version)


def _elsewhere(source: Mount, target: Mount) -> bool:
    return source.backend.storage_id != target.backend.storage_id


def _alike(source: Mount, target: Mount) -> bool:
    return isinstance(source.backend, type(target.backend)) or isinstance(target.backend, type(source.backend))


def _in_one_piece(job: Job, options: CopyOptions, flow: Flow) -> Copied:
    """A small file: one get, one put."""
    source, target = job.source, job.target
    flow.tick()
    data, facts = source.mount.get(source.path, version=source.version)
    flow.tick(len(data))
    proof: Proof | Piece = Piece(job, options.verify, facts, data)
    if options.verify == "read":
        proof = Proof(job, options, flow, facts)
        proof.add(data)
    proof.judge_source()
    stat = target.mount.put(target.path, data, _write_options(job, options, facts))
    return _told(job, options, proof.judge_target(stat))


def _in_parts(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None) -> Copied | None:
    """A large file: ranges of the source at the same time, each a part of the target; None where they cannot."""
    source, target = job.source, job.target
    facts = job.facts if opened is None else opened.stat
    if suits(job, options, facts) and opened is None and not job.exact:
        facts = source.mount.stat_file(source.path, version=source.version)
    if not suits(job, options, facts):
        return None
    proof, parts, staging = Proof(job, options, flow, facts), Parts(source, facts, options, flow, opened), job.staging
    how = _write_options(job, options, facts)
    try:
        if staging is None:
            writer = parts.begun(target, how, options.part_size)
        elif (found := parts.begun_or_found(target, how, options.part_size, staging)) is not None:
            writer = found
        else:
            return Copied(facts, facts.size or 0, resumed=facts.size or 0, written=target.mount.stat_file(target.path))
    except UnsupportedOperation:
        return None
    with _discarding(writer) if staging is None else staging.kept(writer):
        parts.move(writer)
        proof.judge_parts(facts.size or 0, parts.digests(writer))
        stat = parts.commit(writer)
        copied = proof.judge_target(stat)
    resumed = 0 if staging is None else staging.resumed
    return replace(_told(job, options, copied), retries=parts.retries, resumed=resumed)


def _in_chunks(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None) -> Copied:
    """One stream, hashed on its way."""
    source, target = job.source, job.target
    with closing(opened or source.mount.reader(source.path, version=source.version)) as reader:
        proof = Proof(job, options, flow, reader.stat)
        with _discarding(target.mount.writer(target.path, _write_options(job, options, reader.stat))) as writer:
            while chunk := reader.read(CHUNK):
                proof.add(chunk)
                writer.write(chunk)
                flow.tick(len(chunk))
            proof.judge_source()
            flow.tick()
            stat = writer.commit(proof.digests)
    return _told(job, options, proof.judge_target(stat))


@contextmanager
def _discarding(writer: W) -> Iterator[W]:
    try:
        yield writer
    finally:
        writer.discard()


# --- what goes along with the bytes ---


def _write_options(job: Job, options: CopyOptions, facts: Stat) -> WriteOptions:
    features, keep = job.target.mount.features, options.preserve
    content_type = None
    if features.content_type:
        own = facts.content_type if "content_type" in keep else None
        content_type = options.content_type or own or paths.content_type(job.target.path)
    return WriteOptions(
        if_absent=not options.overwrite and features.if_absent != "none",
        size=facts.size,
        content_type=content_type,
        metadata=facts.metadata if features.metadata and "metadata" in keep else None,
        mtime=facts.mtime if "mtime" in keep else None,
        mode=facts.mode if "mode" in keep and features.keeps_mode else None,
        tags=_tags(job, options) if features.tags else None,
    )


def _tags(job: Job, options: CopyOptions) -> Mapping[str, str] | None:
    """The source's tags, if they are wanted: one request."""
    source = job.source
    if "tags" not in options.preserve or not source.mount.can("get_tags"):
        return None
    tags: Mapping[str, str] = source.mount.use("get_tags", source.path, version=source.version)
    return tags or None


def _kept_options(job: Job, options: CopyOptions, facts: Stat) -> WriteOptions:
    """As `_write_options`, where the storage itself keeps what the options leave open."""
    keep, how = options.preserve, _write_options(job, options, facts)
    along = "mtime" in keep and "metadata" in keep  # else they are named, for the one goes where the other does
    return replace(
        how,
        content_type=None if "content_type" in keep and options.content_type is None else how.content_type,
        metadata=None if along else how.metadata or {},
        mtime=None if along and _has_own_time(job, facts) else how.mtime,
    )


def _has_own_time(job: Job, facts: Stat) -> bool:
    """Whether an object carries the time of its source, unlike the time of upload that listings tell."""
    return not (job.exact or job.source.mount.features.real_dirs) and facts.mtime != job.facts.mtime


def _told(job: Job, options: CopyOptions, copied: Copied) -> Copied:
    """Tells of metadata and tags that had to stay behind."""
    features = job.target.mount.features
    if copied.facts.metadata and "metadata" in options.preserve and not features.metadata:
        copied = replace(copied, dropped_metadata=True)
    if not features.tags and _tags(job, options):
        copied = replace(copied, dropped_tags=True)
    return copied
