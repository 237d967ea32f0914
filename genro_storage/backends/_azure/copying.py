"""Copying inside one account of Azure: the service copies, with type and metadata of the source."""

from __future__ import annotations

import time

from msgspec.structs import replace

from ...exceptions import StorageError, UnsupportedOperation
from ...types import Stat
from .._objects import quoted, unquoted
from .._refusals import status_of
from .._rest.web import Answer
from ..base import Tick, source_changed
from .client import Client
from .facts import META, headers_of, metadata_headers, stat_of
from .writer import Target

PAUSE = 0.2
"""Seconds between two looks at a copy that Azure does not do at once."""


def copy_blob(target: Target, source: Client, key: str, version: str | None, tick: Tick) -> Stat:
    """A copy keeps type and metadata of its source: where the options have another type, or nothing in place of its
    metadata, `UnsupportedOperation`."""
    options, client = target.options, target.client
    place = source.blob(key, versionid=version)
    sent = headers_of(options)
    sent.pop("x-ms-blob-content-type", None)
    if options.content_type is not None or options.metadata is not None or options.mtime is not None:
        answer = source.send("HEAD", place)
        found = stat_of("", answer.headers, versions=True)
        if options.content_type not in (None, found.content_type):
            raise UnsupportedOperation("Azure copies a blob with its type, not with another one")
        kept = found.metadata if options.metadata is None else options.metadata
        described = metadata_headers(replace(options, metadata=kept))
        if not described and any(name.lower().startswith(META) for name in answer.headers):
            raise UnsupportedOperation("Azure copies a blob with its metadata or with other, not with none")
        sent |= described
        sent["x-ms-source-if-match"] = quoted(found.etag or "")
    answer = _begun(target, source, place, sent)
    status, copy = answer.headers.get("x-ms-copy-status"), answer.headers.get("x-ms-copy-id", "")
    at_once, etag = status == "success", unquoted(answer.headers.get("etag"))
    while status == "pending":
        try:
            tick(0)
            time.sleep(PAUSE)
            status = client.send("HEAD", client.blob(target.key)).headers.get("x-ms-copy-status")
        except BaseException:
            _abort(target, copy)
            raise
    if status != "success":
        raise StorageError(f"Azure did not copy it ({status})", retryable=True)
    made = target.head()
    tick(options.size or 0 if made is None else made.size or 0)
    if at_once and (made is None or made.etag != etag):  # replaced already; the copy was there all the same
        version_id = answer.headers.get("x-ms-version-id") if target.versions else None
        return Stat(target.path, options.size, etag=etag, version_id=version_id)
    if made is None:
        raise StorageError("the copy was deleted by somebody else", retryable=True)
    return made


def _begun(target: Target, source: Client, place: str, sent: dict[str, str]) -> Answer:
    """The answer to the copy of `place`, if that is what was asked for."""
    match, client = target.options.source_match, target.client
    if match is not None:
        sent["x-ms-source-if-match"] = quoted(match)
    try:
        return client.send("PUT", client.blob(target.key), sent | {"x-ms-copy-source": source.url(place)}, b"")
    except StorageError as error:
        # The service may not tell which of the conditions did not hold.
        if status_of(error) == 412 and match is not None:
            found = unquoted(source.send("HEAD", place).headers.get("etag"))
            if found != unquoted(match):
                raise source_changed() from error
        raise target.judged(error) from error


def _abort(target: Target, copy: str) -> None:
    place = target.client.blob(target.key, comp="copy", copyid=copy)
    try:
        target.client.send("PUT", place, {"x-ms-copy-action": "abort"}, b"")
    except StorageError:
        return  # it has ended
