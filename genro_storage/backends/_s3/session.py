"""The aiobotocore client itself: heavy to import, and so imported when a request needs it."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.loaders import create_loader

from .order import keep_order

Answer = dict[str, Any]


class OneTrySession(AIOHTTPSession):  # type: ignore[misc]  # untyped library
    """aiohttp repeats a PUT whose answer was lost, and a conditional one would then fail on its own success."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session


@cache
def _models(data_path: str | None) -> Any:
    """What AWS says of its services: megabytes that all clients have in common."""
    return create_loader(data_path)


async def connected(profile: str | None, config: Answer, keywords: Answer) -> Any:
    """A client with these settings of `botocore.config.Config` and arguments of `create_client`."""
    session = AioSession(profile=profile)
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)
    settings = AioConfig(**({"http_session_cls": OneTrySession} | config))
    client = await session.create_client("s3", config=settings, **keywords).__aenter__()
    # A body in memory needs no permission to be sent, and asking costs a round trip.
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    client.meta.events.register_last("before-call.s3.DeleteObjects", _add_md5)
    client.meta.events.register_last("before-call.s3.PutObjectTagging", _add_md5)
    client.meta.events.register_last("before-parse.s3.ListObjectVersions", keep_order)
    return client


def timestamp(value: Any) -> datetime:
    """The two forms of time that S3 sends; botocore's own parser costs a quarter of a listing."""
    text = str(value)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = parsedate_to_datetime(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _expect_nothing(params: Answer, **_: Any) -> None:
    params["headers"].pop("Expect", None)


def _add_md5(params: Answer, **_: Any) -> None:
    """Servers that know no other checksum demand Content-MD5 of bodies that are XML."""
    body = params["body"]
    digest = hashlib.md5(body.encode() if isinstance(body, str) else body, usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
