"""Where S3 is: region, endpoint and style of addressing, as the exact path's client has them."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .client import Connection


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_EXPRESS = "--x-s3"


class Location(NamedTuple):
    """`endpoint` without a slash at its end; `virtual`: it names the bucket in its host, else each path does."""

    region: str
    endpoint: str
    virtual: bool


def is_plain_bucket(name: str) -> bool:
    """Whether this is the name of a general bucket: no access point, no directory bucket."""
    return _BUCKET.fullmatch(name) is not None and not name.endswith(_EXPRESS)


def located(connection: Connection) -> Location:
    """Where the bucket of a connection is; what its options leave open the client is asked."""
    options = connection.options
    region = options.region or connection.client.meta.region_name
    if options.endpoint and (options.addressing == "path" or _is_address(options.endpoint)):
        return Location(region, options.endpoint.rstrip("/"), virtual=False)
    url = urlsplit(connection.local(_example_url(options.bucket)))
    virtual = url.path == "/k"
    base = url.path.removesuffix("/k") if virtual else url.path.removesuffix(f"/{options.bucket}/k")
    return Location(region, f"{url.scheme}://{url.netloc}{base}", virtual)


def _example_url(bucket: str) -> Any:
    """The client's own URL of a key: it knows all that a configuration file may say of endpoints."""
    return lambda client: client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})


def _is_address(endpoint: str) -> bool:
    """Whether the host is a number, which no bucket can be put before."""
    try:
        ip_address(urlsplit(endpoint).hostname or "")
    except ValueError:
        return False
    return True
