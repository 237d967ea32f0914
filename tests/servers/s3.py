"""What every S3 server of the tests has in common, with a signed HTTP client that no library has tidied up."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar, NamedTuple
from urllib.parse import quote, urlsplit

from .process import ServerProcess

_names = itertools.count(1)


class Answer(NamedTuple):
    """One HTTP answer, read to its end; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class S3Endpoint:
    """An S3 endpoint and its credentials, wherever it runs; the fixtures `seaweedfs`, `ministack`, … are one each."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    def options(self, bucket: str) -> dict[str, str]:
        """The keys of a mount entry that reach this bucket, `bucket` included; add `name`, `type` and the rest."""
        return {
            "bucket": bucket,
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region": self.region,
        }

    def through(self, endpoint: str) -> S3Endpoint:
        """The same server reached by another URL, that of a proxy in front of it."""
        return replace(self, endpoint=endpoint)

    def make_bucket(self, *, versioning: bool = False) -> str:
        """Make a bucket with a name nobody else has, and return the name."""
        name = f"genro-{os.getpid()}-{next(_names)}"
        self.checked("PUT", name)
        if versioning:
            status = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            self.checked("PUT", name, query={"versioning": ""}, body=status.encode())
        return name

    def checked(self, method: str, bucket: str, key: str = "", **request: object) -> Answer:
        """As `request`, for a test's preparations: any status from 300 on raises RuntimeError."""
        answer = self.request(method, bucket, key, **request)  # type: ignore[arg-type]
        if answer.status >= 300:
            raise RuntimeError(f"{method} {bucket}/{key}: {answer.status} {answer.body[:300]!r}")
        return answer

    def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: bytes = b"",
    ) -> Answer:
        """Send one signed request for exactly this key (no normalising) and return the answer, whatever its status."""
        host = urlsplit(self.endpoint).netloc
        path = quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/-_.~")
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
        query_string = "&".join(f"{name}={value}" for name, value in pairs)
        signed = {name.lower(): value for name, value in headers.items()} | {"host": host}
        signed |= self._signature(method, path, query_string, signed, body)
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, f"{path}?{query_string}" if query_string else path, body, signed)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def _signature(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """The headers that sign a request (AWS Signature Version 4, single chunk)."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        added = {"x-amz-date": now, "x-amz-content-sha256": digest}
        lines = sorted((headers | added).items())
        names = ";".join(name for name, _ in lines)
        canonical = "\n".join([method, path, query, *(f"{n}:{v.strip()}" for n, v in lines), "", names, digest])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        key = b"AWS4" + self.secret_key.encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        credential = f"{self.access_key}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return added | {"authorization": authorization}


class S3Server(ServerProcess):
    """A server process that speaks S3; `.s3` is how to reach it."""

    access_key: ClassVar[str] = "GENROTESTACCESSKEY00"
    secret_key: ClassVar[str] = "genro-test-secret-key-0000000000000000"

    @property
    def s3(self) -> S3Endpoint:
        """The running server's address and credentials."""
        return S3Endpoint(self.endpoint, self.access_key, self.secret_key)
