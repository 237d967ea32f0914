"""Copying inside S3: one request up to 5 GiB, parts copied by the server beyond."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError
from msgspec.structs import replace

from ...exceptions import StorageExistsError
from ...types import Stat, WriteOptions
from .._objects import metadata_of, quoted, unquoted
from ..base import Tick, conflict, source_changed
from .client import Answer
from .errors import answered, code_of, status_of
from .facts import conditions, written_as
from .tags import tags_of
from .wire import Wire
from .writer import Multipart, Target

ONE_REQUEST = 5 << 30
"""Bytes that one CopyObject takes at most (S3 API)."""
COPIED_PART = 512 << 20
"""Bytes that one UploadPartCopy is asked to take, unless that made more than 10,000 of them."""

_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "WebsiteRedirectLocation")
_STORED = ("StorageClass", "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
_FACTS = ("ETag", "VersionId", "ServerSideEncryption", "SSECustomerAlgorithm")


def copy_object(target: Target, source: Answer, tick: Tick, wire: Wire) -> Stat:
    """Copies `source` (Bucket, Key, perhaps VersionId) with its type and metadata, unless the options have others."""
    options = target.options
    if options.if_absent or options.if_match is not None:
        _judge(target)
    if (options.size or 0) > ONE_REQUEST:
        return _in_parts(target, source, tick)
    try:
        return _at_once(target, source, tick, wire)
    except ClientError as error:
        if status_of(error) == 412 and options.source_match is not None:
            _judge_source(target, _head(target, source))
        if not _is_too_large(error):
            raise target.judged(error) from error
    return _in_parts(target, source, tick)


def _judge_source(target: Target, found: Answer) -> None:
    if target.options.source_match not in (None, unquoted(found["ETag"])):
        raise source_changed()


def _judge(target: Target) -> None:
    """Asks first: conditions on a copy are young (AWS: 2025), and servers that do not know them ignore them."""
    options, found = target.options, target.head()
    if options.if_absent and found is not None:
        raise StorageExistsError("Already exists")
    etag = None if found is None else found.etag
    if options.if_match is not None and etag != unquoted(options.if_match):
        raise conflict(options.if_match, etag)


def _at_once(target: Target, source: Answer, tick: Tick, wire: Wire) -> Stat:
    options, connection = target.options, target.connection
    request = target.request | {"CopySource": source} | conditions(options)
    if options.source_match is not None:
        request["CopySourceIfMatch"] = quoted(options.source_match)
    if options.tags is not None:
        request["TaggingDirective"] = "REPLACE"
    if options.metadata is None and options.content_type is None and options.mtime is None:
        request |= written_as(options, connection.options)
    else:
        found = _head(target, source)
        _judge_source(target, found)
        target, kept = _described(target, found)
        described = {"MetadataDirective": "REPLACE", "CopySourceIfMatch": found["ETag"]}
        request |= written_as(target.options, connection.options) | kept | described
    answer = wire.ask("copy_object", request)
    if answer is None:
        answer = connection.run(connection.client.copy_object(**request))
    tick(options.size or 0)
    facts = answer.get("CopyObjectResult", {}) | {key: answer[key] for key in _FACTS if key in answer}
    return target.written(facts, options.size)


def _in_parts(target: Target, source: Answer, tick: Tick) -> Stat:
    found = _head(target, source)
    _judge_source(target, found)
    return _parts(*_described(_tagged(target, source, found), found), source, found, tick)


def _parts(target: Target, kept: Answer, source: Answer, found: Answer, tick: Tick) -> Stat:
    size: int = found["ContentLength"]
    upload = Multipart(target, kept, checked=False)
    try:
        length = max(COPIED_PART, -(-size // 10_000))
        for first in range(0, size, length):
            last = min(first + length, size) - 1
            upload.copy_part(source, f"bytes={first}-{last}", found["ETag"], last - first + 1)
            tick(last - first + 1)
        return upload.complete()
    except BaseException:
        upload.abort()
        raise


def describe(target: Target, metadata: Mapping[str, str]) -> Stat:
    """Gives an object other metadata: a copy of it onto itself, which keeps all else, unless it changes meanwhile."""
    source = {"Bucket": target.connection.options.bucket, "Key": target.key}
    found = _head(target, source)
    mtime, size = metadata_of(found.get("Metadata") or {})[1], found["ContentLength"]
    options = WriteOptions(metadata=metadata, mtime=mtime, content_type=found.get("ContentType"), size=size)
    target = target._replace(options=options)
    own = written_as(options, target.connection.options)
    kept = {header: found[header] for header in (*_HEADERS, *_STORED) if header in found and header not in own}
    if size > ONE_REQUEST:
        return _parts(_tagged(target, source, found), kept, source, found, lambda n: None)
    request = target.request | own | kept | {"CopySource": source, "CopySourceIfMatch": found["ETag"]}
    connection = target.connection
    answer = connection.run(connection.client.copy_object(MetadataDirective="REPLACE", **request))
    return target.written(answer.get("CopyObjectResult", {}), size)


def _tagged(target: Target, source: Answer, found: Answer) -> Target:
    """The target with the tags of the source, which a copy in parts leaves behind."""
    if target.options.tags is not None or not found.get("TagCount"):
        return target
    connection = target.connection
    answer = connection.run(connection.client.get_object_tagging(**target.request | source))
    return target._replace(options=replace(target.options, tags=tags_of(answer)))


def _head(target: Target, source: Answer) -> Answer:
    connection = target.connection
    try:
        return connection.run(connection.client.head_object(**target.request | source))
    except ClientError as error:
        raise answered(error, source["Bucket"]) from error


def _described(target: Target, found: Answer) -> tuple[Target, Answer]:
    """The target with what its options leave open taken from the source, and the source's other headers."""
    options = target.options
    metadata, mtime = metadata_of(found.get("Metadata") or {})
    options = replace(
        options,
        metadata=metadata if options.metadata is None else options.metadata,
        mtime=mtime if options.mtime is None and options.metadata is None else options.mtime,
        content_type=options.content_type or found.get("ContentType"),
    )
    kept = {header: found[header] for header in _HEADERS if header in found}
    return target._replace(options=options), kept


def _is_too_large(error: ClientError) -> bool:
    told = str(error.response.get("Error", {}).get("Message", ""))
    return code_of(error) == "EntityTooLarge" or (code_of(error) == "InvalidRequest" and "larger than" in told)
