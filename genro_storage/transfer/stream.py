"""One file: `copy_file` reads from top to bottom as the specification of a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from msgspec import Struct

from .. import hashing, paths
from ..backends.base import BackendReader, BackendWriter
from ..exceptions import (
    StorageConflictError,
    StorageCorruptedError,
    StorageError,
    StoragePathError,
    StoragePermissionError,
    UnsupportedOperation,
)
from ..mount import Mount
from ..types import Place, Stat, WriteOptions
from .flow import Flow
from .options import CopyOptions
from .places import At, fault, same_place, shown

CHUNK = SMALL = 1 << 20
STREAM_MEMORY = 10 << 20
"""What one stream may hold on its way: a part of 8 MiB and what is being read."""


class Job(Struct, frozen=True):
    """One file to copy. `facts`: what is known of the source, from a listing or, if `exact`, from a look at itself.

    `apart`: nothing is at the target, or somebody saw that it is another file. `local`: both are in the local file
    system.
    """

    source: Place
    target: At
    facts: Stat
    exact: bool = False
    apart: bool = False
    local: bool = False


class Copied(Struct, frozen=True):
    """What became of a job: the facts of the very bytes copied, and how they were checked."""

    facts: Stat
    size: int = 0
    same_place: bool = False
    server_side: bool = False
    by_checksum: bool = False
    by_size: bool = False
    dropped_metadata: bool = False


def copy_file(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None = None) -> Copied:
    """Copies one file: the target holds its old bytes or all the new ones, whatever happens.

    `opened` is a reader of the source that somebody opened to see what it is; it is closed in any case.
    """
    with closing(opened) if opened is not None else _nothing():
        judge_name(job.target)
        if not job.apart and job.source.version is None and same_place(job.source, job.target):
            return Copied(job.facts, same_place=True)
        small = opened is None and job.facts.size is not None and job.facts.size <= SMALL
        # The kernel's help with a small file costs twice as much as reading it.
        if opened is None and not (small and job.local) and (copied := _by_the_storage(job, options, flow)):
            return copied
        if small:
            return _in_one_piece(job, options, flow)
        with flow.room(STREAM_MEMORY):
            return _in_chunks(job, options, flow, opened)


def judge_name(target: Place) -> None:
    """Raises `StoragePathError` for a name that the target cannot hold."""
    try:
        normal = paths.normalise(target.path, target.mount.rules)
    except StoragePathError as error:
        raise fault(StoragePathError, str(error), target, "write") from error
    if normal != target.path:
        raise fault(StoragePathError, f"this name would become '{normal}'", target, "write")


# --- the three ways ---


def _by_the_storage(job: Job, options: CopyOptions, flow: Flow) -> Copied | None:
    """The server or the kernel moves the bytes; None where these two cannot, or may not."""
    source, target = job.source, job.target
    if not target.mount.can("copy_from") or not _alike(source.mount, target.mount):
        return None
    facts = job.facts if job.exact else source.mount.stat_file(source.path, version=source.version)
    how = _kept_options(job, options, facts)
    try:
        stat = target.mount.copy_from(
            source.mount, source.path, target.path, how, version=source.version, tick=flow.tick
        )
    except (UnsupportedOperation, StoragePermissionError):
        return None
    except StorageCorruptedError:
        _judge_unchanged(source, facts, doubted=True)
        raise
    _judge_unchanged(source, facts)
    with _removed_if_wrong(job, stat):
        by_checksum, by_size = _judge_copy(job, options, flow, facts, stat)
    return Copied(facts, facts.size or 0, server_side=True, by_checksum=by_checksum, by_size=by_size)


def _judge_copy(job: Job, options: CopyOptions, flow: Flow, facts: Stat, stat: Stat) -> tuple[bool, bool]:
    """As `_judge_target`, for bytes that nobody here has seen."""
    source, target = job.source.mount, job.target
    proven = bool(facts.hashes.keys() & stat.hashes.keys())
    if options.verify != "none" and not proven:
        stat = target.mount.stat_file(target.path)  # a server that copies does not say how much it was
    try:
        by_checksum, by_size = _judge_target(job, options, stat, facts.size, facts.hashes)
    except StorageCorruptedError:
        _judge_unchanged(job.source, facts, doubted=True)  # another state of the source came over, whole
        raise
    if options.verify == "read":
        read = _sha256(source.reader(job.source.path, version=job.source.version), flow)
        by_checksum = _judge_by_reading(job, read, flow)
    return by_checksum, by_size and not by_checksum


def _alike(source: Mount, target: Mount) -> bool:
    return isinstance(source.backend, type(target.backend)) or isinstance(target.backend, type(source.backend))


def _in_one_piece(job: Job, options: CopyOptions, flow: Flow) -> Copied:
    """A small file: one get, one put."""
    source, target = job.source, job.target
    flow.tick()
    data, facts = source.mount.get(source.path, version=source.version)
    flow.tick(len(data))
    hashers = _hashers(facts, target.mount, options)
    for hasher in hashers.values():
        hasher.update(data)
    digests = _digests(hashers)
    by_source = _judge_source(job, options, facts, len(data), digests)
    stat = target.mount.put(target.path, data, _write_options(job, options, facts))
    return _checked(job, options, flow, facts, stat, len(data), digests, by_source)


def _in_chunks(job: Job, options: CopyOptions, flow: Flow, opened: BackendReader | None) -> Copied:
    """One stream, hashed on its way."""
    source, target = job.source, job.target
    reader = opened or source.mount.reader(source.path, version=source.version)
    with closing(reader):
        facts = reader.stat
        hashers = _hashers(facts, target.mount, options)
        with _discarding(target.mount.writer(target.path, _write_options(job, options, facts))) as writer:
            size = 0
            while chunk := reader.read(CHUNK):
                size += len(chunk)
                for hasher in hashers.values():
                    hasher.update(chunk)
                writer.write(chunk)
                flow.tick(len(chunk))
            digests = _digests(hashers)
            by_source = _judge_source(job, options, facts, size, digests)
            flow.tick()
            stat = writer.commit(digests)
    return _checked(job, options, flow, facts, stat, size, digests, by_source)


# --- what is written beside the bytes ---


def _write_options(job: Job, options: CopyOptions, facts: Stat) -> WriteOptions:
    features, keep = job.target.mount.features, options.preserve
    content_type = None
    if features.content_type:
        content_type = (facts.content_type if "content_type" in keep else None) or paths.content_type(job.target.path)
    return WriteOptions(
        if_absent=not options.overwrite and features.if_absent != "none",
        size=facts.size,
        content_type=content_type,
        metadata=facts.metadata if features.metadata and "metadata" in keep else None,
        mtime=facts.mtime if "mtime" in keep else None,
        mode=facts.mode if "mode" in keep and features.keeps_mode else None,
    )


def _kept_options(job: Job, options: CopyOptions, facts: Stat) -> WriteOptions:
    """As `_write_options`, where the storage itself keeps what the options leave open."""
    features, keep = job.target.mount.features, options.preserve
    return WriteOptions(
        if_absent=not options.overwrite and features.if_absent != "none",
        size=facts.size,
        content_type=None if "content_type" in keep else paths.content_type(job.target.path),
        metadata=None if "metadata" in keep else {},
        mtime=facts.mtime if "mtime" in keep and not _has_own_time(job, facts) else None,
        mode=facts.mode if "mode" in keep and features.keeps_mode else None,
    )


def _has_own_time(job: Job, facts: Stat) -> bool:
    """Whether an object carries the time of its source, unlike the time of upload that listings tell."""
    return not (job.exact or job.source.mount.features.real_dirs) and facts.mtime != job.facts.mtime


# --- verification ---


def _hashers(facts: Stat, target: Mount, options: CopyOptions) -> dict[str, hashing.Hasher]:
    """The cheapest hash that both ends know, else one of each."""
    if options.verify not in ("checksum", "read"):
        return {}
    told, asked = set(facts.hashes), set(target.features.hashes)
    wanted = {_cheapest(told & asked) or _cheapest(told), _cheapest(told & asked) or _cheapest(asked)}
    if options.verify == "read":
        wanted.add("sha256")
    return {name: hashing.new(name) for name in wanted if name is not None}


def _cheapest(names: set[str]) -> str | None:
    return next((name for name in hashing.ALGORITHMS if name in names and hashing.computable(name)), None)


def _digests(hashers: Mapping[str, hashing.Hasher]) -> dict[str, str]:
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def _judge_source(job: Job, options: CopyOptions, facts: Stat, size: int, digests: Mapping[str, str]) -> bool:
    """Whether what was read is one state of the source; True if a stored hash says so. Before anything is visible."""
    source = job.source
    _judge_unchanged(source, facts)
    if options.verify != "none" and facts.size is not None and facts.size != size:
        raise _corrupted(f"{size} bytes came from '{shown(source)}', which has {facts.size}")
    return options.verify != "none" and _agree(
        facts.hashes, digests, f"'{shown(source)}' is not what its stored hash says"
    )


def _judge_unchanged(source: Place, before: Stat, *, doubted: bool = False) -> None:
    """Raises `StorageConflictError` if the source is not what it was.

    Stores with atomic conditions answer each request from one object: they need no look unless the bytes are `doubted`.
    """
    if source.version is not None or (source.mount.features.if_match == "atomic" and not doubted):
        return
    after = source.mount.stat_file(source.path)
    facts: list[tuple[object, object]] = [(before.size, after.size), (before.etag, after.etag)]
    if None in facts[1]:  # an etag says more than the time, which a listing may tell otherwise
        facts.append((before.mtime, after.mtime))
    if any(None not in pair and pair[0] != pair[1] for pair in facts):
        raise fault(StorageConflictError, "the source was changed while it was read", source)


def _checked(
    job: Job,
    options: CopyOptions,
    flow: Flow,
    facts: Stat,
    stat: Stat,
    size: int,
    digests: Mapping[str, str],
    by_source: bool,
) -> Copied:
    with _removed_if_wrong(job, stat):
        by_checksum, by_size = _judge_target(job, options, stat, size, digests)
        if options.verify == "read":
            by_checksum = _judge_by_reading(job, digests["sha256"], flow)
    dropped = bool(facts.metadata) and "metadata" in options.preserve and not job.target.mount.features.metadata
    by_checksum = by_checksum or by_source
    return Copied(facts, size, by_checksum=by_checksum, by_size=by_size and not by_checksum, dropped_metadata=dropped)


def _judge_target(
    job: Job, options: CopyOptions, stat: Stat, size: int | None, digests: Mapping[str, str]
) -> tuple[bool, bool]:
    """(proven by a hash, proven by size alone); other bytes → `StorageCorruptedError`."""
    if options.verify == "none":
        return False, False
    if stat.size is None:
        stat = job.target.mount.stat_file(job.target.path)
    if size is not None and stat.size != size:
        raise _corrupted(f"'{shown(job.target)}' holds {stat.size} bytes where {size} were written")
    by_checksum = options.verify != "size" and _agree(
        stat.hashes, digests, f"'{shown(job.target)}' holds other bytes than were sent"
    )
    return by_checksum, not by_checksum and size is not None


def _agree(stored: Mapping[str, str], digests: Mapping[str, str], otherwise: str) -> bool:
    common = stored.keys() & digests.keys()
    for name in common:
        if stored[name].lower() != digests[name]:
            raise _corrupted(f"{otherwise} ({name} {digests[name]}, stored {stored[name]})")
    return bool(common)


def _judge_by_reading(job: Job, expected: str, flow: Flow) -> bool:
    target = job.target
    found = _sha256(target.mount.reader(target.path), flow)
    if found != expected:
        raise _corrupted(f"'{shown(target)}' reads otherwise than it was written")
    return True


def _sha256(reader: BackendReader, flow: Flow) -> str:
    hasher = hashing.new("sha256")
    with closing(reader):
        while chunk := reader.read(CHUNK):
            hasher.update(chunk)
            flow.tick()
    return hasher.hexdigest()


def same_bytes(source: Place, target: Place, flow: Flow) -> bool:
    """Whether both hold the same bytes now, by reading them."""
    one = source.mount.reader(source.path, version=source.version)
    return _sha256(one, flow) == _sha256(target.mount.reader(target.path), flow)


def _corrupted(message: str) -> StorageCorruptedError:
    return StorageCorruptedError(message, operation="copy", retryable=True)


@contextmanager
def _removed_if_wrong(job: Job, stat: Stat) -> Iterator[None]:
    """Takes away a file that was proven wrong only after it was visible: no wrong bytes may look right."""
    try:
        yield
    except StorageCorruptedError:
        target = job.target
        if_match = stat.etag if target.mount.features.if_match != "none" else None
        try:
            target.mount.delete(target.path, if_match=if_match)
        except StorageError:
            pass  # not ours any more, or not allowed: the error that is under way says what is wrong
        raise


@contextmanager
def _discarding(writer: BackendWriter) -> Iterator[BackendWriter]:
    try:
        yield writer
    finally:
        writer.discard()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
