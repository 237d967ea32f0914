"""The server: routes to the three APIs, lets nobody in who may not, and shows tests what it holds.

What the clients need, found with google-cloud-storage 3.17, gcsfs 2026.10 and obstore 0.12:

- google-cloud-storage takes `client_options={"api_endpoint": URL}` with real credentials; `STORAGE_EMULATOR_HOST` is
  not needed. It retries for 120 s on a dead port unless a call is given `retry=None` (or `timeout` and a shorter one).
- gcsfs: `gcsfs.core.GCSFileSystem(endpoint_url=URL, token=account)`. The class that `import gcsfs` exports asks by gRPC
  for the bucket's kind first and hangs about 60 s per call on any server but Google's, unless
  `GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false` is set before the import; the class in `gcsfs.core` never asks.
  Its one-request upload (`pipe_file`) has the fixed boundary `==0==`: bytes that hold the line `--==0==` break it (use
  the client library, a resumable upload or a PUT of the XML API). `mode="create"` on what exists is FileExistsError; a
  403 is a bare OSError("Forbidden: …") without errno; a dead port is retried for 33 s, with logged tracebacks.
- obstore speaks the XML API only; `service_account_key` is the JSON of `credentials` plus
  `{"gcs_base_url": URL, "disable_oauth": true}`, and it needs `client_options={"allow_http": True}`. Without
  `disable_oauth` it signs its own tokens, which this server accepts too.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from ..inprocess import HttpServer, Reply, Request
from . import json_api, xml_api
from .authority import Authority
from .json_api import JsonApi
from .store import Bucket, GcsError, Store
from .uploads import Uploads
from .xml_api import XmlApi

_names = itertools.count(1)
JSON_ROOTS = ("storage", "upload", "download", "batch", "resumable", "token")


class GcsServer(HttpServer):
    """Google Cloud Storage, all of it in memory; the fixture `gcs` is a running one.

    Real: generations, versioning, preconditions (atomic), hashes, paging, compose, rewrite in steps, resumable and
    multipart uploads, tokens, signed URLs. Not there: ACLs, IAM conditions, soft delete, gzip transcoding, gRPC, HNS.
    """

    server_name = "GCS server"

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.authority = Authority()
        self.json = JsonApi(self.store, lambda: self.endpoint)
        self.uploads = Uploads(self.store, lambda: self.endpoint)
        self.xml = XmlApi(self.store)

    # --- what a test uses ---

    @property
    def credentials(self) -> dict[str, str]:
        """A service account that this server knows: its tokens and signed URLs are verified."""
        return self.authority.account(self.endpoint)

    def options(self, bucket: str) -> dict[str, Any]:
        """The keys of a mount entry that reach this bucket, `bucket` included; add `name`, `type` and the rest."""
        return {"bucket": bucket, "endpoint": self.endpoint, "credentials": self.credentials, "project": "genro-test"}

    def make_bucket(self, *, versioning: bool = False, access: str = "open") -> str:
        """Make a bucket with a name nobody else has, and return the name; `access` is that of `Bucket`."""
        name = f"genro-{os.getpid()}-{next(_names)}"
        self.store.make_bucket(name, {"versioning": {"enabled": versioning}}).access = access
        return name

    def forget(self, bucket: str) -> None:
        """Drop a bucket with all that it holds, finished or not: this process keeps the bytes."""
        with self.store.lock:
            self.store.buckets.pop(bucket, None)
            for uploads in (self.uploads.open, self.xml.uploads):
                for key in [key for key, upload in uploads.items() if upload.bucket == bucket]:
                    del uploads[key]

    def bucket(self, name: str) -> Bucket:
        """The bucket itself: a test may change its `access`, or look at every generation it holds."""
        return self.store.bucket(name)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """What the bucket shows now: name → bytes."""
        held = self.bucket(bucket)
        found = ((name.decode(), held.live(name.decode())) for name in held.names)
        return {name: stored.data for name, stored in found if stored}

    def put(self, bucket: str, name: str, data: bytes, **fields: Any) -> int:
        """Store an object without any client; returns its generation. Fields as in the API: contentType=, metadata=…"""
        return self.store.put(bucket, name, data, fields).generation

    def unfinished(self, bucket: str) -> list[str]:
        """Names of uploads that were begun in this bucket and neither completed nor given up."""
        resumable = [u.name for u in self.uploads.open.values() if u.bucket == bucket and u.stored is None]
        return sorted(resumable + [u.name for u in self.xml.uploads.values() if u.bucket == bucket])

    @property
    def page_limit(self) -> int:
        """No page of a listing is longer; 1000, as there. Set it low to see what a client does with many pages."""
        return self.json.page_limit

    @page_limit.setter
    def page_limit(self, limit: int) -> None:
        self.json.page_limit = self.xml.page_limit = limit

    # --- what the clients use ---

    def answer(self, request: Request) -> Reply:
        """Route one request to its API."""
        speaks_json = request.segments[0] in JSON_ROOTS
        try:
            if request.segments[0] == "token":
                return self.authority.token(request)
            return self._admitted(request)
        except GcsError as error:
            return json_api.refusal(error) if speaks_json else xml_api.refusal(error)

    def _admitted(self, request: Request) -> Reply:
        segments = request.segments
        for bucket, writes in self._touched(request):
            self.authority.admit(request, self.store.buckets.get(bucket), writes=writes)
        if segments[0] not in JSON_ROOTS:
            return self.xml.answer(request)
        if segments[0] == "batch":
            return self.json.batch(request, self._admitted)
        if "upload" in segments[:2]:
            return self.uploads.answer(segments[segments.index("b") + 1], request)
        if segments[0] == "download":  # the same paths, one segment deeper
            return self.json.answer(
                Request(request.method, f"{request.target.removeprefix('/download')}", request.headers)
            )
        return self.json.answer(request)

    @staticmethod
    def _touched(request: Request) -> list[tuple[str, bool]]:
        """The buckets that a request is about, each with whether it is changed; "" where it names none."""
        segments = request.segments
        writes = request.method not in ("GET", "HEAD")
        if segments[0] not in JSON_ROOTS:
            return [(segments[0], writes)]
        named = [segments[place + 1] for place, word in enumerate(segments[:-1]) if word == "b" and place in (2, 3, 4)]
        copied = len(segments) > 8 and segments[6] in ("rewriteTo", "copyTo")
        if copied:
            return [(segments[3], False), (segments[8], True)]
        return [(name, writes) for name in named[:1]] or [("", writes)]
