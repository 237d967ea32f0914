"""Copying inside Google Cloud Storage: the server rewrites the object, in as many steps as it likes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from ...exceptions import StorageConflictError, StorageError, StorageExistsError, StorageVersionNotFoundError
from ...types import Stat
from .._objects import metadata_of
from .._refusals import no_bucket, status_of
from ..base import Tick, source_changed
from .client import Client, asked
from .facts import condition, generation, resource_of, stat_of
from .writer import Target


def copy_object(target: Target, source: Client, key: str, version: str | None, tick: Tick) -> Stat:
    """Copies an object with its type and metadata, unless the options have others."""
    client, options = target.client, target.options
    if version is not None and generation(version) is None:
        raise StorageVersionNotFoundError("No such version of this file")
    body = b"{}"
    if options.metadata is not None or options.content_type is not None or options.mtime is not None:
        found = _resource(source, key, version)
        version = found["generation"]
        body = json.dumps(_described(target, found)).encode()
    place = f"/rewriteTo/b/{quote(client.options.bucket, safe='')}/o/{quote(target.key, safe='')}"
    done, token = 0, None
    conditions = {"ifGenerationMatch": condition(options), "ifSourceGenerationMatch": options.source_match}
    while True:
        query = asked({"sourceGeneration": version, "rewriteToken": token, **conditions})
        try:
            answer = _step(target, f"{source.object(key)}{place}{query}", body, version)
        except (StorageExistsError, StorageConflictError) as error:
            if options.source_match not in (None, _resource(source, key, version)["generation"]):
                raise source_changed() from error
            raise
        tick(int(answer.get("totalBytesRewritten", 0)) - done)
        done = int(answer.get("totalBytesRewritten", 0))
        if answer.get("done"):
            return stat_of(target.path, answer["resource"], versions=target.versions)
        token = answer["rewriteToken"]


def _step(target: Target, where: str, body: bytes, version: str | None) -> Any:
    try:
        return json.loads(target.client.send("POST", where, {"Content-Type": "application/json"}, body).data)
    except StorageError as error:
        if status_of(error) == 404 and version is not None and not no_bucket(error):
            raise StorageVersionNotFoundError("No such version of this file") from error
        raise target.judged(error) from error


def _resource(source: Client, key: str, version: str | None) -> Any:
    return json.loads(source.send("GET", source.object(key, generation=version)).data)


def _described(target: Target, found: Any) -> dict[str, Any]:
    """The new object's resource: what the options leave open is taken from the source."""
    options = target.options
    metadata, mtime = metadata_of(found.get("metadata") or {})
    kept = {
        name: found[name]
        for name in ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage")
        if name in found
    }
    options = replace(
        options,
        metadata=metadata if options.metadata is None else options.metadata,
        mtime=mtime if options.mtime is None and options.metadata is None else options.mtime,
        content_type=options.content_type or found.get("contentType"),
    )
    return kept | resource_of(options)
