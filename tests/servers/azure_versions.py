"""Azure Blob storage with versioning, in this process: what Azurite lacks, as far as its SDK needs it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from .azure import AzureEndpoint
from .azure_blobs import META, SETTINGS, AzureError, Blob, Listed, Version
from .inprocess import HttpServer, Reply, Request, byte_range

ACCOUNT = "genroversions"
KEY = base64.b64encode(b"any key: this server checks none").decode()


class AzureVersions(HttpServer):
    """An account with versioning on; the fixture `azure_versions` is how to reach one.

    As there: every write of bytes or metadata makes a version, ids are times of 100 ns and grow strictly, a delete
    leaves the versions and no marker, `versionid=` reads and deletes one (never the current: 403), `include=versions`
    lists them oldest first, a copy from a version makes it current. The date of a request is judged (which Azurite does
    not), keys and signatures are not (Azurite does), and no real account was at hand to compare with.
    """

    server_name = "Azure server"

    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[str, dict[str, Blob]] = {}
        self._ticks = 0  # 100 ns since 1970, of the last version
        self._etags = itertools.count(0x8DC000000000000)

    @property
    def azure(self) -> AzureEndpoint:
        """The running server's address and account."""
        return AzureEndpoint(f"{self.endpoint}/{ACCOUNT}", ACCOUNT, KEY)

    def answer(self, request: Request) -> Reply:
        _, container, *rest = request.segments if len(request.segments) > 1 else ("", "")
        name = unquote(request.raw_path.removeprefix("/").split("/", 2)[2]) if rest else ""
        common = {
            "x-ms-version": "2025-01-05",
            "x-ms-request-id": "1",
            "Date": format_datetime(datetime.now(UTC), True),
        }
        try:
            if "x-ms-date" in request.headers:
                off = parsedate_to_datetime(request.headers["x-ms-date"]) - datetime.now(UTC)
                if abs(off) > timedelta(minutes=15):
                    raise AzureError(403, "AuthenticationFailed")
            with self.lock:
                reply = self.on_blob(container, name, request) if name else self.on_container(container, request)
        except AzureError as error:
            inner = f"<Code>{error.code}</Code><Message>{error.code}</Message>"
            body = f"<?xml version='1.0' encoding='utf-8'?><Error>{inner}</Error>".encode()
            told = {"x-ms-error-code": error.code, "Content-Type": "application/xml"}
            reply = Reply(error.status, b"" if error.status == 304 else body, told | error.headers)
        return reply._replace(headers=common | dict(reply.headers))

    # --- containers ---

    def on_container(self, container: str, request: Request) -> Reply:
        if request.method == "PUT":
            if container in self.containers:
                raise AzureError(409, "ContainerAlreadyExists")
            self.containers[container] = {}
            return Reply(201, b"", {"ETag": '"0x1"', "Last-Modified": format_datetime(datetime.now(UTC), True)})
        self._blobs(container)
        if request.method == "DELETE":
            del self.containers[container]
            return Reply(202)
        if request.query.get("comp") == "list":
            begins = request.headers.get("x-ms-version", "") >= "2026-02-06"
            return self.listing(container, {k: v for k, v in request.query.items() if k != "startFrom" or begins})
        return Reply(200, b"", {"ETag": '"0x1"', "Last-Modified": format_datetime(datetime.now(UTC), True)})

    def _blobs(self, container: str) -> dict[str, Blob]:
        if container not in self.containers:
            raise AzureError(404, "ContainerNotFound")
        return self.containers[container]

    def listing(self, container: str, query: Mapping[str, str]) -> Reply:
        """List Blobs; a page holds at most `maxresults` versions and prefixes."""
        limit, include = int(query.get("maxresults", "5000")), query.get("include", "").split(",")
        after = tuple(json.loads(base64.b64decode(query["marker"]))) if query.get("marker") else ("", "")
        names = query.get("prefix", ""), query.get("delimiter", ""), query.get("startFrom", "")
        entries = self._listed(container, *names, versions="versions" in include)
        behind = (entry for entry in entries if self._position(entry) > after)
        page = list(itertools.islice(behind, limit + 1))
        shown = "".join(self._shown(container, entry, include) for entry in page[:limit])
        marker = ""
        if len(page) > limit:
            marker = base64.b64encode(json.dumps(self._position(page[limit - 1])).encode()).decode()
        body = f"<?xml version='1.0' encoding='utf-8'?><EnumerationResults ContainerName='{container}'>"
        # The SDK takes what it asks for on the next page from these.
        for element, key in (("Prefix", "prefix"), ("MaxResults", "maxresults"), ("Delimiter", "delimiter")):
            body += f"<{element}>{escape(query[key])}</{element}>" if key in query else ""
        body += f"<Blobs>{shown}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        return Reply(200, body.encode(), {"Content-Type": "application/xml"})

    @staticmethod
    def _position(entry: Listed) -> tuple[str, str]:
        return entry.name, entry.version.version_id if entry.version else "\uffff"

    def _listed(self, container: str, prefix: str, delimiter: str, start: str, *, versions: bool) -> Iterator[Listed]:
        told = ""
        for name, blob in sorted(self._blobs(container).items()):
            found = blob.versions if versions else [blob.current] if blob.current else []
            if not name.startswith(prefix) or name < start or not found:
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield from (Listed(name, version) for version in found)
            elif name[: cut + len(delimiter)] != told:
                told = name[: cut + len(delimiter)]
                yield Listed(told, None)

    def _shown(self, container: str, entry: Listed, include: list[str]) -> str:
        name = f"<Name>{escape(entry.name)}</Name>"
        version = entry.version
        if version is None:
            return f"<BlobPrefix>{name}</BlobPrefix>"
        current = self.containers[container][entry.name].current is version
        shown = f"<Blob>{name}"
        if "versions" in include:
            shown += f"<VersionId>{version.version_id}</VersionId>"
            shown += "<IsCurrentVersion>true</IsCurrentVersion>" if current else ""
        facts = {
            "Creation-Time": format_datetime(version.created, usegmt=True),
            "Last-Modified": format_datetime(version.moment, usegmt=True),
            "Etag": version.etag.strip('"'),
            "Content-Length": str(len(version.data)),
            "Content-MD5": version.md5,
            "BlobType": "BlockBlob",
            "LeaseStatus": "unlocked",
            "LeaseState": "available",
            **version.settings,
        }
        shown += f"<Properties>{''.join(f'<{key}>{escape(text)}</{key}>' for key, text in facts.items())}</Properties>"
        if "metadata" in include:
            pairs = "".join(f"<{key}>{escape(text)}</{key}>" for key, text in version.metadata.items())
            shown += f"<Metadata>{pairs}</Metadata>"
        return shown + "</Blob>"

    # --- blobs ---

    def on_blob(self, container: str, name: str, request: Request) -> Reply:
        blobs = self._blobs(container)
        blob = blobs.get(name) or Blob()  # kept by what writes
        match request.method, request.query.get("comp", ""):
            case (("GET" | "HEAD"), ""):
                return self.read(blob, request)
            case "GET", "blocklist":
                return self.block_list(blob, request)
            case "GET", "tags":
                body = blob.find(request.query.get("versionid")).tags
                return Reply(200, body.encode(), {"Content-Type": "application/xml"})
            case "DELETE", "":
                return self.delete(blobs, name, request)
            case "PUT", "block":
                blobs[name] = blob
                blob.blocks[request.query["blockid"]] = request.body
                return Reply(201, b"", {"Content-MD5": base64.b64encode(hashlib.md5(request.body).digest()).decode()})
            case "PUT", ("" | "blocklist" | "metadata" | "properties" | "tags") as what:
                return self.change(blobs, name, blob, what, request)
        raise AzureError(400, "UnsupportedQueryParameter")

    @staticmethod
    def _check(found: Version | None, headers: Mapping[str, str], *, reading: bool = False) -> None:
        """If-Match and If-None-Match against the version that is meant."""
        wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
        etag = found.etag if found else None
        if wanted is not None and (etag is None or wanted not in ("*", etag)):
            raise AzureError(412, "ConditionNotMet")
        if unwanted is not None and etag is not None and unwanted in ("*", etag):
            if reading:
                raise AzureError(304, "ConditionNotMet")
            raise AzureError(409, "BlobAlreadyExists") if unwanted == "*" else AzureError(412, "ConditionNotMet")

    def read(self, blob: Blob, request: Request) -> Reply:
        version = blob.find(request.query.get("versionid"))
        self._check(version, request.headers, reading=True)
        headers = version.headers(current=version is blob.current)
        told_so = {"rscd": "Content-Disposition", "rsct": "Content-Type"}  # by a shared access signature
        headers |= {header: request.query[key] for key, header in told_so.items() if key in request.query}
        asked = request.headers.get("x-ms-range") or request.headers.get("range")
        try:
            span = byte_range(asked, len(version.data)) if request.method == "GET" else None
        except LookupError:
            raise AzureError(416, "InvalidRange", **{"Content-Range": f"bytes */{len(version.data)}"}) from None
        if span is None:
            told = {"Content-MD5": version.md5} | (
                {"Content-Length": str(len(version.data))} if request.method == "HEAD" else {}
            )
            return Reply(200, version.data, headers | told)
        told = {
            "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(version.data)}",
            "x-ms-blob-content-md5": version.md5,
        }
        return Reply(206, version.data[span[0] : span[1]], headers | told)

    def delete(self, blobs: dict[str, Blob], name: str, request: Request) -> Reply:
        blob = blobs.get(name) or Blob()
        version = blob.find(request.query.get("versionid"))
        self._check(version, request.headers)
        if "versionid" not in request.query:
            blob.current = None
        elif version is blob.current:
            raise AzureError(403, "OperationNotAllowedOnRootBlob")
        else:
            blob.versions.remove(version)
        if not blob.versions:
            del blobs[name]
        return Reply(202)

    @staticmethod
    def block_list(blob: Blob, request: Request) -> Reply:
        kinds = {"Committed": blob.committed, "Uncommitted": blob.blocks}
        body = "".join(
            f"<{kind}Blocks>"
            + "".join(
                f"<Block><Name>{name}</Name><Size>{len(data)}</Size></Block>" for name, data in sorted(held.items())
            )
            + f"</{kind}Blocks>"
            for kind, held in kinds.items()
        )
        return Reply(200, f"<BlockList>{body}</BlockList>".encode(), {"Content-Type": "application/xml"})

    def change(self, blobs: dict[str, Blob], name: str, blob: Blob, what: str, request: Request) -> Reply:
        """Everything that writes; what changes bytes or metadata makes a version."""
        headers = request.headers
        self._check(blob.current, headers)
        if what in ("properties", "tags"):
            old = blob.find(request.query.get("versionid"))
            changed = {"tags": request.body.decode()} if what == "tags" else {"settings": self._settings(headers)}
            new = replace(old, etag=self._etag(), **changed)
            blob.versions[blob.versions.index(old)] = new
            blob.current = new if old is blob.current else blob.current
            return Reply(204 if what == "tags" else 200, b"", self._written(new))
        if what == "metadata":
            old = blob.find(None)
            new = replace(self._version(name, old.data, old.settings, self._metadata(headers), old), tags=old.tags)
        elif "x-ms-copy-source" in headers:
            source = self._source(headers["x-ms-copy-source"])
            mark = "x-ms-source-"
            self._check(source, {n.removeprefix(mark): text for n, text in headers.items() if n.startswith(mark)})
            metadata = self._metadata(headers) or source.metadata
            new = self._version(name, source.data, source.settings, metadata, blob.current)
        else:
            data = self._whole(blob, request.body) if what == "" else self._assembled(blob, request.body)
            new = self._version(name, data, self._settings(headers), self._metadata(headers), blob.current)
            claimed = headers.get("content-md5") if what == "" else None
            if claimed not in (None, new.md5):
                raise AzureError(400, "Md5Mismatch")
        new = replace(new, tags=self._tags(headers)) if "x-ms-tags" in headers else new
        blobs[name] = blob
        blob.versions.append(new)
        blob.current = new
        copied = (
            {"x-ms-copy-id": new.version_id, "x-ms-copy-status": "success"} if "x-ms-copy-source" in headers else {}
        )
        return Reply(202 if copied else 200 if what == "metadata" else 201, b"", self._written(new) | copied)

    @staticmethod
    def _whole(blob: Blob, body: bytes) -> bytes:
        """A blob written in one request; staged blocks are dropped."""
        blob.committed, blob.blocks = {}, {}
        return body

    @staticmethod
    def _assembled(blob: Blob, body: bytes) -> bytes:
        """The bytes that a block list names; what was staged and is not named is dropped."""
        held, chosen = blob.committed | blob.blocks, [element.text or "" for element in ET.fromstring(body)]
        if any(name not in held for name in chosen):
            raise AzureError(400, "InvalidBlockList")
        blob.committed, blob.blocks = {name: held[name] for name in chosen}, {}
        return b"".join(held[name] for name in chosen)

    def _source(self, url: str) -> Version:
        parts = urlsplit(url)
        _, container, name = unquote(parts.path).removeprefix("/").split("/", 2)
        return (self._blobs(container).get(name) or Blob()).find(dict(parse_qsl(parts.query)).get("versionid"))

    def _version(
        self, name: str, data: bytes, settings: Mapping[str, str], metadata: Mapping[str, str], old: Version | None
    ) -> Version:
        self._ticks = max(self._ticks + 1, time.time_ns() // 100)
        second, tick = divmod(self._ticks, 10_000_000)
        version_id = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{tick:07}Z"
        created = old.created if old else datetime.now(UTC)
        return Version(name, version_id, self._etag(), bytes(data), dict(settings), dict(metadata), created)

    def _etag(self) -> str:
        return f'"0x{next(self._etags):X}"'

    @staticmethod
    def _settings(headers: Mapping[str, str]) -> dict[str, str]:
        told = {shown: headers[sent] for sent, shown in SETTINGS.items() if sent in headers}
        return {"Content-Type": "application/octet-stream"} | told

    @staticmethod
    def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
        return {name.removeprefix(META): text for name, text in headers.items() if name.startswith(META)}

    @staticmethod
    def _tags(headers: Mapping[str, str]) -> str:
        pairs = "".join(
            f"<Tag><Key>{escape(key)}</Key><Value>{escape(text)}</Value></Tag>"
            for key, text in parse_qsl(headers["x-ms-tags"], keep_blank_values=True)
        )
        return f"<Tags><TagSet>{pairs}</TagSet></Tags>"

    @staticmethod
    def _written(version: Version) -> dict[str, str]:
        return {
            "ETag": version.etag,
            "Last-Modified": format_datetime(version.moment, usegmt=True),
            "Content-MD5": version.md5,
            "x-ms-version-id": version.version_id,
            "x-ms-request-server-encrypted": "true",
        }
